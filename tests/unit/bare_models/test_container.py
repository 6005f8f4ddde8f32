"""Files of strangers: whatever is wrong with one is found before anything is allocated for it."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bare_models import reader
from bare_models.container import MAX_HEADER
from bare_models.layers import BareInvalid, DenseLayer, Layer
from bare_models.reader import read, read_layers
from bare_models.writer import write_raw, write_safetensors
from tests.fakes.bare_networks import EVERYTHING, MLP, numbers, safetensors

ONE: list[Layer] = [DenseLayer(inputs=2, outputs=2, bias=False)]
DATA = np.arange(4, dtype="<f4").tobytes()


def entry(begin: int = 0, end: int = 16, dtype: str = "F32", shape: Any = (2, 2)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def load(path: Path, layers: list[Layer] = ONE, **other: Any) -> reader.Numbers:
    options: dict[str, Any] = {"container": "safetensors", "sha256": None, "max_bytes": 2**20}
    return read(path, layers, **(options | other))


@pytest.fixture(autouse=True)
def no_allocation_for_a_bad_file(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the arenas that were made."""
    made: list[int] = []
    plain = reader._Arena.__init__

    def counted(self: Any, needed: Any) -> None:
        plain(self, needed)
        made.append(self.nbytes)

    monkeypatch.setattr(reader._Arena, "__init__", counted)
    return made


def test_a_plain_file_of_any_other_program_is_read(tmp_path: Path) -> None:
    found = load(safetensors(tmp_path / "m", {"0.weight": entry()}, DATA))
    assert np.asarray(found.tensors["0.weight"]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        pytest.param({}, b"", "lacks the tensor '0.weight' of shape [2, 2]", id="empty"),
        pytest.param({"0.weight": entry()}, DATA[:-1], "ends at byte", id="cut data"),
        pytest.param({"0.weight": entry()}, DATA + b"x", "1 bytes after it belong to none", id="more data"),
        pytest.param({"0.weight": entry(8, 24)}, DATA * 2, "have 8 bytes between them", id="hole"),
        pytest.param(
            {"0.weight": entry(), "__pad__.0": entry(8, 24, "U8", (16,))}, DATA * 2, "overlap", id="overlap"
        ),
        pytest.param(
            {"0.weight": entry(), "__pad__.0": entry(0, 16, "U8", (16,))}, DATA, "overlap", id="same place"
        ),
        pytest.param({"0.weight": entry(16, 0)}, DATA, "has -16 bytes", id="backwards"),
        pytest.param({"0.weight": entry(-16, 0)}, DATA, "Expected `int` >= 0", id="negative"),
        pytest.param({"0.weight": entry(0, 2**63)}, DATA, "Expected `int` <= ", id="offset beyond 2^62"),
        pytest.param(
            {"0.weight": entry(0, 20)}, DATA + b"1234", "has 20 bytes, but F32", id="size and shape differ"
        ),
        pytest.param(
            {"0.weight": entry(shape=(2**40,) * 8)}, DATA, "has 16 bytes, but F32", id="absurd shape"
        ),
        pytest.param(
            {"0.weight": entry(shape=(2**41, 0))}, DATA, "Expected `int` <= ", id="absurd dimension"
        ),
        pytest.param(
            {"0.weight": entry(shape=(1,) * 9)}, DATA, "Expected `array` of length <= 8", id="dimensions"
        ),
        pytest.param(
            {"0.weight": entry(shape=(4,))}, DATA, "has the shape [4], the manifest's", id="other shape"
        ),
        pytest.param(
            {"0.weight": entry(dtype="I32")}, DATA, "is I32; a bare model's numbers are F32", id="type"
        ),
        pytest.param(
            {"0.weight": entry(dtype="C64")}, DATA, "has the type 'C64', which is not known", id="dtype"
        ),
        pytest.param({"0.weight": entry() | {"code": "x"}}, DATA, "unknown field `code`", id="more members"),
        pytest.param({"0.weight": [1, 2]}, DATA, "Expected `object`", id="no object"),
        pytest.param({"0.weight": entry(), "__metadata__": {"a": 1}}, DATA, "object of texts", id="metadata"),
        pytest.param(
            {"0.weight": entry(), "extra": entry(16, 32)},
            DATA * 2,
            "no layer uses: 'extra'",
            id="other tensor",
        ),
        pytest.param(b"[1, 2]", DATA, "does not begin with '{'", id="a list"),
        pytest.param(b'{"0.weight": ', DATA, "not JSON", id="broken JSON"),
        pytest.param(b'{"a": NaN}', DATA, "JSON has no NaN", id="NaN"),
        pytest.param(b'{"a\\ud800": 1}', DATA, "not JSON", id="half a surrogate pair"),
        pytest.param(b'{"a\xff": 1}', DATA, "not JSON", id="not UTF-8"),
        pytest.param(b'{"a":' + b"[" * 100_000, DATA, "nested deeper than 8 levels", id="deep"),
        pytest.param(b'{"a":' + b"9" * 10_000 + b"}", DATA, "not JSON", id="long number"),
        pytest.param(
            b'{"0.weight":'
            + json.dumps(entry()).encode()
            + b',"0.weight":'
            + json.dumps(entry()).encode()
            + b"}",
            DATA,
            "stands in it twice",
            id="name twice",
        ),
    ],
)
def test_a_malformed_file_is_refused(
    tmp_path: Path, header: Any, data: bytes, says: str, no_allocation_for_a_bad_file: list[int]
) -> None:
    path = safetensors(tmp_path / "m", header, data)
    with pytest.raises(BareInvalid) as caught:
        load(path)
    assert says in str(caught.value)
    assert no_allocation_for_a_bad_file == []


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**40, 500])
def test_a_header_longer_than_the_file_is_refused(tmp_path: Path, length: int) -> None:
    path = safetensors(tmp_path / "m", {"0.weight": entry()}, DATA, length=length)
    with pytest.raises(BareInvalid, match=f"its header has {length} bytes, but only"):
        load(path)


