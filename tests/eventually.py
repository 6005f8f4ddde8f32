"""Waiting for what tells no event: bounded polling, in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    check: Callable[[], Awaitable[T]],
    *,
    within: float,
    ignoring: type[Exception] | tuple[type[Exception], ...] = (),
    every: float = 0.05,
) -> T:
    """The first true result of `check`.

    Parameters
    ----------
    within : seconds; then the last result, or the last error, is told.
    ignoring : errors that only mean "not yet".
    """
    loop = asyncio.get_running_loop()
    until, last = loop.time() + within, "nothing"
    while True:
        try:
            result = await check()
            if result:
                return result
            last = repr(result)
        except ignoring as error:
            last = f"{type(error).__name__}: {error}"
        if loop.time() > until:
            raise AssertionError(f"not within {within:g} s; the last was {last}")
        await asyncio.sleep(every)
