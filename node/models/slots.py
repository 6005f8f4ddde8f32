"""At most N resident models, the least recently used one making room for the next.

Generic: it knows a key, a revision and two callables, nothing of processes. Rules it keeps:

- a hit does not suspend; a miss loads once, however many ask for it;
- a load that fails changes nothing: room is made only after it has succeeded;
- a resident in use is drained, not cut off: it leaves the list at once and is closed after its last user;
- a newer revision loads beside the older one, takes its place, and lets it drain;
- a resident that has died is loaded again at its next use, or at once when its holder says so (`lost`).

Everything between two awaits is atomic: one event loop, no locks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Generic, Protocol, TypeVar

import msgspec

from node.errors import ShuttingDown
from node.types import ModelKey

log = logging.getLogger(__name__)

REVIVALS: int = 3
REVIVAL_WINDOW: float = 60.0
"""A model whose workers die more often than `REVIVALS` times in this many seconds is loaded again only
when somebody asks for it: a model that kills every worker must not keep the node busy."""


class Resident(Protocol):
    """What a slot holds."""

    @property
    def alive(self) -> bool:
        """Whether it can still be used."""
        ...


R = TypeVar("R", bound=Resident)
Kept_co = TypeVar("Kept_co", covariant=True)


class Held(Protocol[Kept_co]):
    """A resident that is not closed before it is released."""

    @property
    def resident(self) -> Kept_co: ...
    def release(self) -> None: ...


class Residency(msgspec.Struct, Generic[R], frozen=True):
    """One occupied slot, for showing."""

    key: ModelKey
    revision: int
    users: int
    resident: R


class _Slot(Generic[R]):
    """A resident and its users."""

    __slots__ = ("idle", "key", "resident", "revision", "users")

    def __init__(self, key: ModelKey, revision: int, resident: R) -> None:
        self.key, self.revision, self.resident = key, revision, resident
        self.users = 0
        self.idle: asyncio.Event | None = None

    def release(self) -> None:
        self.users -= 1
        if self.users == 0 and self.idle is not None:
            self.idle.set()


class _Use(Generic[R]):
    """The context manager that `Slots.use` gives: holds the resident against being closed."""

    __slots__ = ("_key", "_revision", "_slot", "_slots")

    def __init__(self, slots: Slots[R], key: ModelKey, revision: int) -> None:
        self._slots, self._key, self._revision = slots, key, revision
        self._slot: _Slot[R]

    async def __aenter__(self) -> R:
        slot = self._slots._hit(self._key, self._revision)
        if slot is None:
            slot = await self._slots._miss(self._key, self._revision)
        self._slot = slot
        return slot.resident

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slot.release()


class Slots(Generic[R]):
    """See the module.

    Parameters
    ----------
    capacity : most residents in the list.
    load : makes a resident; what it raises reaches everybody who waits for it.
    fetch : brings what `load` needs to this machine. It takes no room: a model that comes slowly must not
        keep others, which are here, from being loaded.
    close : ends a resident that nobody uses any more.
    spare : how many more than `capacity` may exist while they load or drain: the bound on memory.
    """

    def __init__(
        self,
        *,
        capacity: int,
        load: Callable[[ModelKey, int], Awaitable[R]],
        close: Callable[[R], Awaitable[None]],
        fetch: Callable[[ModelKey, int], Awaitable[None]] | None = None,
        spare: int | None = None,
    ) -> None:
        self.capacity = capacity
        self.loads = self.load_failures = self.evictions = 0
        self._load, self._close, self._fetch = load, close, fetch
        self._slots: OrderedDict[ModelKey, _Slot[R]] = OrderedDict()
        self._waiting: dict[tuple[ModelKey, int], list[asyncio.Future[_Slot[R]]]] = {}
        self._room = asyncio.Semaphore(capacity + (capacity if spare is None else max(1, spare)))
        self._tasks: set[asyncio.Task[None]] = set()
        self._load_tasks: set[asyncio.Task[None]] = set()
        self._deaths: dict[ModelKey, deque[float]] = {}
        self._closed = False

    def use(self, key: ModelKey, revision: int) -> _Use[R]:
        """`async with slots.use(key, revision) as resident`: that revision or a newer one.

        Raises (on entering) whatever loading raises, and `ShuttingDown`.
        """
        return _Use(self, key, revision)

    def take(self, key: ModelKey, revision: int) -> Held[R] | None:
        """`use` without a block and without waiting: None where the model is not resident.

        The caller must call `release` of what it is given, once.
        """
        return self._hit(key, revision)

    async def load(self, key: ModelKey, revision: int) -> R:
        """Make sure that the model is resident; counts as a use."""
        async with self.use(key, revision) as resident:
            return resident

    async def evict(self, key: ModelKey) -> bool:
        """Take the model out and wait until it is drained and closed; whether it was resident."""
        slot = self._slots.get(key)
        if slot is None:
            return False
        await asyncio.shield(self._retire(slot))
        return True

    def lost(self, resident: R) -> None:
        """Tell that a resident has died: it is loaded again now, so that nobody has to wait for it later."""
        slot = next((slot for slot in self._slots.values() if slot.resident is resident), None)
        if slot is None or self._closed or (slot.key, slot.revision) in self._waiting:
            return
        deaths = self._deaths.setdefault(slot.key, deque(maxlen=REVIVALS))
        now = time.monotonic()
        if len(deaths) == REVIVALS and now - deaths[0] < REVIVAL_WINDOW:
            log.error("%s: its workers keep dying; the next one starts when somebody asks for it", slot.key)
            self._retire(slot)
            return
        deaths.append(now)
        self._start_load(slot.key, slot.revision)

    def resident(self) -> list[Residency[R]]:
        """The occupied slots, least recently used first."""
        return [
            Residency(slot.key, slot.revision, slot.users, slot.resident) for slot in self._slots.values()
        ]

    def holds(self, key: ModelKey) -> bool:
        """Whether the model is resident."""
        slot = self._slots.get(key)
        return slot is not None and slot.resident.alive

    async def close(self) -> None:
        """Let everybody finish, then close all residents; loads under way are cancelled."""
        self._closed = True
        for waiters in self._waiting.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(ShuttingDown("The node is shutting down."))
        for task in self._load_tasks:
            task.cancel()
        for slot in list(self._slots.values()):
            self._retire(slot)
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- what `_Use` calls

    def _hit(self, key: ModelKey, revision: int) -> _Slot[R] | None:
        slot = self._slots.get(key)
        if slot is None or slot.revision < revision or not slot.resident.alive or self._closed:
            return None
        self._slots.move_to_end(key)
        slot.users += 1
        return slot

    async def _miss(self, key: ModelKey, revision: int) -> _Slot[R]:
        if self._closed:
            raise ShuttingDown("The node is shutting down.")
        waiter: asyncio.Future[_Slot[R]] = asyncio.get_running_loop().create_future()
        self._load_under_way(key, revision).append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().release()  # it had been given a use, and will never take it
            raise

    # -- loading and leaving

    def _load_under_way(self, key: ModelKey, revision: int) -> list[asyncio.Future[_Slot[R]]]:
        """Those who wait for a load that will do for `revision`; begins one if there is none."""
        for (other, newer), waiters in self._waiting.items():
            if other == key and newer >= revision:
                return waiters
        return self._start_load(key, revision)

    def _start_load(self, key: ModelKey, revision: int) -> list[asyncio.Future[_Slot[R]]]:
        waiters = self._waiting[key, revision] = []
        task = self._run(self._load_slot(key, revision))
        self._load_tasks.add(task)
        task.add_done_callback(self._load_tasks.discard)
        return waiters

    async def _load_slot(self, key: ModelKey, revision: int) -> None:
        try:
            if self._fetch is not None:
                await self._fetch(key, revision)
            await self._room.acquire()
            try:
                resident = await self._load(key, revision)
            except BaseException:
                self._room.release()
                raise
        except asyncio.CancelledError:
            for waiter in self._waiting.pop((key, revision)):
                waiter.cancel()
            raise
        except Exception as error:
            self._load_failed(key, revision, error)
            return
        self.loads += 1
        slot = _Slot(key, revision, resident)
        waiters = self._waiting.pop((key, revision))
        for waiter in waiters:
            if not waiter.done():
                slot.users += 1
                waiter.set_result(slot)
        self._install(slot, asked=bool(waiters))

    def _load_failed(self, key: ModelKey, revision: int, error: Exception) -> None:
        self.load_failures += 1
        waiters = self._waiting.pop((key, revision))
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)
        if not waiters:
            log.warning("%s: not loaded again: %s", key, error)
        slot = self._slots.get(key)
        if slot is not None and not slot.resident.alive:
            self._retire(slot)

    def _install(self, slot: _Slot[R], *, asked: bool) -> None:
        """Put a loaded slot into the list: last if somebody asked for it, else in its predecessor's place."""
        older = self._slots.get(slot.key)
        if self._closed or (older is not None and older.revision > slot.revision and older.resident.alive):
            # A newer revision was quicker, or nobody is served any more: who waited uses it, then it goes.
            self._retire(slot)
            return
        self._slots[slot.key] = slot
        if asked:
            self._slots.move_to_end(slot.key)
        if older is not None:
            self._retire(older)
        while len(self._slots) > self.capacity:
            self.evictions += 1
            self._retire(next(iter(self._slots.values())))

    def _retire(self, slot: _Slot[R]) -> asyncio.Task[None]:
        """Take a slot out of the list; it is closed once its last user has left."""
        if self._slots.get(slot.key) is slot:
            del self._slots[slot.key]
        return self._run(self._drain(slot))

    async def _drain(self, slot: _Slot[R]) -> None:
        try:
            if slot.users and slot.resident.alive:
                slot.idle = asyncio.Event()
                await slot.idle.wait()
            await self._close(slot.resident)
        except Exception:
            log.exception("%s: closing it failed", slot.key)
        finally:
            self._room.release()

    def _run(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
