"""Whether the node can serve now, part by part."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from node.errors import NodeError

PATIENCE: Final = 3.0
"""Seconds for all parts together: a probe must not hang."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """`checks` maps a part's name to a coroutine that returns, or raises a `NodeError`."""

    checks: Mapping[str, Callable[[], Awaitable[None]]]

    async def __call__(self) -> dict[str, str]:
        """Part -> "ok", or the reason why not."""
        results = await asyncio.gather(*(self._one(check) for check in self.checks.values()))
        return dict(zip(self.checks, results, strict=True))

    async def _one(self, check: Callable[[], Awaitable[None]]) -> str:
        try:
            async with asyncio.timeout(PATIENCE):
                await check()
        except NodeError as error:
            return error.message
        except TimeoutError:
            return f"no answer within {PATIENCE:g} s"
        return "ok"
