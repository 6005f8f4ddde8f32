"""The bookkeeping of requests, with a worker that is only a list of orders."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from node.errors import DeadlineExceeded, Fault, InvalidInput, Overloaded, TooManyInFlight, WorkerCrashed
from node.runtime import protocol
from node.runtime.flight import MAX_UNKNOWN, SEND_AT, Flight, Limits
from node.runtime.protocol import Done, Failed, Seen
from node.types import Address, Options, Payload, RunTimings

OPTIONS = Options()
GREEDY, MODEST = Address("0xA1"), Address("0xB2")


class Orders:
    """Records what the flight asks for; `killed` resolves with the reason."""

    def __init__(self, **limits: float) -> None:
        self.sent: list[bytes | memoryview] = []
        self.terminated: list[int] = []
        self.killed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.flight = Flight(
            limits=Limits(**limits),  # type: ignore[arg-type]
            send=self.sent.extend,
            terminate=self.terminated.extend,
            kill=lambda reason: None if self.killed.done() else self.killed.set_result(reason),
        )

    def submit(
        self, seconds: float = 5.0, size: int = 3, caller: Address | None = None
    ) -> tuple[int, asyncio.Future[Any]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        payload = Payload("tensor", bytes(size), "json")
        return self.flight.submit(payload, OPTIONS, loop.time() + seconds, future, caller), future


def done(number: int) -> Done:
    return Done(number, 1.0, 2.0, 3.0, 4.0, 0.5, 2)


async def test_answer_reaches_its_own_request() -> None:
    orders = Orders()
    (first, one), (second, two) = orders.submit(), orders.submit()
    orders.flight.done(done(second), b"[2]")
    orders.flight.done(done(first), b"[1]")
    assert bytes((await one).predictions) == b"[1]"  # type: ignore[attr-defined]
    assert bytes((await two).predictions) == b"[2]"  # type: ignore[attr-defined]
    assert orders.flight.idle.is_set()
    assert (await one).timings == RunTimings(1.0, 2.0, 3.0, 4.0, batch=2)  # type: ignore[attr-defined]


async def test_requests_of_one_turn_are_sent_together() -> None:
    orders = Orders()
    orders.submit()
    orders.submit()
    assert orders.sent == []
    await asyncio.sleep(0)
    assert len(orders.sent) == 4


async def test_a_long_turn_keeps_the_worker_busy_meanwhile() -> None:
    orders = Orders()
    for _ in range(SEND_AT + 1):
        orders.submit()
    assert len(orders.sent) == 2 * SEND_AT
    await asyncio.sleep(0)
    assert len(orders.sent) == 2 * (SEND_AT + 1)


async def test_late_request_fails_at_its_deadline_and_is_terminated() -> None:
    orders = Orders(grace=5.0)
    number, future = orders.submit(0.02)
    with pytest.raises(DeadlineExceeded):
        await future
    assert orders.terminated == [number]
    assert len(orders.flight) == 1, "the worker still has it"
    orders.flight.failed(Failed(number, "deadline_exceeded", ""))
    assert len(orders.flight) == 0


async def test_earlier_deadline_of_a_later_request_is_kept() -> None:
    orders = Orders(grace=5.0)
    _, long = orders.submit(20.0)
    _, short = orders.submit(0.02)
    with pytest.raises(DeadlineExceeded):
        await short
    assert not long.done()


async def test_worker_that_does_not_let_go_is_killed_after_the_grace_period() -> None:
    orders = Orders(grace=0.05)
    _, future = orders.submit(0.02)
    with pytest.raises(DeadlineExceeded):
        await future
    assert await orders.killed == "a run did not end at its deadline"


async def test_worker_that_lets_go_in_time_is_not_killed() -> None:
    orders = Orders(grace=0.05)
    number, future = orders.submit(0.02)
    with pytest.raises(DeadlineExceeded):
        await future
    orders.flight.failed(Failed(number, "deadline_exceeded", ""))
    _, other = orders.submit(0.15)
    with pytest.raises(DeadlineExceeded):
        await other
    assert not orders.killed.done()


async def test_request_that_waits_behind_another_does_not_get_the_worker_killed() -> None:
    orders = Orders(grace=0.02, longest=0.1)
    _, running = orders.submit(0.12)
    waiting, future = orders.submit(0.02)
    with pytest.raises(DeadlineExceeded):
        await future
    orders.flight.seen(Seen([], [waiting]))
    with pytest.raises(DeadlineExceeded):
        await running
    assert not orders.killed.done()
    assert await orders.killed


async def test_expired_request_is_never_sent() -> None:
    orders = Orders()
    with pytest.raises(DeadlineExceeded):
        orders.submit(-0.001)
    await asyncio.sleep(0)
    assert orders.sent == []


async def test_queue_is_bounded_in_requests_and_says_when_to_come_back() -> None:
    orders = Orders(queue_depth=2)
    orders.submit()
    orders.submit()
    with pytest.raises(Overloaded) as caught:
        orders.submit()
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 0


async def test_queue_is_bounded_in_bytes_but_takes_one_of_any_size() -> None:
    orders = Orders(queue_bytes=10)
    number, _ = orders.submit(size=1000)
    with pytest.raises(Overloaded):
        orders.submit(size=1)
    orders.flight.done(done(number), b"[]")
    orders.submit(size=1)


async def test_one_caller_cannot_take_the_queue_from_the_others() -> None:
    orders = Orders(queue_depth=8, caller_depth=2)
    first, _ = orders.submit(caller=GREEDY)
    orders.submit(caller=GREEDY)
    with pytest.raises(TooManyInFlight) as caught:
        orders.submit(caller=GREEDY)
    assert caught.value.retry_after
    assert caught.value.detail == {"limit": 2}
    orders.submit(caller=MODEST)
    orders.flight.done(done(first), b"[]")
    orders.submit(caller=GREEDY)


async def test_a_share_is_bounded_in_bytes_but_takes_one_of_any_size() -> None:
    orders = Orders(caller_bytes=10)
    orders.submit(size=1000, caller=GREEDY)
    with pytest.raises(TooManyInFlight):
        orders.submit(size=1, caller=GREEDY)
    orders.submit(size=1, caller=MODEST)


async def test_what_a_caller_gave_up_counts_until_the_worker_has_let_go() -> None:
    orders = Orders(caller_depth=1)
    number, _ = orders.submit(caller=GREEDY)
    orders.flight.give_up([number])
    with pytest.raises(TooManyInFlight):
        orders.submit(caller=GREEDY)
    orders.flight.failed(Failed(number, "deadline_exceeded", ""))
    orders.submit(caller=GREEDY)


async def test_a_refused_request_takes_nothing_of_the_share() -> None:
    orders = Orders(queue_depth=1, caller_depth=1)
    number, _ = orders.submit(caller=MODEST)
    with pytest.raises(Overloaded):
        orders.submit(caller=GREEDY)
    orders.flight.done(done(number), b"[]")
    orders.submit(caller=GREEDY)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("invalid_input", InvalidInput), ("fault", Fault), ("license_missing", Fault), ("", Fault)],
)
async def test_worker_can_only_speak_of_errors_of_its_own(code: str, kind: type[Exception]) -> None:
    orders = Orders()
    number, future = orders.submit()
    orders.flight.failed(Failed(number, code, "text" * 1000))
    with pytest.raises(kind) as caught:
        await future
    assert type(caught.value) is kind
    assert len(str(caught.value)) <= 1000


async def test_end_fails_everything_once() -> None:
    orders = Orders()
    futures = [orders.submit()[1] for _ in range(3)]
    orders.flight.end(lambda: WorkerCrashed("gone"))
    for future in futures:
        with pytest.raises(WorkerCrashed):
            await future
    assert len(orders.flight) == 0
    assert orders.flight.idle.is_set()


async def test_answers_to_nothing_are_ignored_until_there_are_too_many() -> None:
    orders = Orders()
    for _ in range(MAX_UNKNOWN):
        orders.flight.done(done(99), b"")
    with pytest.raises(protocol.FrameInvalid):
        orders.flight.done(done(99), b"")


async def test_answer_after_cancellation_is_dropped() -> None:
    orders = Orders()
    number, future = orders.submit()
    future.cancel()
    orders.flight.give_up([number])
    assert orders.terminated == [number]
    orders.flight.done(done(number), b"[]")
    assert len(orders.flight) == 0
