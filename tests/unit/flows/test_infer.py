from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

import msgspec
import pytest

from node.errors import (
    ChainUnavailable,
    DeadlineExceeded,
    InvalidInput,
    LicenseMissing,
    ModelNotFound,
    NotPermitted,
    Overloaded,
    Rejected,
    RevisionMismatch,
)
from node.flows.infer import Infer
from node.flows.load_model import LoadModel, Resident
from node.models.slots import Residency
from node.types import (
    Address,
    InferenceRequest,
    InferenceResult,
    ModelKey,
    Options,
    Payload,
    RunResult,
    RunTimings,
    TokenId,
)
from tests.unit.flows.conftest import LICENSEE, OWNER, STRANGER, FakeWorker, World, caller

PICTURE = Payload("image", b"\xff\xd8", "binary")
OPERATOR = Address("0x" + "0f" * 20)


@dataclass
class FakeHeld:
    resident: Resident
    released: int = 0

    def release(self) -> None:
        self.released += 1


@dataclass
class FakeSlots:
    make: Callable[[ModelKey, int], Resident]
    wait: asyncio.Event | None = None
    capacity: int = 3

    def __post_init__(self) -> None:
        self.loaded: list[Resident] = []
        self.held: FakeHeld

    @asynccontextmanager
    async def use(self, key: ModelKey, revision: int) -> AsyncIterator[Resident]:
        if self.wait is not None:
            await self.wait.wait()
        self.loaded.append(self.make(key, revision))
        yield self.loaded[-1]

    def take(self, key: ModelKey, revision: int) -> FakeHeld | None:
        found = next((each for each in self.loaded if each.entry.key == key), None)
        if found is None:
            return None
        self.held = FakeHeld(found)
        return self.held

    async def load(self, key: ModelKey, revision: int) -> Resident:
        async with self.use(key, revision) as resident:
            return resident

    def resident(self) -> list[Residency[Resident]]:
        return [Residency(each.entry.key, each.entry.revision, 0, each) for each in self.loaded]


@dataclass
class FakeLoader:
    """Only the switch for the warm-up."""

    cold: bool = False

    @contextmanager
    def unwarmed(self, key: ModelKey) -> Iterator[None]:
        self.cold = True
        yield


@dataclass
class Fetched:
    body: bytes


@dataclass
class FakeFetcher:
    asked: str = ""

    async def get(self, url: str, *, limit: int, timeout: float, accept: str) -> Fetched:
        self.asked = url
        return Fetched(b"\x89PNG")


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker()


@pytest.fixture
async def slots(world: World, worker: FakeWorker) -> FakeSlots:
    world.publish(1, "resnet18")
    await world.models.fill()
    world.licenses.holders.add((LICENSEE, 1))
    return FakeSlots(
        lambda key, revision: Resident(world.catalogue.revision(key, revision), worker, AsyncExitStack())  # type: ignore[arg-type]
    )


@pytest.fixture
def infer(world: World, slots: FakeSlots) -> Infer:
    return Infer(
        models=world.models,
        licenses=world.licenses,  # type: ignore[arg-type]
        slots=slots,  # type: ignore[arg-type]
        fetcher=FakeFetcher(),  # type: ignore[arg-type]
        url_limit=100,
        url_timeout=1,
        timeout_ms=30_000,
    )


async def test_a_licensee_gets_the_workers_answer(infer: Infer, worker: FakeWorker) -> None:
    result = await infer(caller(LICENSEE), InferenceRequest("resnet18", PICTURE))
    assert result.run.predictions == msgspec.Raw(b"[]")
    assert result.entry.model_id == "resnet18"
    assert worker.payloads == [PICTURE]


async def test_without_a_license_no_model_is_touched(infer: Infer, slots: FakeSlots) -> None:
    with pytest.raises(LicenseMissing):
        await infer(caller(STRANGER), InferenceRequest("resnet18", PICTURE))
    assert slots.loaded == []


async def test_an_outage_of_the_chain_is_not_a_refusal(infer: Infer, world: World, slots: FakeSlots) -> None:
    world.licenses.error = ChainUnavailable("no RPC answers")
    with pytest.raises(ChainUnavailable):
        await infer(caller(LICENSEE), InferenceRequest("resnet18", PICTURE))
    assert slots.loaded == []


