"""Content by CID: from the store, else from gateways, every block checked before it is used.

Enters: a CID and a limit. Leaves: a hold on verified files. A download goes on where it broke off, at
another gateway if need be; whoever stalls is left, whoever lies is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import aiohttp
from aiohttp.abc import AbstractResolver

from node.cid import Cid
from node.errors import ContentMismatch, ContentNotFound, GatewayUnavailable, InputTooLarge
from node.ipfs.car import BlockTooBig, CarInvalid
from node.ipfs.gateways import Gateway, Gateways
from node.ipfs.intake import Intake, Pump
from node.ipfs.request import Authorize, Lacking, Requests, Unusable, Withheld
from node.ipfs.store import BlockStore, name_of
from node.ipfs.unixfs import NodeInvalid
from node.ipfs.verifier import RangeIgnored, Segment
from node.outbound import open_session

_ROUNDS_WITHOUT_PROGRESS: Final = 2
PATIENCE: Final = 2.5
_HOLD_TRIES: Final = 3

_log = logging.getLogger("node.ipfs")

SessionFactory = Callable[[AbstractResolver | None], aiohttp.ClientSession]


@dataclass(slots=True)
class _Flight:
    """A download that several callers wait for."""

    task: asyncio.Task[None]
    limit: int
    waiting: int = 0


class Retriever:
    """Fetches into a store.

    Parameters
    ----------
    stall_timeout
        Seconds within which a gateway must move on: from the request to the first byte, and from then on
        a minimum of bytes.
    max_object_bytes
        Bound on any one download, whatever the caller allows.
    patience
        Seconds for which a download waits when every gateway rests after a failure, before it fails.
    authorize
        Makes headers for a gateway that answered 401, so that nodes can fetch licensed weights from each
        other; None sends none.
    """

    def __init__(
        self,
        store: BlockStore,
        gateways: Gateways,
        *,
        stall_timeout: float,
        max_object_bytes: int,
        session_factory: SessionFactory = open_session,
        patience: float = PATIENCE,
        authorize: Authorize | None = None,
    ) -> None:
        self.store = store
        self.gateways = gateways
        self._max = max_object_bytes
        self._patience = patience
        self._requests = Requests(
            session_factory=session_factory,
            stall_timeout=stall_timeout,
            allow_private=gateways.allow_private,
            authorize=authorize,
        )
        self._flights: dict[str, _Flight] = {}

    @property
    def received_bytes(self) -> int:
        """What gateways have sent since the start, kept or not."""
        return self._requests.received

    async def close(self) -> None:
        """End downloads (what they have stays for resumption) and connections."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._requests.close()

    @asynccontextmanager
    async def hold(self, cid: Cid, *, limit: int) -> AsyncIterator[Path]:
        """The verified file or folder, which stays while the context is open.

        Raises
        ------
        ContentNotFound
            Every gateway said that it does not have it, or not for this node.
        GatewayUnavailable
            No gateway could deliver; what came is kept, and the next call goes on from there.
        ContentMismatch
            Gateways delivered something else, or the content is of a kind that is not accepted.
        InputTooLarge, StoreFull
        """
        async with self._held(cid, limit) as path:
            yield path

    async def read(self, cid: Cid, *, limit: int) -> bytes:
        """A whole small file. Raises as `hold` does."""
        async with self._held(cid, limit):
            return await self.store.read(cid, limit=limit)

    @asynccontextmanager
    async def _held(self, cid: Cid, limit: int) -> AsyncIterator[Path]:
        for left in reversed(range(_HOLD_TRIES)):
            if not self.store.has(cid):
                await self._join(cid, limit)
            try:
                hold = self.store.hold(cid)
                path = hold.__enter__()
                break
            except ContentNotFound:  # pruned between the download and the hold
                if not left:
                    raise
        try:
            await asyncio.to_thread(_check_size, path, cid, limit)
            yield path
        finally:
            hold.__exit__(None, None, None)

    async def _join(self, cid: Cid, limit: int) -> None:
        """Wait for the one download of this CID; it ends when the last who waits leaves."""
        name, limit = name_of(cid), min(limit, self._max)
        flight = self._flights.get(name)
        if flight is None or flight.limit < limit:
            if flight is not None:
                await asyncio.wait([flight.task])
                return
            flight = _Flight(asyncio.create_task(self._download(cid, limit)), limit)
            flight.task.add_done_callback(lambda task: self._landed(name, task))
            self._flights[name] = flight
        flight.waiting += 1
        try:
            await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                flight.task.cancel()
                await asyncio.wait([flight.task])

    def _landed(self, name: str, task: asyncio.Task[None]) -> None:
        del self._flights[name]
        if not task.cancelled():
            task.exception()  # seen, even where everybody who waited has left

    async def _download(self, cid: Cid, limit: int) -> None:
        name = name_of(cid)
        async with self.store.locks.exclusive_wait(name):
            if self.store.has(cid):  # another process was quicker
                return
            partial = self.store.partial_folder(name)
            intake = self.store.intake(lambda _: partial, limit=limit)
            intake.want(cid)
            keep = False
            try:
                await asyncio.to_thread(self.store.take_up, intake, name)
                await _Transfer(cid, intake, self.gateways, self._requests).run(patience=self._patience)
                await asyncio.to_thread(self.store.commit, intake)
            except (GatewayUnavailable, ContentNotFound, asyncio.CancelledError):
                keep = True
                raise
            except NodeInvalid as error:
                raise ContentMismatch(f"{cid} cannot be used: {error}") from error
            finally:
                await asyncio.shield(asyncio.to_thread(intake.suspend if keep else intake.discard))
                self.store.locks.forget(name)


