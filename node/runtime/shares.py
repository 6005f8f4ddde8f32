"""What each caller has in one worker's queue, so that no caller can fill it and shut the others out.

Enters: a caller who wants room, or gives it back. Leaves: its share, or None where it has had it.
"""

from __future__ import annotations

from node.types import Address


class Share:
    """What one caller has in the queue now: requests, and bytes of input."""

    __slots__ = ("caller", "requests", "size")

    def __init__(self, caller: Address) -> None:
        self.caller, self.requests, self.size = caller, 0, 0


class Shares:
    """The shares of one queue; a caller without a request in it costs nothing.

    Parameters
    ----------
    depth, size : requests and bytes that one caller may have in the queue.
    """

    __slots__ = ("_depth", "_shares", "_size")

    def __init__(self, *, depth: int, size: int) -> None:
        self._depth, self._size = depth, size
        self._shares: dict[Address, Share] = {}

    def take(self, caller: Address, size: int) -> Share | None:
        """Room for one request of `size` bytes; None where the caller has its share already.

        One request alone always has room: the web layer has bounded its size already.
        """
        share = self._shares.get(caller)
        if share is None:
            share = self._shares[caller] = Share(caller)
        elif share.requests >= self._depth or share.size + size > self._size:
            return None
        share.requests += 1
        share.size += size
        return share

    def give_back(self, share: Share, size: int) -> None:
        """The request that took this room is over."""
        share.requests -= 1
        share.size -= size
        if not share.requests:
            del self._shares[share.caller]

    def __len__(self) -> int:
        return len(self._shares)
