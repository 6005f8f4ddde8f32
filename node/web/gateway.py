"""What a request to `/ipfs/{cid}` wants, and the headers of what it gets.

Specs: https://specs.ipfs.tech/http-gateways/trustless-gateway/ and path-gateway. A specific `Accept` wins
over `format`. Ranges are not served: `Accept-Ranges: none`, and a `Range` header is ignored (RFC 9110, 14.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, cast

from aiohttp import hdrs, web
from multidict import CIMultiDict

from node.cid import Cid, CidInvalid
from node.errors import InvalidInput, Malformed, NotAcceptable
from node.web.keys import Scope
from node.web.query import parameters

Form = Literal["raw", "car"]

_TYPES: Final[dict[str, Form]] = {"application/vnd.ipld.raw": "raw", "application/vnd.ipld.car": "car"}
_CONTENT_TYPES: Final[dict[Form, str]] = {
    "raw": "application/vnd.ipld.raw",
    "car": "application/vnd.ipld.car; version=1; order=dfs; dups=y",
}
_SERVED: Final = {"version": {"1"}, "order": {"dfs", "unk"}, "dups": {"y"}}
_PARAMETERS: Final = (
    *("format", "dag-scope", "entity-bytes", "car-version", "car-order", "car-dups"),
    *("download", "filename"),
)
_RANGE: Final = re.compile(r"(\d{1,18}):(?:\*|-?\d{1,18})", re.ASCII)
_SCOPES: Final = frozenset({"block", "entity", "all"})
_YEAR: Final = 31_536_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that can be answered."""

    cid: Cid
    form: Form
    scope: Scope
    start: int = 0
    """Leaves of a file that end before this byte are not wanted (`entity-bytes=START:*`)."""

    @property
    def etag(self) -> str:
        if self.form == "raw":
            return f'"{self.cid}.raw"'
        return f'"{self.cid}.car.{self.scope}.dfs.y{f".{self.start}" if self.start else ""}"'

    def headers(self, *, private: bool) -> CIMultiDict[str]:
        """The answer's headers. What came for a proven caller is kept out of shared caches."""
        sharing = "private" if private else "public"
        name = f"{self.cid}.{'bin' if self.form == 'raw' else 'car'}"
        return CIMultiDict(
            {
                hdrs.CONTENT_TYPE: _CONTENT_TYPES[self.form],
                hdrs.ETAG: self.etag,
                hdrs.CACHE_CONTROL: f"{sharing}, max-age={_YEAR}, immutable",
                hdrs.VARY: "Accept, Authorization",
                hdrs.ACCEPT_RANGES: "none",
                hdrs.CONTENT_DISPOSITION: f'attachment; filename="{name}"',
                "X-Ipfs-Path": f"/ipfs/{self.cid}",
                "X-Ipfs-Roots": str(self.cid),
            }
        )


def wanted(request: web.Request) -> Wanted:
    """Read a request.

    Raises
    ------
    InvalidInput, Malformed
        The CID, a parameter or both `format` and `Accept` are wrong or missing.
    NotAcceptable
        A form that a trustless gateway does not serve.
    """
    try:
        cid = Cid.parse(request.match_info["cid"])
    except CidInvalid as error:
        raise InvalidInput(f"This is not a CID that can be served: {error}.") from None
    asked = parameters(request, *_PARAMETERS)
    form, options = _form(request, asked.get("format"))
    if form == "raw":
        return Wanted(cid, "raw", "block")
    options = {
        name: asked.get(f"car-{name}", value)
        for name, value in (dict.fromkeys(_SERVED, "") | options).items()
    }
    for name, served in _SERVED.items():
        if options[name] and options[name] not in served:
            raise NotAcceptable(
                f"CARs are served with version=1; order=dfs; dups=y, not with {name}={options[name][:20]}."
            )
    scope = asked.get("dag-scope", "all")
    if scope not in _SCOPES:
        raise InvalidInput("dag-scope is block, entity or all.", parameter="dag-scope")
    return Wanted(cid, "car", cast("Scope", scope), _start(asked.get("entity-bytes"), scope))


def _start(asked: str | None, scope: str) -> int:
    """Where `entity-bytes=FROM:TO` begins; TO is not used: a gateway may send more than was asked for."""
    if asked is None:
        return 0
    if scope != "entity":
        raise InvalidInput("entity-bytes goes with dag-scope=entity.", parameter="entity-bytes")
    found = _RANGE.fullmatch(asked)
    if found is None:
        raise InvalidInput(
            "entity-bytes is FROM:TO, e.g. 1048576:*; FROM counts from the start.", parameter="entity-bytes"
        )
    return int(found[1])


def not_modified(request: web.Request, etag: str) -> bool:
    """Whether the client has this already (`If-None-Match`, compared weakly)."""
    header = request.headers.get(hdrs.IF_NONE_MATCH)
    if header is None:
        return False
    return any(tag.strip() == "*" or tag.strip().removeprefix("W/") == etag for tag in header.split(","))


def _form(request: web.Request, parameter: str | None) -> tuple[Form, dict[str, str]]:
    """The form, and the parameters of its media type in `Accept`."""
    ranges = [_media_range(text) for text in request.headers.get(hdrs.ACCEPT, "").split(",")]
    for media, options in ranges:
        if media in _TYPES and _TYPES[media] == (parameter or _TYPES[media]):
            return _TYPES[media], options
    for media, options in ranges:
        if media in _TYPES:
            return _TYPES[media], options
    if parameter in ("raw", "car"):
        return cast("Form", parameter), {}
    if parameter is not None:
        raise NotAcceptable(
            f"format={parameter[:40]!r} is not served: this is a trustless gateway, it serves raw and car."
        )
    if all(media in ("", "*/*", "application/*") for media, _ in ranges):
        raise Malformed("Say which form you want: ?format=raw or ?format=car, or the same in Accept.")
    raise NotAcceptable(
        "This is a trustless gateway: it serves application/vnd.ipld.raw and application/vnd.ipld.car."
    )


def _media_range(text: str) -> tuple[str, dict[str, str]]:
    media, *rest = text.split(";")
    options = (part.partition("=") for part in rest)
    return media.strip().lower(), {
        name.strip().lower(): value.strip().strip('"').lower() for name, _, value in options
    }
