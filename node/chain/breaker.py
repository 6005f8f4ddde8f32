"""Circuit breaker: stops asking a peer that keeps failing, and asks again one call at a time.

Enters: outcomes of calls. Leaves: whether the next call may be tried. After `threshold` failures in a
row, or one that was a timeout, it opens for a wait that doubles up to a cap, with jitter; then a single
call is let through, whose outcome decides.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable


class Breaker:
    """State of one peer.

    Parameters
    ----------
    threshold : failures in a row that open it.
    wait, longest_wait : seconds; the first wait and the cap of the doubling.
    trial : seconds for which a call let through keeps the others out.
    clock : monotonic seconds.
    """

    def __init__(
        self,
        *,
        threshold: int = 3,
        wait: float = 0.5,
        longest_wait: float = 5.0,
        trial: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold = threshold
        self._first_wait = wait
        self._longest_wait = longest_wait
        self._trial = trial
        self._clock = clock
        self._failures = 0
        self._wait = wait
        self._closed_until: float | None = None

    @property
    def open(self) -> bool:
        return self._closed_until is not None

    def allows(self) -> bool:
        """Whether a call may be tried now; while open, one call a trial period gets a yes."""
        if self._closed_until is None:
            return True
        now = self._clock()
        if now < self._closed_until:
            return False
        self._closed_until = now + self._trial
        return True

    def succeeded(self) -> None:
        self._failures = 0
        self._wait = self._first_wait
        self._closed_until = None

    def failed(self, *, at_once: bool = False) -> bool:
        """Count a failure (`at_once` opens it whatever the count); True if this one opened it."""
        self._failures += 1
        was_open = self.open
        if not was_open and not at_once and self._failures < self._threshold:
            return False
        jitter = random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, guards nothing
        self._closed_until = self._clock() + self._wait * jitter
        self._wait = min(self._wait * 2, self._longest_wait)
        return not was_open

    def seconds_left(self) -> float:
        """How long until `allows` may say yes again; 0 when it may now."""
        if self._closed_until is None:
            return 0.0
        return max(0.0, self._closed_until - self._clock())