class _Transfer:
    """One download over as many gateways and requests as it takes."""

    def __init__(self, cid: Cid, intake: Intake, gateways: Gateways, requests: Requests) -> None:
        self._cid = cid
        self._intake = intake
        self._gateways = gateways
        self._requests = requests
        self._lacking: set[str] = set()
        self._asked: set[str] = set()
        self._mismatch = ""
        self._withheld = False

    async def run(self, *, patience: float) -> None:
        """Fetch until nothing is missing. Raises what `Retriever.hold` says."""
        fruitless = 0
        while not await asyncio.to_thread(self._intake.settle):
            if fruitless > _ROUNDS_WITHOUT_PROGRESS:
                self._fail()
            candidates = self._candidates() or self._in_need()
            if not candidates:
                await self._rest(patience)
                candidates = self._candidates()
            moved = False
            for gateway in candidates:
                moved |= await self._exhaust(gateway)
                if await asyncio.to_thread(self._intake.settle):
                    return
            fruitless = 0 if moved else fruitless + 1

    async def _rest(self, patience: float) -> None:
        """Wait until a gateway may be asked again, if that is soon."""
        left = self._gateways.next_in(without=self._lacking)
        if left is None or left > patience:
            self._fail()
        else:
            await asyncio.sleep(left * random.uniform(1.0, 1.25))  # noqa: S311 - jitter

    def _candidates(self) -> list[Gateway]:
        return [gateway for gateway in self._gateways.usable() if gateway.name not in self._lacking]

    def _in_need(self) -> list[Gateway]:
        """Gateways that rest after other downloads, and have not been asked for this content yet."""
        resting = self._gateways.resting()
        return [gateway for gateway in resting if gateway.name not in self._asked | self._lacking]

    async def _exhaust(self, gateway: Gateway) -> bool:
        """Ask one gateway for segment after segment until it fails; whether anything came of it."""
        before = self._intake.progress
        while True:
            segment = await asyncio.to_thread(self._intake.segment, ranges=gateway.ranges)
            more = await self._one(gateway, segment)
            if not more or await asyncio.to_thread(self._intake.settle):
                break
        moved = self._intake.progress > before
        if moved:
            self._gateways.moved(gateway)
        return moved

    async def _one(self, gateway: Gateway, segment: Segment) -> bool:
        """One request; whether the gateway may be asked for the next segment."""
        pump = Pump(self._intake.feed)
        self._gateways.asked(gateway)
        self._asked.add(gateway.name)
        try:
            await self._requests.stream(gateway, segment, pump)
            if await asyncio.to_thread(self._intake.segment_complete):
                self._gateways.delivered(gateway)
                return True
            if not self._intake.begun:
                # Kubo has sent the head before it looks for the first block.
                raise Lacking("it answered with a CAR without any block")
            self._gateways.failed(gateway, "it ended the answer before everything had come")
        except RangeIgnored:
            gateway.ranges = False
            return True
        except Lacking as error:
            self._lacking.add(gateway.name)
            self._withheld |= isinstance(error, Withheld)
            self._gateways.lacks(gateway, str(error))
        except Unusable as error:
            self._gateways.failed(gateway, str(error), retry_after=error.retry_after)
        except BlockTooBig as error:
            self._gateways.failed(gateway, str(error))
            self._mismatch = str(error)
        except CarInvalid as error:
            self._gateways.drop(gateway, str(error))
            self._mismatch = str(error)
        finally:
            await pump.close()
        fields = {"gateway": gateway.name, "cid": str(segment.cid), "reason": gateway.last_error}
        _log.warning("gateway did not deliver", extra={"fields": fields})
        return False

    def _fail(self) -> NoReturn:
        if not self._gateways.all:
            raise ContentNotFound(
                f"{self._cid} is not in this node's store, and no gateway is set; name some in IPFS_GATEWAYS"
            )
        # Clients are not told where the operator's gateways are: the log is.
        numbered = enumerate(self._gateways.all, start=1)
        told = "; ".join(f"gateway {number}: {g.last_error}" for number, g in numbered if g.last_error)
        if self._mismatch:
            raise ContentMismatch(f"{self._cid} was not delivered as its CID promises ({told})")
        if {gateway.name for gateway in self._gateways.all} <= self._lacking:
            if self._withheld:
                raise ContentNotFound(
                    f"no gateway gives {self._cid} to this node ({told})",
                    suggestion="A node gives weights to licensees and to the nodes in its IPFS_PEERS: the "
                    "operator of this node asks the other to list this node's address there.",
                )
            raise ContentNotFound(f"no gateway has {self._cid} ({told})")
        raise GatewayUnavailable(
            f"no gateway could deliver {self._cid} ({told})", retry_after=self._gateways.next_in()
        )


def _check_size(path: Path, cid: Cid, limit: int) -> None:
    files = [path] if path.is_file() else [entry for entry in path.rglob("*") if entry.is_file()]
    size = sum(entry.stat().st_size for entry in files)
    if size > limit:
        raise InputTooLarge(f"{cid} has {size} bytes; the limit here is {limit}")
