"""Sessions: bound, short, revocable, stored as hashes, alive after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.errors import AuthenticationRequired, SessionExpired, StartupError
from node.identity.database import Database
from node.identity.sessions import SCHEMA, Sessions
from node.types import Address
from tests.fakes.chain import LICENSEE, PUBLISHER, STRANGER

NODE = Address("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database.open(tmp_path / "node.sqlite", schema=SCHEMA)
    yield database
    await database.close()


def make(database: Database, clock: Clock, **changes: object) -> Sessions:
    options = {"chain_id": 43113, "node": NODE, "ttl": 900, "wall": clock, **changes}
    return Sessions(database, **options)  # type: ignore[arg-type]


@pytest.fixture
def sessions(database: Database, clock: Clock) -> Sessions:
    return make(database, clock)


async def test_a_token_stands_for_the_address_that_signed_in(sessions: Sessions) -> None:
    mine = await sessions.open(address=LICENSEE, domain="lonja.example")
    theirs = await sessions.open(address=STRANGER, domain="lonja.example")
    assert sessions.find(mine.token).address == LICENSEE
    assert sessions.find(theirs.token).address == STRANGER
    assert sessions.find(mine.token).domain == "lonja.example"


async def test_a_session_lasts_fifteen_minutes_at_most(database: Database, clock: Clock) -> None:
    sessions = make(database, clock, ttl=100_000)
    session = await sessions.open(address=LICENSEE, domain="d")
    assert session.expires_at == clock.now + 900
    clock.now += 899.9
    sessions.find(session.token)
    clock.now += 0.1
    for _ in range(2):  # from memory, then from the file
        with pytest.raises(SessionExpired):
            sessions.find(session.token)


async def test_a_session_ends_with_its_message(sessions: Sessions, clock: Clock) -> None:
    session = await sessions.open(address=LICENSEE, domain="d", not_after=clock.now + 10)
    assert session.expires_at == clock.now + 10


async def test_a_closed_session_is_over_at_once(sessions: Sessions) -> None:
    session = await sessions.open(address=LICENSEE, domain="d")
    other = await sessions.open(address=LICENSEE, domain="d")
    sessions.find(session.token)
    await sessions.close(session.token)
    await sessions.close(session.token)
    with pytest.raises(AuthenticationRequired):
        sessions.find(session.token)
    sessions.find(other.token)


async def test_a_look_while_a_session_is_being_closed_does_not_keep_it(sessions: Sessions) -> None:
    session = await sessions.open(address=LICENSEE, domain="d")
    closing = asyncio.create_task(sessions.close(session.token))
    await asyncio.sleep(0)  # it has begun: the row is being deleted in the writer's thread
    with contextlib.suppress(AuthenticationRequired):
        sessions.find(session.token)
    await closing
    with pytest.raises(AuthenticationRequired):
        sessions.find(session.token)


async def test_sessions_survive_a_restart(sessions: Sessions, database: Database, clock: Clock) -> None:
    session = await sessions.open(address=LICENSEE, domain="d")
    reopened = Database.open(database.path, schema=SCHEMA)
    assert make(reopened, clock).find(session.token).address == LICENSEE
    await reopened.close()


@pytest.mark.parametrize("change", [{"chain_id": 1}, {"node": PUBLISHER.replace("7", "8")}])
async def test_a_session_is_bound_to_chain_and_node(
    sessions: Sessions, database: Database, clock: Clock, change: dict[str, object]
) -> None:
    session = await sessions.open(address=LICENSEE, domain="d")
    with pytest.raises(AuthenticationRequired):
        make(database, clock, **change).find(session.token)


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "A" * 44, "é" * 43, "A" * 100_000])
async def test_a_token_of_nobody_is_refused(sessions: Sessions, token: str) -> None:
    with pytest.raises(AuthenticationRequired):
        sessions.find(token)


async def test_the_file_holds_no_token_and_is_its_owner_s_only(
    sessions: Sessions, database: Database
) -> None:
    session = await sessions.open(address=LICENSEE, domain="d")
    for path in database.path.parent.iterdir():
        assert session.token.encode() not in path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


async def test_ended_sessions_are_removed_in_time(
    sessions: Sessions, database: Database, clock: Clock
) -> None:
    await sessions.open(address=LICENSEE, domain="d")
    clock.now += 900 + 3600
    await sessions.open(address=STRANGER, domain="d")
    assert database.one("SELECT count(*), max(address) FROM sessions") == (1, STRANGER)


async def test_a_failed_transaction_leaves_nothing_behind(database: Database) -> None:
    def fails(writer: sqlite3.Connection) -> None:
        writer.execute("INSERT INTO sessions VALUES (x'00', 'a', 'd', 1, 'n', 0.0, 0.0)")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await database.transaction(fails)
    assert database.one("SELECT count(*) FROM sessions") == (0,)
    assert await database.write("DELETE FROM sessions RETURNING address") == []


def test_a_file_that_is_no_database_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "node.sqlite").write_bytes(b"not a database, not at all" * 100)
    with pytest.raises(StartupError, match=r"node\.sqlite"):
        Database.open(tmp_path / "node.sqlite", schema=SCHEMA)
