"""Bare models on our own kernels as a backend.

Enters: a plan whose weights are a bare container, and what its manifest says of the layers. Leaves: a
network whose input has the shape of the manifest's rows; they are flattened in row-major order.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Final

import numpy as np

from bare_models.layers import BareInvalid, check
from bare_models.network import Network
from bare_models.reader import read
from node.runtime.backend import Array, Refused, Stop, Stopped, TensorInfo
from node.runtime.plan import BareSpec

PIECE_FLOATS: Final = 2**22
"""A run is cut into pieces of rows so that no layer's values take more than 16 MB, and so that it can be
ended between two of them."""
INPUT: Final = "input"
OUTPUT: Final = "output"


class BareBackend:
    """A network and what its tensors are. Names are the manifest's, as the file has none."""

    def __init__(self, network: Network, *, input: TensorInfo, output: str, threads: int) -> None:  # noqa: A002
        self.input = input
        self.outputs: tuple[TensorInfo, ...] = (TensorInfo(output, "float32", (None, network.outputs)),)
        self.rows: int | None = None
        self.threads = threads
        self.starts_threads = threads > 1
        self._network, self._output = network, output
        self._piece = max(1, PIECE_FLOATS // network.widest)

    def run(self, rows: Array, stop: Stop) -> Mapping[str, Array]:
        """See `Backend.run`."""
        if stop.asked:
            raise Stopped
        count = len(rows)
        values = np.ascontiguousarray(rows.reshape(count, -1), dtype=np.float32)
        if values.shape[1] != self._network.inputs:
            raise Refused(
                "invalid_input", f"the model takes {self._network.inputs} values a row, not {values.shape[1]}"
            )
        try:
            if count <= self._piece:
                return {self._output: self._network(values)}
            return {self._output: self._in_pieces(values, stop)}
        except MemoryError:
            raise Refused(
                "fault", "the model needs more memory for this input than a worker may have"
            ) from None

    def _in_pieces(self, values: Array, stop: Stop) -> Array:
        result = np.empty((len(values), self._network.outputs), np.float32)
        for at in range(0, len(values), self._piece):
            if stop.asked:
                raise Stopped
            result[at : at + self._piece] = self._network(values[at : at + self._piece])
        return result


def load(
    weights: Path,
    spec: BareSpec,
    *,
    row: tuple[int | None, ...] | None,
    dtype: str,
    names: tuple[str | None, str | None],
    threads: int,
    max_bytes: int,
) -> BareBackend:
    """Read, check and prepare a bare model.

    Parameters
    ----------
    row : shape of one row as the manifest's input gives it; None where its kind is not known.
    dtype : of those rows; the network computes in float32.
    names : of the input and the output in the manifest.

    Raises
    ------
    Refused
        With the code `model_invalid` and a text for the publisher.
    """
    try:
        inputs = check(spec.layers).inputs
        shape = _row_shape(row, inputs)
        numbers = read(
            weights,
            spec.layers,
            container=spec.weights.container,
            sha256=spec.weights.sha256,
            max_bytes=max_bytes,
        )
        network = Network(spec.layers, numbers.tensors, threads=threads, allow_nan=spec.allow_nan)
    except BareInvalid as error:
        raise Refused("model_invalid", str(error)) from None
    except MemoryError:
        raise Refused("model_invalid", "the model needs more memory to load than a worker may use") from None
    info = TensorInfo(names[0] or INPUT, dtype, (None, *shape))
    return BareBackend(network, input=info, output=names[1] or OUTPUT, threads=threads)


def _row_shape(row: tuple[int | None, ...] | None, inputs: int) -> tuple[int, ...]:
    if row is None or row == (None,):
        return (inputs,)
    sizes = [size for size in row if size is not None]
    if len(sizes) != len(row) or prod(sizes) != inputs:
        shown = ", ".join("any" if size is None else str(size) for size in row)
        raise BareInvalid(
            f"the manifest's model.input gives rows [{shown}], its layers take {inputs} values a row"
        )
    return tuple(sizes)
