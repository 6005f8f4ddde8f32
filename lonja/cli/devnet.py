"""`lonja devnet`."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lonja.cli.options import debug_option, json_option, print_json
from lonja.errors import DevnetFailed

if TYPE_CHECKING:
    from lonja.devnet.world import World

_FOLDER = click.Path(path_type=Path, file_okay=False)
_PORT = click.IntRange(0, 65_535)


@click.command(short_help="A chain, the contract and a node, left running for development.")
@click.option(
    "--dir", "folder", type=_FOLDER, default=Path("devnet"), show_default=True, help="Where it lives."
)
@click.option("--port", type=_PORT, default=3000, show_default=True, help="Of the node; 0 takes a free one.")
@click.option(
    "--rpc-port", type=_PORT, default=8545, show_default=True, help="Of the chain; 0 takes a free one."
)
@click.option("--anvil", is_flag=True, help="Use Foundry's anvil instead of the embedded chain.")
@click.option(
    "--cors-origin", "origins", multiple=True, metavar="ORIGIN",
    help="An origin whose pages may call the node, e.g. http://localhost:9000; may be repeated.",
)  # fmt: skip
@json_option
@debug_option
def command(
    *,
    folder: Path,
    port: int,
    rpc_port: int,
    anvil: bool,
    origins: tuple[str, ...],
    as_json: bool,
    debug: bool,  # noqa: ARG001 - `main` reads it
) -> int:
    """Run a whole world for development until Ctrl-C: a chain, the contract, a node, and people with money.

    DIR/devnet.json says where everything is and where the keys are; the other commands read it with
    --devnet. Prints one line that begins with `ready` once all of it can be used. Everything on the chain
    is gone when it ends. The keys are those of anvil and Hardhat, which everybody knows.

    \b
    Examples:
      lonja devnet
      lonja devnet --dir /tmp/world --port 0 --rpc-port 0 --json
      lonja models --devnet devnet/devnet.json
    """
    return asyncio.run(
        _run(folder, port=port, rpc_port=rpc_port, anvil=anvil, origins=origins, as_json=as_json)
    )


async def _run(
    folder: Path, *, port: int, rpc_port: int, anvil: bool, origins: tuple[str, ...], as_json: bool
) -> int:
    from lonja.devnet.world import DAPP_ORIGINS, running_world

    task = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    announced = False
    settings = {"CORS_ORIGINS": ",".join([*DAPP_ORIGINS, *origins])}
    program = anvil_program() if anvil else None
    try:
        async with running_world(
            folder, port=port, rpc_port=rpc_port, anvil=program, settings=settings
        ) as world:
            _announce(world, as_json=as_json)
            announced = True
            code = await world.node.wait()
            raise DevnetFailed(f"the node ended with code {code}; {world.folder / 'node.log'} says why")
    except asyncio.CancelledError:
        return 0 if announced else 130  # once it can be used, Ctrl-C is how it ends


def _announce(world: World, *, as_json: bool) -> None:
    if as_json:
        print_json({"ready": True, "devnet": str(world.devnet_json), **world.describe()})
    else:
        click.echo(
            f"ready node {world.node_url} rpc {world.rpc_url} contract {world.contract} "
            f"file {world.devnet_json}"
        )
    sys.stdout.flush()


def anvil_program() -> Path:
    """anvil, from `make services` or the PATH. Raises `DevnetFailed`."""
    local = Path(__file__).resolve().parents[2] / ".services" / "bin" / "anvil"
    found = str(local) if local.exists() else shutil.which("anvil")
    if found is None:
        raise DevnetFailed("anvil is not installed: `make services` gets it; without --anvil none is needed")
    return Path(found)