def test_a_huge_header_is_refused_unread(tmp_path: Path) -> None:
    path = safetensors(tmp_path / "m", b"{" + b" " * MAX_HEADER + b"}")
    with pytest.raises(BareInvalid, match=f"the header has {MAX_HEADER + 2} bytes; at most {MAX_HEADER}"):
        load(path)


@pytest.mark.parametrize("size", [0, 1, 7])
def test_a_file_shorter_than_its_length_field_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "m").write_bytes(b"\0" * size)
    with pytest.raises(BareInvalid, match=f"the file has {size} bytes"):
        load(tmp_path / "m")


def test_padding_is_bounded(tmp_path: Path) -> None:
    pad = reader.MAX_EXTRA_BYTES + 1
    path = safetensors(
        tmp_path / "m",
        {"0.weight": entry(), "__pad__.0": entry(16, 16 + pad, "U8", (pad,))},
        DATA + bytes(pad),
    )
    with pytest.raises(BareInvalid, match="the padding takes more than"):
        load(path)


def test_layers_beyond_the_memory_that_may_be_used_are_refused(
    tmp_path: Path, no_allocation_for_a_bad_file: list[int]
) -> None:
    layers: list[Layer] = [DenseLayer(inputs=2**24, outputs=2**24)]
    (tmp_path / "m").write_bytes(b"")
    with pytest.raises(BareInvalid, match="1048576 may be loaded"):
        load(tmp_path / "m", layers, container="raw")
    assert no_allocation_for_a_bad_file == []


@pytest.mark.parametrize("change", [-4, -1, 1, 4])
def test_a_raw_file_has_exactly_its_size(tmp_path: Path, change: int) -> None:
    (tmp_path / "m.bin").write_bytes((DATA + DATA)[: 16 + change])
    with pytest.raises(
        BareInvalid, match=f"has {16 + change} bytes; the manifest's layers take 16 as raw float32"
    ):
        load(tmp_path / "m.bin", container="raw")


@pytest.mark.parametrize("container", ["safetensors", "raw"])
@pytest.mark.parametrize("layers", [MLP, EVERYTHING], ids=["mlp", "everything"])
def test_what_was_written_is_read(tmp_path: Path, layers: list[Layer], container: Any) -> None:
    given = numbers(layers)
    write = write_raw if container == "raw" else write_safetensors
    write(tmp_path / "m", layers, given)
    found = load(tmp_path / "m", layers, container=container)
    assert {name: np.asarray(value).tolist() for name, value in found.tensors.items()} == {
        name: value.reshape(-1).tolist() for name, value in given.items()
    }


