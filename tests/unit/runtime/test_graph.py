from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from node.runtime import graph
from node.runtime.backend import Refused
from tests.fakes import onnx_models
from tests.fakes.onnx_models import doubling, model, save, value


def check(path: Path, *, max_bytes: int = 10**9) -> None:
    file = graph.entry(path, "model.onnx" if path.is_dir() else None)
    graph.check(file, folder=path if path.is_dir() else None, max_bytes=max_bytes)


def with_operator(domain: str) -> onnx.ModelProto:
    made = model(
        [helper.make_node("Foo", ["x"], ["y"], domain=domain)], [value("x", ["n", 3])], [value("y", ["n", 3])]
    )
    made.opset_import.append(helper.make_opsetid(domain, 1))
    return made


@pytest.mark.parametrize("made", [doubling(), onnx_models.counting(), onnx_models.hungry()])
def test_ordinary_models_pass(tmp_path: Path, made: onnx.ModelProto) -> None:
    check(save(made, tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    "name", ["imagenet/efficientnet-lite0", "digits/mnist", "face-detection/version-RFB-320"]
)
def test_published_models_pass(shared_data: Path, name: str) -> None:
    check(shared_data / f"{name}.onnx")


def test_custom_operator_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"'Foo' of the domain 'evil.ops'"):
        check(save(with_operator("evil.ops"), tmp_path / "m.onnx"))


def test_custom_operator_in_a_subgraph_is_found(tmp_path: Path) -> None:
    made = onnx_models.counting()
    body = made.graph.node[2].attribute[0].g
    body.node[1].domain = "evil.ops"
    with pytest.raises(Refused, match=r"evil.ops"):
        check(save(made, tmp_path / "m.onnx"))


def test_operator_that_is_a_function_of_the_model_passes(tmp_path: Path) -> None:
    made = with_operator("mine")
    made.functions.append(
        helper.make_function(
            "mine",
            "Foo",
            ["a"],
            ["b"],
            [helper.make_node("Relu", ["a"], ["b"])],
            [helper.make_opsetid("", 17)],
        )
    )
    check(save(made, tmp_path / "m.onnx"))


def test_function_that_calls_a_custom_operator_is_refused(tmp_path: Path) -> None:
    made = with_operator("mine")
    node = helper.make_node("Bar", ["a"], ["b"], domain="evil.ops")
    made.functions.append(helper.make_function("mine", "Foo", ["a"], ["b"], [node], []))
    with pytest.raises(Refused, match=r"'Bar' of the domain 'evil.ops'"):
        check(save(made, tmp_path / "m.onnx"))


def test_old_operator_set_is_refused(tmp_path: Path) -> None:
    made = doubling()
    made.opset_import[0].version = 6
    with pytest.raises(Refused, match="operator set 6; 7 or newer"):
        check(save(made, tmp_path / "m.onnx"))


def test_missing_operator_set_is_refused(tmp_path: Path) -> None:
    made = doubling()
    made.ClearField("opset_import")
    with pytest.raises(Refused, match="opset_import"):
        check(save(made, tmp_path / "m.onnx"))


def test_model_larger_than_a_worker_may_be_is_refused(tmp_path: Path) -> None:
    path = save(doubling(), tmp_path / "m.onnx")
    with pytest.raises(Refused, match=f"{path.stat().st_size} bytes"):
        check(path, max_bytes=path.stat().st_size - 1)


def test_external_data_inside_the_folder_passes_and_counts(tmp_path: Path) -> None:
    folder = onnx_models.with_external_data(tmp_path / "m").parent
    check(folder)
    size = (folder / "model.onnx").stat().st_size
    with pytest.raises(Refused, match="bytes"):
        check(folder, max_bytes=size + 11)


