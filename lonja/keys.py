"""Key files: encrypted keystores (Web3 Secret Storage, version 3) and bare 0x-keys.

Enters: a path, and a password where the file is encrypted. Leaves: a `Signer`. A private key never stands in
an exception, a repr or a log.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from lonja.errors import KeyFileInvalid, PasswordRequired

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

PASSWORD_VARIABLE: Final = "LONJA_KEY_PASSWORD"  # noqa: S105 - the variable's name, not a password
_MAX_KEY_FILE: Final = 64 * 1024


def create() -> LocalAccount:
    """A new key from the operating system's randomness."""
    from eth_account import Account

    account: LocalAccount = Account.create()
    return account


def encrypt(
    private_key: str,
    password: str,
    *,
    kdf: Literal["scrypt", "pbkdf2"] = "scrypt",
    iterations: int | None = None,
) -> str:
    """A keystore's JSON text, as geth, ethers, MetaMask and `cast` read it.

    `iterations` is the cost of the key derivation (scrypt's N); None means eth-keyfile's own, about a second.
    """
    from eth_account import Account

    raw = bytes.fromhex(private_key.removeprefix("0x"))
    return json.dumps(Account.encrypt(raw, password, kdf=kdf, iterations=iterations), indent=2) + "\n"


def write_private(path: Path, text: str, *, replace: bool) -> None:
    """Write `text` into a file of mode 0600. Raises `FileExistsError` unless `replace`."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if replace else os.O_EXCL)
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)


def is_encrypted(path: Path) -> bool:
    """Whether the file is a keystore, which needs a password. Raises `KeyFileInvalid`."""
    return _read(path).lstrip().startswith("{")


def load(path: str | Path, *, password: str | None = None) -> LocalAccount:
    """The account of a key file.

    Parameters
    ----------
    password : of a keystore; where None, that of the environment's `LONJA_KEY_PASSWORD`.

    Raises
    ------
    KeyFileInvalid, PasswordRequired
    """
    path = Path(path)
    text = _read(path).strip()
    if not text.startswith("{"):
        return from_hex(text, origin=path.name)
    if password is None:
        password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        raise PasswordRequired(f"{path.name} is encrypted: give its password, or set {PASSWORD_VARIABLE}")
    return _decrypt(text, password, origin=path.name)


def from_hex(text: str, *, origin: str) -> LocalAccount:
    """The account of a 0x-key. Raises `KeyFileInvalid`, never with the text in it."""
    from eth_account import Account

    body = text.removeprefix("0x")
    try:
        if len(body) != 64:
            raise ValueError
        account: LocalAccount = Account.from_key(bytes.fromhex(body))
    except Exception:  # eth-keys has several of its own, each quoting the key
        raise KeyFileInvalid(
            f"{origin} holds neither a keystore (JSON) nor a private key (0x and 64 hex digits)"
        ) from None
    return account


def _decrypt(text: str, password: str, *, origin: str) -> LocalAccount:
    from eth_account import Account

    try:
        keystore: Any = json.loads(text)
        account: LocalAccount = Account.from_key(Account.decrypt(keystore, password))
    except ValueError as error:
        if "MAC" in str(error):
            raise KeyFileInvalid(f"{origin}: the password is wrong") from None
        raise KeyFileInvalid(f"{origin} is not a keystore of version 3") from None
    except (KeyError, TypeError, NotImplementedError, AttributeError):
        raise KeyFileInvalid(f"{origin} is not a keystore of version 3") from None
    return account


def _read(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode) or path.stat().st_size > _MAX_KEY_FILE:
            raise KeyFileInvalid(f"{path} is not a key file")
        return path.read_text()
    except OSError as error:
        raise KeyFileInvalid(f"key file {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise KeyFileInvalid(f"{path} is not a key file") from None
