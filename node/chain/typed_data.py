"""The EIP-712 message that a headless client signs for each request, and the header that carries it.

Enters: what is asked of which node. Leaves: typed data for wallets, its digest for keys, the
`Authorization` header. Node and SDK share this module; it needs neither web3 nor eth_account.

    Lonja-EIP712 address=0x..,nonce=..,deadline=1790000000,signature=0x..
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

import msgspec

from node.addresses import keccak256, parse_address
from node.errors import InvalidInput, SignatureInvalid
from node.types import Address, ContractRef

SCHEME: Final = "Lonja-EIP712"
DOMAIN_TYPE: Final = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
REQUEST_TYPE: Final = (
    "Request(string method,string path,bytes32 bodyHash,address node,string nonce,uint256 deadline)"
)
MAX_SIGNATURE_BYTES: Final = 8192
"""Contract accounts send more than 65 bytes; ERC-6492 wraps the call that would deploy them."""

_NONCE: Final = re.compile(r"[A-Za-z0-9]{8,64}")
_MEMBERS: Final = ("address", "nonce", "deadline", "signature")


class SignedRequest(msgspec.Struct, frozen=True):
    """What is signed.

    Attributes
    ----------
    method : in capitals, e.g. `POST`.
    path : as sent in the request line, with the query: `/api/models?limit=5`.
    body_hash : Keccak-256 of the body's bytes (of no bytes where there is no body).
    node : the node's own address, from `POST /api/auth/nonce`; no other node accepts the signature.
    nonce : from `POST /api/auth/nonce`, used once.
    deadline : Unix seconds after which the signature is void.
    """

    method: str
    path: str
    body_hash: bytes
    node: Address
    nonce: str
    deadline: int


class Authorization(msgspec.Struct, frozen=True):
    """The parts of an `Authorization: Lonja-EIP712` header."""

    address: Address
    nonce: str
    deadline: int
    signature: bytes


def body_hash(body: bytes) -> bytes:
    """The hash of a body as `SignedRequest` wants it."""
    return keccak256(body)


def typed_data(contract: ContractRef, request: SignedRequest) -> dict[str, Any]:
    """The message as wallets take it (`eth_signTypedData_v4`, ethers, viem)."""
    return {
        "types": {"EIP712Domain": _members(DOMAIN_TYPE), "Request": _members(REQUEST_TYPE)},
        "primaryType": "Request",
        "domain": {
            "name": "Lonja",
            "version": "1",
            "chainId": contract.chain_id,
            "verifyingContract": contract.address,
        },
        "message": {
            "method": request.method,
            "path": request.path,
            "bodyHash": "0x" + request.body_hash.hex(),
            "node": request.node,
            "nonce": request.nonce,
            "deadline": request.deadline,
        },
    }


def request_digest(contract: ContractRef, request: SignedRequest) -> bytes:
    """The 32 bytes that are signed: `keccak256(0x1901 ‖ domainSeparator ‖ hashStruct(message))`."""
    if len(request.body_hash) != 32:
        raise ValueError("body_hash has 32 bytes")
    struct = b"".join(
        (
            keccak256(REQUEST_TYPE.encode()),
            keccak256(request.method.encode()),
            keccak256(request.path.encode()),
            request.body_hash,
            _address_word(request.node),
            keccak256(request.nonce.encode()),
            request.deadline.to_bytes(32, "big"),
        )
    )
    return keccak256(b"\x19\x01" + _domain_separator(contract) + keccak256(struct))


def authorization_header(*, address: Address, nonce: str, deadline: int, signature: bytes) -> str:
    """The value of the `Authorization` header."""
    return f"{SCHEME} address={address},nonce={nonce},deadline={deadline},signature=0x{signature.hex()}"


def parse_authorization(header: str) -> Authorization:
    """Read the header. Raises `SignatureInvalid` saying which member is wrong."""
    scheme, _, rest = header.partition(" ")
    parts = [part.strip().partition("=") for part in rest.split(",")]
    members = {name: value for name, _, value in parts}
    if scheme.lower() != SCHEME.lower() or len(parts) != len(members) or set(members) != set(_MEMBERS):
        raise SignatureInvalid(f"the header must be '{SCHEME} ' and each of {', '.join(_MEMBERS)} once")
    try:
        address = parse_address(members["address"])
    except InvalidInput as error:
        raise SignatureInvalid(f"address: {error.message}") from None
    if not _NONCE.fullmatch(members["nonce"]):
        raise SignatureInvalid("nonce: not one that POST /api/auth/nonce gives")
    deadline = members["deadline"]
    if not (deadline.isascii() and deadline.isdigit() and len(deadline) <= 12):
        raise SignatureInvalid("deadline: Unix seconds as a decimal number are wanted")
    return Authorization(address, members["nonce"], int(deadline), parse_signature(members["signature"]))


def parse_signature(text: str) -> bytes:
    """Bytes of a signature written as 0x and hexadecimal digits. Raises `SignatureInvalid`."""
    if not text.startswith("0x") or len(text) > 2 + 2 * MAX_SIGNATURE_BYTES:
        raise SignatureInvalid("signature: 0x and hexadecimal digits are wanted")
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        raise SignatureInvalid("signature: 0x and hexadecimal digits are wanted") from None


@lru_cache(maxsize=16)
def _domain_separator(contract: ContractRef) -> bytes:
    return keccak256(
        keccak256(DOMAIN_TYPE.encode())
        + keccak256(b"Lonja")
        + keccak256(b"1")
        + contract.chain_id.to_bytes(32, "big")
        + _address_word(contract.address)
    )


def _address_word(address: Address) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])


def _members(type_text: str) -> list[dict[str, str]]:
    inner = type_text[type_text.index("(") + 1 : -1]
    return [dict(zip(("type", "name"), member.split(" "), strict=True)) for member in inner.split(",")]