def test_external_data_in_a_folder_below_passes(tmp_path: Path) -> None:
    check(onnx_models.with_external_data(tmp_path / "m", location="parts/weights.bin").parent)


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../other.bin", "parts/../../other.bin", "", "*/_ORT_MEM_ADDR_/*"]
)
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "other.bin").write_bytes(bytes(12))
    made = onnx_models.with_external_data(tmp_path / "m", location="weights.bin")
    parsed = onnx.load(str(made), load_external_data=False)
    parsed.graph.initializer[0].external_data[0].value = location
    with pytest.raises(Refused, match="inside the model's folder"):
        check(save(parsed, made).parent)


def test_external_data_through_a_link_is_refused(tmp_path: Path) -> None:
    folder = onnx_models.with_external_data(tmp_path / "m").parent
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    os.symlink(tmp_path / "weights.bin", folder / "weights.bin")
    with pytest.raises(Refused, match="not a link"):
        check(folder)


def test_external_data_through_a_linked_folder_is_refused(tmp_path: Path) -> None:
    folder = onnx_models.with_external_data(tmp_path / "m", location="parts/weights.bin").parent
    (folder / "parts").rename(tmp_path / "parts")
    os.symlink(tmp_path / "parts", folder / "parts")
    with pytest.raises(Refused, match="not a link"):
        check(folder)


def test_missing_external_data_is_refused(tmp_path: Path) -> None:
    folder = onnx_models.with_external_data(tmp_path / "m").parent
    (folder / "weights.bin").unlink()
    with pytest.raises(Refused, match="missing"):
        check(folder)


def test_external_data_behind_the_end_of_its_file_is_refused(tmp_path: Path) -> None:
    folder = onnx_models.with_external_data(tmp_path / "m").parent
    (folder / "weights.bin").write_bytes(bytes(11))
    with pytest.raises(Refused, match="ends behind its file"):
        check(folder)


def test_external_data_of_a_single_file_is_refused(tmp_path: Path) -> None:
    path = onnx_models.with_external_data(tmp_path / "m")
    with pytest.raises(Refused, match="publish the folder"):
        check(path)


def test_external_data_of_a_constant_node_is_found(tmp_path: Path) -> None:
    tensor = TensorProto(dims=[3], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    made = model(
        [helper.make_node("Constant", [], ["c"], value=tensor), helper.make_node("Add", ["x", "c"], ["y"])],
        [value("x", ["n", 3])],
        [value("y", ["n", 3])],
    )
    (tmp_path / "m").mkdir()
    with pytest.raises(Refused, match="/etc/passwd"):
        check(save(made, tmp_path / "m" / "model.onnx").parent)


def test_folder_without_its_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"model\.onnx' is missing"):
        check(tmp_path)
    with pytest.raises(Refused, match="must name a file"):
        graph.entry(tmp_path, None)


@pytest.mark.parametrize("name", ["../real.onnx", "/etc/passwd", ""])
def test_model_file_outside_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    save(doubling(), tmp_path / "real.onnx")
    (tmp_path / "m").mkdir()
    with pytest.raises(Refused, match="inside the model's folder"):
        graph.entry(tmp_path / "m", name)


def test_linked_model_in_a_folder_is_refused(tmp_path: Path) -> None:
    real = save(doubling(), tmp_path / "real.onnx")
    (tmp_path / "m").mkdir()
    os.symlink(real, tmp_path / "m" / "model.onnx")
    with pytest.raises(Refused, match="regular file"):
        check(tmp_path / "m")


@pytest.mark.parametrize("content", [b"", b"\x00", b"\xff" * 40, b"GIF89a", b"\x3a\x7f\x08", b"\x08\x08"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(Refused, match=r"not an ONNX file|empty"):
        check(path)


def test_every_cut_of_a_model_is_refused_or_harmless(tmp_path: Path) -> None:
    whole = onnx_models.counting().SerializeToString()
    path = tmp_path / "m.onnx"
    for end in range(1, len(whole), 7):
        path.write_bytes(whole[:end])
        try:
            check(path)
        except Refused:
            continue


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    inner = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    for _ in range(graph.MAX_DEPTH + 2):
        inner = helper.make_graph([helper.make_node("If", ["c"], ["y"], then_branch=inner)], "g", [], [])
    made = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(Refused, match="nested"):
        check(save(made, tmp_path / "m.onnx"))


def test_more_parts_than_a_model_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "MAX_FIELDS", 20)
    with pytest.raises(Refused, match="more parts"):
        check(save(onnx_models.counting(), tmp_path / "m.onnx"))
