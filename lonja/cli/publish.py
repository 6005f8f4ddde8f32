"""`lonja publish`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from lonja.cli.options import Setup, common, print_json

if TYPE_CHECKING:
    from lonja.answers import Published
    from lonja.client import AsyncClient
    from lonja.publishing import Progress

PROFILES: Final = ("unixfs-v1-2025", "unixfs-v0-2015", "kubo-cid-v1")
_PATH: Final = click.Path(path_type=Path, exists=True)
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(short_help="Publish a model: content to IPFS, token on chain.")
@click.argument("model", type=_PATH)
@click.option("--manifest", type=_FILE, required=True, help="The draft metadata.json; see docs/manifest.md.")
@click.option(
    "--offer", "offers", multiple=True, metavar="TERMS",
    help="price=AMOUNT and days=, hours=, minutes=, seconds=N or perpetual; currency=ADDRESS for an ERC-20. "
    "May be given several times.",
)  # fmt: skip
@click.option(
    "--update", type=click.IntRange(min=1), metavar="TOKEN_ID", help="A new revision of this token."
)
@click.option(
    "--to", default="node", show_default=True, metavar="PLACE",
    help="Where the content goes: node, kubo:URL, or FILE.car (which registers nothing).",
)  # fmt: skip
@click.option(
    "--profile", type=click.Choice(PROFILES), default=PROFILES[0], show_default=True,
    help="How files become blocks; it decides the CIDs.",
)  # fmt: skip
@common(role="publisher")
def command(
    setup: Setup,
    *,
    model: Path,
    manifest: Path,
    offers: tuple[str, ...],
    update: int | None,
    to: str,
    profile: str,
) -> None:
    """Publish MODEL: an ONNX file or a folder with one and its external data; a bare model's file
    (.safetensors, or .bin for raw float32).

    The manifest is checked and all CIDs are known before anything is sent; the token is registered last,
    so a failure before that costs no gas.

    \b
    Examples:
      lonja publish digits.onnx --manifest metadata.json --offer price=0.01,days=30 --devnet devnet.json
      lonja publish digits.onnx --manifest metadata.json --update 1 --devnet devnet.json
      lonja publish big/ --manifest metadata.json --offer price=0,perpetual --to kubo:http://127.0.0.1:5001
      lonja publish digits.onnx --manifest metadata.json --to digits.car
    """
    from lonja.publishing import parse_target
    from lonja.terms import parse_offer

    terms, target = [parse_offer(text) for text in offers], parse_target(to)
    if not terms and update is None and target.registers:
        raise click.UsageError("Give at least one --offer, for example --offer price=0.01,days=30.")

    async def work(client: AsyncClient) -> Published:
        with progress_bars(shown=not setup.as_json) as progress:
            return await client.publish(
                model, manifest, offers=terms, to=target, update=update, profile=profile, progress=progress
            )

    published = setup.run(work)
    if setup.as_json:
        print_json(
            {
                "tokenId": None if published.token_id is None else str(published.token_id),
                "metadataCid": published.metadata_cid,
                "weightsCid": published.weights_cid,
                "tx": published.tx,
            }
        )  # fmt: skip
        return
    _show(published, to=to, update=update)


def _show(published: Published, *, to: str, update: int | None) -> None:
    click.echo(f"metadata  {published.metadata_cid}\nweights   {published.weights_cid}")
    if published.tx is None:
        click.echo(f"written to {to}; nothing was registered on chain")
        return
    token = f"token {published.token_id}"
    done = f"registered as {token}" if update is None else f"{token} is updated"
    click.echo(f"{done}, transaction {published.tx}")


@contextmanager
def progress_bars(*, shown: bool) -> Iterator[Progress | None]:
    """A bar a stage on a terminal's standard error, nothing elsewhere."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description:<10}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        stages: dict[str, TaskID] = {}

        def told(stage: str, done: int, whole: int) -> None:
            if stage not in stages:
                stages[stage] = drawn.add_task(stage, total=whole)
            drawn.update(stages[stage], completed=done, total=whole)

        yield told