async def test_what_is_at_hand_is_begun_without_waiting(
    infer: Infer, slots: FakeSlots, worker: FakeWorker
) -> None:
    await infer(caller(LICENSEE), InferenceRequest("resnet18", PICTURE))
    told: list[object] = []
    assert infer.begin(caller(LICENSEE), InferenceRequest("resnet18", PICTURE), told.append) is not None
    assert (told, slots.held.released) == ([], 0)
    assert worker.callers == [LICENSEE, LICENSEE], "both ways take of the caller's share"
    worker.promises[0].set_result(RunResult(msgspec.Raw(b"[1]"), RunTimings(1, 1, 1)))
    assert [each.run.predictions for each in told] == [msgspec.Raw(b"[1]")]  # type: ignore[attr-defined]
    assert slots.held.released == 1


@dataclass
class FakeInline:
    """Answers pictures, and leaves all else to the worker."""

    defect: Exception | None = None

    def answer(self, payload: Payload, _options: Options) -> RunResult | None:
        if self.defect is not None:
            raise self.defect
        return RunResult(msgspec.Raw(b"[2]"), RunTimings(1, 1, 1)) if payload == PICTURE else None


async def test_what_needs_no_worker_is_answered_at_once(
    infer: Infer, slots: FakeSlots, worker: FakeWorker
) -> None:
    await infer(caller(LICENSEE), InferenceRequest("resnet18", PICTURE))
    slots.loaded[0] = replace(slots.loaded[0], inline=FakeInline())  # type: ignore[arg-type]
    result = infer.begin(caller(LICENSEE), InferenceRequest("resnet18", PICTURE), pytest.fail)
    assert isinstance(result, InferenceResult)
    assert (result.run.predictions, slots.held.released, worker.promises) == (msgspec.Raw(b"[2]"), 1, [])
    assert result.entry is slots.loaded[0].entry
    assert infer.begin(caller(STRANGER), InferenceRequest("resnet18", PICTURE), pytest.fail) is None
    other = InferenceRequest("resnet18", Payload("tensor", b"[]", "json"))
    assert callable(infer.begin(caller(LICENSEE), other, pytest.fail))
    assert (slots.held.released, len(worker.promises)) == (0, 1)


async def test_a_defect_of_what_answers_at_once_releases_the_model(infer: Infer, slots: FakeSlots) -> None:
    await infer(caller(LICENSEE), InferenceRequest("resnet18", PICTURE))
    slots.loaded[0] = replace(slots.loaded[0], inline=FakeInline(MemoryError()))  # type: ignore[arg-type]
    with pytest.raises(MemoryError):
        infer.begin(caller(LICENSEE), InferenceRequest("resnet18", PICTURE), pytest.fail)
    assert slots.held.released == 1


async def test_what_was_begun_can_be_given_up(infer: Infer, slots: FakeSlots, worker: FakeWorker) -> None:
    await infer(caller(LICENSEE), InferenceRequest("resnet18", PICTURE))
    give_up = infer.begin(caller(LICENSEE), InferenceRequest("resnet18", PICTURE), pytest.fail)
    assert callable(give_up)
    give_up()
    assert (worker.given_up, slots.held.released) == ([1], 1)


@pytest.mark.parametrize(
    ("who", "asked"),
    [
        (STRANGER, InferenceRequest("resnet18", PICTURE)),
        (LICENSEE, InferenceRequest("resnet19", PICTURE)),
        (LICENSEE, InferenceRequest("resnet18", Payload("url", b'"https://example.org"', "json"))),
    ],
)
async def test_what_has_to_be_waited_for_is_not_begun(
    infer: Infer, worker: FakeWorker, who: Address, asked: InferenceRequest
) -> None:
    await infer(caller(LICENSEE), InferenceRequest("resnet18", PICTURE))
    assert infer.begin(caller(who), asked, pytest.fail) is None
    assert worker.promises == []


async def test_a_model_that_is_not_resident_is_not_begun(infer: Infer, worker: FakeWorker) -> None:
    assert infer.begin(caller(LICENSEE), InferenceRequest("resnet18", PICTURE), pytest.fail) is None
    assert worker.promises == []


async def test_a_full_queue_releases_the_model_and_takes_the_ordinary_way(
    infer: Infer, slots: FakeSlots, worker: FakeWorker
) -> None:
    await infer(caller(LICENSEE), InferenceRequest("resnet18", PICTURE))
    worker.refusal = Overloaded("full", retry_after=1)
    assert infer.begin(caller(LICENSEE), InferenceRequest("resnet18", PICTURE), pytest.fail) is None
    assert slots.held.released == 1


