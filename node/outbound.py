"""HTTP requests to addresses that strangers name, without becoming their way into this network.

Enters: a URL from a request, or a redirect from a gateway. Leaves: bounded bytes, or a clear refusal.
A name is resolved once, every address it resolves to must be public, and the connection goes to just
those addresses: a second answer of the name server (DNS rebinding) is never asked for.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from node.errors import InputTooLarge, InvalidInput, UrlFetchFailed

MAX_REDIRECTS: Final = 5
MAX_URL: Final = 2048
USER_AGENT: Final = "lonja"
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_DIGITS: Final = 18

_REFUSED_V6: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # IETF protocol assignments, Teredo among them (RFC 2928, RFC 4380)
        "2001:db8::/32",  # documentation (RFC 3849)
        "2002::/16",  # 6to4 carries any IPv4 address (RFC 3056)
        "3fff::/20",  # documentation (RFC 9637)
    )
)
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
"""Global unicast: leaves out IPv4-mapped, NAT64, link-local, unique local and multicast addresses."""

_REFUSED_V4: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by carrier-grade NAT (RFC 6598)
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local; clouds serve credentials there
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)


class AddressRefused(OSError):
    """A name or URL leads to an address that is not public."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a URL gave."""

    body: bytes
    content_type: str
    final_url: str


def is_public(address: str) -> bool:
    """Whether an IP address in text form is one of the public internet's."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in _REFUSED_V4)
    return parsed in _GLOBAL_V6 and not any(parsed in network for network in _REFUSED_V6)


class PublicResolver(AbstractResolver):
    """Resolves names as `inner` does, and refuses those with any address that is not allowed."""

    def __init__(
        self, inner: AbstractResolver | None = None, *, allowed: Callable[[str], bool] = is_public
    ) -> None:
        self._inner = inner
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if self._inner is None:
            self._inner = aiohttp.ThreadedResolver()
        found = await self._inner.resolve(host, port, family)
        if not found or not all(self._allowed(entry["host"]) for entry in found):
            raise AddressRefused(f"{host} does not lead to a public address")
        return found

    async def close(self) -> None:
        if self._inner is not None:
            await self._inner.close()


def open_session(resolver: AbstractResolver | None = None) -> aiohttp.ClientSession:
    """A session that keeps no cookies, follows no proxy settings and decompresses nothing by itself."""
    # Waiting for a connection would count as the peer's stalling, so there are more than callers use at
    # once: a handful of dripping downloads must not keep others from the same gateway.
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, limit=256, limit_per_host=64)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        read_bufsize=2**16,
    )


def check_literal(url: URL, *, allowed: Callable[[str], bool] = is_public) -> None:
    """Refuse a URL whose host is an address that is not public: a resolver never sees those.

    Raises
    ------
    AddressRefused
    """
    host = url.host or ""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    if not allowed(host):
        raise AddressRefused(f"{host} is not a public address")


class GuardedFetcher:
    """Fetches URLs that strangers name.

    Parameters
    ----------
    ports
        Ports that may be asked beside the scheme's own.
    allowed
        Which addresses may be reached; tests on loopback give their own.
    """

    def __init__(
        self,
        *,
        ports: Collection[int] = (),
        allowed: Callable[[str], bool] = is_public,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._ports = frozenset({80, 443, *ports})
        self._allowed = allowed
        self._resolver = PublicResolver(resolver, allowed=allowed)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        await self._resolver.close()

    async def get(self, url: str, *, limit: int, timeout: float, accept: str = "*/*") -> Fetched:
        """The body behind `url`.

        Parameters
        ----------
        limit
            Bytes of the body at most.
        timeout
            Seconds for everything together, redirects included.

        Raises
        ------
        InvalidInput
            Not a URL that is fetched: scheme, port, user name in it, or an address that is not public.
        UrlFetchFailed
            The other side failed, was too slow, or answered with something other than 200.
        InputTooLarge
            The body is longer than `limit`.
        """
        target = self._parse(url)
        try:
            async with asyncio.timeout(timeout):
                return await self._follow(target, limit=limit, accept=accept)
        except TimeoutError:
            raise UrlFetchFailed(f"the URL did not answer within {timeout:g} s") from None
        except AddressRefused as error:
            raise InvalidInput(f"the URL is refused: {error}") from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                raise InvalidInput(f"the URL is refused: {error.os_error}") from None
            raise UrlFetchFailed(f"{error.host} cannot be reached") from None
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise UrlFetchFailed(f"the URL could not be fetched ({type(error).__name__})") from None

    async def _follow(self, url: URL, *, limit: int, accept: str) -> Fetched:
        if self._session is None:
            self._session = open_session(self._resolver)
        for _ in range(MAX_REDIRECTS + 1):
            check_literal(url, allowed=self._allowed)
            async with self._session.get(url, headers={"Accept": accept}, allow_redirects=False) as answer:
                if answer.status in REDIRECTS:
                    url = self._parse(str(_location(url, answer.headers.get("Location", ""))))
                    continue
                if answer.status != 200:
                    raise UrlFetchFailed(f"the URL answered with status {answer.status}")
                encoding = answer.headers.get("Content-Encoding", "identity")
                if encoding.lower() != "identity":
                    raise UrlFetchFailed(
                        f"the URL answered with Content-Encoding {encoding[:20]!r}, which is refused"
                    )
                body = await _bounded(answer, limit)
                return Fetched(body, answer.content_type, str(url))
        raise UrlFetchFailed(f"the URL redirects more than {MAX_REDIRECTS} times")

    def _parse(self, text: str) -> URL:
        if len(text) > MAX_URL:
            raise InvalidInput(f"the URL is longer than {MAX_URL} characters")
        try:
            url = URL(text)
            port = url.port
        except ValueError:
            raise InvalidInput("the URL cannot be read") from None
        if url.scheme not in {"http", "https"} or not url.host:
            raise InvalidInput("the URL must begin with http:// or https:// and name a host")
        if url.user is not None or url.password is not None:
            raise InvalidInput("the URL must not carry a user name or password")
        if port not in self._ports:
            raise InvalidInput(f"the URL's port {port} is not one that is fetched from")
        return url.with_fragment(None)


def _location(base: URL, location: str) -> URL:
    if not location:
        raise UrlFetchFailed("the URL answered with a redirect to nowhere")
    try:
        return base.join(URL(location))
    except ValueError:
        raise UrlFetchFailed("the URL answered with a redirect that cannot be read") from None


async def _bounded(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    said = answer.headers.get(hdrs.CONTENT_LENGTH, "0")
    if len(said) > _MOST_DIGITS or int(said) > limit:
        raise InputTooLarge(f"the URL's content has {said[:20]} bytes; at most {limit} are accepted")
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise InputTooLarge(f"the URL's content has more than {limit} bytes")
    return bytes(body)
