"""The face of every preprocessor, its limits and its errors.

Enters: one input as it came over the wire. Leaves: a contiguous array whose first dimension counts
rows. Preprocessors run in a model's worker: nothing here may be imported by the main process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from preprocessors.formats import InputInvalid, InputTooBig

__all__ = ["Array", "Encoding", "InputInvalid", "InputTooBig", "Limits", "Preprocessor"]

Array: TypeAlias = npt.NDArray[Any]
Encoding: TypeAlias = Literal["json", "binary"]
Image8: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one input may cost. All are checked before anything is decoded.

    Attributes
    ----------
    max_bytes : bytes of the encoded input (of the file, not of its base64 text).
    max_pixels : width times height of a picture.
    max_values : numbers in a tensor.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    max_values: int = 2**24


class Preprocessor(Protocol):
    """Turns one input into the rows of a tensor. Holds no state between calls: threads may share it."""

    def __call__(self, format: str, content: bytes | memoryview, encoding: Encoding) -> Array:  # noqa: A002
        """Decode one input.

        Parameters
        ----------
        format : a name among the kind's formats.
        content : the JSON text of the `content` member ("json"), or raw bytes ("binary").

        Returns
        -------
        array of shape [n, ...], C-contiguous, n >= 1.

        Raises
        ------
        InputInvalid, InputTooBig
            With a text for the caller that says what was wrong and what to send instead.
        """
        ...
