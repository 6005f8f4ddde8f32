"""One request to one trustless gateway: asked so that the answer can be checked, and never trusted.

Enters: a gateway and a segment. Leaves: the answer's bytes, pushed into a `Pump`; or `Lacking` (404),
`Withheld` (403), `Unusable` (anything else that is not a CAR, or not in time).

Format: https://specs.ipfs.tech/http-gateways/trustless-gateway/ and IPIP-402, IPIP-412, IPIP-523.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from node.ipfs.gateways import Gateway
from node.ipfs.intake import Pump
from node.ipfs.verifier import RangeIgnored, Segment
from node.outbound import MAX_REDIRECTS, REDIRECTS, AddressRefused, PublicResolver, check_literal

CAR_TYPE: Final = "application/vnd.ipld.car"
ACCEPT: Final = f"{CAR_TYPE}; version=1; order=dfs; dups=y"
MIN_BYTES_PER_STALL: Final = 64 * 1024
"""What must come within one stall time-out: less is a drip that would hold the download for ever."""

Authorize = Callable[[URL, str, URL], Awaitable[Mapping[str, str] | None]]
"""(gateway's base URL, method, URL of the request) -> headers, or None to send none."""


class Lacking(Exception):
    """The gateway says that it does not have the content."""


class Withheld(Lacking):
    """The gateway does not give the content to this node, which says nothing of other content."""


class Unusable(Exception):
    """The gateway did not answer with a CAR, or not in time."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Requests:
    """Holds the connections: one session for gateways that the operator named, one for public addresses."""

    def __init__(
        self,
        *,
        session_factory: Callable[[AbstractResolver | None], aiohttp.ClientSession],
        stall_timeout: float,
        allow_private: bool,
        authorize: Authorize | None,
    ) -> None:
        self._factory = session_factory
        self._stall = stall_timeout
        self._allow_private = allow_private
        self._authorize = authorize
        self.received = 0
        self._named: aiohttp.ClientSession | None = None
        self._public: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        for session in (self._named, self._public):
            if session is not None:
                await session.close()

    async def stream(self, gateway: Gateway, segment: Segment, pump: Pump) -> None:
        """Push the answer's bytes into `pump` until it ends.

        Raises
        ------
        Lacking, Withheld, Unusable
        RangeIgnored
            It refuses to send a part of a file.
            And whatever the pump's thread raises.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._stall) as patience, AsyncExitStack() as stack:
                answer = await self._ask(stack, gateway, segment)
                if segment.start and answer.status in {400, 406, 416, 422, 501}:
                    raise RangeIgnored
                _check(answer)
                got = mark = 0
                while chunk := await answer.content.readany():
                    got += len(chunk)
                    self.received += len(chunk)
                    before = loop.time()
                    await pump.push(chunk)
                    # Our own disk's time is not the gateway's fault.
                    due = patience.when() or before
                    if got - mark >= MIN_BYTES_PER_STALL:
                        mark, due = got, before + self._stall
                    patience.reschedule(due + loop.time() - before)
                patience.reschedule(None)
                await pump.drain()
        except TimeoutError:
            await pump.drain()
            raise Unusable(f"it stalled: too little came within {self._stall:g} s") from None
        except aiohttp.ClientConnectorError as error:
            why = error.os_error if isinstance(error.os_error, AddressRefused) else "it cannot be reached"
            raise Unusable(str(why)) from None
        except AddressRefused as error:
            raise Unusable(f"it leads to where this node does not go: {error}") from None
        except (aiohttp.ClientError, ConnectionError) as error:
            await pump.drain()  # what came before the break is as good as any
            raise Unusable(f"the connection broke ({type(error).__name__})") from None

    async def _ask(self, stack: AsyncExitStack, gateway: Gateway, segment: Segment) -> aiohttp.ClientResponse:
        url = _url(gateway, segment)
        headers = {"Accept": ACCEPT}
        authorized = False
        for _ in range(MAX_REDIRECTS + 1):
            session = self._session(url, gateway)
            answer = await stack.enter_async_context(session.get(url, headers=headers, allow_redirects=False))
            if answer.status == 401 and self._authorize is not None and not authorized:
                authorized = True
                more = (
                    await self._authorize(gateway.url, "GET", url) if _same_origin(url, gateway.url) else None
                )
                if more is not None:
                    headers = {**headers, **more}
                    continue
            if answer.status not in REDIRECTS:
                return answer
            try:
                url = url.join(URL(answer.headers.get("Location", "")))
            except ValueError:
                raise Unusable("it redirects to something that is not a URL") from None
            if url.scheme not in {"http", "https"} or not url.host:
                raise Unusable("it redirects to something that is not http or https")
            headers = {"Accept": ACCEPT}
        raise Unusable(f"it redirects more than {MAX_REDIRECTS} times")

    def _session(self, url: URL, gateway: Gateway) -> aiohttp.ClientSession:
        """Only what the operator named may be private; where a gateway sends us must be public."""
        if self._allow_private and _same_origin(url, gateway.url):
            if self._named is None:
                self._named = self._factory(None)
            return self._named
        check_literal(url)
        if self._public is None:
            self._public = self._factory(PublicResolver())
        return self._public


def _url(gateway: Gateway, segment: Segment) -> URL:
    base = str(gateway.url).rstrip("/")
    url = URL(f"{base}/ipfs/{segment.cid}")
    if segment.start:
        return url.with_query({"format": "car", "dag-scope": "entity", "entity-bytes": f"{segment.start}:*"})
    return url.with_query({"format": "car", "dag-scope": "all"})


def _same_origin(left: URL, right: URL) -> bool:
    return (left.scheme, left.host, left.port) == (right.scheme, right.host, right.port)


def _check(answer: aiohttp.ClientResponse) -> None:
    """Refuse an answer that is no CAR, before a byte of it is used."""
    status = answer.status
    if status in {404, 410}:
        raise Lacking("it does not have the content")
    if status in {403, 451}:
        raise Withheld(f"it does not give the content to this node (status {status})")
    if status != 200:
        raise Unusable(f"it answered with status {status}", retry_after=_retry_after(answer.headers))
    encoding = answer.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise Unusable(f"it answered with Content-Encoding {encoding[:20]!r}, which is refused")
    if answer.content_type != CAR_TYPE:
        raise Unusable(f"it answered with {answer.content_type[:60]!r} instead of a CAR")
    order = _parameter(answer.headers.get("Content-Type", ""), "order")
    if order not in {"", "dfs"}:
        raise Unusable(f"it answered with blocks in the order {order[:20]!r}; only dfs can be checked")


def _parameter(content_type: str, name: str) -> str:
    for part in content_type.split(";")[1:]:
        key, _, value = part.partition("=")
        if key.strip().lower() == name:
            return value.strip().strip('"').lower()
    return ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from either form of Retry-After (RFC 9110, 10.2.3)."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
