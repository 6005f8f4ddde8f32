"""Addresses and the hash that everything on an EVM chain is named by.

Enters: text from strangers. Leaves: an `Address` with its EIP-55 checksum, so that two spellings of
one account can never be two keys of a cache or two rows of a table.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from node.errors import InvalidInput
from node.types import Address

ZERO_ADDRESS: Final = Address("0x" + "0" * 40)

_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")


def keccak256(data: bytes) -> bytes:
    """The Keccak-256 digest (32 bytes), as Ethereum uses it (not NIST SHA3-256)."""
    from eth_hash.auto import keccak  # 15 ms the first time; kept out of the start

    return keccak(data)


def parse_address(text: str) -> Address:
    """The address in its EIP-55 form.

    Text in one case is taken as it is; text in mixed case must carry the right checksum, as EIP-55
    asks, since a wrong one is a typing mistake.

    Raises
    ------
    InvalidInput
        Not an address, or its checksum is wrong.
    """
    if not isinstance(text, str) or not _ADDRESS.fullmatch(text):
        raise InvalidInput("an address is 0x and 40 hexadecimal digits")
    address = _checksummed(text.lower())
    digits = text[2:]
    if text != address and digits not in (digits.lower(), digits.upper()):
        raise InvalidInput(f"the address {text} has a wrong EIP-55 checksum: it was probably mistyped")
    return address


def address_of_public_key(public_key: bytes) -> Address:
    """The account of an uncompressed secp256k1 key: 64 bytes, x and y, without the 0x04 in front."""
    return _checksummed("0x" + keccak256(public_key)[-20:].hex())


def address_from_bytes(raw: bytes) -> Address:
    """The account of 20 bytes, or of a 32-byte ABI word that ends with them."""
    return _checksummed("0x" + raw[-20:].hex())


@lru_cache(maxsize=4096)
def _checksummed(lower: str) -> Address:
    digest = keccak256(lower[2:].encode()).hex()
    return Address(
        "0x"
        + "".join(
            letter.upper() if int(nibble, 16) >= 8 else letter
            for letter, nibble in zip(lower[2:], digest, strict=False)
        )
    )
