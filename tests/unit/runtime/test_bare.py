"""Bare models in a real worker: inputs, outputs, refusals."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from bare_models.layers import DenseLayer, Layer
from bare_models.writer import write_raw, write_safetensors
from node.errors import InvalidInput, ModelInvalid
from node.runtime.backend import Stop, Stopped
from node.runtime.bare_backend import BareSpec, load
from node.runtime.host import WorkerHost
from node.runtime.plan import LoadPlan
from node.types import Options, Payload
from tests.fakes.bare_networks import EVERYTHING, MLP, Numbers, answer, numbers
from tests.unit.runtime.conftest import soon

TENSOR = {"kind": "tensor", "shape": [6]}


def plan(
    folder: Path,
    layers: list[Layer] = MLP,
    given: Numbers | None = None,
    *,
    container: str = "safetensors",
    said: list[Any] | None = None,
    **model: Any,
) -> LoadPlan:
    labels = model.pop("labels", None)
    path = folder / "model"
    write = write_raw if container == "raw" else write_safetensors
    write(path, layers, numbers(layers) if given is None else given)
    members = {
        "format": "bare",
        "layers": msgspec.to_builtins(layers) if said is None else said,
        "weights": {"container": container},
        "input": TENSOR,
        "output": {"task": "raw"},
    }
    return LoadPlan(
        model=json.dumps(members | model).encode(), weights_path=str(path), labels=labels, threads=1
    )


async def ask(host: WorkerHost, asked: LoadPlan, payload: Payload) -> Any:
    worker = await host.spawn(asked)
    result = await worker.run(payload, Options(), deadline=soon())
    return json.loads(bytes(result.predictions))


def tensor(content: Any) -> Payload:
    return Payload("tensor", json.dumps(content).encode(), "json")


@pytest.mark.parametrize("container", ["safetensors", "raw"])
async def test_it_answers_what_its_numbers_say(host: WorkerHost, tmp_path: Path, container: str) -> None:
    rows = np.random.default_rng(2).standard_normal((3, 6)).astype(np.float32)
    answers = await ask(host, plan(tmp_path, EVERYTHING, container=container), tensor(rows.tolist()))
    want = answer(EVERYTHING, numbers(EVERYTHING), rows)
    assert [one[0]["name"] for one in answers] == ["output"] * 3
    np.testing.assert_allclose([one[0]["data"] for one in answers], want, rtol=1e-5, atol=1e-5)


async def test_one_row_flat_nested_and_many(host: WorkerHost, tmp_path: Path) -> None:
    worker = await host.spawn(plan(tmp_path))
    row = [0.5, -1, 2, 0, 1, 1]
    answers = [
        json.loads(bytes((await worker.run(tensor(content), Options(), deadline=soon())).predictions))
        for content in (row, [row], row * 2, [row, row], {"shape": [1, 6], "data": row})
    ]
    assert answers == [answers[0], answers[0], [answers[0]] * 2, [answers[0]] * 2, answers[0]]


async def test_named_features_to_numbers_with_units(host: WorkerHost, tmp_path: Path) -> None:
    given: Numbers = {"0.weight": np.array([[1, 10, 100]], np.float32), "0.bias": np.array([5], np.float32)}
    asked = plan(
        tmp_path,
        [DenseLayer(inputs=3, outputs=1)],
        given,
        input={
            "kind": "tabular",
            "features": [
                {"name": "rooms", "mean": 2, "std": 0.5},
                {"name": "side", "values": ["north", "south"]},
            ],
        },
        output={"task": "regression", "targets": [{"name": "price", "unit": "EUR", "mean": 1000, "std": 2}]},
    )
    payload = Payload("tabular", b'{"rooms": 3, "side": "south"}', "json")
    assert await ask(host, asked, payload) == [{"name": "price", "value": 1214, "unit": "EUR"}]


async def test_pictures_are_flattened_row_by_row(host: WorkerHost, tmp_path: Path) -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    layers: list[Layer] = [DenseLayer(inputs=6, outputs=6, bias=False)]
    asked = plan(
        tmp_path,
        layers,
        {"0.weight": np.eye(6, dtype=np.float32)},
        input={"kind": "image", "size": [2, 3], "color": "gray", "scale": 1},
    )
    content = json.dumps(base64.b64encode(file.getvalue()).decode()).encode()
    (found,) = await ask(host, asked, Payload("base64_png", content, "json"))
    assert found["data"] == pixels.reshape(-1).tolist()


async def test_classes_have_their_labels(host: WorkerHost, tmp_path: Path) -> None:
    labels = ["a", "b", "c", "d"]
    asked = plan(tmp_path, labels=labels, output={"task": "classification", "top_k": 1})
    (best,) = await ask(host, asked, tensor([1, 2, 3, 4, 5, 6]))
    want = answer(MLP, numbers(MLP), [[1, 2, 3, 4, 5, 6]])
    assert best["class"] == labels[int(want.argmax())]


def with_nan() -> Numbers:
    given = numbers(MLP)
    given["0.weight"][1, 1] = np.nan
    return given


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"given": with_nan()}, "'0.weight' holds nan at place 7", id="NaN"),
        pytest.param({"weights": {"sha256": "0" * 64}}, "the file's SHA-256 is", id="hash"),
        pytest.param({"weights": {"container": "raw"}}, "bytes; the manifest's layers take", id="container"),
        pytest.param(
            {"said": [{"kind": "dense", "inputs": 6, "outputs": 5}]},
            "describes other layers",
            id="other layers",
        ),
        pytest.param({"said": [{"kind": "conv"}]}, "Invalid value 'conv'", id="kind"),
        pytest.param({"said": []}, "Expected `array` of length >= 1", id="no layers"),
        pytest.param(
            {"input": {"kind": "tensor", "shape": [7]}}, "rows [7], its layers take 6 values", id="row"
        ),
        pytest.param(
            {"labels": ["a"], "output": {"task": "classification"}}, "the manifest has 1 labels", id="labels"
        ),
        pytest.param(
            {"output": {"task": "regression"}}, "the manifest's regression has 1 targets", id="targets"
        ),
        pytest.param({"format": "pickle"}, "serves no models of format 'pickle'", id="format"),
    ],
)
async def test_what_does_not_fit_is_refused(
    host: WorkerHost, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(ModelInvalid) as caught:
        await host.spawn(plan(tmp_path, **change))
    assert says in caught.value.message


async def test_nan_is_served_where_the_manifest_allows_it(host: WorkerHost, tmp_path: Path) -> None:
    (found,) = await ask(host, plan(tmp_path, given=with_nan(), allow_nan=True), tensor([1] * 6))
    assert None in found["data"]


async def test_a_model_beyond_the_memory_of_a_worker_is_refused(host: WorkerHost, tmp_path: Path) -> None:
    small = msgspec.structs.replace(plan(tmp_path), memory_bytes=100)
    with pytest.raises(ModelInvalid, match="100 may be loaded"):
        await host.spawn(small)


async def test_a_truncated_file_leaves_the_loaded_model_serving(host: WorkerHost, tmp_path: Path) -> None:
    asked = plan(tmp_path)
    worker = await host.spawn(asked)
    os.truncate(asked.weights_path, 0)
    result = await worker.run(tensor([1] * 6), Options(), deadline=soon())
    assert json.loads(bytes(result.predictions))[0]["shape"] == [4]


async def test_a_wrong_row_is_the_callers_error(host: WorkerHost, tmp_path: Path) -> None:
    worker = await host.spawn(plan(tmp_path))
    with pytest.raises(InvalidInput, match=r"one row \[6\]"):
        await worker.run(tensor([1, 2]), Options(), deadline=soon())


async def test_a_batch_gives_each_its_own_answer(host: WorkerHost, tmp_path: Path) -> None:
    worker = await host.spawn(plan(tmp_path))
    rows = np.random.default_rng(9).standard_normal((8, 6)).round(3)
    want = answer(MLP, numbers(MLP), rows.astype(np.float32))
    for _ in range(2):  # the first time proves that rows do not depend on each other
        results = await asyncio.gather(
            *(worker.run(tensor(row.tolist()), Options(), deadline=soon()) for row in rows)
        )
        got = [json.loads(bytes(result.predictions))[0]["data"] for result in results]
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def backend(folder: Path) -> Any:
    asked = plan(folder)
    spec = msgspec.json.decode(asked.model, type=BareSpec)
    return load(
        Path(asked.weights_path),
        spec,
        row=(6,),
        dtype="float32",
        names=(None, None),
        threads=1,
        max_bytes=2**20,
    )


def test_many_rows_run_in_pieces_and_can_be_stopped_between_them(tmp_path: Path) -> None:
    made = backend(tmp_path)
    rows = np.random.default_rng(1).standard_normal((50, 6)).astype(np.float32)
    whole = made.run(rows, Stop())["output"]
    made._piece = 7
    np.testing.assert_allclose(made.run(rows, Stop())["output"], whole, rtol=1e-5, atol=1e-6)
    stop = Stop()
    runs = []

    class Asks:
        """A network during whose first piece the run is given up."""

        inputs, outputs = 6, 4

        def __call__(self, part: Any) -> Any:
            runs.append(len(part))
            stop.ask()
            return whole[: len(part)]

    made._network = Asks()
    with pytest.raises(Stopped):
        made.run(rows, stop)
    assert runs == [7]
