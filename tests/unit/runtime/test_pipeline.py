"""Batches and their proof, with a backend that is a function."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from node.runtime.backend import Refused, Stop, TensorInfo
from node.runtime.pipeline import Pipeline
from node.runtime.protocol import MAX_BATCH, Done, Failed, Run
from postprocessors.base import Answer, OutputInvalid
from preprocessors.base import InputInvalid, InputTooBig


class Backend:
    def __init__(self, compute: Callable[[Any], Any], rows: int | None = None) -> None:
        self.input = TensorInfo("x", "float32", (rows, 2))
        self.outputs = (TensorInfo("y", "float32", (rows, 2)),)
        self.rows, self.threads, self.starts_threads = rows, 1, False
        self.batches: list[int] = []
        self._compute = compute

    def run(self, rows: Any, stop: Stop) -> Mapping[str, Any]:
        stop.calls(lambda: None)
        self.batches.append(len(rows))
        return {"y": self._compute(rows)}


def read(kind: str, content: bytes | memoryview, encoding: str) -> Any:
    if content == b"bad":
        raise InputInvalid("bad input")
    if content == b"big":
        raise InputTooBig("too big")
    if content == b"bug":
        raise ZeroDivisionError
    return np.array(msgspec.json.decode(content), np.float32).reshape(-1, 2)


def write(outputs: Mapping[str, Any], *, top_k: int | None, threshold: float | None) -> Answer:
    if np.isnan(outputs["y"]).any():
        raise OutputInvalid("NaN")
    return Answer(msgspec.json.encode(outputs["y"].tolist()), None)


def request(number: int, content: bytes, *, seconds: float = 60.0) -> tuple[Run, bytes]:
    now = time.monotonic()
    return Run(number, "tensor", False, None, None, now + seconds, now), content


def answers(pipeline: Pipeline, *requests: tuple[Run, bytes], dead: set[int] | None = None) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for message, body in pipeline.answer(requests, Stop(), set() if dead is None else dead):
        assert message.id not in found, "each request is answered once"
        found[message.id] = msgspec.json.decode(body) if isinstance(message, Done) else message.code
    return found


def ask(pipeline: Pipeline, *contents: bytes) -> dict[int, Any]:
    return answers(pipeline, *(request(number, content) for number, content in enumerate(contents)))


def test_waiting_requests_run_together_once_that_is_proven_harmless() -> None:
    backend = Backend(lambda rows: rows * 2)
    pipeline = Pipeline(read, backend, write)
    expected = {0: [[2, 4]], 1: [[6, 8], [10, 12]]}
    assert ask(pipeline, b"[1,2]", b"[3,4,5,6]") == expected
    assert backend.batches == [1, 2, 3]
    backend.batches.clear()
    assert ask(pipeline, b"[1,2]", b"[3,4,5,6]") == expected
    assert backend.batches == [3]


def test_an_answer_tells_how_many_requests_shared_its_run() -> None:
    pipeline = Pipeline(read, Backend(lambda rows: rows * 2), write)

    def shared(*contents: bytes) -> list[int]:
        requests = [request(number, content) for number, content in enumerate(contents)]
        found = [message for message, _ in pipeline.answer(requests, Stop(), set())]
        return [message.batch for message in found if isinstance(message, Done)]

    assert shared(b"[1,2]", b"[3,4]") == [1, 1], "the proof runs them one by one"
    assert shared(b"[1,2]", b"[3,4,5,6]", b"[7,8]") == [3, 3, 3]
    assert shared(b"[1,2]", b"bad") == [1]


def test_model_that_mixes_rows_is_found_out_and_never_batched() -> None:
    backend = Backend(lambda rows: rows - rows.mean(axis=0))
    pipeline = Pipeline(read, backend, write)
    for _ in range(2):
        assert ask(pipeline, b"[1,2]", b"[3,4]") == {0: [[0, 0]], 1: [[0, 0]]}
    assert backend.batches == [1, 1, 2, 1, 1]
    assert pipeline.batch_size == 1


def test_model_that_fails_on_several_rows_is_never_batched() -> None:
    def compute(rows: Any) -> Any:
        if len(rows) > 1:
            raise Refused("invalid_input", "one row only")
        return rows

    pipeline = Pipeline(read, Backend(compute), write)
    assert ask(pipeline, b"[1,2]", b"[3,4]") == {0: [[1, 2]], 1: [[3, 4]]}
    assert pipeline.batch_size == 1


def test_output_without_a_row_for_each_input_row_is_never_batched() -> None:
    pipeline = Pipeline(read, Backend(lambda rows: rows[:1]), write)
    assert ask(pipeline, b"[1,2]", b"[3,4]") == {0: [[1, 2]], 1: [[3, 4]]}
    assert pipeline.batch_size == 1


def test_one_bad_row_does_not_fail_its_batch() -> None:
    def compute(rows: Any) -> Any:
        if (rows < 0).any():
            raise Refused("invalid_input", "negative")
        return rows

    pipeline = Pipeline(read, Backend(compute), write)
    ask(pipeline, b"[1,2]", b"[3,4]")
    assert ask(pipeline, b"[1,2]", b"[-3,4]", b"[5,6]") == {0: [[1, 2]], 1: "invalid_input", 2: [[5, 6]]}


def test_each_failure_has_its_own_code() -> None:
    pipeline = Pipeline(read, Backend(lambda rows: np.where(rows == 0, np.nan, 1)), write)
    found = ask(pipeline, b"bad", b"big", b"bug", b"[0,1]", b"[1,1]")
    assert found == {0: "invalid_input", 1: "input_too_large", 2: "fault", 3: "model_invalid", 4: [[1, 1]]}


def test_expired_request_is_dropped_before_it_is_decoded() -> None:
    backend = Backend(lambda rows: rows)
    found = answers(Pipeline(read, backend, write), request(1, b"bad", seconds=-1.0), request(2, b"[1,2]"))
    assert found == {1: "deadline_exceeded", 2: [[1, 2]]}


def test_request_that_nobody_waits_for_is_not_run() -> None:
    backend = Backend(lambda rows: rows)
    pipeline = Pipeline(read, backend, write)
    assert answers(pipeline, request(1, b"[1,2]"), dead={1}) == {1: "deadline_exceeded"}
    assert backend.batches == []


def test_stopped_run_says_so() -> None:
    stop = Stop()
    stop.ask()
    pipeline = Pipeline(read, Backend(lambda rows: rows), write)
    [(message, _)] = pipeline.answer([request(1, b"[1,2]")], stop, set())
    assert isinstance(message, Failed)
    assert message.code == "deadline_exceeded"


def test_rows_run_one_by_one_where_the_model_takes_one() -> None:
    backend = Backend(lambda rows: rows, rows=1)
    assert ask(Pipeline(read, backend, write), b"[1,2,3,4]", b"[5,6]") == {0: [[1, 2], [3, 4]], 1: [[5, 6]]}
    assert backend.batches == [1, 1, 1]


def test_rows_must_fill_a_fixed_batch() -> None:
    backend = Backend(lambda rows: rows, rows=2)
    assert ask(Pipeline(read, backend, write), b"[1,2,3,4]", b"[5,6]") == {
        0: [[1, 2], [3, 4]],
        1: "invalid_input",
    }


def test_rows_of_different_shapes_run_apart() -> None:
    def wide(kind: str, content: bytes | memoryview, encoding: str) -> Any:
        return np.array(msgspec.json.decode(content), np.float32).reshape(1, -1)

    backend = Backend(lambda rows: rows)
    pipeline = Pipeline(wide, backend, write)
    ask(pipeline, b"[1,2]", b"[3,4]")
    backend.batches.clear()
    assert ask(pipeline, b"[1]", b"[1,2]", b"[2]") == {0: [[1]], 1: [[1, 2]], 2: [[2]]}
    assert sorted(backend.batches) == [1, 2]


@pytest.mark.parametrize(("seconds", "size"), [(0.0, MAX_BATCH), (0.00001, MAX_BATCH), (0.001, 10), (0.5, 1)])
def test_slow_models_are_not_batched(seconds: float, size: int) -> None:
    pipeline = Pipeline(read, Backend(lambda rows: rows), write)
    pipeline._row_seconds = seconds
    assert pipeline.batch_size == size
