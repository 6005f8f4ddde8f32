"""How deep JSON of strangers is nested, told before a decoder recurses into it.

A library may have raised Python's recursion limit beyond what the stack holds (py_ecc, which web3 brings,
sets 100,000 for the whole process); then deep JSON is a crash and not an exception.
"""

from __future__ import annotations

import re
from typing import Final

_STRINGS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[\[\]{}]")


def deeper_than(most: int, text: bytes) -> bool:
    """Whether lists and objects in `text` are nested more than `most` levels deep."""
    depth = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub(b"", text)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > most:
            return True
    return False
