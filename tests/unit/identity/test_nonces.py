"""Nonces: the node's own, used once, whoever comes first, also across a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.errors import NonceReused, Overloaded, SignatureInvalid
from node.identity import nonces as module
from node.identity.database import Database
from node.identity.nonces import SCHEMA, Nonces


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


@pytest.fixture
def nonces(database: Database, clock: Clock) -> Nonces:
    return Nonces(database, ttl=300, wall=clock)


async def test_a_nonce_is_used_once(nonces: Nonces) -> None:
    nonce = await nonces.issue()
    nonces.check(nonce.value)
    await nonces.use(nonce.value)
    with pytest.raises(NonceReused):
        await nonces.use(nonce.value)
    with pytest.raises(NonceReused):
        nonces.check(nonce.value)


async def test_of_a_hundred_concurrent_tries_one_wins(nonces: Nonces) -> None:
    nonce = await nonces.issue()
    outcomes = await asyncio.gather(*(nonces.use(nonce.value) for _ in range(100)), return_exceptions=True)
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, NonceReused) for outcome in outcomes) == 99


async def test_of_two_processes_on_one_file_one_wins(
    nonces: Nonces, database: Database, clock: Clock
) -> None:
    other_database = Database.open(database.path, schema=SCHEMA)
    other = Nonces(other_database, ttl=300, wall=clock)
    for _ in range(20):
        nonce = await nonces.issue()
        outcomes = await asyncio.gather(
            nonces.use(nonce.value), other.use(nonce.value), return_exceptions=True
        )
        assert outcomes.count(None) == 1
    await other_database.close()


async def test_the_last_nonce_cannot_be_used_again_either(nonces: Nonces) -> None:
    """A peer's node compared with `<` and took its last nonce twice."""
    issued = [await nonces.issue() for _ in range(3)]
    for nonce in issued:
        await nonces.use(nonce.value)
    for nonce in issued:
        with pytest.raises(NonceReused):
            await nonces.use(nonce.value)


@pytest.mark.parametrize("nonce", ["", "abcdefgh", "' OR 1=1 --", "x" * 10_000, "\0"])
async def test_a_nonce_of_nobody_is_refused(nonces: Nonces, nonce: str) -> None:
    with pytest.raises(SignatureInvalid):
        await nonces.use(nonce)


async def test_an_expired_nonce_is_refused(nonces: Nonces, clock: Clock) -> None:
    nonce = await nonces.issue()
    assert nonce.expires_at == clock.now + 300
    clock.now += 300
    with pytest.raises(SignatureInvalid, match="expired"):
        nonces.check(nonce.value)
    with pytest.raises(SignatureInvalid):
        await nonces.use(nonce.value)


async def test_nonces_survive_a_restart_and_stay_used(
    nonces: Nonces, database: Database, clock: Clock
) -> None:
    used, unused = await nonces.issue(), await nonces.issue()
    await nonces.use(used.value)
    again_database = Database.open(database.path, schema=SCHEMA)
    again = Nonces(again_database, ttl=300, wall=clock)
    await again.use(unused.value)
    with pytest.raises(NonceReused):
        await again.use(used.value)
    await again_database.close()


async def test_nonces_are_letters_and_digits_and_differ(nonces: Nonces) -> None:
    values = {(await nonces.issue()).value for _ in range(200)}
    assert len(values) == 200
    assert all(value.isalnum() and value.isascii() and len(value) == 22 for value in values)


async def test_too_many_outstanding_are_refused_until_they_expire(
    nonces: Nonces, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OUTSTANDING", 10)
    for _ in range(10):
        await nonces.issue()
    with pytest.raises(Overloaded) as full:
        await nonces.issue()
    assert full.value.retry_after == 60
    clock.now += 300
    await nonces.issue()


async def test_what_has_expired_is_removed(nonces: Nonces, database: Database, clock: Clock) -> None:
    for _ in range(50):
        await nonces.issue()
    clock.now += 301
    await nonces.issue()
    assert database.one("SELECT count(*) FROM nonces") == (1,)
