"""Pixels to tensor values: (pixel / scale - mean) / std, in the layout and channel order wanted."""

from __future__ import annotations

import numpy as np

from cython_ops import normalize_image
from preprocessors.base import Array, Image8
from preprocessors.specs import Picture


def normalize(pixels: Image8, target: Picture) -> Array:
    """Normalise uint8 [H, W, C] (red first) to one row [1, ...] of the target's dtype and layout."""
    bgr = target.color == "bgr"
    if target.dtype == "uint8":
        ordered = pixels[:, :, ::-1] if bgr else pixels
        return np.ascontiguousarray(ordered.transpose(2, 0, 1) if target.layout == "nchw" else ordered)[None]
    values = normalize_image(
        pixels, scale=target.scale, mean=target.mean, std=target.std, layout=target.layout, bgr=bgr
    )
    return values if target.dtype == "float32" else values.astype(target.dtype)
