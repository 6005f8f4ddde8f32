"""One model's way from input to answer: preprocessor, backend, postprocessor, and batches of them.

Enters: requests as they were waiting. Leaves: one `Done` or `Failed` for each, in any order. Requests
whose rows have the same type and shape run together, if the model takes any number of rows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from node.runtime.backend import Array, Backend, Refused, Stop, Stopped
from node.runtime.protocol import MAX_BATCH, Done, Failed, Run
from postprocessors.base import OutputInvalid, Postprocessor
from preprocessors.base import InputInvalid, InputTooBig, Preprocessor

BATCH_SECONDS: Final = 0.010
"""A batch exists to share the fixed cost of a run. Where a row alone takes longer than this, waiting
for other rows only delays the first answer, so such a model runs its requests one by one."""
MAX_BATCH_BYTES: Final = 64 * 2**20
_NO_MEMORY: Final = "the input needs more memory than a worker may have"

Request = tuple[Run, bytes]
Answer = tuple[Done, bytes] | tuple[Failed, bytes]


class _Row:
    """A request whose input is decoded."""

    __slots__ = ("array", "preprocessing", "request", "started")

    def __init__(self, request: Run, array: Array, started: float, preprocessing: float) -> None:
        self.request, self.array = request, array
        self.started, self.preprocessing = started, preprocessing


class Pipeline:
    """See the module."""

    def __init__(self, pre: Preprocessor, backend: Backend, post: Postprocessor) -> None:
        self._pre, self._backend, self._post = pre, backend, post
        self._batches = backend.rows is None
        self._proven = False
        self._row_seconds = 0.0

    @property
    def starts_threads(self) -> bool:
        """Whether a run may start threads."""
        return self._backend.starts_threads

    @property
    def batch_size(self) -> int:
        """How many requests may share a run now."""
        if not self._batches:
            return 1
        if self._row_seconds * MAX_BATCH <= BATCH_SECONDS:
            return MAX_BATCH
        return max(1, int(BATCH_SECONDS / self._row_seconds))

    def answer(self, requests: Sequence[Request], stop: Stop, dead: set[int]) -> Iterator[Answer]:
        """Answers to requests that may share a run. `dead` holds ids nobody waits for; it may grow."""
        groups: dict[tuple[np.dtype[np.generic], tuple[int, ...]], list[_Row]] = {}
        for request, body in requests:
            started = time.monotonic()
            if started >= request.deadline or request.id in dead:
                yield _late(request)
                continue
            try:
                array = self._pre(request.format, body, "binary" if request.binary else "json")
            except InputTooBig as error:
                yield Failed(request.id, "input_too_large", str(error)), b""
            except InputInvalid as error:
                yield Failed(request.id, "invalid_input", str(error)), b""
            except MemoryError:
                yield Failed(request.id, "input_too_large", _NO_MEMORY), b""
            except Exception as error:  # a defect of the preprocessor must cost one request, not the worker
                yield _defect(request, "preprocessor", error)
            else:
                row = _Row(request, array, started, time.monotonic() - started)
                groups.setdefault((array.dtype, array.shape[1:]), []).append(row)
        for rows in groups.values():
            yield from self._run_group(rows, stop, dead)

    def _run_group(self, rows: list[_Row], stop: Stop, dead: set[int]) -> Iterator[Answer]:
        while rows:
            batch, size = [rows[0]], rows[0].array.nbytes
            while self._batches and len(batch) < len(rows) and size < MAX_BATCH_BYTES:
                size += rows[len(batch)].array.nbytes
                batch.append(rows[len(batch)])
            rows = rows[len(batch) :]
            wanted = [row for row in batch if row.request.id not in dead]
            yield from (_late(row.request) for row in batch if row.request.id in dead)
            if len(wanted) > 1:
                yield from self._run_together(wanted, stop)
            elif wanted:
                yield self._run_one(wanted[0], stop)

    def _run_one(self, row: _Row, stop: Stop) -> Answer:
        began = time.monotonic()
        try:
            outputs = self._outputs(row.array, stop)
        except Stopped:
            return _late(row.request)
        except Refused as error:
            return Failed(row.request.id, error.code, error.message), b""
        took = time.monotonic() - began
        self._observe(took, len(row.array))
        return self._finish(row, outputs, took)

    def _run_together(self, batch: list[_Row], stop: Stop) -> Iterator[Answer]:
        if not self._proven:
            yield from self._prove(batch, stop)
            return
        began = time.monotonic()
        try:
            outputs = self._backend.run(np.concatenate([row.array for row in batch]), stop)
        except Stopped:
            yield from (_late(row.request) for row in batch)
            return
        except Refused:
            # One bad row must not fail the others: each on its own, so that each gets its own answer.
            yield from (self._run_one(row, stop) for row in batch)
            return
        took = time.monotonic() - began
        self._observe(took, sum(len(row.array) for row in batch))
        for row, part in zip(batch, _split(outputs, batch), strict=True):
            yield self._finish(row, part, took, shared_by=len(batch))

    def _prove(self, batch: list[_Row], stop: Stop) -> Iterator[Answer]:
        """The first batch of a model runs one by one and then together: only equal results allow batches.

        A graph may call its first dimension free and still reshape to one row, or mix the rows.
        """
        singles: list[Mapping[str, Array]] = []
        for row in batch:
            began = time.monotonic()
            try:
                outputs = self._outputs(row.array, stop)
            except (Stopped, Refused):
                yield from (self._run_one(row, stop) for row in batch[len(singles) :])
                return
            took = time.monotonic() - began
            self._observe(took, len(row.array))
            singles.append(outputs)
            yield self._finish(row, outputs, took)
        try:
            together = self._backend.run(np.concatenate([row.array for row in batch]), stop)
            same = all(map(_equal, _split(together, batch), singles))
        except Stopped:
            return
        except (Refused, ValueError):
            same = False
        self._proven, self._batches = same, same
        if not same:
            print("the model's rows depend on each other: requests run one by one", file=sys.stderr)  # noqa: T201

    def _outputs(self, rows: Array, stop: Stop) -> Mapping[str, Array]:
        """Run one request's rows, in as many runs as the model needs for them."""
        fixed = self._backend.rows
        if fixed is None or len(rows) == fixed:
            return self._backend.run(rows, stop)
        if len(rows) % fixed:
            raise Refused("invalid_input", f"the model takes {fixed} rows at a time; send a multiple of that")
        parts = [self._backend.run(rows[at : at + fixed], stop) for at in range(0, len(rows), fixed)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _finish(self, row: _Row, outputs: Mapping[str, Array], took: float, *, shared_by: int = 1) -> Answer:
        request, began = row.request, time.monotonic()
        try:
            answer = self._post(outputs, top_k=request.top_k, threshold=request.threshold)
        except OutputInvalid as error:
            return Failed(request.id, "model_invalid", str(error)), b""
        except Exception as error:  # as with the preprocessor
            return _defect(request, "postprocessor", error)
        done = Done(
            request.id,
            row.preprocessing * 1e3,
            took * 1e3,
            (time.monotonic() - began) * 1e3,
            max(0.0, row.started - request.sent) * 1e3,
            answer.entropy,
            shared_by,
        )
        return done, answer.predictions_json

    def _observe(self, took: float, rows: int) -> None:
        each = took / max(1, rows)
        self._row_seconds += (each - self._row_seconds) * 0.2 if self._row_seconds else each


def _split(outputs: Mapping[str, Array], batch: list[_Row]) -> list[dict[str, Array]]:
    total = sum(len(row.array) for row in batch)
    for name, output in outputs.items():
        if output.ndim == 0 or len(output) != total:
            raise ValueError(f"output {name} does not have one row for each row of the input")
    parts, at = [], 0
    for row in batch:
        end = at + len(row.array)
        parts.append({name: output[at:end] for name, output in outputs.items()})
        at = end
    return parts


def _equal(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    for name, left in one.items():
        right = other[name]
        if left.shape != right.shape:
            return False
        if left.dtype.kind == "f":
            scale = float(np.max(np.abs(right), initial=0.0, where=np.isfinite(right)))
            if not np.allclose(left, right, rtol=1e-3, atol=1e-4 * max(scale, 1e-6), equal_nan=True):
                return False
        elif not np.array_equal(left, right):
            return False
    return True


def _late(request: Run) -> Answer:
    return Failed(request.id, "deadline_exceeded", "the time for this request was over"), b""


def _defect(request: Run, stage: str, error: Exception) -> Answer:
    print(f"{stage} failed: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
    return Failed(request.id, "fault", f"the {stage} failed on this input ({type(error).__name__})"), b""
