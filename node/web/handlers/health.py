"""`/health`, `/health/live`, `/health/ready`, `/metrics`, `/openapi.json`: answered from the first moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import cache
from typing import Final, Literal

from aiohttp import hdrs, web
from multidict import CIMultiDict

from node.web import answers, metrics, openapi, schemas
from node.web.keys import EDGE, NodeState

_ASK_AGAIN: Final = 1.0
_PATIENCE: Final = 5.0
_log = logging.getLogger("node.web")


class Readiness:
    """Asks the flow at most once a second, however many probes come, and never waits long.

    Parameters
    ----------
    state, clock
        Where the flows are, and monotonic seconds.
    """

    def __init__(self, state: NodeState, clock: Callable[[], float]) -> None:
        self._state, self._clock = state, clock
        self._known: dict[str, str] = {}
        self._asked = -_ASK_AGAIN
        self._asking = asyncio.Lock()

    async def __call__(self) -> dict[str, str]:
        flows = self._state.flows
        if flows is None:
            return {"flows": "starting"}
        async with self._asking:
            if self._clock() - self._asked >= _ASK_AGAIN:
                try:
                    async with asyncio.timeout(_PATIENCE):
                        self._known = await flows.readiness()
                except TimeoutError:
                    self._known = {"readiness": f"no answer within {_PATIENCE:g} s"}
                except Exception:
                    _log.exception("readiness could not be told")
                    self._known = {"readiness": "could not be told; the node's log says why"}
                self._asked = self._clock()
            return self._known


async def live(_request: web.Request) -> web.Response:
    """The process answers; nothing more is said."""
    return answers.json(schemas.LiveAnswer("ok"))


async def ready(request: web.Request) -> web.Response:
    """Whether a request would be served now: 200 or 503."""
    answer = await _health(request)
    return answers.json(answer, status=200 if answer.status == "ok" else 503)


async def health(request: web.Request) -> web.Response:
    """The same for people: always 200 while the process answers."""
    return answers.json(await _health(request))


async def exposition(request: web.Request) -> web.Response:
    """Figures for Prometheus."""
    headers: CIMultiDict[str] = CIMultiDict({hdrs.CONTENT_TYPE: metrics.CONTENT_TYPE})
    return web.Response(body=request.app[EDGE].metrics.exposition(), headers=headers)


async def description(_request: web.Request) -> web.Response:
    """The OpenAPI description of this interface."""
    return answers.encoded(openapi.encoded(version()))


@cache
def version() -> str:
    """The version of this software."""
    from importlib.metadata import version as installed  # 10 ms, not before the first answer

    return installed("lonja")


async def _health(request: web.Request) -> schemas.HealthAnswer:
    ours = request.app[EDGE]
    checks = {} if ours.state.draining else await ours.readiness()
    status: Literal["ok", "degraded", "starting", "draining"] = "ok"
    if ours.state.draining:
        status = "draining"
    elif ours.state.flows is None:
        status = "starting"
    elif any(reason != "ok" for reason in checks.values()):
        status = "degraded"
    return schemas.HealthAnswer(status, version(), round(ours.clock() - ours.started, 3), checks)
