"""Where the pixels of a picture go: resize modes, EXIF orientation, reduced JPEG decoding.

Numbers only: which box of the picture as stored is resized to which size, and how the result is
turned. `preprocessors/picture.py` carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from preprocessors.specs import Picture

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

DRAFT_MARGIN: Final = 3
"""A JPEG is decoded at a reduced scale only where that leaves three times the pixels a side that the target
needs. Photos then differ by at most 2/255 from a full decode; with a margin of two it is up to 10/255."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """What is done to one picture.

    Attributes
    ----------
    box : of the upright picture, what is shown.
    width, height : what the box is resized to, upright.
    """

    box: Box
    width: int
    height: int


def plan(width: int, height: int, target: Picture) -> Geometry:
    """Lay an upright picture of `width` x `height` into the target."""
    if target.resize == "stretch":
        return Geometry((0, 0, width, height), target.width, target.height)
    if target.resize == "crop":
        return Geometry(_centre(width, height, target), target.width, target.height)
    scale = min(target.width / width, target.height / height)
    return Geometry(
        (0, 0, width, height),
        min(target.width, max(1, round(width * scale))),
        min(target.height, max(1, round(height * scale))),
    )


def _centre(width: int, height: int, target: Picture) -> Box:
    """The largest centred box of the target's proportions: a square for a square target."""
    across = min(width, max(1, round(height * target.width / target.height)))
    down = min(height, max(1, round(width * target.height / target.width)))
    left, top = (width - across) // 2, (height - down) // 2
    return (left, top, left + across, top + down)


def reduction(geometry: Geometry) -> int:
    """The largest of 8, 4, 2, 1 by which a JPEG may be reduced while it is decoded."""
    left, top, right, bottom = geometry.box
    room = min((right - left) / geometry.width, (bottom - top) / geometry.height) / DRAFT_MARGIN
    return next((factor for factor in (8, 4, 2) if factor <= room), 1)


def is_turned(orientation: int) -> bool:
    """Whether width and height change places (EXIF 2.32, tag 0x0112)."""
    return orientation >= 5


def stored_box(box: Box, orientation: int, width: int, height: int) -> Box:
    """Where a box of the upright picture (`width` x `height`) lies in the picture as stored."""
    left, top, right, bottom = box
    mirrored = (width - right, width - left)
    flipped = (height - bottom, height - top)
    horizontal = mirrored if orientation in {2, 3, 6, 7} else (left, right)
    vertical = flipped if orientation in {3, 4, 7, 8} else (top, bottom)
    if is_turned(orientation):
        horizontal, vertical = vertical, horizontal
    return (horizontal[0], vertical[0], horizontal[1], vertical[1])
