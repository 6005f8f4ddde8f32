"""`POST /api/publish` and `GET|HEAD /ipfs/{cid}`: bytes by CID, in and out.

The gateway is that of https://specs.ipfs.tech/http-gateways/trustless-gateway/: blocks and CARs only, so
that whoever fetches can check every byte.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import hdrs, web

from node.cid import Cid
from node.errors import ContentNotFound, NodeError, NotCached
from node.types import Caller
from node.web import answers, body, gateway, schemas
from node.web.caller import optional_caller, session_caller
from node.web.keys import EDGE, EXCHANGE, Flows
from node.web.middlewares import stamp

CAR: Final = "application/vnd.ipld.car"
_log = logging.getLogger("node.web")


async def publish(request: web.Request) -> web.Response:
    """Take a CAR into the node's store."""
    ours = request.app[EDGE]
    flows = ours.state.ready_flows()
    limit = ours.limits.publish_bytes
    body.require_media_type(request, CAR)
    body.check_headers(request, limit=limit)
    caller = session_caller(request, flows)
    roots = await flows.publish(caller, body.stream(request, limit=limit), size=request.content_length)
    return answers.json(schemas.PublishAnswer(True, [str(root) for root in roots]), status=201)


async def fetch(request: web.Request) -> web.StreamResponse:
    """A block or a CAR."""
    flows = request.app[EDGE].state.ready_flows()
    wanted = gateway.wanted(request)
    caller = await optional_caller(request, flows)
    try:
        if wanted.form == "raw":
            return await _block(request, flows, caller, wanted)
        return await _car(request, flows, caller, wanted)
    except ContentNotFound:
        if "only-if-cached" in request.headers.get(hdrs.CACHE_CONTROL, ""):
            raise NotCached("This node does not hold the content, and was asked not to fetch it.") from None
        raise


async def _block(
    request: web.Request, flows: Flows, caller: Caller | None, wanted: gateway.Wanted
) -> web.Response:
    content = await flows.serve_content.block(caller, wanted.cid)
    headers = wanted.headers(private=caller is not None)
    if gateway.not_modified(request, wanted.etag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=content, headers=headers)


async def _car(
    request: web.Request, flows: Flows, caller: Caller | None, wanted: gateway.Wanted
) -> web.StreamResponse:
    chunks = await flows.serve_content.car(caller, wanted.cid, wanted.scope, start=wanted.start)
    first = await anext(chunks, b"")  # a refusal comes before the answer's head is sent
    headers = wanted.headers(private=caller is not None)
    try:
        if gateway.not_modified(request, wanted.etag):
            return web.Response(status=304, headers=headers)
        response = web.StreamResponse(headers=headers)
        stamp(request, response)
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            await _send(request, response, wanted.cid, first, chunks)
        return response
    finally:
        if (close := getattr(chunks, "aclose", None)) is not None:
            await close()


async def _send(
    request: web.Request, response: web.StreamResponse, cid: Cid, first: bytes, rest: AsyncIterator[bytes]
) -> None:
    try:
        chunk = first
        while chunk:
            await response.write(chunk)  # a client that does not take it is cut off: `unsent.py`
            chunk = await anext(rest, b"")
        await response.write_eof()
    except ConnectionError:
        raise
    except Exception as error:
        # The head is gone: only a broken connection can still say that the CAR is not whole.
        request[EXCHANGE].code = error.code if isinstance(error, NodeError) else "broken_off"
        _log.exception("CAR broken off", extra={"fields": {"cid": str(cid)}})
        if request.transport is not None:
            request.transport.abort()
