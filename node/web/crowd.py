"""How many connections are open, and which of them came when there were too many already.

A connection above the limit is *late*: it gets one answer, quickly, and only health and metrics tell it more
than 503. So a probe can still see a node whose connections somebody holds. A few are late at a time; when one
more comes, the oldest is cut off, so that late ones cannot be held either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LATE: Final = 64
"""Late connections at a time."""
LATE_HEADERS_SECONDS: Final = 2.0


class Crowd:
    """See the module.

    Parameters
    ----------
    limit : connections that are served as usual.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._open = limit, 0
        self._late: dict[object, Callable[[], None]] = {}

    def enter(self, connection: object, *, cut_off: Callable[[], None]) -> bool:
        """One more is open; returns whether it is late. `cut_off` ends a late one at once."""
        self._open += 1
        if self._open <= self._limit:
            return False
        self._late[connection] = cut_off
        if len(self._late) > LATE:
            self._late.pop(next(iter(self._late)))()
        return True

    def leave(self, connection: object) -> None:
        """One that entered is closed."""
        self._open -= 1
        self._late.pop(connection, None)
