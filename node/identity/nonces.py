"""Nonces: made by the node, used once, by whoever comes first.

Enters: nothing, then a nonce. Leaves: a nonce, then silence or a refusal. Using one is a single SQL
statement, so of any number of concurrent tries one wins; a used nonce is remembered until it would
have expired anyway. They are kept on disk and survive a restart.
"""

from __future__ import annotations

import secrets
import sqlite3
import string
import time
from collections.abc import Callable
from typing import Final

import msgspec

from node.errors import NonceReused, Overloaded, SignatureInvalid
from node.identity.database import Database

SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS nonces ("
    "nonce TEXT PRIMARY KEY, expires_at REAL NOT NULL, used INTEGER NOT NULL DEFAULT 0"
    ") STRICT, WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS nonces_by_expiry ON nonces (expires_at)",
)

MAX_OUTSTANDING: Final = 100_000
PURGE_BATCH: Final = 100
_LETTERS: Final = string.ascii_letters + string.digits
_LENGTH: Final = 22  # 131 bits; EIP-4361 wants at least 8 letters or digits


class Nonce(msgspec.Struct, frozen=True):
    value: str
    expires_at: float


class Nonces:
    """Issues nonces and takes each back once.

    Parameters
    ----------
    ttl : seconds for which a nonce may be used.
    wall : Unix seconds.
    """

    def __init__(self, database: Database, *, ttl: float, wall: Callable[[], float] = time.time) -> None:
        self._database = database
        self._ttl = ttl
        self._wall = wall
        self._outstanding: int | None = None

    async def issue(self) -> Nonce:
        """A new nonce. Raises `Overloaded` when too many are outstanding."""
        now = self._wall()
        nonce = Nonce("".join(secrets.choice(_LETTERS) for _ in range(_LENGTH)), now + self._ttl)

        def insert(writer: sqlite3.Connection) -> bool:
            if self._outstanding is None:
                (self._outstanding,) = writer.execute("SELECT count(*) FROM nonces").fetchone()
            # more are removed than added, in small steps, so the table shrinks without a pause
            removed = writer.execute(
                "DELETE FROM nonces WHERE nonce IN "
                "(SELECT nonce FROM nonces WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
                (now, PURGE_BATCH),
            ).rowcount
            self._outstanding -= removed
            if self._outstanding >= MAX_OUTSTANDING:
                return False
            writer.execute(
                "INSERT INTO nonces (nonce, expires_at) VALUES (?, ?)", (nonce.value, nonce.expires_at)
            )
            self._outstanding += 1
            return True

        if not await self._database.transaction(insert):
            raise Overloaded("too many nonces are outstanding; try again in a minute", retry_after=60)
        return nonce

    def check(self, nonce: str) -> None:
        """Return when the nonce could be used now: a cheap look before costly work, binding nobody.

        Raises
        ------
        NonceReused, SignatureInvalid
        """
        row = self._database.one("SELECT used, expires_at FROM nonces WHERE nonce = ?", (nonce,))
        if row is None or row[1] <= self._wall():
            raise SignatureInvalid(
                "the nonce is not one of this node's or has expired; ask POST /api/auth/nonce for another"
            )
        if row[0]:
            raise NonceReused("the nonce was used before; ask POST /api/auth/nonce for another")

    async def use(self, nonce: str) -> None:
        """Use up the nonce. Of concurrent calls with the same one, one returns.

        Raises
        ------
        NonceReused
            It was used before.
        SignatureInvalid
            It was never issued here, or has expired.
        """
        won = await self._database.write(
            "UPDATE nonces SET used = 1 WHERE nonce = ? AND used = 0 AND expires_at > ? RETURNING nonce",
            (nonce, self._wall()),
        )
        if not won:
            self.check(nonce)
            raise NonceReused("the nonce was used before; ask POST /api/auth/nonce for another")
