"""Which pages of other origins may call this node (the Fetch standard's CORS protocol).

A listed origin is echoed and may send credentials; `*` lets every page read answers, without credentials.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from aiohttp import hdrs, web
from multidict import CIMultiDict

from node.errors import SettingsInvalid

_ORIGIN: Final = re.compile(r"null|[a-z][a-z0-9+.-]*://[^/?#@\s]+/?", re.IGNORECASE)
_EXPOSED: Final = (
    "ETag, Retry-After, Server-Timing, X-Request-ID, X-Ipfs-Path, X-Ipfs-Roots, WWW-Authenticate, Allow"
)
_REQUEST_HEADERS: Final = (
    "Authorization, Content-Type, If-None-Match, X-Request-ID, X-Model-ID, X-Inference-Options"
)


class CorsPolicy:
    """The configured origins.

    Parameters
    ----------
    origins
        Origins as browsers send them (`https://dapp.example`), or `*`.

    Raises
    ------
    SettingsInvalid
        One of them is nothing that a browser sends.
    """

    __slots__ = ("_any", "_origins")

    def __init__(self, origins: tuple[str, ...]) -> None:
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise SettingsInvalid(
                    f"CORS_ORIGINS: {origin!r} is no origin: scheme://host[:port], without a path, or *"
                )
        self._any = "*" in origins
        self._origins = frozenset(origin.rstrip("/") for origin in origins if origin != "*")

    @property
    def enabled(self) -> bool:
        return self._any or bool(self._origins)

    def stamp(self, origin: str | None, headers: CIMultiDict[str]) -> None:
        """Add what a browser needs to hand the answer to a page of `origin`, if that page may have it."""
        if not self.enabled:
            return
        if self._origins:
            vary = headers.get(hdrs.VARY)
            headers[hdrs.VARY] = f"{vary}, Origin" if vary else "Origin"
        if origin is None:
            return
        if origin in self._origins:
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
        elif self._any:
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
        else:
            return
        headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED

    def options(self, request_headers: Mapping[str, str], allowed: list[str]) -> web.Response:
        """The answer to OPTIONS, preflight or not: what the URL takes. `stamp` adds who may use it."""
        methods = ", ".join(allowed)
        headers: CIMultiDict[str] = CIMultiDict({hdrs.ALLOW: methods})
        origin = request_headers.get(hdrs.ORIGIN)
        preflight = hdrs.ACCESS_CONTROL_REQUEST_METHOD in request_headers
        if preflight and origin is not None and (self._any or origin in self._origins):
            headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = methods
            headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = _REQUEST_HEADERS
            headers[hdrs.ACCESS_CONTROL_MAX_AGE] = "600"
        return web.Response(status=204, headers=headers)
