"""The same plots as one PNG, for where a page cannot go."""

from __future__ import annotations

import io
from typing import Final

from training.report.canvas import HEIGHT, WIDTH, PixelCanvas, blank
from training.report.summary import Summary

_COLUMNS: Final = 2
_HEAD: Final = 50
_TINTS: Final = {"healthy": "#14532d", "warning": "#713f12", "ill": "#7f1d1d"}


def png_picture(summary: Summary) -> bytes:
    """All panels, two in a row, below title and verdict."""
    plots = summary.plots()
    picture = blank(_COLUMNS, -(-len(plots) // _COLUMNS), head=_HEAD)
    head = PixelCanvas(picture, left=0, top=0)
    head.text((12, 18), summary.title, size=15, color="#111")
    head.text((12, 38), summary.verdict.sentence(), size=11, color=_TINTS[summary.verdict.health])
    for number, plot in enumerate(plots):
        row, column = divmod(number, _COLUMNS)
        plot.draw(PixelCanvas(picture, left=column * WIDTH, top=_HEAD + row * HEIGHT))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
