"""Events about models, turned into readings of their tokens that do not hold the events up.

Enters: events of the contract, one at a time. Leaves: at once, while the token is read beside it. A token
whose manifest nobody delivers takes many seconds to fail, and anybody may register thousands of them: new
ones wait for each other in a queue of their own, so that a model which is served gets its new revision.
"""

from __future__ import annotations

import asyncio
from typing import Final

from node.chain.chain import ChainEvent, LicenseChanged, OffersChanged
from node.flows.sync_catalogue import CONCURRENT_SYNCS, SyncCatalogue
from node.types import TokenId

MAX_WAITING: Final = 1_000
"""Tokens that wait to be read; past that the events wait."""


class HearEvents:
    """A subscriber of `EventFollower`. Of several events about a token that waits the first is enough."""

    def __init__(self, models: SyncCatalogue) -> None:
        self._models = models
        self._served = asyncio.Semaphore(CONCURRENT_SYNCS)
        self._new = asyncio.Semaphore(CONCURRENT_SYNCS)
        self._waiting: set[TokenId] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, event: ChainEvent) -> None:
        if isinstance(event, LicenseChanged | OffersChanged) or event.token_id in self._waiting:
            return
        while len(self._waiting) >= MAX_WAITING:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        self._waiting.add(event.token_id)
        task = asyncio.create_task(self._read(event.token_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what is being read."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, token_id: TokenId) -> None:
        catalogue = self._models.catalogue
        async with self._served if catalogue.known(catalogue.key(token_id)) else self._new:
            self._waiting.discard(token_id)
            await self._models.changed(token_id)
