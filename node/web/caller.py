"""Who is calling: the `Authorization` header, and nothing else.

A session token is looked up before the body is read, so that strangers cannot make the node read one; a
signature covers the body's hash, so it is checked after.
"""

from __future__ import annotations

import asyncio

from aiohttp import hdrs, web

from node.addresses import keccak256
from node.errors import AuthenticationRequired, Malformed
from node.types import Caller
from node.web import body
from node.web.keys import EDGE, EXCHANGE, Flows

_OFF_LOOP_BYTES = 65_536
"""Keccak takes about 5 us a KiB: larger bodies are hashed in a thread."""


def authorization(request: web.Request) -> str | None:
    """The header's value. Raises `Malformed` when there are several, or it is not ASCII."""
    values = request.headers.getall(hdrs.AUTHORIZATION, None)
    if values is None:
        return None
    if len(values) > 1:
        raise Malformed("There is more than one Authorization header; send one.")
    if not values[0].isascii():
        raise Malformed("The Authorization header is not ASCII.")
    return values[0]


def bearer_token(header: str) -> str | None:
    """The token of a `Bearer` header, None for another scheme."""
    if header.startswith("Bearer ") or header[:7].lower() == "bearer ":
        return header[7:].strip()
    return None


async def caller_and_body(request: web.Request, flows: Flows, *, limit: int) -> tuple[Caller, bytes]:
    """The caller and the body. Raises the `Denied` and `Rejected` errors."""
    body.check_headers(request, limit=limit)
    header = authorization(request)
    if header is None:
        raise _required()
    token = bearer_token(header)
    if token is not None:
        caller = flows.authenticate.session(token)
        content = await body.read(request, limit=limit)
    else:
        _require_known_scheme(header)
        with request.app[EDGE].unproven.hold(request, limit=limit):
            content = await body.read(request, limit=limit)
            caller = await _by_signature(request, flows, header, content)
    request[EXCHANGE].caller = caller.address
    return caller, content


async def optional_caller(request: web.Request, flows: Flows) -> Caller | None:
    """The caller of a request without a body, None when it does not say."""
    if authorization(request) is None:
        return None
    caller, _ = await caller_and_body(request, flows, limit=0)
    return caller


def session_caller(request: web.Request, flows: Flows) -> Caller:
    """The caller by session token only: for bodies too large to be hashed before they are used."""
    header = authorization(request)
    if header is None:
        raise _required()
    token = bearer_token(header)
    if token is None:
        raise AuthenticationRequired(
            "This request streams its body, which a signature cannot cover: sign in at /api/auth/session "
            "and send the token as `Authorization: Bearer <token>`."
        )
    caller = flows.authenticate.session(token)
    request[EXCHANGE].caller = caller.address
    return caller


async def _by_signature(request: web.Request, flows: Flows, header: str, content: bytes) -> Caller:
    if len(content) > _OFF_LOOP_BYTES:
        digest = await asyncio.to_thread(keccak256, content)
    else:
        digest = keccak256(content)
    return await flows.authenticate.signature(
        header, method=request.method, path=request.raw_path, body_hash=digest
    )


def _require_known_scheme(header: str) -> None:
    if header[:13].lower() != "lonja-eip712 ":
        raise AuthenticationRequired(
            "The Authorization header is of a scheme that is not known here; send "
            "`Bearer <token>` or `Lonja-EIP712 ...`."
        )


def _required() -> AuthenticationRequired:
    return AuthenticationRequired(
        "This request needs a caller: sign in at /api/auth/session and send `Authorization: Bearer <token>`, "
        "or sign the request (`Authorization: Lonja-EIP712 ...`)."
    )
