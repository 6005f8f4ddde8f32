"""Sessions: a random token stands for an address that has proved itself, for at most 15 minutes.

Enters: a token. Leaves: the `Session` behind it. The token itself is never stored: the table holds its
SHA-256, so whoever reads the file cannot call in anyone's name. What was looked up lately is kept in
memory; closing a session removes it from both before it returns. One process owns the file.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
from collections.abc import Callable
from typing import Final

import msgspec

from node.errors import AuthenticationRequired, SessionExpired
from node.identity.database import Database
from node.types import Address

SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS sessions ("
    "token_hash BLOB PRIMARY KEY, address TEXT NOT NULL, domain TEXT NOT NULL, chain_id INTEGER NOT NULL, "
    "node TEXT NOT NULL, created_at REAL NOT NULL, expires_at REAL NOT NULL"
    ") STRICT, WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS sessions_by_expiry ON sessions (expires_at)",
)

MAX_TTL: Final = 900.0
KEPT_AFTER_END: Final = 3600.0
"""Seconds for which an ended session is remembered, to tell `SessionExpired` from a token never given."""

_TOKEN_BYTES: Final = 32
_TOKEN_LENGTH: Final = 43
_IN_MEMORY: Final = 10_000


class Session(msgspec.Struct, frozen=True):
    """An open session; `token` is known to the caller only and given out once."""

    token: str
    address: Address
    expires_at: float


class OpenSession(msgspec.Struct, frozen=True):
    """What is known of a session by its token."""

    address: Address
    domain: str
    expires_at: float


class Sessions:
    """Opens, finds and closes sessions of one node on one chain.

    Parameters
    ----------
    chain_id, node : a session is bound to both; one opened under others is not found.
    ttl : seconds, at most 900.
    wall : Unix seconds.
    """

    def __init__(
        self,
        database: Database,
        *,
        chain_id: int,
        node: Address,
        ttl: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._chain_id = chain_id
        self._node = node
        self._ttl = min(ttl, MAX_TTL)
        self._wall = wall
        self._known: dict[bytes, OpenSession] = {}  # plain: read for every request

    async def open(self, *, address: Address, domain: str, not_after: float = float("inf")) -> Session:
        """A new session, over after `ttl` seconds or at `not_after`, whichever is sooner."""
        now = self._wall()
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        session = Session(token=token, address=address, expires_at=min(now + self._ttl, not_after))
        row = (_hash(token), address, domain, self._chain_id, self._node, now, session.expires_at)

        def insert(writer: sqlite3.Connection) -> None:
            writer.execute("DELETE FROM sessions WHERE expires_at <= ?", (now - KEPT_AFTER_END,))
            writer.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)", row)

        await self._database.transaction(insert)
        return session

    def find(self, token: str) -> OpenSession:
        """The session of a token; from memory in about 2 us, else by one read of the table.

        Raises
        ------
        AuthenticationRequired
            No such session: never given out here, or closed.
        SessionExpired
            It is over.
        """
        if len(token) != _TOKEN_LENGTH or not token.isascii():
            raise AuthenticationRequired("the session token is not one of this node's; sign in again")
        key = _hash(token)
        session = self._known.get(key)
        if session is None:
            session = self._known[key] = self._read(key)
            if len(self._known) > _IN_MEMORY:
                del self._known[next(iter(self._known))]  # if it is still open, it is read again
        if self._wall() >= session.expires_at:
            self._known.pop(key, None)
            raise SessionExpired("the session is over; sign in again")
        return session

    async def close(self, token: str) -> None:
        """End the session; a token that is not known is no error."""
        key = _hash(token)
        await self._database.write("DELETE FROM sessions WHERE token_hash = ?", (key,))
        # after the row is gone: a `find` in between would have put it back
        self._known.pop(key, None)

    def _read(self, key: bytes) -> OpenSession:
        row = self._database.one(
            "SELECT address, domain, expires_at FROM sessions "
            "WHERE token_hash = ? AND chain_id = ? AND node = ?",
            (key, self._chain_id, self._node),
        )
        if row is None:
            raise AuthenticationRequired("the session token is not known here or was closed; sign in again")
        return OpenSession(address=Address(row[0]), domain=row[1], expires_at=row[2])


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
