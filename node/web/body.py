"""Request bodies: refused by their headers where possible, then read within bounds of size and time.

Leaves: the body as bytes, or a `NodeError` that says what was wrong with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import msgspec
from aiohttp import hdrs, web

from node.errors import InputTooLarge, InvalidInput, Malformed, Overloaded, TooSlow, UnsupportedMediaType
from node.web.keys import EDGE, Limits

T = TypeVar("T")
_MOST_DIGITS: Final = 18


class Budget:
    """Bytes of bodies that may be in memory at once for callers who are not proven yet.

    A signature covers the body, so the body is read before the caller is known: without a bound, strangers
    could fill the memory with bodies that are then refused.
    """

    __slots__ = ("_free",)

    def __init__(self, size: int) -> None:
        self._free = size

    @contextmanager
    def hold(self, request: web.Request, *, limit: int) -> Iterator[None]:
        """Set aside what the body may take. Raises `Overloaded` when too much is being read already."""
        size = (request.content_length or limit) if request.body_exists else 0
        if size > self._free:
            raise Overloaded(
                "Too many large signed requests are arriving. Try again, or sign in: a session is checked "
                "before the body is read.",
                retry_after=1,
            )
        self._free -= size
        try:
            yield
        finally:
            self._free += size


def media_type(request: web.Request) -> str:
    """The body's type in lower case, without parameters; empty when the client did not say."""
    header = request.headers.get(hdrs.CONTENT_TYPE, "")
    if header == "application/json":
        return header
    return header.partition(";")[0].strip().lower()


def require_media_type(request: web.Request, *accepted: str) -> None:
    """Raises `UnsupportedMediaType` unless the body's type is one of `accepted`."""
    given = media_type(request)
    if given not in accepted:
        raise unsupported(given, accepted)


def unsupported(given: str, accepted: tuple[str, ...]) -> UnsupportedMediaType:
    """The refusal of a body of type `given`, naming what is taken instead."""
    said = f"Content-Type {given[:100]!r} is not accepted here" if given else "The Content-Type is missing"
    return UnsupportedMediaType(f"{said}; send {' or '.join(accepted)}.", accepted=list(accepted))


def check_headers(request: web.Request, *, limit: int) -> None:
    """Refuse a body that its headers already rule out, before one byte of it is read."""
    if len(request.headers.get(hdrs.CONTENT_LENGTH, "")) > _MOST_DIGITS:  # Python reads no number of 4301
        raise Malformed("The Content-Length has more digits than a length needs.")
    length = request.content_length
    if length is not None and length > limit:
        raise _too_large(limit)
    encoding = request.headers.get(hdrs.CONTENT_ENCODING)
    if encoding is not None and encoding.lower() != "identity":
        raise UnsupportedMediaType(
            f"Content-Encoding {encoding[:40]!r} is not accepted; send the body uncompressed."
        )


async def read(request: web.Request, *, limit: int) -> bytes:
    """The whole body. `check_headers` comes first."""
    content = request.content
    if content.is_eof():  # all of it came with the headers: nothing to wait for
        body = content.read_nowait(-1)
        if len(body) > limit:
            raise _too_large(limit)
        return body
    bounds = request.app[EDGE].limits
    parts = []
    try:
        async with asyncio.timeout(bounds.body_seconds):
            async for part in stream(request, limit=limit):
                parts.append(part)  # noqa: PERF401 - an async comprehension hides the time-out
    except TimeoutError:
        raise _too_slow(bounds.body_seconds) from None
    return b"".join(parts)


async def stream(request: web.Request, *, limit: int) -> AsyncIterator[bytes]:
    """The body in chunks as they arrive; ends with an error past `limit` bytes or when nothing comes."""
    await _send_continue(request)
    bounds: Limits = request.app[EDGE].limits
    seen = 0
    while True:
        try:
            async with asyncio.timeout(bounds.stall_seconds):
                chunk = await request.content.readany()
        except TimeoutError:
            raise _too_slow(bounds.stall_seconds) from None
        except web.RequestPayloadError as error:
            raise Malformed("The body's framing is broken: its chunks cannot be read.") from error
        if not chunk:
            return
        seen += len(chunk)
        if seen > limit:
            raise _too_large(limit)
        yield chunk


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """A JSON body as its struct.

    Raises
    ------
    Malformed
        Not JSON at all: syntax, encoding, nesting, or empty.
    InvalidInput
        JSON of another shape; the message names the member and its path.
    """
    if not body:
        raise Malformed("The body is empty; send a JSON object.")
    try:
        if not body.isascii():
            body.decode()  # msgspec skips raw members without looking at their encoding
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{error}.") from None
    except UnicodeDecodeError as error:
        raise Malformed(f"The body is not UTF-8 (byte {error.start}).") from None
    except msgspec.DecodeError as error:
        raise Malformed(f"The body is not JSON: {error}.") from None
    except RecursionError:
        raise Malformed("The body is not JSON that can be read: it is nested too deeply.") from None


async def _send_continue(request: web.Request) -> None:
    """Tell a client that waits for it (`Expect: 100-continue`) to send: only now the headers have passed."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


async def expect_later(request: web.Request) -> None:
    """Replaces aiohttp's own answer to `Expect`, which would ask for a body that is refused anyway."""


def _too_large(limit: int) -> InputTooLarge:
    return InputTooLarge(f"The body is larger than the {limit} bytes that are accepted here.", limit=limit)


def _too_slow(seconds: float) -> TooSlow:
    return TooSlow(f"The body did not arrive within {seconds:g} s.")
