from __future__ import annotations

import pytest

from node.chain.breaker import Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(threshold=3, wait=1.0, longest_wait=4.0, trial=2.0, clock=clock)


def test_it_opens_at_the_third_failure_in_a_row(breaker: Breaker) -> None:
    assert not breaker.failed()
    assert not breaker.failed()
    assert breaker.allows()
    assert breaker.failed()
    assert not breaker.allows()


def test_a_success_in_between_starts_the_count_anew(breaker: Breaker) -> None:
    breaker.failed()
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    breaker.failed()
    assert breaker.allows()


def test_one_timeout_is_enough(breaker: Breaker) -> None:
    assert breaker.failed(at_once=True)
    assert not breaker.allows()


def test_after_the_wait_one_call_is_let_through_and_the_others_stay_out(
    breaker: Breaker, clock: Clock
) -> None:
    breaker.failed(at_once=True)
    clock.now = 1.2
    assert breaker.allows()
    assert not breaker.allows()
    clock.now += 2.0  # the trial was lost without a word: the next one may try
    assert breaker.allows()


def test_a_failed_trial_waits_longer_up_to_the_cap(breaker: Breaker, clock: Clock) -> None:
    waits = []
    for _ in range(5):
        breaker.failed(at_once=True)
        waits.append(breaker.seconds_left())
        clock.now += waits[-1]
        assert breaker.allows()
    for wait, middle in zip(waits, (1.0, 2.0, 4.0, 4.0, 4.0), strict=True):
        assert middle * 0.8 <= wait <= middle * 1.2


def test_a_success_closes_it(breaker: Breaker) -> None:
    breaker.failed(at_once=True)
    breaker.succeeded()
    assert breaker.allows()
    assert breaker.allows()
    assert breaker.seconds_left() == 0
