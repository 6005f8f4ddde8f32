"""Sign-In with Ethereum (EIP-4361): what a wallet's message says, and whether this node may take it.

Enters: the message text as it was signed. Leaves: `SignInMessage` whose every member was checked
against what this node offered, except the nonce and the signature, which the flow checks.

The library `signinwithethereum` does the reading; it brings web3 and pydantic along and is imported, in
a thread, with the first sign-in. Its time grows with the square of a line's length (3 kB of URI cost
11 s of processor time), so what it is given is bounded first: anybody may send a message here.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from node.addresses import parse_address
from node.chain.recursion import kept_recursion_limit
from node.errors import InvalidInput, SignatureInvalid
from node.types import Address

MAX_MESSAGE: Final = 2048
MAX_LINE: Final = 256
MAX_URIS: Final = 512
"""Characters of all URIs of a message together: its own and the resources."""

_TEXT: Final = re.compile(r"[\x20-\x7e]+(\n[\x20-\x7e]*)*[\x20-\x7e]")
_URI_LINE: Final = ("URI: ", "- ")
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


@contextmanager
def _without(optional: str) -> Iterator[None]:
    """Have imports in this block do without an optional package, which none of ours needs.

    `requests`, which web3 imports, would load charset_normalizer to guess at texts without a charset: 3 MB.
    """
    if optional in sys.modules:
        yield
        return
    sys.modules[optional] = None  # type: ignore[assignment]
    try:
        with warnings.catch_warnings(action="ignore"):  # requests misses it
            yield
    finally:
        sys.modules.pop(optional, None)


def preload() -> None:
    """Import what the first sign-in would otherwise wait 0.9 s for."""
    with kept_recursion_limit(), _without("charset_normalizer"):
        import siwe  # noqa: F401


def parse_sign_in(text: str) -> SignInMessage:
    """Read an EIP-4361 message. 1 ms of processor time, at worst 0.1 s: not for the event loop.

    Raises
    ------
    SignatureInvalid
        It is not one, or longer than is taken: 2048 characters, 256 a line, 512 of URIs.
    """
    _bound(text)
    with kept_recursion_limit():
        from siwe import SiweMessage  # 0.9 s the first time: it imports web3, pydantic and abnf

    try:
        message = SiweMessage.from_message(text, abnf=False)
        if message.prepare_message() != text:
            raise SignatureInvalid("the sign-in message has parts that EIP-4361 does not know")
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


def _bound(text: str) -> None:
    if len(text) > MAX_MESSAGE:
        raise SignatureInvalid(f"the sign-in message is longer than {MAX_MESSAGE} characters")
    if not _TEXT.fullmatch(text):
        raise SignatureInvalid("a sign-in message (EIP-4361) is lines of printable ASCII")
    lines = text.split("\n")
    if max(map(len, lines)) > MAX_LINE:
        raise SignatureInvalid(f"a line of the sign-in message is longer than {MAX_LINE} characters")
    if sum(len(line) for line in lines if line.startswith(_URI_LINE)) > MAX_URIS:
        raise SignatureInvalid(f"the sign-in message's URIs are longer than {MAX_URIS} characters in all")


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
