"""Pictures for the tests, drawn from a seed."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from preprocessors.base import Image8


@functools.cache
def photo(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """A picture with the statistics of a photo: most of its power in low frequencies, some hard edges."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    side, strength = 4, 70.0
    while side < max(width, height):
        coarse = rng.integers(0, 255, (max(2, height * side // width), side, 3), dtype=np.uint8)
        fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)
        total += (np.asarray(fine, np.float32) - 127.5) * (strength / 127.5)
        side, strength = side * 2, strength * 0.6
    image = Image.fromarray((total + 127.5).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        left, top = int(rng.integers(0, width)), int(rng.integers(0, height))
        box = (left, top, left + width // 7, top + height // 9)
        draw.rectangle(box, fill=tuple(int(value) for value in rng.integers(60, 190, 3)))
    return image


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *, depth: int, color: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG written by hand, for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    data = zlib.compress(rows)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + extra
        + png_chunk(b"IDAT", data)
        + png_chunk(b"IEND", b"")
    )


def difference(actual: Image8, expected: Image8) -> int:
    """The largest difference of two pictures, of 255."""
    assert actual.shape == expected.shape
    return int(np.abs(actual.astype(int) - expected.astype(int)).max())
