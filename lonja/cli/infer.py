"""`lonja infer`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lonja.cli.options import Setup, common, print_json
from lonja.errors import UsageInvalid

if TYPE_CHECKING:
    from lonja.answers import Inference
    from lonja.client import AsyncClient

_FILE: Final = click.Path(path_type=Path, dir_okay=False, exists=True)
_OUTPUT: Final = "\0output"
"""Stands for `--json` without a FILE: print JSON."""


@click.command(short_help="Run a model on a picture, JSON or a URL.")
@click.argument("model", required=False)
@click.option("--image", type=_FILE, help="A JPEG, PNG or WebP.")
@click.option(
    "--json", "jsons", multiple=True, is_flag=False, flag_value=_OUTPUT, metavar="[FILE]",
    help="With FILE: the input, a tensor or {format, content}. Without: print the answer as JSON.",
)  # fmt: skip
@click.option("--url", metavar="URL", help="A picture that the node fetches.")
@click.option("--top-k", type=click.IntRange(min=1), metavar="N", help="At most so many classes.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Only classes at least so likely.")
@click.option("--timeout", type=click.IntRange(min=1), metavar="MS", help="Milliseconds for the node.")
@click.option("--sign-each", is_flag=True, help="Sign this request (EIP-712) instead of signing in.")
@common(role="licensee", json=False)
def command(
    setup: Setup,
    *,
    model: str | None,
    image: Path | None,
    jsons: tuple[str, ...],
    url: str | None,
    top_k: int | None,
    threshold: float | None,
    timeout: int | None,
    sign_each: bool,
) -> None:
    """Run MODEL (its model_id, or chainId:contract:tokenId) on one input.

    \b
    Examples:
      lonja infer digits --image seven.png --devnet devnet/devnet.json
      lonja infer efficientnet-lite0 --image eagle.jpeg --top-k 3 --key-file me.json
      lonja infer digits --image seven.png --json            print JSON
      lonja infer mlp --json input.json                      a tensor from a file
    """
    files = [value for value in jsons if value != _OUTPUT]
    as_json = len(files) < len(jsons)
    if model is None and files and (image is not None or url is not None):
        model, as_json = files.pop(), True  # `--json MODEL`: the flag stood before the argument
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    if len(files) > 1:
        raise UsageInvalid("give one --json FILE")
    content = _json(Path(files[0])) if files else None

    async def ask(client: AsyncClient) -> Inference:
        return await client.infer(
            model, image=image, url=url, json=content, top_k=top_k, threshold=threshold, timeout_ms=timeout
        )

    answer = setup.run(ask, proof="signature" if sign_each else "session")
    if as_json:
        print_json(answer)
        return
    show(answer)


def show(answer: Inference) -> None:
    """The predictions as bars, and what it took."""
    from lonja.cli.pictures import bars

    try:
        click.echo(bars([(each.label, each.confidence) for each in answer.classes]))
    except TypeError:
        print_json(answer.predictions)
    spent = answer.metrics
    click.echo(
        click.style(
            f"{spent.total_time_ms:.1f} ms: {spent.preprocessing_time_ms:.1f} preparing, "
            f"{spent.inference_time_ms:.1f} running, {spent.postprocessing_time_ms:.1f} reading the answer",
            dim=True,
        )
    )


def _json(path: Path) -> Any:
    import json

    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UsageInvalid(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageInvalid(f"{path} is not JSON: {error}") from None
