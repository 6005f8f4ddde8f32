"""Options that commands share, and the client that they describe.

Enters: flags, their environment variables, and a `devnet.json`. Leaves: a `Setup`; a flag wins over the file.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from lonja.client import AsyncClient

T = TypeVar("T")
Command = Callable[..., Any]
_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Setup:
    """What the common options say. `role` is whose key a `devnet.json` gives for this command."""

    node: str | None
    rpc: str | None
    contract: str | None
    key_file: Path | None
    devnet: Path | None
    role: str | None
    as_json: bool
    debug: bool

    def client(self, **options: Any) -> AsyncClient:
        """The client that these options describe. Asks for a keystore's password on a terminal."""
        from lonja.client import AsyncClient

        node, rpc, contract, key_file = self.node, self.rpc, self.contract, self.key_file
        if self.devnet is not None:
            from lonja.config import Devnet

            world = Devnet.read(self.devnet)
            node, rpc, contract = node or world.node_url, rpc or world.rpc_url, contract or world.contract
            if key_file is None and self.role is not None:
                key_file = Path(world.account(self.role).key_file)
        password = None if key_file is None else keystore_password(key_file)
        return AsyncClient(node, key_file=key_file, password=password, rpc=rpc, contract=contract, **options)

    def run(self, work: Callable[[AsyncClient], Coroutine[Any, Any, T]], **options: Any) -> T:
        """Run `work` with a client that is closed afterwards."""
        import asyncio
        import logging

        # What the layers below log would be told without being asked, beside the one line of a failure.
        logging.getLogger("node").addHandler(logging.NullHandler())

        async def with_client() -> T:
            async with self.client(**options) as client:
                return await work(client)

        return asyncio.run(with_client())


def keystore_password(key_file: Path) -> str | None:
    """The password of an encrypted key file: from the environment, else typed; None where none is needed."""
    import os

    from lonja import keys

    if not keys.is_encrypted(key_file):
        return None
    given = os.environ.get(keys.PASSWORD_VARIABLE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        return None  # loading says that one is needed
    typed: str = click.prompt(f"Password of {key_file.name}", hide_input=True, err=True)
    return typed


def common(*, role: str | None, json: bool = True) -> Callable[[Command], Command]:
    """The common options; the command gets them as its first argument, a `Setup`.

    Parameters
    ----------
    role : whose key the command uses with `--devnet` unless `--as` or `--key-file` says otherwise.
    json : whether `--json` is the common flag; `infer` has one of its own.
    """

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def with_setup(
            *args: Any,
            node: str | None,
            rpc: str | None,
            contract: str | None,
            key_file: Path | None,
            devnet: Path | None,
            as_role: str | None,
            debug: bool,
            as_json: bool = False,
            **options: Any,
        ) -> Any:
            setup = Setup(node, rpc, contract, key_file, devnet, as_role or role, as_json, debug)
            return function(setup, *args, **options)

        for option in reversed([*_options(role), *([json_option] if json else []), debug_option]):
            with_setup = option(with_setup)
        return with_setup

    return decorate


def _options(role: str | None) -> list[Callable[[Command], Command]]:
    whose = (
        f"Use the key of this account of --devnet [default: {role}]." if role else "Use this account's key."
    )
    return [
        click.option("--node", metavar="URL", envvar="LONJA_NODE", help="The node [default: http://127.0.0.1:3000]."),
        click.option("--rpc", metavar="URL", envvar="LONJA_RPC", help="The chain's JSON-RPC."),
        click.option("--contract", metavar="ADDRESS", envvar="LONJA_CONTRACT", help="The license contract."),
        click.option(
            "--key-file", type=_FILE, envvar="LONJA_KEY_FILE",
            help="Keystore (password: LONJA_KEY_PASSWORD, or asked for) or file with a 0x-key.",
        ),
        click.option(
            "--devnet", type=_FILE, envvar="LONJA_DEVNET", help="Read all of these from a devnet.json."
        ),
        click.option("--as", "as_role", metavar="ROLE", help=whose),
    ]  # fmt: skip


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
debug_option = click.option("--debug", is_flag=True, help="Show a traceback when something fails.")


def print_json(value: object) -> None:
    """One line of JSON on standard output."""
    import msgspec

    click.echo(msgspec.json.encode(value))
