from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from lonja.devnet.accounts import Account, funded_accounts
from lonja.devnet.chain import EmbeddedChain


class Clock:
    """A clock that moves only when told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def accounts() -> tuple[Account, ...]:
    return funded_accounts(4)


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture
async def chain(accounts: tuple[Account, ...], clock: Clock) -> AsyncIterator[EmbeddedChain]:
    async with EmbeddedChain(accounts=accounts, clock=clock) as running:
        yield running
