"""Heads that come again: a client that sends request after request repeats its head, but for the length.

Enters: what one read of a connection gave, with the message that aiohttp made of it. Leaves: a `Repeat`, by
which a next request with the same head is known without parsing, a third of what the main process does for
it. Equal bytes mean the same only where the parser stands between two messages, so `exact` decides strictly.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from aiohttp import hdrs
from aiohttp.http_parser import RawRequestMessage

_HEAD_ENDS: Final = b"\r\n\r\n"
_MOST_DIGITS: Final = 18


class Repeat(NamedTuple):
    """A head as it came, before and after the digits of its Content-Length, and what it means.

    The `message` has the length of its first body.
    """

    before: bytes
    after: bytes
    message: RawRequestMessage

    def body(self, data: bytes) -> bytes | None:
        """The body, if `data` is one whole request with this head."""
        if not data.startswith(self.before):
            return None
        start = len(self.before)
        end = data.find(b"\r", start, start + _MOST_DIGITS + 1)
        if end < 0 or not data.startswith(self.after, end) or not data[start:end].isdigit():
            return None
        body = data[end + len(self.after) :]
        return body if int(data[start:end]) == len(body) else None


def exact(data: bytes, message: RawRequestMessage) -> Repeat | None:
    """`data` as one whole request that says its length, and nothing behind it; None for all else.

    Parameters
    ----------
    data : fed to a parser that stood between two messages, and that made `message`, and no other, of it.
        Only behind a message that leaves the connection open and its parser in HTTP it stands there again.
    """
    if message.upgrade or message.should_close or hdrs.TRANSFER_ENCODING in message.headers:
        return None
    size = data.find(_HEAD_ENDS) + len(_HEAD_ENDS)
    for name, value in message.raw_headers:
        if name.lower() == b"content-length":
            line = data.find(b"\r\n%b:" % name, 0, size)
            start = data.find(value, line + len(name) + 3, size)
            if line < 0 or start < 0 or len(value) > _MOST_DIGITS or int(value) != len(data) - size:
                return None
            repeat = Repeat(data[:start], data[start + len(value) : size], message)
            return repeat if repeat.body(data) is not None else None
    return None
