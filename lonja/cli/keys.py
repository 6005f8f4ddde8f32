"""`lonja keys`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from lonja.cli.options import debug_option, json_option, keystore_password, print_json
from lonja.errors import PasswordRequired, UsageInvalid

_NEW = click.Path(path_type=Path, dir_okay=False)


@click.group(short_help="Key files.")
def command() -> None:
    """Key files: encrypted keystores as geth, MetaMask, ethers and cast read them."""


@command.command(short_help="Make a key in an encrypted keystore.")
@click.argument("file", type=_NEW)
@json_option
@debug_option
def new(*, file: Path, as_json: bool, debug: bool) -> None:  # noqa: ARG001 - `main` reads --debug
    """Make a new key and write it to FILE, encrypted; prints its address.

    The password is asked for, or taken from LONJA_KEY_PASSWORD. A file that is there is never overwritten.

    \b
    Examples:
      lonja keys new me.json
      LONJA_KEY_PASSWORD=... lonja keys new me.json
    """
    from lonja import keys

    if file.exists():
        raise UsageInvalid(f"{file} is there already; a key is never overwritten")
    if not file.absolute().parent.is_dir():
        raise UsageInvalid(f"there is no folder {file.absolute().parent}")
    password = _new_password()
    account = keys.create()
    keys.write_private(file, keys.encrypt(bytes(account.key).hex(), password), replace=False)
    if as_json:
        print_json({"address": account.address, "keyFile": str(file)})
        return
    click.echo(f"{account.address} in {file}; keep the password, nobody can recover it")


@command.command(short_help="Show the address of a key file.")
@click.argument("file", type=_NEW)
@json_option
@debug_option
def address(*, file: Path, as_json: bool, debug: bool) -> None:  # noqa: ARG001 - as above
    """Show the address of the key in FILE.

    \b
    Example:
      lonja keys address me.json
    """
    from lonja import keys

    account = keys.load(file, password=keystore_password(file))
    if as_json:
        print_json({"address": account.address, "keyFile": str(file)})
        return
    click.echo(account.address)


def _new_password() -> str:
    from lonja.keys import PASSWORD_VARIABLE

    given = os.environ.get(PASSWORD_VARIABLE)
    if given is None:
        if not sys.stdin.isatty():
            raise PasswordRequired(
                f"a password is needed: set {PASSWORD_VARIABLE}, or run this in a terminal"
            )
        given = str(click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True))
    if not given:
        raise UsageInvalid("the password is empty")
    return given
