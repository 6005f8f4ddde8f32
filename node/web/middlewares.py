"""The one middleware, outermost (each further one would cost 5-8 % of the throughput).

Enters: any request. Leaves: its answer, with a request id, security headers, CORS and `Server-Timing`; an
error as a problem document; one log line; one count. No exception passes it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from node import logs
from node.errors import Fault, NodeError, Overloaded
from node.web import metrics
from node.web.keys import EDGE, EXCHANGE, Edge, Exchange
from node.web.problems import (
    ALWAYS,
    from_http_exception,
    new_request_id,
    problem_response,
    status_of,
)

REQUEST_ID: Final = "X-Request-ID"
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
CLIENT_GONE: Final = 499
_SLOW_SECONDS: Final = 1.0
_OK: Final = int(HTTPStatus.OK)  # compared once a request
"""An inference that takes longer is worth a line."""

_log = logging.getLogger("node.web")


@web.middleware
async def edge(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer `request`, whatever happens."""
    ours = request.app[EDGE]
    state = ours.state
    begun = ours.clock()
    exchange = Exchange(request_id(request.headers), ours.proxies.client(request))
    request[EXCHANGE] = exchange
    state.running += 1
    status = CLIENT_GONE
    try:
        response = await _answer(request, handler, ours, exchange)
        status = response.status
        if not response.prepared:
            stamp(request, response)
            response.headers["Server-Timing"] = (
                f"total;dur={(ours.clock() - begun) * 1000:.3f}{exchange.timing}"
            )
        return response
    finally:
        state.left()
        resource = request.match_info.route.resource
        record(
            ours,
            exchange,
            route=metrics.UNMATCHED if resource is None else resource.canonical,
            method=request.method,
            path=request.path,
            status=status,
            seconds=ours.clock() - begun,
        )


def request_id(headers: Mapping[str, str]) -> str:
    """The id that the client gave, if it is one, else a new one."""
    given = headers.get(REQUEST_ID)
    return given if given is not None and _SANE_ID.fullmatch(given) else new_request_id()


async def _answer(
    request: web.Request, handler: Handler, ours: Edge, exchange: Exchange
) -> web.StreamResponse:
    refused = request.match_info.http_exception
    try:
        if refused is not None:
            if request.method == hdrs.METH_OPTIONS and isinstance(refused, web.HTTPMethodNotAllowed):
                return ours.cors.options(
                    request.headers, sorted(refused.allowed_methods | {hdrs.METH_OPTIONS})
                )
            return failed(from_http_exception(refused, method=request.method), exchange)
        if _late(request):
            _only_probes(request)
        return await handler(request)
    except NodeError as error:
        return failed(error, exchange)
    except web.HTTPException as error:
        return failed(from_http_exception(error, method=request.method), exchange)
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception:
        _log.exception("unexpected error", extra={"fields": {"request_id": exchange.request_id}})
        exchange.code = Fault.code
        fault = Fault("The node failed on this request; its operator finds the cause under this request_id.")
        return problem_response(fault, request_id=exchange.request_id)


def failed(error: NodeError, exchange: Exchange) -> web.Response:
    """The problem document of `error`; what is our own fault is logged with its cause."""
    exchange.code = error.code
    if status_of(error) == HTTPStatus.INTERNAL_SERVER_ERROR:
        fields = {"request_id": exchange.request_id}
        _log.error("failed with %s", error.code, exc_info=error, extra={"fields": fields})
    return problem_response(error, request_id=exchange.request_id)


def stamp(request: web.Request, response: web.StreamResponse) -> None:
    """The headers of every answer. Handlers that stream call it before they prepare."""
    ours = request.app[EDGE]
    headers = response.headers
    headers[REQUEST_ID] = request[EXCHANGE].request_id
    if hdrs.SERVER not in headers:  # our own JSON answers begin with them
        for name, value in ALWAYS.items():
            headers.setdefault(name, value)
    if ours.https or ours.proxies.https(request):
        headers["Strict-Transport-Security"] = "max-age=31536000"
    ours.cors.stamp(request.headers.get(hdrs.ORIGIN), headers)
    if ours.state.draining or _late(request):
        response.force_close()


def _late(request: web.Request) -> bool:
    return getattr(request.protocol, "late", False)


def _only_probes(request: web.Request) -> None:
    """Raises `Overloaded` for all else: the request came on a connection above the limit."""
    resource = request.match_info.route.resource
    if resource is None or resource.canonical not in metrics.PROBES:
        raise Overloaded(
            "This node has as many open connections as it serves; try again in a moment, and keep to few "
            "connections.",
            retry_after=1,
        )


def record(
    ours: Edge, exchange: Exchange, *, route: str, method: str, path: str, status: int, seconds: float
) -> None:
    """Count and log a request that is over."""
    ours.metrics.answered(route=route, method=method, status=status, seconds=seconds)
    # A line a request would cost as much as a fifth of all else that the node does for an inference.
    usual = route in metrics.PROBES or (route in metrics.BUSY and status == _OK and seconds < _SLOW_SECONDS)
    level = logging.DEBUG if usual else logging.INFO
    if not _log.isEnabledFor(level):
        return
    fields: dict[str, object] = {
        "method": method[:16],
        "path": path[:200],
        "status": status,
        "ms": round(seconds * 1000, 3),
        "request_id": exchange.request_id,
        "client": exchange.client,
    }
    if exchange.caller is not None:
        fields["caller"] = exchange.caller
    if exchange.code is not None:
        fields["code"] = exchange.code
    logs.event(_log, level, "request", fields)
