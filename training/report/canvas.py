"""Where a plot is drawn: the few shapes that plots are made of, as SVG text or as Pillow's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Final, Literal, Protocol, TypeAlias

from PIL import Image, ImageDraw, ImageFont

Anchor: TypeAlias = Literal["start", "middle", "end"]
Point: TypeAlias = tuple[float, float]
WIDTH: Final = 460
HEIGHT: Final = 280
_SHARPER: Final = 2
"""The PNG has so many pixels a unit."""


class Canvas(Protocol):
    """Shapes in units of a panel, 460 by 280, from its upper left."""

    def line(self, points: Sequence[Point], color: str, *, width: float = 1.5) -> None:
        """Straight lines from point to point."""

    def box(self, at: Point, size: Point, color: str) -> None:
        """A filled rectangle."""

    def dot(self, at: Point, color: str) -> None:
        """A small disc."""

    def text(
        self, at: Point, text: str, *, anchor: Anchor = "start", size: int = 11, color: str = "#444"
    ) -> None:
        """One line, its middle at the height of `at`."""


class SvgCanvas:
    """Collects one panel's SVG."""

    def __init__(self, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(title)}"><title>{escape(title)}</title>'
        ]

    def line(self, points: Sequence[Point], color: str, *, width: float = 1.5) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}" '
            'stroke-linejoin="round"/>'
        )

    def box(self, at: Point, size: Point, color: str) -> None:
        self._parts.append(
            f'<rect x="{at[0]:.1f}" y="{at[1]:.1f}" width="{size[0]:.1f}" height="{size[1]:.1f}" '
            f'fill="{color}"/>'
        )

    def dot(self, at: Point, color: str) -> None:
        self._parts.append(
            f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="2" fill="{color}" fill-opacity="0.6"/>'
        )

    def text(
        self, at: Point, text: str, *, anchor: Anchor = "start", size: int = 11, color: str = "#444"
    ) -> None:
        self._parts.append(
            f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'dominant-baseline="central" fill="{color}">{escape(text)}</text>'
        )

    def finished(self) -> str:
        """The element."""
        return "".join((*self._parts, "</svg>"))


class PixelCanvas:
    """Draws one panel into a picture, at a place in it."""

    def __init__(self, picture: Image.Image, *, left: int, top: int) -> None:
        self._draw = ImageDraw.Draw(picture)
        self._left, self._top = left, top

    def line(self, points: Sequence[Point], color: str, *, width: float = 1.5) -> None:
        if len(points) > 1:
            self._draw.line(
                [self._at(p) for p in points], fill=color, width=round(width * _SHARPER), joint="curve"
            )

    def box(self, at: Point, size: Point, color: str) -> None:
        self._draw.rectangle((self._at(at), self._at((at[0] + size[0], at[1] + size[1]))), fill=color)

    def dot(self, at: Point, color: str) -> None:
        x, y = self._at(at)
        self._draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=color)

    def text(
        self, at: Point, text: str, *, anchor: Anchor = "start", size: int = 11, color: str = "#444"
    ) -> None:
        font: Any = ImageFont.load_default(size * _SHARPER)
        self._draw.text(
            self._at(at),
            text,
            fill=color,
            font=font,
            anchor={"start": "lm", "middle": "mm", "end": "rm"}[anchor],
        )

    def _at(self, point: Point) -> Point:
        return ((point[0] + self._left) * _SHARPER, (point[1] + self._top) * _SHARPER)


def blank(columns: int, rows: int, *, head: int) -> Image.Image:
    """A white picture for so many panels below a head."""
    return Image.new("RGB", (columns * WIDTH * _SHARPER, (rows * HEIGHT + head) * _SHARPER), "white")
