"""Parameters of JSON-RPC methods: quantities, bytes, addresses and topics, checked and decoded.

Everything here raises `ValueError` for what is not what it should be; `rpc.py` says so to the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value!r} is not a quantity")
    number = int(value, 0) if isinstance(value, str) else value
    if number < 0:
        raise ValueError(f"{value!r} is negative")
    return number


def octets(value: Any) -> bytes:
    if not isinstance(value, str) or not value.startswith("0x"):
        raise ValueError(f"{value!r} is not 0x-prefixed hex")
    return bytes.fromhex(value[2:])


def address(value: Any) -> bytes:
    raw = octets(value)
    if len(raw) != 20:
        raise ValueError(f"{value!r} is not an address")
    return raw


def addresses(wish: Any) -> frozenset[bytes]:
    if not wish:
        return frozenset()
    return frozenset(address(each) for each in ([wish] if isinstance(wish, str) else wish))


def topics(wish: list[Any]) -> list[frozenset[int] | None]:
    """One entry a position: None for any topic, else those that match."""
    return [
        None
        if position is None or position == []
        else frozenset(int(each, 16) for each in ([position] if isinstance(position, str) else position))
        for position in wish
    ]


def matches(topics: Sequence[int], wish: list[frozenset[int] | None]) -> bool:
    """Whether a log with these topics is one that is asked for."""
    if len(wish) > len(topics):
        return False
    return all(allowed is None or topic in allowed for topic, allowed in zip(topics, wish, strict=False))
