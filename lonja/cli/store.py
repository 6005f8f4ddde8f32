"""`lonja store`: the node's content, also while the node runs (the store is locked item by item)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lonja.cli.options import debug_option, json_option, print_json
from lonja.errors import UsageInvalid

if TYPE_CHECKING:
    from node.cid import Cid
    from node.ipfs.store import BlockStore
    from node.settings import Settings

_ENV_FILE = click.option(
    "--env-file", type=click.Path(path_type=Path, dir_okay=False), default=Path(".env"), show_default=True,
    help="The node's settings: MODEL_DIR, DATA_DIR, STORE_MAX_BYTES.",
)  # fmt: skip


@click.group(short_help="The node's content store.")
def command() -> None:
    """The content store of the node whose settings stand in the environment and .env.

    \b
    Examples:
      lonja store list
      MODEL_DIR=devnet/data/models lonja store verify
    """


@command.command(name="list", short_help="What the store holds.")
@_ENV_FILE
@json_option
@debug_option
def list_items(*, env_file: Path, as_json: bool, debug: bool) -> None:  # noqa: ARG001 - `main` reads --debug
    """List what the store holds: CID, size, last use, and whether a token refers to it."""
    with _store(env_file) as store:
        items = sorted(store.list(), key=lambda item: item.used)
    if as_json:
        print_json(
            [
                {
                    "cid": str(item.cid), "bytes": item.bytes, "blocks": item.blocks, "used": item.used,
                    "held": item.held, "referenced": item.referenced,
                }
                for item in items
            ]
        )  # fmt: skip
        return
    for item in items:
        kept = "in use" if item.held else "of a token" if item.referenced else "unreferred"
        used = datetime.fromtimestamp(item.used, UTC)
        click.echo(f"{item.cid}  {item.bytes:>12,} bytes  used {used:%Y-%m-%d %H:%M}  {kept}")
    click.echo(f"{len(items)} items, {sum(item.bytes for item in items):,} bytes")


@command.command(short_help="Check every block against its CID.")
@_ENV_FILE
@json_option
@debug_option
def verify(*, env_file: Path, as_json: bool, debug: bool) -> int:  # noqa: ARG001 - as above
    """Read all of the store and check every block; what is damaged is removed, to be fetched again.

    The exit code is 1 if anything was damaged.
    """
    with _store(env_file) as store:
        report = asyncio.run(store.verify())
    if as_json:
        print_json(
            {"items": report.items, "bytes": report.bytes, "corrupt": [str(cid) for cid in report.corrupt]}
        )
    else:
        for cid in report.corrupt:
            click.echo(f"damaged: {cid}")
        click.echo(f"{report.items} items, {report.bytes:,} bytes, {len(report.corrupt)} damaged")
    return 1 if report.corrupt else 0


@command.command(short_help="Remove what no token refers to.")
@click.option("--target", type=click.IntRange(min=0), metavar="BYTES", help="Free space down to this size.")
@_ENV_FILE
@json_option
@debug_option
def prune(*, target: int | None, env_file: Path, as_json: bool, debug: bool) -> None:  # noqa: ARG001 - as above
    """Remove what no token refers to, and then the least recently used beyond BYTES.

    What a running model uses is never removed.
    """
    with _store(env_file) as store:
        report = asyncio.run(store.prune(target_bytes=target))
    if as_json:
        print_json(
            {
                "removed": [str(cid) for cid in report.removed], "freedBytes": report.freed_bytes,
                "totalBytes": report.total_bytes,
            }
        )  # fmt: skip
        return
    for cid in report.removed:
        click.echo(f"removed {cid}")
    click.echo(f"{report.freed_bytes:,} bytes freed, {report.total_bytes:,} left")


@contextmanager
def _store(env_file: Path) -> Iterator[BlockStore]:
    from node.ipfs.store import BlockStore
    from node.settings import load

    settings = load(env_file=env_file)
    if not settings.model_dir.is_dir():
        raise UsageInvalid(f"MODEL_DIR={settings.model_dir} is not there: no node has stored anything in it")
    with ExitStack() as stack:
        store = BlockStore(
            settings.model_dir,
            max_bytes=settings.store_max_bytes,
            is_referenced=_referenced(settings, stack),
            grace=settings.publish_grace,
        )
        stack.callback(store.close)
        yield store


def _referenced(settings: Settings, stack: ExitStack) -> Callable[[Cid], bool] | None:
    """Whether the node's catalogue refers to a root; None (all of them count) where there is no catalogue."""
    from node.models.catalogue import Catalogue
    from node.models.policy import ServePolicy
    from node.types import Address, ContractRef

    path = settings.data_dir / "catalogue.sqlite"
    if not path.is_file():
        return None
    policy = ServePolicy.parse(settings.serve_models, production=settings.production)
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        contracts = database.execute("SELECT DISTINCT chain_id, contract FROM entries").fetchall()
    finally:
        database.close()
    catalogues = []
    for chain_id, contract in contracts:
        catalogue = Catalogue(path, contract=ContractRef(chain_id, Address(contract)), policy=policy)
        stack.callback(catalogue.close)
        catalogues.append(catalogue)
    return lambda cid: any(catalogue.referenced(cid) for catalogue in catalogues)
