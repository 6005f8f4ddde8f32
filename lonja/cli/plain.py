"""Texts that strangers wrote (names, labels, messages of a node), made safe to print on a terminal."""

from __future__ import annotations

import unicodedata
from typing import Final

_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls (escape sequences begin with one), invisible and direction-changing characters, line ends."""


def plain(text: str, *, lines: bool = False) -> str:
    """`text` with a dot for what would do something to the terminal; `lines` keeps line breaks.

    >>> plain("cat" + chr(27) + "[2J")
    'cat·[2J'
    """
    return "".join(
        each if unicodedata.category(each) not in _UNSAFE or (lines and each == "\n") else "·"
        for each in text
    )
