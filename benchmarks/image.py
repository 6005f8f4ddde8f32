"""JPEG to a 224 x 224 tensor, beside plain Pillow and NumPy in the same run, on one thread.

Plain: open, convert to RGB, `resize` to 224 (bicubic), float32, normalise, NCHW. The photos are made
here: noise of falling strength by octave, with grain. Entropy decoding, which no reduced scale saves,
grows with the file: that is why the grainy photo, whose file is as large as a good camera's, gains less.

Times are the thread's processor time, so that other work on the machine does not count.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from preprocessors.base import Limits
from preprocessors.image import ImagePreprocessor
from preprocessors.picture import read_pixels
from preprocessors.specs import ImageInput

SPEC = ImageInput(preset="imagenet")
PHOTOS = {
    "12 MP": (4000, 3000, 2.5),
    "12 MP, grainy": (4000, 3000, 6.0),
    "1280 x 960": (1280, 960, 2.5),
    "800 x 600": (800, 600, 2.5),
}
"""Width, height, and the grain's standard deviation of 255."""
TURNS = 9


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. Times are the best of `TURNS`, in milliseconds."""

    photo: str
    file_bytes: int
    ours: float
    plain: float
    difference: int
    """Largest difference of the resized pixels from a full decode, of 255."""

    @property
    def ratio(self) -> float:
        return self.plain / self.ours


def photo(width: int, height: int, grain: float) -> bytes:
    """A JPEG with the statistics of a photo."""
    rng = np.random.default_rng(0)
    total = np.full((height, width, 3), 127.5, np.float32)
    side, strength = 4, 60.0
    while side < width:
        coarse = rng.integers(0, 255, (max(2, height * side // width), side, 3), dtype=np.uint8)
        fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        total += (np.asarray(fine, np.float32) - 127.5) * (strength / 127.5)
        side, strength = side * 2, strength * 0.65
    total += rng.normal(0, grain, (height, width, 1)).astype(np.float32)
    file = io.BytesIO()
    Image.fromarray(total.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def plain_pixels(content: bytes) -> Any:
    """What a full decode and one resize give."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    return np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC))


def plain_tensor(content: bytes) -> Any:
    """The tensor as it is commonly made."""
    values = plain_pixels(content).astype(np.float32) / 255
    values = (values - np.array([0.485, 0.456, 0.406], np.float32)) / np.array(
        [0.229, 0.224, 0.225], np.float32
    )
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def best(work: Callable[[], object]) -> float:
    """Milliseconds of the quickest of `TURNS` calls."""
    times = []
    for _ in range(TURNS):
        began = time.thread_time()
        work()
        times.append(time.thread_time() - began)
    return min(times) * 1e3


def rows() -> Iterator[Row]:
    """Measure every size."""
    preprocess = ImagePreprocessor(SPEC, limits=Limits())
    for name, (width, height, grain) in PHOTOS.items():
        content = photo(width, height, grain)
        pixels = read_pixels(content, SPEC.picture(), limits=Limits())
        off = np.abs(pixels.astype(int) - plain_pixels(content).astype(int)).max()
        yield Row(
            name,
            len(content),
            best(lambda content=content: preprocess("image", content, "binary")),  # type: ignore[misc]
            best(lambda content=content: plain_tensor(content)),  # type: ignore[misc]
            int(off),
        )


def main() -> None:
    """Print the table."""
    print("| photo | file, KB | ms | plain Pillow, ms | times quicker | largest difference, of 255 |")
    print("|---|---|---|---|---|---|")
    for row in rows():
        print(
            f"| {row.photo} | {row.file_bytes // 1000} | {row.ours:.1f} | {row.plain:.1f} | {row.ratio:.1f} "
            f"| {row.difference} |"
        )


if __name__ == "__main__":
    main()
