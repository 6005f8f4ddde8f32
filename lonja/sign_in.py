"""Proving the caller to a node: a session by Sign-In with Ethereum, or one signature a request (EIP-712).

Enters: the node's challenge and a local key. Leaves: an `Authorization` header. A challenge is signed only
if it names the host that we talk to: a node cannot pass on another node's challenge and use our answer.

Formats: EIP-4361 (the message), EIP-191 (its signature), EIP-712 (the request).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import msgspec

from lonja.errors import (
    NodeUnreachable,
    NonceReused,
    ResponseInvalid,
    SessionExpired,
    SignInRefused,
    Upstream,
    UsageInvalid,
)
from lonja.transport import Transport

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

T = TypeVar("T")

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SIGNATURE_SECONDS: Final = 60
_SESSION_SECONDS: Final = 900.0
"""What is asked for in the message; the node may give less, and says so."""
_RENEW_BEFORE: Final = 20.0
"""Seconds before its end at which a session is renewed, so that it does not run out on the way."""
STATEMENT: Final = "Sign in to this Lonja node."


class Challenge(msgspec.Struct, frozen=True):
    """`POST /api/auth/nonce`."""

    nonce: str
    domains: list[str]
    uri: str
    chain_id: int
    node: str
    expires_at: float


class Session(msgspec.Struct, frozen=True):
    """`POST /api/auth/session`."""

    token: str
    address: str
    expires_at: float

    def __repr__(self) -> str:  # a token must not reach a log
        return f"Session(address={self.address!r}, expires_at={self.expires_at!r})"


def host_of(url: str) -> str:
    """Host and port of a URL as a SIWE domain names them: the port only where the URL has one."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def choose_domain(challenge: Challenge, *, base: str) -> str:
    """The domain to sign: the host that we talk to. Raises `SignInRefused` if the node does not claim it."""
    ours = host_of(base)
    claimed_domains = [domain.lower() for domain in challenge.domains]
    same = next((domain for domain in claimed_domains if _same_host(domain, ours)), None)
    if same is None:
        claimed = ", ".join(challenge.domains[:3]) or "none"
        raise SignInRefused(
            f"this node signs people in for {claimed}, but we talk to it as {ours}: use that name, or let "
            "its operator add this one to SIGN_IN_DOMAINS"
        )
    return same


def _same_host(one: str, other: str) -> bool:
    """Equal, or two names of this very machine with the same port."""
    return one == other or (_loopback_port(one) is not None and _loopback_port(one) == _loopback_port(other))


def _loopback_port(host: str) -> str | None:
    name, colon, port = host.rpartition(":")
    if not colon or "]" in port:
        name, port = host, ""
    return port if name in _LOOPBACK else None


def siwe_message(challenge: Challenge, *, domain: str, address: str, now: float) -> str:
    """The EIP-4361 text, which a wallet shows to people."""
    return (
        f"{domain} wants you to sign in with your Ethereum account:\n{address}\n\n{STATEMENT}\n\n"
        f"URI: {challenge.uri}\nVersion: 1\nChain ID: {challenge.chain_id}\nNonce: {challenge.nonce}\n"
        f"Issued At: {_iso(now)}\nExpiration Time: {_iso(now + _SESSION_SECONDS)}"
    )


class Identity:
    """Signs for one key at one node."""

    def __init__(
        self,
        account: LocalAccount,
        transport: Transport,
        *,
        contract: str | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        self.account = account
        self._contract = contract
        self._transport = transport
        self._clock = clock
        self._session: Session | None = None
        self._opening = asyncio.Lock()

    @property
    def address(self) -> str:
        return str(self.account.address)

    async def session(self) -> Session:
        """The session, opened or renewed where needed; many callers at once open one."""
        async with self._opening:
            if self._session is None or self._session.expires_at - self._clock() < _RENEW_BEFORE:
                self._session = await self._open_patiently()
            return self._session

    async def by_session(self, _method: str, _path: str, _body: bytes) -> dict[str, str]:
        """`Authorization` by session token."""
        return {"Authorization": f"Bearer {(await self.session()).token}"}

    async def by_signature(self, method: str, path: str, body: bytes) -> dict[str, str]:
        """`Authorization` by a signature over this one request, bound to the client's contract."""
        from node.chain.typed_data import SignedRequest, authorization_header, body_hash, request_digest
        from node.types import Address, ContractRef

        if self._contract is None:
            raise UsageInvalid("signing each request needs the contract's address: give contract")
        challenge = await self._challenge()
        choose_domain(challenge, base=self._transport.base)
        deadline = int(min(challenge.expires_at, self._clock() + _SIGNATURE_SECONDS))
        request = SignedRequest(
            method=method, path=path, body_hash=body_hash(body), node=Address(challenge.node),
            nonce=challenge.nonce, deadline=deadline,
        )  # fmt: skip
        digest = request_digest(ContractRef(challenge.chain_id, Address(self._contract)), request)
        signed = await asyncio.to_thread(self.account.unsafe_sign_hash, cast("Any", digest))
        header = authorization_header(
            address=Address(self.address), nonce=challenge.nonce, deadline=deadline,
            signature=bytes(signed.signature),
        )  # fmt: skip
        return {"Authorization": header}

    async def renewing(self, attempt: Callable[[], Awaitable[bytes]]) -> bytes:
        """Run a call; when the node has forgotten the session, once more with a new one."""
        try:
            return await attempt()
        except SessionExpired:
            self._session = None
            return await attempt()

    async def close(self) -> None:
        """Tell the node to forget the session."""
        session, self._session = self._session, None
        if session is not None and session.expires_at > self._clock():
            token = {"Authorization": f"Bearer {session.token}"}
            await self._transport.call("DELETE", "/api/auth/session", authorize=_fixed(token), timeout=5)

    async def _open_patiently(self) -> Session:
        try:
            return await self._open()
        except (NodeUnreachable, NonceReused, Upstream):
            return await self._open()  # a nonce is used once: begin with a new one, not with the old message

    async def _open(self) -> Session:
        from eth_account.messages import encode_defunct

        challenge = await self._challenge()
        domain = choose_domain(challenge, base=self._transport.base)
        message = siwe_message(challenge, domain=domain, address=self.address, now=self._clock())
        signed = await asyncio.to_thread(self.account.sign_message, encode_defunct(text=message))
        body = msgspec.json.encode({"message": message, "signature": "0x" + bytes(signed.signature).hex()})
        return decoded(await self._transport.call_once("POST", "/api/auth/session", body=body), Session)

    async def _challenge(self) -> Challenge:
        return decoded(await self._transport.call("POST", "/api/auth/nonce"), Challenge)


def decoded(answer: bytes, kind: type[T]) -> T:
    """An answer as a value of `kind`. Raises `ResponseInvalid`."""
    try:
        return msgspec.json.decode(answer, type=kind, strict=False)
    except msgspec.DecodeError as error:
        raise ResponseInvalid(f"the node's answer is not what this version expects: {error}") from error


def _fixed(headers: dict[str, str]) -> Callable[[str, str, bytes], Awaitable[dict[str, str]]]:
    async def authorize(_method: str, _path: str, _body: bytes) -> dict[str, str]:
        return headers

    return authorize


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
