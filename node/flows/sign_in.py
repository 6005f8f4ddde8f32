"""Who is calling: sign in once for a token, or sign every request.

Enters: a message with its signature, or an `Authorization` header. Leaves: a `Session` or a `Caller`.
An address comes only from what was signed, never from a body; a nonce is used up only by a signature
that holds, so nobody can spend another's; of concurrent tries with one nonce a single one succeeds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from node.chain.sign_in_message import CLOCK_SKEW, SignInMessage, check_sign_in, parse_sign_in
from node.chain.signatures import SignatureChecker, personal_message_digest
from node.chain.typed_data import SignedRequest, parse_authorization, parse_signature, request_digest
from node.errors import Overloaded, SignatureInvalid
from node.identity.nonces import Nonces
from node.identity.sessions import Session, Sessions
from node.settings import Settings
from node.types import Address, Caller, CallerScheme, ContractRef

__all__ = ["Authenticate", "Session", "SignIn", "SignInChallenge", "sign_in_domains"]

MAX_READERS: Final = 256
"""Sign-ins that may wait for their turn."""

_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
_SESSION: Final = CallerScheme.SESSION  # Python 3.11 takes a function call to find a member


class SignInChallenge(msgspec.Struct, frozen=True):
    """What a wallet needs to make a message that this node accepts."""

    nonce: str
    domains: tuple[str, ...]
    uri: str
    chain_id: int
    node: Address
    expires_at: float


class SignIn:
    """Challenges, sessions opened and closed.

    Parameters
    ----------
    public_url : this node's URL as callers see it; the URI of every message.
    domains : see `sign_in_domains`.
    nonce_ttl : seconds for which a challenge may be answered.
    """

    def __init__(
        self,
        *,
        nonces: Nonces,
        sessions: Sessions,
        checker: SignatureChecker,
        contract: ContractRef,
        node: Address,
        public_url: str,
        domains: Sequence[str],
        nonce_ttl: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._nonces = nonces
        self._sessions = sessions
        self._checker = checker
        self._chain_id = contract.chain_id
        self._node = node
        self._public_url = public_url
        self._domains = tuple(domains)
        self._nonce_ttl = nonce_ttl
        self._wall = wall
        self._turn = asyncio.Lock()
        self._readers = 0

    async def nonce(self) -> SignInChallenge:
        """A fresh challenge, for a sign-in or for one signed request."""
        nonce = await self._nonces.issue()
        return SignInChallenge(
            nonce=nonce.value,
            domains=self._domains,
            uri=self._public_url,
            chain_id=self._chain_id,
            node=self._node,
            expires_at=nonce.expires_at,
        )

    async def open_session(self, *, message: str, signature: str) -> Session:
        """A session for the account that signed the message.

        Raises
        ------
        SignatureInvalid, NonceReused, ChainUnavailable
        """
        proof = parse_signature(signature)
        said = await self._read(message)
        check_sign_in(
            said,
            domains=self._domains,
            uri=self._public_url,
            chain_id=self._chain_id,
            max_age=self._nonce_ttl,
            now=self._wall(),
        )
        self._nonces.check(said.nonce)
        digest = personal_message_digest(message)
        await self._checker.check(said.address, digest=digest, signature=proof)
        await self._nonces.use(said.nonce)
        not_after = float("inf") if said.expires_at is None else said.expires_at + CLOCK_SKEW
        return await self._sessions.open(address=said.address, domain=said.domain, not_after=not_after)

    async def _read(self, message: str) -> SignInMessage:
        """One message at a time: reading is pure Python and would take the event loop's share."""
        if self._readers >= MAX_READERS:
            raise Overloaded("too many sign-ins at once; try again", retry_after=1)
        self._readers += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(parse_sign_in, message)
        finally:
            self._readers -= 1

    async def close_session(self, token: str) -> None:
        """End a session; from here on its token is refused."""
        await self._sessions.close(token)


class Authenticate:
    """Finds the caller of a request.

    Parameters
    ----------
    max_ahead : seconds that a deadline may lie ahead: a signature is not for keeping.
    """

    def __init__(
        self,
        *,
        nonces: Nonces,
        sessions: Sessions,
        checker: SignatureChecker,
        contract: ContractRef,
        node: Address,
        max_ahead: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._nonces = nonces
        self._sessions = sessions
        self._checker = checker
        self._contract = contract
        self._node = node
        self._max_ahead = max_ahead
        self._wall = wall

    def session(self, token: str) -> Caller:
        """The caller behind a session token. Raises `AuthenticationRequired`, `SessionExpired`."""
        return Caller(address=self._sessions.find(token).address, scheme=_SESSION)

    async def signature(self, header: str, *, method: str, path: str, body_hash: bytes) -> Caller:
        """The caller who signed this very request.

        Parameters
        ----------
        header : the whole value of `Authorization`.
        path : as it stood in the request line, with the query.
        body_hash : Keccak-256 of the body (`typed_data.body_hash`).

        Raises
        ------
        SignatureInvalid, NonceReused, ChainUnavailable
        """
        said = parse_authorization(header)
        now = self._wall()
        if now >= said.deadline + CLOCK_SKEW:
            raise SignatureInvalid("the signature's deadline is over; sign again")
        if said.deadline > now + self._max_ahead + CLOCK_SKEW:
            raise SignatureInvalid(f"the signature's deadline is more than {self._max_ahead:g} s ahead")
        self._nonces.check(said.nonce)
        request = SignedRequest(
            method=method.upper(),
            path=path,
            body_hash=body_hash,
            node=self._node,
            nonce=said.nonce,
            deadline=said.deadline,
        )
        digest = request_digest(self._contract, request)
        await self._checker.check(said.address, digest=digest, signature=said.signature)
        await self._nonces.use(said.nonce)
        return Caller(address=said.address, scheme=CallerScheme.SIGNATURE)


def sign_in_domains(settings: Settings, *, public_url: str) -> tuple[str, ...]:
    """The domains whose pages may ask people to sign in here, in lower case.

    `SIGN_IN_DOMAINS` if it is set; else the host of `public_url` (all names of this machine when it is
    one of them) and the hosts of `CORS_ORIGINS`.
    """
    if settings.sign_in_domains:
        return tuple(domain.lower() for domain in settings.sign_in_domains)
    own = urlsplit(public_url)
    host, port = own.hostname or "", f":{own.port}" if own.port else ""
    host = f"[{host}]" if ":" in host else host
    hosts = _LOOPBACK if host in _LOOPBACK else (host,)
    origins = (urlsplit(origin).netloc.rpartition("@")[2] for origin in settings.cors_origins)
    found = dict.fromkeys((*(name + port for name in hosts), *(o.lower() for o in origins)))
    return tuple(domain for domain in found if domain)
