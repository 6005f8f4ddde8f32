"""Keeps Python's recursion limit over the import of web3, siwe or eth_account.

They bring py_ecc, which raises it to 100,000 for the whole process, for pairings that nobody needs here. With
that, deeply nested JSON of a stranger would overrun the stack instead of raising `RecursionError`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_recursion_limit() -> Iterator[None]:
    """Put the limit back at the end."""
    limit = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
