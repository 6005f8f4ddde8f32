"""Tensors as JSON: `[{"name", "dtype", "shape", "data"}, ...]`, one entry an output.

`shape` is that of one row and `data` its numbers in row-major order. NaN and infinities, which JSON
does not have, become null.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import orjson

from postprocessors.base import Answer, Array, OutputInvalid, pick
from postprocessors.specs import RawOutput


class RawPostprocessor:
    """Serves `RawOutput`. `top_k` and `threshold` do not apply; labels are not used."""

    def __init__(self, spec: RawOutput, *, labels: list[str] | None) -> None:
        del labels
        self._names = spec.names

    def __call__(self, outputs: Mapping[str, Array], *, top_k: int | None, threshold: float | None) -> Answer:
        """Write the outputs out, row by row. See `Postprocessor`."""
        del top_k, threshold
        chosen = {name: pick(outputs, name) for name in self._names or outputs}
        counts = {array.shape[0] if array.ndim else 0 for array in chosen.values()}
        if len(counts) != 1:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in chosen.items())
            raise OutputInvalid(f"the outputs differ in their number of rows: {shapes}")
        rows = [
            orjson.dumps(
                [_entry(name, array[i]) for name, array in chosen.items()], option=orjson.OPT_SERIALIZE_NUMPY
            )
            for i in range(counts.pop())
        ]
        return Answer(rows[0] if len(rows) == 1 else b"[" + b",".join(rows) + b"]")


def _entry(name: str, row: Array) -> dict[str, object]:
    flat = np.ascontiguousarray(row).reshape(-1)
    if flat.dtype.hasobject or flat.dtype.kind in "USc":
        raise OutputInvalid(f"the output {name!r} holds {flat.dtype}, which is not numbers")
    return {"name": name, "dtype": row.dtype.name, "shape": list(row.shape), "data": flat}
