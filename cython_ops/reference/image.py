"""Twins of the image kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray


def normalize_image(
    pixels: NDArray[np.uint8],
    *,
    scale: float = 255.0,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    layout: Literal["nchw", "nhwc"] = "nchw",
    bgr: bool = False,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """See `cython_ops.normalize_image`."""
    ordered = pixels[..., ::-1] if bgr else pixels
    tensor = (ordered.astype(np.float64) / scale - np.asarray(mean)) / np.asarray(std)
    if layout == "nchw":
        tensor = tensor.transpose(2, 0, 1)
    result = np.ascontiguousarray(tensor[None], dtype=np.float32)
    if out is None:
        return result
    out[...] = result
    return out
