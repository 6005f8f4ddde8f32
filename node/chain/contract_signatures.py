"""Signatures of accounts that are contracts: the question to ask the chain, and how to read its answer.

Enters: account, 32-byte digest, signature. Leaves: an `eth_call` request and a reader of its result.
EIP-1271 asks the account itself; ERC-6492, for an account that is not deployed yet, runs the universal
validator of that specification's reference implementation, which changes nothing on the chain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node.chain.abi import Codec
from node.chain.recursion import kept_recursion_limit
from node.types import Address

EIP1271_MAGIC: Final = bytes.fromhex("1626ba7e")
"""`bytes4(keccak256("isValidSignature(bytes32,bytes)"))`: selector and, in the answer, a yes."""

ERC6492_SUFFIX: Final = bytes.fromhex("6492" * 16)


def signature_call(
    codec: Codec, address: Address, *, digest: bytes, signature: bytes
) -> tuple[dict[str, str], Callable[[bytes], bool]]:
    """The request for `eth_call` and the function that says whether its result means yes."""
    if signature.endswith(ERC6492_SUFFIX):
        with kept_recursion_limit():
            from siwe.siwe import EIP6492_VALIDATOR_BYTECODE  # its import costs 0.2 s

        arguments = codec.encode(["address", "bytes32", "bytes"], [address, digest, signature])
        return {"data": EIP6492_VALIDATOR_BYTECODE + arguments.hex()}, _universal_yes
    arguments = codec.encode(["bytes32", "bytes"], [digest, signature])
    return {"to": address, "data": "0x" + (EIP1271_MAGIC + arguments).hex()}, _eip1271_yes


def _universal_yes(answer: bytes) -> bool:
    return answer == b"\x01"


def _eip1271_yes(answer: bytes) -> bool:
    return len(answer) >= 32 and answer[:32] == EIP1271_MAGIC.ljust(32, b"\0")
