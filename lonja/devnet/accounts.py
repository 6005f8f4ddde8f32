"""The accounts of a development chain: those of the mnemonic that anvil and Hardhat share.

Everybody knows these keys, so they are worth nothing elsewhere; that is why they may lie in plain files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

MNEMONIC: Final = "test test test test test test test test test test test junk"
ROLES: Final = ("operator", "publisher", "licensee", "stranger")


@dataclass(frozen=True, slots=True)
class Account:
    """Address with its EIP-55 checksum, and 0x-prefixed private key."""

    address: str
    private_key: str


def funded_accounts(count: int = 10) -> tuple[Account, ...]:
    """The first accounts of `m/44'/60'/0'/0`; the roles are the first four, in the order of `ROLES`."""
    from eth_account.hdaccount import seed_from_mnemonic
    from eth_account.hdaccount.deterministic import HDPath
    from eth_keys.main import KeyAPI

    seed = seed_from_mnemonic(MNEMONIC, "")
    private = [KeyAPI.PrivateKey(HDPath(f"m/44'/60'/0'/0/{index}").derive(seed)) for index in range(count)]
    return tuple(Account(key.public_key.to_checksum_address(), key.to_hex()) for key in private)


def write_key_file(account: Account, path: Path, *, password: str | None) -> None:
    """A file for `--key-file`, readable by its owner only.

    Without a password: the bare 0x-key, as `cast`, ethers and `Account.from_key` read it. With one: a
    keystore.
    """
    from lonja import keys

    text = account.private_key + "\n"
    if password is not None:
        text = keys.encrypt(account.private_key, password, kdf="pbkdf2", iterations=1_000)  # public: be quick
    keys.write_private(path, text, replace=True)
