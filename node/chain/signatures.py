"""Whose signature is it: keys by recovery, contract accounts by asking the chain.

Enters: a 32-byte digest, an address, a signature. Leaves: nothing when the address signed it, else
`SignatureInvalid`, or `ChainUnavailable` when only the chain could tell and it cannot be asked.

A key's signature is 65 bytes, r ‖ s ‖ v, with v 27 or 28 and s in the lower half of the curve's order:
the other half would be a second signature of the same message (EIP-2). The chain is asked directly and
asynchronously instead of through `SiweMessage.verify(provider=...)`, which blocks and takes an outage
of the RPC for an invalid signature.
"""

from __future__ import annotations

from typing import Final

from cachetools import TTLCache

from node.addresses import address_of_public_key, keccak256
from node.chain.chain import Chain
from node.chain.contract_signatures import ERC6492_SUFFIX
from node.errors import SignatureInvalid
from node.types import Address

CURVE_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
CODE_KNOWN_SECONDS: Final = 30.0


def recover(digest: bytes, signature: bytes) -> Address:
    """The account whose key made the signature.

    Raises
    ------
    SignatureInvalid
        Not 65 bytes, a wrong v, a malleable s, or no point of the curve.
    """
    from coincurve import PublicKey  # 10 ms the first time

    if len(signature) != 65:
        raise SignatureInvalid(f"a key's signature has 65 bytes, not {len(signature)}")
    r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
    if v not in (27, 28):
        raise SignatureInvalid(f"the signature's last byte (v) is 27 or 28, not {v}")
    if not 0 < r < CURVE_ORDER or not 0 < s <= CURVE_ORDER // 2:
        raise SignatureInvalid("the signature's r or s is out of range (s must be the lower of the two)")
    try:
        key = PublicKey.from_signature_and_message(signature[:64] + bytes([v - 27]), digest, hasher=None)
    except Exception as error:  # coincurve raises a bare Exception for a point that is not on the curve
        raise SignatureInvalid("the signature is not one of any key") from error
    return address_of_public_key(key.format(compressed=False)[1:])


def personal_message_digest(message: str) -> bytes:
    """The digest of a text as wallets sign it (`personal_sign`, EIP-191 version 0x45)."""
    raw = message.encode()
    return keccak256(b"\x19Ethereum Signed Message:\n" + str(len(raw)).encode() + raw)


class SignatureChecker:
    """Checks signatures of keys and of contract accounts."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        # saves one RPC a request for accounts that come often; an account that is deployed meanwhile
        # is noticed when the entry runs out
        self._has_code: TTLCache[Address, bool] = TTLCache(10_000, CODE_KNOWN_SECONDS)

    async def check(self, address: Address, *, digest: bytes, signature: bytes) -> None:
        """Return when `address` signed `digest`.

        Raises
        ------
        SignatureInvalid
            It did not.
        ChainUnavailable
            The address may be a contract, and the chain cannot be asked.
        """
        wrapped = signature.endswith(ERC6492_SUFFIX)
        reason = "the signature is another account's"
        if not wrapped:
            try:
                if recover(digest, signature) == address:
                    return
            except SignatureInvalid as error:
                reason = error.message
        if not wrapped and not await self._is_contract(address):
            raise SignatureInvalid(reason)
        if not await self._chain.accepts_signature(address, digest=digest, signature=signature):
            raise SignatureInvalid(f"the contract account {address} does not accept the signature")

    async def _is_contract(self, address: Address) -> bool:
        known = self._has_code.get(address)
        if known is None:
            known = self._has_code[address] = await self._chain.has_code(address)
        return known
