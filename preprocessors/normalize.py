"""Pixels to tensor values: (pixel / scale - mean) / std, in the layout and channel order wanted."""

from __future__ import annotations

import numpy as np

from preprocessors.base import Array, Image8
from preprocessors.specs import Picture


def normalize(pixels: Image8, target: Picture) -> Array:
    """Normalise uint8 [H, W, C] (red first) to one row [1, ...] of the target's dtype and layout."""
    if target.color == "bgr":
        pixels = pixels[:, :, ::-1]
    if target.dtype == "uint8":
        values: Array = pixels
    else:
        gain = 1 / (target.scale * np.array(target.std))
        shift = -np.array(target.mean) / np.array(target.std)
        values = pixels * gain.astype(np.float32) + shift.astype(np.float32)
    if target.layout == "nchw":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values[None], dtype=target.dtype)
