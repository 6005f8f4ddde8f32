"""Pictures and probabilities drawn with characters."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lonja.cli.plain import plain

if TYPE_CHECKING:
    from PIL.Image import Image

_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_SHADES: Final = " ░▒▓█"


def bars(classes: list[tuple[str, float]], *, width: int = 30) -> str:
    """One line a class: label, bar, per cent.

    >>> print(bars([("seven", 0.75), ("one", 0.25)], width=4))
    seven  ███    75.0 %
    one    █      25.0 %
    """
    if not classes:
        return "(no class is likely enough)"
    classes = [(plain(label), confidence) for label, confidence in classes]
    longest = max(len(label) for label, _ in classes)
    return "\n".join(
        f"{label:<{longest}}  {_bar(confidence, width):<{width}} {confidence * 100:6.1f} %"
        for label, confidence in classes
    )


def _bar(share: float, width: int) -> str:
    whole, part = divmod(round(min(max(share, 0.0), 1.0) * width * 8), 8)
    return ("█" * whole + (_EIGHTHS[part] if part else "")).ljust(width)


def picture(content: bytes | Path, *, columns: int = 36, colour: bool = True) -> str:
    """A picture, roughly: two pixels a character (half blocks in colour, shades of grey without)."""
    from PIL import Image

    with Image.open(BytesIO(content) if isinstance(content, bytes) else content) as opened:
        columns = min(columns, shutil.get_terminal_size().columns - 4)
        rows = max(1, round(columns * opened.height / opened.width / 2))
        small = opened.convert("RGB").resize((columns, rows * 2), Image.Resampling.BOX)
    return _half_blocks(small) if colour else _shades(small)


def _half_blocks(image: Image) -> str:
    lines = []
    for row in range(0, image.height, 2):
        cells = []
        for column in range(image.width):
            above: Any = image.getpixel((column, row))
            below: Any = image.getpixel((column, row + 1))
            cells.append(f"\x1b[38;2;{_rgb(above)};48;2;{_rgb(below)}m▀")
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)


def _shades(image: Image) -> str:
    grey = image.convert("L").resize((image.width, image.height // 2))
    return "\n".join(
        "".join(
            _SHADES[int(_grey(grey, column, row) * (len(_SHADES) - 1) / 255)] for column in range(grey.width)
        )
        for row in range(grey.height)
    )


def _rgb(pixel: tuple[int, int, int]) -> str:
    return ";".join(map(str, pixel))


def _grey(image: Image, column: int, row: int) -> int:
    value: Any = image.getpixel((column, row))
    return int(value)
