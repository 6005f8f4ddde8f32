"""Errors as answers: a status for every code of `node/errors.py`, and RFC 9457 problem documents.

Enters: a `NodeError`. Leaves: an `application/problem+json` response that carries, beside the members of
the RFC, `code` (stable, for programs), `error` (short, for people), `message`, `suggestion` where there is
one, `request_id`, and the error's own detail. Nothing else of the error, its cause or the machine.
"""

from __future__ import annotations

import json
import math
import random
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDict

from node.errors import Fault, MethodNotAllowed, NodeError, RouteNotFound

PROBLEM_TYPE: Final = "application/problem+json"

STATUS: Final[dict[str, int]] = {
    "rejected": 422,
    "invalid_input": 422,
    "input_too_large": 413,
    "unsupported_mode": 422,
    "unsupported_media_type": 415,
    "malformed": 400,
    "not_acceptable": 406,
    "method_not_allowed": 405,
    "headers_too_large": 431,
    "too_slow": 408,
    "denied": 403,
    "authentication_required": 401,
    "signature_invalid": 401,
    "session_expired": 401,
    "nonce_reused": 409,
    "license_missing": 403,
    "license_expired": 403,
    "not_permitted": 403,
    "not_found": 404,
    "model_not_found": 404,
    "model_not_served": 404,
    "content_not_found": 404,
    "not_cached": 412,
    "route_not_found": 404,
    "conflict": 409,
    "model_ambiguous": 409,
    "revision_mismatch": 409,
    "upstream": 503,
    "chain_unavailable": 503,
    "gateway_unavailable": 503,
    "store_full": 503,
    "url_fetch_failed": 502,
    "content_mismatch": 502,
    "manifest_invalid": 502,
    "model_invalid": 502,
    "overloaded": 503,
    "too_many_in_flight": 429,
    "starting": 503,
    "shutting_down": 503,
    "deadline_exceeded": 504,
    "fault": 500,
    "worker_crashed": 500,
    "internal": 500,
}
"""Codes of `StartupError` and below are absent: they never reach a client."""

ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    hdrs.CACHE_CONTROL: "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    hdrs.SERVER: "lonja",
}
"""Headers of every answer that does not set them otherwise; aiohttp's own `Server` would tell versions."""

_RESERVED: Final = frozenset(
    {"type", "title", "status", "detail", "instance", "code", "error", "message", "suggestion", "request_id"}
)
_CHALLENGE: Final = 'Bearer realm="lonja", Lonja-EIP712 realm="lonja"'
_CLOSING: Final = frozenset({"shutting_down", "too_slow", "headers_too_large"})


def problem(error: NodeError, *, request_id: str) -> dict[str, object]:
    """The problem document of `error` as plain JSON values."""
    document: dict[str, object] = {
        "type": f"urn:lonja:error:{error.code}",
        "title": error.title,
        "status": status_of(error),
        "detail": error.message,
        "code": error.code,
        "error": error.title,
        "message": error.message,
    }
    if error.suggestion:
        document["suggestion"] = error.suggestion
    if error.retriable:
        document["retriable"] = True
    document["request_id"] = request_id
    document.update((name, value) for name, value in error.detail.items() if name not in _RESERVED)
    return document


def new_request_id() -> str:
    """16 hex digits: unique for all practical purposes, and no secret."""
    return f"{random.getrandbits(64):016x}"


def status_of(error: NodeError) -> int:
    """The HTTP status of `error`; 500 for what must not reach a client."""
    return STATUS.get(error.code, 500)


def problem_response(error: NodeError, *, request_id: str) -> web.Response:
    """The answer to a request that failed with `error`."""
    status = status_of(error)
    headers: CIMultiDict[str] = CIMultiDict({hdrs.CONTENT_TYPE: PROBLEM_TYPE})
    retry_after = error.retry_after
    if retry_after is None and status == 503:
        retry_after = 1.0
    if retry_after is not None:
        headers[hdrs.RETRY_AFTER] = str(max(1, math.ceil(retry_after)))
    if status == 401:
        headers[hdrs.WWW_AUTHENTICATE] = _CHALLENGE
    if isinstance(error, MethodNotAllowed) and isinstance(allowed := error.detail.get("allowed"), list):
        headers[hdrs.ALLOW] = ", ".join(allowed)
    document = problem(error, request_id=request_id)
    try:
        body = msgspec.json.encode(document, enc_hook=str)
    except UnicodeEncodeError:  # a text quotes bytes of the client that are no UTF-8
        body = json.dumps(document, default=str).encode()
    response = web.Response(status=status, body=body, headers=headers)
    if error.code in _CLOSING:
        response.force_close()
    return response


def from_http_exception(error: web.HTTPException, *, method: str) -> NodeError:
    """What aiohttp itself refused (no such route, no such method), in our words."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = sorted(error.allowed_methods | {hdrs.METH_OPTIONS})
        return MethodNotAllowed(
            f"This URL does not take {_shown(method)}; it takes {', '.join(allowed)}.", allowed=allowed
        )
    if error.status == HTTPStatus.NOT_FOUND:
        return RouteNotFound(
            "There is nothing at this URL.", suggestion="GET /openapi.json lists what this node serves."
        )
    return Fault("The node could not serve this request.")


def _shown(method: str) -> str:
    return method if method.isascii() and method.isalpha() and len(method) <= 16 else "this method"
