"""The three-slot LRU: the mission's example, and what must hold in any order of events."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest

from node.errors import Fault, ModelInvalid, ShuttingDown
from node.models.slots import REVIVALS, Slots
from node.types import Address, ModelKey, TokenId


def key(token: int) -> ModelKey:
    return ModelKey(1, Address("0x" + "00" * 20), TokenId(token))


NAMES = {"resnet18": key(1), "mobilenet": key(2), "efficientnet": key(3), "vgg16": key(4)}


class Model:
    """A resident that knows whether it was closed while somebody used it."""

    def __init__(self, of: ModelKey, revision: int) -> None:
        self.of, self.revision = of, revision
        self.alive, self.closed, self.users = True, 0, 0


class World:
    """Slots over `Model`s; loads wait for `gate` when there is one, and fail for keys in `broken`."""

    def __init__(self, capacity: int = 3, **other: Any) -> None:
        self.made: list[Model] = []
        self.loads: list[tuple[ModelKey, int]] = []
        self.broken: set[ModelKey] = set()
        self.gates: dict[ModelKey, asyncio.Event] = {}
        self.existing = self.most = self.misused = 0
        self.slots: Slots[Model] = Slots(capacity=capacity, load=self.load, close=self.close, **other)

    async def load(self, of: ModelKey, revision: int) -> Model:
        self.loads.append((of, revision))
        self.existing += 1
        self.most = max(self.most, self.existing)
        try:
            await self.gates[of].wait() if of in self.gates else await asyncio.sleep(0)
            if of in self.broken:
                raise ModelInvalid("broken")
        except BaseException:
            self.existing -= 1
            raise
        self.made.append(Model(of, revision))
        return self.made[-1]

    async def close(self, model: Model) -> None:
        self.misused += model.users > 0 and model.alive
        await asyncio.sleep(0)
        model.closed += 1
        model.alive = False
        self.existing -= 1

    def names(self) -> list[str]:
        by_key = {value: name for name, value in NAMES.items()}
        return [by_key[entry.key] for entry in self.slots.resident()]


async def settle(world: World) -> None:
    while world.slots._tasks:
        await asyncio.gather(*world.slots._tasks, return_exceptions=True)


async def test_the_missions_example() -> None:
    world = World()
    for name in ("resnet18", "mobilenet", "efficientnet"):
        await world.slots.load(NAMES[name], 1)
    assert world.names() == ["resnet18", "mobilenet", "efficientnet"]
    await world.slots.load(NAMES["vgg16"], 1)
    assert world.names() == ["mobilenet", "efficientnet", "vgg16"]
    await settle(world)
    assert [model.closed for model in world.made] == [1, 0, 0, 0]


async def test_use_makes_a_model_the_most_recent() -> None:
    world = World()
    for name in ("resnet18", "mobilenet", "efficientnet", "resnet18", "vgg16"):
        async with world.slots.use(NAMES[name], 1):
            pass
    assert world.names() == ["efficientnet", "resnet18", "vgg16"]


async def test_hit_does_not_suspend() -> None:
    world = World()
    await world.slots.load(key(1), 1)
    use = world.slots.use(key(1), 1)
    with pytest.raises(StopIteration) as ended:
        use.__aenter__().send(None)  # type: ignore[attr-defined]
    assert ended.value.value is world.made[0]
    await use.__aexit__(None, None, None)


async def test_many_askers_load_once() -> None:
    world = World()
    found = await asyncio.gather(*(world.slots.load(key(1), 1) for _ in range(50)))
    assert world.loads == [(key(1), 1)]
    assert set(map(id, found)) == {id(world.made[0])}


async def test_failed_load_changes_nothing_and_reaches_all_who_wait() -> None:
    world = World()
    for name in ("resnet18", "mobilenet", "efficientnet"):
        await world.slots.load(NAMES[name], 1)
    world.broken = {NAMES["vgg16"]}
    results = await asyncio.gather(
        *(world.slots.load(NAMES["vgg16"], 1) for _ in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [ModelInvalid] * 3
    assert world.names() == ["resnet18", "mobilenet", "efficientnet"]
    assert all(model.alive for model in world.made)
    world.broken = set()
    await world.slots.load(NAMES["vgg16"], 1)
    assert world.names() == ["mobilenet", "efficientnet", "vgg16"]


async def test_model_in_use_is_drained_before_it_is_closed() -> None:
    world = World(capacity=1)
    async with world.slots.use(key(1), 1) as used:
        await world.slots.load(key(2), 1)
        assert [entry.key for entry in world.slots.resident()] == [key(2)]
        await asyncio.sleep(0)
        assert used.closed == 0
        assert used.alive
    await settle(world)
    assert used.closed == 1


async def test_newer_revision_loads_beside_the_old_and_takes_its_place() -> None:
    world = World()
    await world.slots.load(key(1), 1)
    world.gates[key(1)] = asyncio.Event()
    upgrade = asyncio.create_task(world.slots.load(key(1), 2))
    await asyncio.sleep(0)
    async with world.slots.use(key(1), 1) as old:
        assert old.revision == 1, "the old one serves while the new one loads"
        world.gates[key(1)].set()
        new = await upgrade
        assert new.revision == 2
        async with world.slots.use(key(1), 1) as current:
            assert current is new, "an older revision is not loaded again"
        assert old.alive
    await settle(world)
    assert (old.closed, new.closed) == (1, 0)
    assert world.loads == [(key(1), 1), (key(1), 2)]


async def test_newer_revision_that_cannot_be_loaded_leaves_the_old_one() -> None:
    world = World()
    old = await world.slots.load(key(1), 1)
    world.broken = {key(1)}
    with pytest.raises(ModelInvalid):
        await world.slots.load(key(1), 2)
    async with world.slots.use(key(1), 1) as current:
        assert current is old


async def test_slower_older_revision_does_not_replace_a_newer_one() -> None:
    world = World()
    world.gates[key(1)] = asyncio.Event()
    older = asyncio.create_task(world.slots.load(key(1), 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gate = world.gates.pop(key(1))
    newer = await world.slots.load(key(1), 2)
    gate.set()
    assert (await older).revision == 1
    await settle(world)
    assert [entry.resident for entry in world.slots.resident()] == [newer]
    assert newer.alive


async def test_dead_resident_is_replaced_at_its_next_use() -> None:
    world = World()
    first = await world.slots.load(key(1), 1)
    first.alive = False
    assert not world.slots.holds(key(1))
    second = await world.slots.load(key(1), 1)
    assert second is not first
    await settle(world)
    assert first.closed == 1


async def test_lost_resident_is_replaced_at_once_in_its_place() -> None:
    world = World()
    for token in (1, 2, 3):
        await world.slots.load(key(token), 1)
    lost = world.made[0]
    lost.alive = False
    world.slots.lost(lost)
    await settle(world)
    assert [entry.key for entry in world.slots.resident()] == [key(1), key(2), key(3)]
    assert world.slots.holds(key(1))
    assert lost.closed == 1


async def test_model_that_kills_every_worker_is_not_revived_for_ever() -> None:
    world = World()
    await world.slots.load(key(1), 1)
    for _ in range(REVIVALS + 3):
        if not world.slots.resident():
            break
        [entry] = world.slots.resident()
        entry.resident.alive = False
        world.slots.lost(entry.resident)
        await settle(world)
    assert world.slots.resident() == []
    assert len(world.loads) == 1 + REVIVALS
    await world.slots.load(key(1), 1)
    assert world.slots.holds(key(1)), "it is loaded again when somebody asks"


async def test_lost_of_something_that_is_not_resident_is_ignored() -> None:
    world = World()
    first = await world.slots.load(key(1), 1)
    await world.slots.evict(key(1))
    world.slots.lost(first)
    assert world.loads == [(key(1), 1)]


async def test_evict_waits_until_the_model_is_closed() -> None:
    world = World()
    model = await world.slots.load(key(1), 1)
    assert await world.slots.evict(key(1))
    assert model.closed == 1
    assert not await world.slots.evict(key(1))


async def test_asker_who_leaves_does_not_stop_the_load_for_others() -> None:
    world = World()
    world.gates[key(1)] = asyncio.Event()
    leaving = asyncio.create_task(world.slots.load(key(1), 1))
    staying = asyncio.create_task(world.slots.load(key(1), 1))
    await asyncio.sleep(0)
    leaving.cancel()
    world.gates[key(1)].set()
    assert (await staying).alive
    assert leaving.cancelled()
    assert [entry.users for entry in world.slots.resident()] == [0]


async def test_asker_who_leaves_just_as_the_load_ends_keeps_nothing_in_use() -> None:
    world = World()
    world.gates[key(1)] = asyncio.Event()
    leaving = asyncio.create_task(world.slots.load(key(1), 1))
    for _ in range(3):
        await asyncio.sleep(0)
    [waiter] = world.slots._waiting[key(1), 1]
    world.gates[key(1)].set()
    while not waiter.done():  # noqa: ASYNC110 - the turn in which it is done, before its task wakes up
        await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert [entry.users for entry in world.slots.resident()] == [0]


async def test_close_waits_for_users_and_refuses_new_ones() -> None:
    world = World()
    async with world.slots.use(key(1), 1) as used:
        closing = asyncio.create_task(world.slots.close())
        await asyncio.sleep(0)
        with pytest.raises(ShuttingDown):
            await world.slots.load(key(1), 1)
        assert used.closed == 0
    await closing
    assert used.closed == 1


async def test_close_cancels_loads_under_way() -> None:
    world = World()
    world.gates[key(1)] = asyncio.Event()
    waiting = asyncio.create_task(world.slots.load(key(1), 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await world.slots.close()
    with pytest.raises(ShuttingDown):
        await waiting
    assert world.existing == 0


async def test_resident_whose_close_fails_still_makes_room() -> None:
    world = World(capacity=1, spare=1)
    closed = world.close

    async def failing(model: Model) -> None:
        await closed(model)
        raise Fault("no")

    world.slots._close = failing
    for token in range(5):
        await world.slots.load(key(token), 1)
    assert [entry.key for entry in world.slots.resident()] == [key(4)]


class Storm:
    """Random users, failures, deaths, cancellations, revisions and evictions over more models than slots."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.capacity, self.spare = self.random.choice([1, 2, 3]), self.random.choice([1, 2])
        self.world = World(capacity=self.capacity, spare=self.spare)
        self.latest = dict.fromkeys(range(5), 1)
        self.died: set[int] = set()
        self.served = 0

    async def user(self) -> None:
        for _ in range(30):
            token = self.random.choice([0, 0, 0, 1, 1, 2, 3, 4])
            with contextlib.suppress(ModelInvalid):
                await self.request(token, self.latest[token])
            assert len(self.world.slots.resident()) <= self.capacity
            assert self.world.most <= self.capacity + self.spare

    async def request(self, token: int, revision: int) -> None:
        async with self.world.slots.use(key(token), revision) as model:
            assert model.of == key(token)
            assert model.revision >= revision
            model.users += 1
            try:
                for _ in range(self.random.randrange(4)):
                    assert model.closed == 0 or id(model) in self.died
                    await asyncio.sleep(0)
                self.served += 1
            finally:
                model.users -= 1

    async def mischief(self, users: list[asyncio.Task[None]]) -> None:
        slots = self.world.slots
        for _ in range(60):
            match self.random.randrange(7):
                case 0:
                    self.world.broken = {key(token) for token in range(5) if self.random.random() < 0.3}
                case 1:
                    self.world.broken = set()
                case 2:
                    self.latest[self.random.randrange(5)] += 1
                case 3 if slots.resident():
                    self.kill(self.random.choice(slots.resident()).resident)
                case 4:
                    await slots.evict(key(self.random.randrange(5)))
                case 5 if self.random.random() < 0.1:
                    self.random.choice(users).cancel()
                case _:
                    await asyncio.sleep(0)

    def kill(self, model: Model) -> None:
        self.died.add(id(model))
        model.alive = False
        if self.random.random() < 0.5:
            self.world.slots.lost(model)


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_happens_no_resident_is_lost_or_closed_in_use(seed: int) -> None:
    storm = Storm(seed)
    world = storm.world
    users = [asyncio.create_task(storm.user()) for _ in range(6)]
    await storm.mischief(users)
    for result in await asyncio.gather(*users, return_exceptions=True):
        assert result is None or isinstance(result, asyncio.CancelledError), result
    await settle(world)
    assert storm.served > 20
    assert all(entry.users == 0 for entry in world.slots.resident())
    assert world.existing == len(world.slots.resident())
    await world.slots.close()
    assert [model.closed for model in world.made] == [1] * len(world.made), "each is closed exactly once"
    assert (world.existing, world.misused) == (0, 0)


async def test_models_that_come_slowly_keep_no_others_from_being_loaded() -> None:
    never = asyncio.Event()

    async def fetch(of: ModelKey, revision: int) -> None:
        if of.token_id > 1:
            await never.wait()

    world = World(capacity=1, fetch=fetch)
    slow = [asyncio.create_task(world.slots.load(key(token), 1)) for token in range(2, 9)]
    await asyncio.sleep(0)
    assert (await asyncio.wait_for(world.slots.load(key(1), 1), 5)).of == key(1)
    await world.slots.close()
    assert all(isinstance(each, ShuttingDown) for each in await asyncio.gather(*slow, return_exceptions=True))


async def test_what_cannot_be_fetched_fails_its_load_and_takes_no_room() -> None:
    broken = [True]

    async def fetch(of: ModelKey, revision: int) -> None:
        if broken:
            raise ModelInvalid("nobody has it")

    world = World(capacity=1, fetch=fetch)
    for _ in range(5):
        with pytest.raises(ModelInvalid, match="nobody has it"):
            await world.slots.load(key(1), 1)
    broken.clear()
    assert (await asyncio.wait_for(world.slots.load(key(1), 1), 5)).of == key(1)
    await world.slots.close()
