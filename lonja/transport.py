"""One HTTP exchange with a node, repeated where that is safe and helps.

Enters: method, path, body, and who signs. Leaves: decoded JSON, or a typed error. Retries are bounded three
ways: attempts a call, a budget shared by all calls of a client (so that a node in trouble is not stormed),
and the call's own deadline; the pauses are jittered and at least what `Retry-After` asks for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import monotonic, time
from typing import Final

import aiohttp
import msgspec
from yarl import URL

from lonja.errors import ApiError, NodeUnreachable, ResponseInvalid, from_problem

MAX_ANSWER: Final = 64 * 2**20
USER_AGENT: Final = "lonja-python"

Authorize = Callable[[str, str, bytes], Awaitable[dict[str, str]]]
"""Headers that prove the caller for (method, path with query, body)."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a client repeats what failed for a passing reason.

    Attributes
    ----------
    attempts : tries of one call in all.
    first_pause, longest_pause : seconds; doubled from try to try, then drawn from [half, whole].
    budget : retries that may be used up before successes have to earn new ones (one for ten).
    """

    attempts: int = 4
    first_pause: float = 0.2
    longest_pause: float = 5.0
    budget: float = 10.0


class RetryBudget:
    """Retries left to all calls of a client: each takes one, each success gives a tenth back."""

    def __init__(self, size: float) -> None:
        self._size = self._left = size

    def take(self) -> bool:
        """Whether one more retry may be made."""
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def earn(self) -> None:
        self._left = min(self._size, self._left + 0.1)


class Transport:
    """Talks to one node.

    Parameters
    ----------
    base : `http://host:port`, without a path.
    timeout : seconds for a whole call, retries and pauses included.
    """

    def __init__(
        self,
        base: str,
        *,
        timeout: float,
        policy: RetryPolicy | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.base = base.rstrip("/")
        self.timeout = timeout
        self._policy = policy or RetryPolicy()
        self._budget = RetryBudget(self._policy.budget)
        self._pause, self._draw = pause, draw
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        content_type: str = "application/json",
        authorize: Authorize | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """The body of a successful answer to a request that may be repeated safely.

        Raises
        ------
        ApiError, NodeUnreachable, ResponseInvalid
        """
        deadline = monotonic() + (self.timeout if timeout is None else timeout)
        for attempt in range(1, self._policy.attempts + 1):
            try:
                headers = await authorize(method, path, body) if authorize else {}
                if body:
                    headers = {**headers, "Content-Type": content_type}
                answer = await self._once(method, path, body, headers, deadline)
            except (ApiError, NodeUnreachable) as error:
                await self._before_retry(error, attempt=attempt, deadline=deadline)
            else:
                self._budget.earn()
                return answer
        raise AssertionError("unreachable: the last attempt raises")  # pragma: no cover

    async def call_once(self, method: str, path: str, *, body: bytes = b"") -> bytes:
        """Like `call`, for what must not be sent twice."""
        headers = {"Content-Type": "application/json"} if body else {}
        return await self._once(method, path, body, headers, monotonic() + self.timeout)

    async def upload(
        self,
        path: str,
        chunks: AsyncIterator[bytes],
        *,
        size: int,
        headers: Mapping[str, str],
        content_type: str,
    ) -> bytes:
        """Send a stream once, however long it takes while bytes move. Raises like `call`."""
        sent = {**headers, "Content-Type": content_type, "Content-Length": str(size)}
        bounds = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=300)
        return await self._exchange("POST", path, chunks, sent, bounds)

    async def _before_retry(
        self, error: ApiError | NodeUnreachable, *, attempt: int, deadline: float
    ) -> None:
        """Pause until the next try; raise `error` when there is to be none."""
        if isinstance(error, ApiError) and not (error.retriable or error.problem.get("retriable") is True):
            raise error
        if attempt >= self._policy.attempts:
            raise error
        whole = min(self._policy.longest_pause, self._policy.first_pause * 2 ** (attempt - 1))
        pause = whole * (0.5 + self._draw() / 2)
        if isinstance(error, ApiError) and error.retry_after is not None:
            pause = max(pause, error.retry_after)
        if monotonic() + pause >= deadline or not self._budget.take():
            raise error
        await self._pause(pause)

    async def _once(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], deadline: float
    ) -> bytes:
        left = deadline - monotonic()
        if left <= 0:
            raise NodeUnreachable(f"{self.base} did not answer within {self.timeout:g} s")
        bounds = aiohttp.ClientTimeout(total=left, sock_connect=min(10.0, left))
        return await self._exchange(method, path, body or None, headers, bounds)

    async def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | AsyncIterator[bytes] | None,
        headers: Mapping[str, str],
        bounds: aiohttp.ClientTimeout,
    ) -> bytes:
        session = self._open()
        try:
            async with session.request(
                method,
                URL(self.base + path, encoded=True),
                data=body,
                headers=headers,
                timeout=bounds,
                allow_redirects=False,
            ) as answer:
                content = bytearray()
                async for chunk in answer.content.iter_any():
                    content += chunk
                    if len(content) > MAX_ANSWER:
                        raise ResponseInvalid(f"{self.base} answered with more than {MAX_ANSWER} bytes")
                if 200 <= answer.status < 300:
                    return bytes(content)
                raise _problem(answer, bytes(content), base=self.base)
        except TimeoutError as error:
            raise NodeUnreachable(f"{self.base} did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise NodeUnreachable(f"{self.base} cannot be reached: {_reason(error)}") from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _problem(answer: aiohttp.ClientResponse, content: bytes, *, base: str) -> ApiError | ResponseInvalid:
    try:
        document = msgspec.json.decode(content)
    except msgspec.DecodeError:
        document = None
    if not isinstance(document, dict):
        return ResponseInvalid(
            f"{base} answered {answer.status} without a problem document: is it a Lonja node?"
        )
    wait = _retry_after(answer.headers.get("Retry-After"))
    return from_problem(document, status=answer.status, retry_after=wait)


def _retry_after(text: str | None) -> float | None:
    """Seconds of a `Retry-After` header, which is a number or a date (RFC 9110, 10.2.3)."""
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except ValueError:
        return None


def _reason(error: Exception) -> str:
    inner = getattr(error, "os_error", None) or error
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
