"""Published models with reference answers."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from node.errors import InputTooLarge
from node.runtime.host import WorkerHost
from node.runtime.plan import LoadPlan
from node.types import Options, Payload
from tests.unit.runtime.conftest import soon

IMAGENET = {"kind": "image", "preset": "imagenet", "resize": "stretch"}


def efficientnet(shared_data: Path, **other: object) -> LoadPlan:
    folder = shared_data / "imagenet"
    labels = json.loads((folder / "labels.json").read_text())
    plan = LoadPlan(
        model=msgspec.json.encode({"input": IMAGENET, "output": {"task": "classification"}}),
        weights_path=str(folder / "efficientnet-lite0.onnx"),
        labels=labels if isinstance(labels, list) else [labels[str(n)] for n in range(len(labels))],
    )
    return msgspec.structs.replace(plan, **other)


def eagle(shared_data: Path) -> Payload:
    return Payload("image", (shared_data / "imagenet" / "bald_eagle.jpeg").read_bytes(), "binary")


async def test_the_eagle_is_an_eagle(host: WorkerHost, shared_data: Path) -> None:
    worker = await host.spawn(efficientnet(shared_data))
    result = await worker.run(eagle(shared_data), Options(top_k=3), deadline=soon())
    predictions = json.loads(bytes(result.predictions))
    assert len(predictions) == 3
    assert predictions[0]["class_id"] == 22
    assert predictions[0]["confidence"] == pytest.approx(0.644, abs=0.02)
    assert result.entropy is not None
    assert result.timings.inference > 0


async def test_picture_with_too_many_pixels_is_refused_before_it_is_decoded(
    host: WorkerHost, shared_data: Path
) -> None:
    worker = await host.spawn(efficientnet(shared_data, max_pixels=100))
    with pytest.raises(InputTooLarge):
        await worker.run(eagle(shared_data), Options(), deadline=soon())


async def test_digits_are_read(host: WorkerHost, shared_data: Path) -> None:
    spec = {"kind": "image", "size": [28, 28], "color": "gray", "scale": 1}
    plan = LoadPlan(
        model=msgspec.json.encode({"input": spec, "output": {"task": "classification"}}),
        weights_path=str(shared_data / "digits" / "mnist.onnx"),
        labels=[str(n) for n in range(10)],
    )
    worker = await host.spawn(plan)
    for picture in sorted((shared_data / "digits").glob("*.jpg")):
        payload = Payload("image", picture.read_bytes(), "binary")
        result = await worker.run(payload, Options(top_k=1), deadline=soon())
        [prediction] = json.loads(bytes(result.predictions))
        assert prediction["class"] == picture.stem
