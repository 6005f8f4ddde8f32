"""Ends a connection whose client does not take what the node has written to it.

asyncio keeps what the socket does not take, for as long as the connection lives, also after `close`: a client
that asks for blocks and never reads them would hold memory and a connection for good.
"""

from __future__ import annotations

import asyncio


class Unsent:
    """Watches one connection while its client is behind.

    Parameters
    ----------
    transport : the connection.
    stall : seconds in which at least one byte must go out.
    longest : seconds in which all that is unsent must go out.
    """

    __slots__ = ("_left", "_longest", "_loop", "_stall", "_timer", "_transport", "_until")

    def __init__(self, transport: asyncio.Transport, *, stall: float, longest: float) -> None:
        self._transport, self._stall, self._longest = transport, stall, longest
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._left, self._until = 0, 0.0

    def watch(self) -> None:
        """The client is behind, or the connection is to be closed once it has taken everything."""
        if self._timer is None and (left := self._transport.get_write_buffer_size()):
            self._left, self._until = left, self._loop.time() + self._longest
            self._timer = self._loop.call_later(self._stall, self._look)

    def rest(self) -> None:
        """The client has caught up, or the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        left = self._transport.get_write_buffer_size()
        if left >= self._left or self._loop.time() >= self._until:
            self._timer = None
            self._transport.abort()
            return
        self._left = left
        self._timer = self._loop.call_later(self._stall, self._look)
