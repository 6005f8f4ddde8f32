"""Logs by address, topics and blocks, and the filters that watch for new ones.

Enters: the objects of `eth_getLogs` and `eth_newFilter`. Leaves: places of logs, or their JSON.
"""

from __future__ import annotations

from typing import Any, Final

from lonja.devnet import parameters, wording
from lonja.devnet.evm import LogPlace
from lonja.devnet.ledger import Ledger
from lonja.devnet.parameters import integer, octets
from lonja.devnet.rpc_error import INVALID_PARAMS, REJECTED, RpcError
from lonja.devnet.wording import data, quantity

_LOG_LIMIT: Final = 10_000


class Filters:
    """See the module. Not thread-safe, like the ledger behind it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._filters: dict[int, tuple[dict[str, Any] | None, int]] = {}

    def find(self, wish: dict[str, Any], *, newer_than: int = -1) -> list[LogPlace]:
        """The logs that an `eth_getLogs` object asks for. Raises `RpcError`, `ValueError`."""
        if "blockHash" in wish:
            block = self._ledger.block_by_hash(octets(wish["blockHash"]))
            if block is None:
                raise RpcError(REJECTED, "unknown block")
            first = last = block.number
        else:
            first = self._edge(wish.get("fromBlock", "latest"))
            last = self._edge(wish.get("toBlock", "latest"))
            if first > last:
                raise RpcError(INVALID_PARAMS, "invalid block range: fromBlock is after toBlock")
        addresses, topics = (
            parameters.addresses(wish.get("address")),
            parameters.topics(wish.get("topics") or []),
        )
        found = [
            place
            for place in self._ledger.logs(max(first, newer_than + 1), last)
            if (not addresses or bytes(place.log.address) in addresses)
            and parameters.matches(place.log.topics, topics)
        ]
        if len(found) > _LOG_LIMIT:
            raise RpcError(REJECTED, f"more than {_LOG_LIMIT} logs match; ask for fewer blocks at a time")
        return found

    def _edge(self, at: Any) -> int:
        if isinstance(at, str) and not at.startswith("0x"):
            return 0 if at == "earliest" else self._ledger.latest.number
        return integer(at)

    def new_filter(self, wish: dict[str, Any] | None) -> str:
        """Begin to watch logs, or blocks where there is no wish."""
        number = max(self._filters, default=0) + 1
        self._filters[number] = (wish, self._ledger.latest.number)
        return quantity(number)

    def _filter(self, number: Any) -> tuple[dict[str, Any] | None, int]:
        found = self._filters.get(integer(number))
        if found is None:
            raise RpcError(REJECTED, "filter not found")
        return found

    def changes(self, number: Any) -> list[Any]:
        """What came since the last time."""
        wish, seen = self._filter(number)
        latest = self._ledger.latest.number
        self._filters[integer(number)] = (wish, latest)
        if wish is None:
            return [data(block.header.hash) for block in self._ledger.blocks[seen + 1 :]]
        wish = {**wish, "fromBlock": quantity(0), "toBlock": wish.get("toBlock", "latest")}
        return [wording.log(place) for place in self.find(wish, newer_than=seen)]

    def all_of(self, number: Any) -> list[Any]:
        """All logs that a filter means."""
        wish, _ = self._filter(number)
        return [] if wish is None else [wording.log(place) for place in self.find(wish)]

    def uninstall(self, number: Any) -> bool:
        """End a filter; whether there was one."""
        return self._filters.pop(integer(number), None) is not None