async def test_an_unknown_model_is_not_found(infer: Infer) -> None:
    with pytest.raises(ModelNotFound):
        await infer(caller(LICENSEE), InferenceRequest("resnet19", PICTURE))


async def test_a_url_is_fetched_and_handed_on_as_an_image(infer: Infer, worker: FakeWorker) -> None:
    payload = Payload("url", b'"https://example.org/a.png"', "json")
    await infer(caller(LICENSEE), InferenceRequest("resnet18", payload))
    assert worker.payloads == [Payload("image", b"\x89PNG", "binary")]


async def test_a_url_that_is_no_text_is_refused(infer: Infer) -> None:
    with pytest.raises(InvalidInput, match="one URL"):
        await infer(caller(LICENSEE), InferenceRequest("resnet18", Payload("url", b"[1]", "json")))


async def test_urls_can_be_switched_off(world: World, slots: FakeSlots) -> None:
    infer = Infer(
        models=world.models,
        licenses=world.licenses,  # type: ignore[arg-type]
        slots=slots,  # type: ignore[arg-type]
        fetcher=None,
        url_limit=1,
        url_timeout=1,
        timeout_ms=1000,
    )
    with pytest.raises(Rejected, match="URL_FETCH"):
        await infer(caller(LICENSEE), InferenceRequest("resnet18", Payload("url", b'"http://x"', "json")))


async def test_loading_counts_against_the_callers_time(infer: Infer, slots: FakeSlots) -> None:
    slots.wait = asyncio.Event()
    request = InferenceRequest("resnet18", PICTURE, Options(timeout=20))
    with pytest.raises(DeadlineExceeded, match="20 ms"):
        await infer(caller(LICENSEE), request)


@pytest.fixture
def loader() -> FakeLoader:
    return FakeLoader()


@pytest.fixture
def load(world: World, slots: FakeSlots, loader: FakeLoader) -> LoadModel:
    return LoadModel(
        loader=loader,  # type: ignore[arg-type]
        models=world.models,
        licenses=world.licenses,  # type: ignore[arg-type]
        slots=slots,  # type: ignore[arg-type]
        operators=frozenset({OPERATOR}),
    )


@pytest.mark.parametrize("who", [OWNER, LICENSEE, OPERATOR])
async def test_owner_licensee_and_operator_may_load(
    load: LoadModel, loader: FakeLoader, who: Address
) -> None:
    loaded = await load(caller(who), token_id=TokenId(1), manifest_cid=None, warmup=True)
    assert (loaded.model_id, loaded.slots.models_in_cache) == ("resnet18", ["resnet18"])
    assert not loader.cold


async def test_the_warm_up_can_be_skipped(load: LoadModel, loader: FakeLoader) -> None:
    await load(caller(OWNER), token_id=TokenId(1), manifest_cid=None, warmup=False)
    assert loader.cold


async def test_a_stranger_may_not_load(load: LoadModel, slots: FakeSlots) -> None:
    with pytest.raises(NotPermitted):
        await load(caller(STRANGER), token_id=TokenId(1), manifest_cid=None, warmup=False)
    assert slots.loaded == []


async def test_another_cid_than_the_tokens_is_refused(load: LoadModel, world: World) -> None:
    other = world.content.add(b"other")
    with pytest.raises(RevisionMismatch, match="carries bafk"):
        await load(caller(OWNER), token_id=TokenId(1), manifest_cid=other, warmup=False)
    mine = world.catalogue.resolve("resnet18").manifest_cid
    loaded = await load(caller(OWNER), token_id=TokenId(1), manifest_cid=mine, warmup=False)
    assert loaded.model_id == "resnet18"


async def test_a_failure_nobody_expected_lets_the_slot_go(
    infer: Infer, slots: FakeSlots, worker: FakeWorker
) -> None:
    await infer(caller(LICENSEE), InferenceRequest("resnet18", PICTURE))
    worker.refusal = MemoryError()  # type: ignore[assignment]
    with pytest.raises(MemoryError):
        infer.begin(caller(LICENSEE), InferenceRequest("resnet18", PICTURE), pytest.fail)
    assert slots.held.released == 1
