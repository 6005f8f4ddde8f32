"""`lonja serve`."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import click

from lonja.cli.options import debug_option

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Run a node, with settings from the environment and .env.")
@click.option(
    "--env-file", type=_FILE, default=Path(".env"), show_default=True, help="Settings, as NAME=VALUE."
)
@debug_option
def command(*, env_file: Path, debug: bool) -> int:  # noqa: ARG001 - `main` reads --debug
    """Run a node until Ctrl-C or SIGTERM; requests that are under way are finished first.

    Settings come from the environment and an .env file; docs/settings.md lists them. Prints one line
    `ready URL` when the node can be used.

    \b
    Example:
      AVALANCHE_RPC_URL=https://api.avax-test.network/ext/bc/C/rpc CONTRACT_ADDRESS=0x... lonja serve
    """
    gc.disable()  # no garbage comes of importing: 15 of 220 ms to the open port; the node enables it
    import uvloop

    from node import certificates

    with certificates.later() as load_certificates:
        from node.app import serve
    from node.settings import load

    settings = load(env_file=env_file)
    return uvloop.run(serve(settings, opened=load_certificates, ready=_announce))


def _announce(url: str) -> None:
    click.echo(f"ready {url}")
    sys.stdout.flush()
