"""The system's certificates, read once the port is open.

Importing aiohttp makes a TLS context, and with it parses some 140 certificates: 25 ms of the 220 that pass
before a node can open its port, and nothing before that needs them.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def later() -> Iterator[Callable[[], None]]:
    """TLS contexts made in this block trust nobody until the function that it gives is called."""
    waiting: list[tuple[ssl.SSLContext, ssl.Purpose]] = []
    load_now = ssl.SSLContext.load_default_certs

    def note(context: ssl.SSLContext, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH) -> None:
        waiting.append((context, purpose))

    def load() -> None:
        while waiting:
            load_now(*waiting.pop())

    ssl.SSLContext.load_default_certs = note  # type: ignore[method-assign,assignment]
    try:
        yield load
    finally:
        ssl.SSLContext.load_default_certs = load_now  # type: ignore[method-assign]
