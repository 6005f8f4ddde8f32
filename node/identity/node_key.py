"""The node's own secp256k1 key: the address in challenges, by which a signature is bound to this node.

Enters: a key file, or none. Leaves: a `NodeKey`. Without a password the file holds the key as
hexadecimal; with `NODE_KEY_PASSWORD` it is an encrypted keystore (Web3 Secret Storage, version 3).
Either way it is readable by its owner only, or the node does not start.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any, Final

from node.addresses import address_of_public_key
from node.errors import StartupError
from node.types import Address

FILE_NAME: Final = "node.key"
_HEX_KEY: Final = re.compile(r"(0x)?[0-9a-fA-F]{64}")


class NodeKey:
    """A key that signs; what it holds is never shown."""

    def __init__(self, secret: bytes) -> None:
        from coincurve import PrivateKey  # 10 ms

        self._key = PrivateKey(secret)
        self.address: Address = address_of_public_key(self._key.public_key.format(compressed=False)[1:])

    def sign(self, digest: bytes) -> bytes:
        """The 65-byte signature r ‖ s ‖ v (v 27 or 28, s low) of a 32-byte digest."""
        signature = self._key.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes([signature[64] + 27])

    def __repr__(self) -> str:
        return f"NodeKey({self.address})"


def load_or_create(path: Path, *, password: str = "") -> NodeKey:
    """The key in the file; a new one, written there, if there is no file.

    Raises
    ------
    StartupError
        The file is readable by others, malformed, or does not open with the password.
    """
    try:
        if not path.exists():
            _create(path, password=password)
        _check_mode(path)
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"the node's key file {path.name} cannot be used: {error}") from None
    try:
        return NodeKey(_secret(text, name=path.name, password=password))
    except ValueError:
        raise StartupError(f"the node's key file {path.name} holds no secp256k1 key") from None


def _secret(text: str, *, name: str, password: str) -> bytes:
    if _HEX_KEY.fullmatch(text):
        return bytes.fromhex(text.removeprefix("0x"))
    try:
        keystore: Any = json.loads(text)
    except ValueError:
        keystore = None
    if not isinstance(keystore, dict):
        raise StartupError(f"the node's key file {name} is neither hexadecimal nor a keystore")
    if not password:
        raise StartupError(f"the node's key file {name} is encrypted: set NODE_KEY_PASSWORD")
    from eth_keyfile.keyfile import decode_keyfile_json  # 0.1 s, for encrypted keys only

    try:
        return bytes(decode_keyfile_json(keystore, password.encode()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StartupError(f"the node's key file {name} does not open with NODE_KEY_PASSWORD") from None


def _create(path: Path, *, password: str) -> None:
    from coincurve import PrivateKey

    secret = PrivateKey().secret
    text = "0x" + secret.hex()
    if password:
        from eth_keyfile.keyfile import create_keyfile_json

        text = json.dumps(create_keyfile_json(secret, password.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # unlike a rename this never replaces a key that came meanwhile
        except FileExistsError:
            return
    finally:
        draft.unlink()


def _check_mode(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise StartupError(
            f"the node's key file {path.name} can be read by others (mode {mode:04o}): run chmod 600 on it"
        )