def test_a_written_file_is_aligned_and_says_what_it_is(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m", EVERYTHING, numbers(EVERYTHING))
    raw = (tmp_path / "m").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    assert (8 + length) % 4096 == 0
    assert {each["data_offsets"][0] % 64 for name, each in header.items() if name.endswith("weight")} == {0}
    assert read_layers(tmp_path / "m") == EVERYTHING
    write_safetensors(tmp_path / "again", EVERYTHING, numbers(EVERYTHING))
    assert (tmp_path / "again").read_bytes() == raw


def test_the_buffers_are_aligned_and_read_only(tmp_path: Path) -> None:
    write_raw(tmp_path / "m", EVERYTHING, numbers(EVERYTHING))
    for buffer in load(tmp_path / "m", EVERYTHING, container="raw").tensors.values():
        array = np.asarray(buffer)
        assert array.ctypes.data % 64 == 0
        assert not array.flags.writeable


def test_a_changed_byte_is_found_by_the_files_own_hash(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m", MLP, numbers(MLP))
    raw = bytearray((tmp_path / "m").read_bytes())
    raw[-70] ^= 1
    (tmp_path / "m").write_bytes(raw)
    with pytest.raises(BareInvalid, match=r"not the one that the file's lonja.data_sha256 gives"):
        load(tmp_path / "m", MLP)


@pytest.mark.parametrize("container", ["safetensors", "raw"])
def test_the_manifests_hash_is_held_to(tmp_path: Path, container: Any) -> None:
    write = write_raw if container == "raw" else write_safetensors
    write(tmp_path / "m", MLP, numbers(MLP))
    with pytest.raises(BareInvalid, match=f"but the manifest's weights.sha256 is {'0' * 64}"):
        load(tmp_path / "m", MLP, container=container, sha256="0" * 64)


def test_layers_of_the_file_and_of_the_manifest_must_agree(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m", MLP, numbers(MLP))
    other: list[Layer] = [DenseLayer(inputs=6, outputs=9, activation="tanh"), *MLP[1:]]
    with pytest.raises(BareInvalid, match="describes other layers than the manifest"):
        load(tmp_path / "m", other)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    write_raw(tmp_path / "m", MLP, numbers(MLP))
    with (tmp_path / "m").open("rb", buffering=0) as file:
        source = reader._Source(file)
        (tmp_path / "m").write_bytes(b"1234")
        with pytest.raises(BareInvalid, match="became shorter"):
            source.fill(memoryview(bytearray(8)))


def test_numbers_outlive_the_file(tmp_path: Path) -> None:
    write_raw(tmp_path / "m", MLP, numbers(MLP))
    found = load(tmp_path / "m", MLP, container="raw")
    with (tmp_path / "m").open("r+b") as file:
        file.truncate(0)
    assert np.array_equal(np.asarray(found.tensors["0.weight"]), numbers(MLP)["0.weight"].reshape(-1))


def test_a_sequential_of_pytorch_is_a_bare_model(tmp_path: Path) -> None:
    """Its tensors are named by place, and batch norms count in one more."""
    header = {
        "0.bias": entry(0, 8, shape=(2,)),
        "0.num_batches_tracked": entry(8, 16, "I64", ()),
        "0.running_mean": entry(16, 24, shape=(2,)),
        "0.running_var": entry(24, 32, shape=(2,)),
        "0.weight": entry(32, 40, shape=(2,)),
        "1.weight": entry(40, 56),
        "__metadata__": {"format": "pt"},
    }
    from bare_models.layers import BatchNormLayer

    layers: list[Layer] = [BatchNormLayer(size=2), DenseLayer(inputs=2, outputs=2, bias=False)]
    found = load(safetensors(tmp_path / "m", header, bytes(56)), layers)
    assert sorted(found.tensors) == ["0.bias", "0.running_mean", "0.running_var", "0.weight", "1.weight"]


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(BareInvalid, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_depth_is_refused_whatever_the_recursion_limit_is(tmp_path: Path) -> None:
    """Libraries raise the limit, and then a decoder that recurses ends the process."""
    path = safetensors(tmp_path / "m", b'{"a":' + b'["]",' * 100_000)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        with pytest.raises(BareInvalid, match="nested deeper"):
            load(path)
    finally:
        sys.setrecursionlimit(limit)
