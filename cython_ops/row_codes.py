"""Rows as int8 codes: what `quantize_rows` makes and `cosine_topk_codes` searches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class RowCodes(NamedTuple):
    """n rows of d numbers as int8 codes, in two planes of half bytes; docs/kernels.md has the layout.

    Every part has a row's share at the row's index, so parts can be cut, joined, saved and mapped. `upper` is
    read fastest if it begins at a multiple of 64 bytes, as it does when it is new or a mapped .npy.
    """

    upper: NDArray[np.uint8]
    """uint8 [n, h], h = 16 ceil(d / 32): the upper halves of the codes."""
    lower: NDArray[np.uint8]
    """uint8 [n, h]: the lower halves."""
    upper_gains: NDArray[np.float32]
    """float32 [n]: upper halves times gain approximate the row divided by its norm."""
    upper_margins: NDArray[np.float32]
    """float32 [n]: how far off a cosine may then be (docs/kernels.md); infinite for a row without codes."""
    gains: NDArray[np.float32]
    """float32 [n]: as `upper_gains`, for whole codes."""
    margins: NDArray[np.float32]
    """float32 [n]: as `upper_margins`, for whole codes."""

    def halves(self) -> NDArray[np.int64]:
        """The upper halves as numbers from -7 to 7: int64 [n, 2 h], zeros after a row's end."""
        return _numbers(self.upper)

    def numbers(self) -> NDArray[np.int64]:
        """The codes as numbers from -119 to 119: int64 [n, 2 h], zeros after a row's end."""
        return 16 * _numbers(self.upper) + _numbers(self.lower)


def _numbers(plane: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.concatenate([plane & 15, plane >> 4], axis=1).astype(np.int64) - 8
