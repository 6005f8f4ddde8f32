"""Sign-In with Ethereum (EIP-4361): what a wallet's message says, and whether this node may take it.

Enters: the message text as it was signed. Leaves: `SignInMessage` whose every member was checked
against what this node offered, except the nonce and the signature, which the flow checks.

The library `signinwithethereum` does the parsing, by the specification's ABNF; it brings web3 and
pydantic along and is imported, in a thread, with the first sign-in.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from node.addresses import parse_address
from node.errors import InvalidInput, SignatureInvalid
from node.types import Address

MAX_MESSAGE: Final = 4096
CLOCK_SKEW: Final = 60.0
_LOOPBACK: Final = ("127.0.0.1", "::1")


class SignInMessage(msgspec.Struct, frozen=True):
    """The members of a message that matter here. Times are Unix seconds; None where left out."""

    domain: str
    address: Address
    uri: str
    chain_id: int
    nonce: str
    issued_at: float
    expires_at: float | None
    not_before: float | None


def write_sign_in(
    *, domain: str, address: Address, uri: str, chain_id: int, nonce: str, issued_at: datetime
) -> str:
    """The message that `parse_sign_in` reads, as a client without a wallet writes it."""
    return (
        f"{domain} wants you to sign in with your Ethereum account:\n{address}\n\n\n"
        f"URI: {uri}\nVersion: 1\nChain ID: {chain_id}\nNonce: {nonce}\n"
        f"Issued At: {issued_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    )


def parse_sign_in(text: str) -> SignInMessage:
    """Read an EIP-4361 message. Some 5 ms of processor time: not for the event loop.

    Raises
    ------
    SignatureInvalid
        It is not one, or longer than 4096 characters.
    """
    if len(text) > MAX_MESSAGE:
        raise SignatureInvalid(f"the sign-in message is longer than {MAX_MESSAGE} characters")
    from siwe import SiweMessage  # 0.9 s the first time: it imports web3, pydantic and abnf

    try:
        message = SiweMessage.from_message(text)
        return SignInMessage(
            domain=message.domain,
            address=parse_address(message.address),
            uri=str(message.uri),
            chain_id=message.chain_id,
            nonce=message.nonce,
            issued_at=_seconds(message.issued_at),
            expires_at=_seconds(message.expiration_time) if message.expiration_time else None,
            not_before=_seconds(message.not_before) if message.not_before else None,
        )
    except InvalidInput as error:
        raise SignatureInvalid(f"the sign-in message: {error.message}") from None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        # the library raises ValueError and, through pydantic, subclasses of it
        raise SignatureInvalid("the message is not a Sign-In with Ethereum message (EIP-4361)") from error


def check_sign_in(
    message: SignInMessage, *, domains: Collection[str], uri: str, chain_id: int, max_age: float, now: float
) -> None:
    """Return when this node may accept the message; the clocks may differ by 60 s.

    Parameters
    ----------
    domains : hosts (with a port where it is not the scheme's own) that may ask people to sign in here.
    uri : this node's URL. The message's URI must have its origin: a message made for another node,
        shown by the same page, does not sign anybody in here.
    max_age : seconds for which a nonce lasts.

    Raises
    ------
    SignatureInvalid
        Saying which line of the message is wrong.
    """
    if message.domain.lower() not in domains:
        raise SignatureInvalid(f"the message is for the domain {message.domain}, which may not sign in here")
    if origin(message.uri) != origin(uri):
        raise SignatureInvalid(f"the message's URI must be this node's, {uri}")
    if message.chain_id != chain_id:
        raise SignatureInvalid(f"the message's Chain ID is {message.chain_id}, this node's is {chain_id}")
    if message.issued_at > now + CLOCK_SKEW:
        raise SignatureInvalid("the message was issued in the future: check the clock")
    if message.issued_at < now - max_age - CLOCK_SKEW:
        raise SignatureInvalid("the message was issued too long ago; sign a new one")
    if message.expires_at is not None and now >= message.expires_at + CLOCK_SKEW:
        raise SignatureInvalid("the message has expired; sign a new one")
    if message.not_before is not None and now < message.not_before - CLOCK_SKEW:
        raise SignatureInvalid("the message is not valid yet: check the clock")


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL; the scheme's own port where none is written.

    The names of this machine count as one.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        host = parts.hostname or ""
        return parts.scheme, "localhost" if host in _LOOPBACK else host, port
    except ValueError:
        return "", "", None


def _seconds(text: Any) -> float:
    return float(text._datetime.timestamp())
