"""Small bare models in the main process: the worker's own answers, or none."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bare_models.layers import ActivationLayer, DenseLayer, Layer
from node.runtime import inline
from node.runtime.backend import Stop
from node.runtime.loading import load
from node.runtime.plan import LoadPlan
from node.runtime.protocol import Done, Run
from node.types import Options, Payload
from tests.fakes.bare_networks import EVERYTHING, MLP, Numbers, numbers
from tests.unit.runtime.test_bare import plan, tensor

ROW = [0.5, -1, 2, 0, 1, 1]
CLASSES = {"task": "classification", "top_k": 2}
TARGETS = [{"name": name, "unit": "m", "mean": 3, "std": 2} for name in ("north", "east", "south", "west")]
FEATURES = [{"name": name, "mean": 1, "std": 2} for name in "abcdef"]
NAMED = {"kind": "tabular", "features": FEATURES}
CHAIN: list[Layer] = [
    DenseLayer(inputs=6, outputs=9),
    ActivationLayer(activation="gelu"),
    DenseLayer(inputs=9, outputs=4, activation="leaky_relu", alpha=0.3, bias=False, name="head"),
]


def both(asked: LoadPlan, payload: Payload, options: Options) -> tuple[Any, Any, Any, Any]:
    """Predictions and entropy of the two ways."""
    pipeline, _ = load(asked, began=time.monotonic())
    now = time.monotonic()
    run = Run(
        1, payload.format, payload.encoding == "binary", options.top_k, options.threshold, now + 60, now
    )
    [(done, predictions)] = pipeline.answer([(run, bytes(payload.content))], Stop(), set())
    assert isinstance(done, Done)
    made = inline.prepare(asked)
    assert made is not None
    answer = made.answer(payload, options)
    assert answer is not None
    return json.loads(bytes(answer.predictions)), answer.entropy, json.loads(predictions), done.entropy


@pytest.mark.parametrize("layers", [MLP, CHAIN])
@pytest.mark.parametrize("container", ["safetensors", "raw"])
@pytest.mark.parametrize("options", [Options(), Options(top_k=3), Options(top_k=9, threshold=0.2)])
@pytest.mark.parametrize("score", ["softmax", "sigmoid", "none"])
def test_classes_are_the_workers(
    tmp_path: Path, layers: list[Layer], container: str, options: Options, score: str
) -> None:
    labels = ["north", 'a "b"', "süd", "west"]
    asked = plan(tmp_path, layers, container=container, labels=labels, output=CLASSES | {"activation": score})
    ours, entropy, worker, expected = both(asked, tensor(ROW), options)
    assert (ours, entropy) == (worker, expected)
    assert ours


@pytest.mark.parametrize(
    ("given", "payload"),
    [
        ({}, tensor(ROW)),
        ({"input": {"kind": "tensor", "shape": [2, 3]}}, tensor(ROW)),
        ({"input": NAMED}, tensor(ROW)),
        ({"input": NAMED}, Payload("tabular", json.dumps(dict.fromkeys("fedcba", 2.5)).encode(), "json")),
    ],
)
def test_numbers_are_the_workers(tmp_path: Path, given: dict[str, Any], payload: Payload) -> None:
    asked = plan(tmp_path, output={"task": "regression", "targets": TARGETS}, **given)
    ours, entropy, worker, _ = both(asked, payload, Options())
    assert (ours, entropy) == (worker, None)


@pytest.mark.parametrize(
    "payload",
    [
        tensor([ROW]),
        tensor([ROW, ROW]),
        tensor(ROW * 2),
        tensor(ROW[:5]),
        tensor({"shape": [6], "data": ROW}),
        tensor("text"),
        tensor([*ROW[:5], None]),
        tensor([*ROW[:5], True]),
        tensor([*ROW[:5], 1e39]),
        Payload("tensor", b"[0.5,-1,2,0,1,NaN]", "json"),
        Payload("tensor", b"[0.5,-1,2,0,1,1", "json"),
        Payload("tensor", b"[" * 10_000, "json"),
        Payload("tensor", b"[0.5,-1,2,0,1,1" + b" " * 40_000 + b"]", "json"),
        Payload("tensor", b"\xff", "json"),
        Payload("tensor", json.dumps(ROW).encode(), "binary"),
        Payload("image", b"\xff\xd8", "binary"),
        Payload("tabular", json.dumps(dict.fromkeys("abcde", 1)).encode(), "json"),
        Payload("tabular", json.dumps(dict.fromkeys("abcdefg", 1)).encode(), "json"),
        Payload("tabular", json.dumps([dict.fromkeys("abcdef", 1)]).encode(), "json"),
        Payload("tabular", json.dumps(dict.fromkeys("abcdef", 1e300)).encode(), "json"),
    ],
)
def test_all_but_one_plain_row_is_left_to_the_worker(tmp_path: Path, payload: Payload) -> None:
    made = inline.prepare(plan(tmp_path, input=NAMED, output=CLASSES))
    assert made is not None
    assert made.answer(payload, Options()) is None
    assert made.answer(tensor(ROW), Options()) is not None


def test_an_answer_that_is_not_finite_is_left_to_the_worker(tmp_path: Path) -> None:
    given = numbers(MLP)
    given["0.weight"][:] = 3e38
    for output in (CLASSES, {"task": "regression", "targets": TARGETS}):
        made = inline.prepare(plan(tmp_path, MLP, given, output=output))
        assert made is not None
        assert made.answer(tensor([1e10, -1e10, 1, 1, 1, 1]), Options()) is None


WIDE: list[Layer] = [DenseLayer(inputs=512, outputs=600)]
LONG: list[Layer] = [DenseLayer(inputs=2000, outputs=2)]


@pytest.mark.parametrize(
    ("layers", "model"),
    [
        (EVERYTHING, {"output": CLASSES}),
        (WIDE, {"output": CLASSES, "input": {"kind": "tensor", "shape": [512]}}),
        (LONG, {"output": CLASSES, "input": {"kind": "tensor", "shape": [2000]}}),
        ([ActivationLayer(activation="relu"), *MLP], {"output": CLASSES}),
        ([*MLP, ActivationLayer(activation="relu"), ActivationLayer(activation="tanh")], {"output": CLASSES}),
        ([DenseLayer(inputs=6, outputs=6, activation="softmax"), *MLP], {"output": CLASSES}),
        (MLP, {"output": {"task": "raw"}}),
        (MLP, {"output": CLASSES, "allow_nan": True}),
        (MLP, {"output": CLASSES, "format": "onnx"}),
        (MLP, {"output": CLASSES, "input": {"kind": "tensor", "shape": [6], "dtype": "float64"}}),
        (MLP, {"output": CLASSES, "input": {"kind": "tensor", "shape": [None]}}),
        (MLP, {"output": CLASSES, "input": {"kind": "tensor", "shape": [7]}}),
        (MLP, {"output": CLASSES, "input": {"kind": "image", "size": [2, 3], "color": "gray"}}),
        (MLP, {"output": {"task": "classification", "activation": "hardmax"}}),
    ],
)
def test_models_that_are_the_workers_alone(
    tmp_path: Path, layers: list[Layer], model: dict[str, Any]
) -> None:
    assert inline.prepare(plan(tmp_path, layers, **model)) is None


def test_one_hot_features_are_left_to_the_worker_and_ready_numbers_are_not(tmp_path: Path) -> None:
    side = {"name": "side", "values": ["north", "south", "west"]}
    made = inline.prepare(
        plan(tmp_path, input={"kind": "tabular", "features": [*FEATURES[:3], side]}, output=CLASSES)
    )
    assert made is not None
    assert made.answer(Payload("tabular", b'{"a":1,"b":1,"c":1,"side":"north"}', "json"), Options()) is None
    assert made.answer(tensor(ROW), Options()) is not None


def test_a_file_that_is_not_what_it_should_be_is_left_to_the_worker(tmp_path: Path) -> None:
    asked = plan(tmp_path, output=CLASSES)
    Path(asked.weights_path).write_bytes(b"short")
    assert inline.prepare(asked) is None
    Path(asked.weights_path).unlink()
    assert inline.prepare(asked) is None


def test_the_times_add_up(tmp_path: Path) -> None:
    given: Numbers = {name: np.ones_like(value) for name, value in numbers(MLP).items()}
    made = inline.prepare(plan(tmp_path, MLP, given, output=CLASSES))
    assert made is not None
    before = time.perf_counter()
    answer = made.answer(tensor(ROW), Options())
    elapsed = (time.perf_counter() - before) * 1e3
    assert answer is not None
    spent = answer.timings
    assert 0 < spent.preprocessing + spent.inference + spent.postprocessing <= elapsed
    assert spent.queue == 0
