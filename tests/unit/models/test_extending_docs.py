"""docs/extending.md works as it is written."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from node.errors import ManifestInvalid
from node.models import manifest
from postprocessors.base import OutputInvalid
from postprocessors.registry import OUTPUTS, OutputTask, OutputTasks
from preprocessors.base import InputInvalid, InputTooBig, Limits
from preprocessors.registry import INPUTS, InputKind, InputKinds

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "extending.md").read_text(encoding="utf-8")


def module(path: str, folder: Path) -> ModuleType:
    """The module that the page shows for `path`, imported under the name it would have there."""
    found = re.search(rf"`{re.escape(path)}`\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    file = folder / path.replace("/", "_")
    file.write_text(found[1], encoding="utf-8")
    name = path.removesuffix(".py").replace("/", ".")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


def registration(of: str, names: dict[str, Any]) -> Any:
    found = re.search(rf"```python\n({of}\(.*?\))\n```", PAGE)
    assert found is not None
    return eval(found[1], names)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[InputKinds, OutputTasks]]:
    folder = tmp_path_factory.mktemp("extending")
    before = set(sys.modules)
    shares = module("preprocessors/byte_shares.py", folder)
    measurement = module("postprocessors/measurement.py", folder)
    yield (
        INPUTS.extended(registration("InputKind", {**vars(shares), "InputKind": InputKind})),
        OUTPUTS.extended(registration("OutputTask", {**vars(measurement), "OutputTask": OutputTask})),
    )
    for name in set(sys.modules) - before:
        if name in {"preprocessors.byte_shares", "postprocessors.measurement"}:
            del sys.modules[name]


def example() -> bytes:
    (found,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    return str(found).encode()


def test_the_manifest_is_read_with_both_and_served(extended: tuple[InputKinds, OutputTasks]) -> None:
    inputs, outputs = extended
    model = manifest.parse(example(), inputs=inputs, outputs=outputs).model
    assert [entry.name for entry in inputs.formats(model.input)] == ["file"]

    tensor = inputs.create(model.input, limits=Limits())("file", b"aab", "binary")
    assert tensor.shape == (1, 256)
    assert tensor[0, [ord("a"), ord("b")]].tolist() == pytest.approx([2 / 3, 1 / 3])

    post = outputs.create(model.output, labels=None)
    one = post({"y": np.array([[0.25]], np.float32)}, top_k=None, threshold=None)
    assert msgspec.json.decode(one.predictions_json) == [{"value": 25.0, "unit": "%"}]
    two = post({"y": np.array([0.25, 0.5], np.float32)}, top_k=None, threshold=None)
    assert msgspec.json.decode(two.predictions_json) == [
        [{"value": 25.0, "unit": "%"}],
        [{"value": 50.0, "unit": "%"}],
    ]


def test_a_worker_reads_the_model_alone(extended: tuple[InputKinds, OutputTasks]) -> None:
    inputs, outputs = extended
    model = manifest.parse(example(), inputs=inputs, outputs=outputs).model
    assert manifest.parse_model(msgspec.json.encode(model), inputs=inputs, outputs=outputs) == model


def test_without_the_registration_the_manifest_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match=r"model.input.kind: 'byte_shares' is not possible here"):
        manifest.parse(example())


def test_members_of_the_new_kind_are_checked_like_the_others(
    extended: tuple[InputKinds, OutputTasks],
) -> None:
    inputs, outputs = extended
    with pytest.raises(ManifestInvalid, match=r"model.input.first: Expected `int` >= 1"):
        manifest.parse(example().replace(b"65536", b"0"), inputs=inputs, outputs=outputs)
    with pytest.raises(ManifestInvalid, match=r"model.output.units: unknown member `units`"):
        manifest.parse(example().replace(b'"unit"', b'"units"'), inputs=inputs, outputs=outputs)


def test_its_errors_are_those_of_the_others(extended: tuple[InputKinds, OutputTasks]) -> None:
    inputs, outputs = extended
    model = manifest.parse(example(), inputs=inputs, outputs=outputs).model
    preprocess = inputs.create(model.input, limits=Limits(max_bytes=2))
    with pytest.raises(InputInvalid, match="send at least one byte"):
        preprocess("file", b"", "binary")
    with pytest.raises(InputInvalid, match="takes the format 'file'"):
        preprocess("image", b"a", "binary")
    with pytest.raises(InputTooBig, match="2 are taken"):
        preprocess("file", b"aaa", "binary")
    with pytest.raises(OutputInvalid, match="one number a row"):
        outputs.create(model.output, labels=None)({"y": np.zeros((1, 2))}, top_k=None, threshold=None)


def test_an_unregistered_spec_has_no_preprocessor() -> None:
    class Unknown(msgspec.Struct):
        pass

    with pytest.raises(LookupError, match="no preprocessor is registered for Unknown"):
        INPUTS.create(Unknown(), limits=Limits())
    with pytest.raises(LookupError, match="no postprocessor is registered for Unknown"):
        OUTPUTS.create(Unknown(), labels=None)
