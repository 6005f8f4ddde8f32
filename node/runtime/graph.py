"""Checks an ONNX file before ONNX Runtime sees it.

Enters: a file, alone or in a folder with its external data. Leaves: nothing, or a refusal
that tells the publisher what to change. Field numbers are those of onnx.proto
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Only structure is read: nodes, domains,
operator sets and where tensors keep their data; the tensors themselves are stepped over. The `onnx`
package is not used: it would copy all weights, and its parser is a second one to trust.
"""

from __future__ import annotations

import mmap
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from node.runtime.backend import Refused
from node.runtime.wire import Budget, WireInvalid, fields

MIN_OPSET: Final = 7
"""The oldest for which ONNX Runtime guarantees support; it says itself what is too new for it."""
MAX_FIELDS: Final = 4_000_000
MAX_DEPTH: Final = 16
MAX_ONNX_BYTES: Final = 2**31 - 1
BUILT_IN: Final = frozenset({"", "ai.onnx.ml", "com.microsoft"})
"""Operator domains that are compiled into ONNX Runtime. Any other needs a library from the publisher."""
_IN_MEMORY_TAG: Final = "_ORT_MEM_ADDR_"
"""ONNX Runtime's mark for "the offset is a memory address": it must never come from a file."""


@dataclass(slots=True)
class _Found:
    """What one file speaks of."""

    budget: Budget
    opsets: dict[str, int] = field(default_factory=dict)
    operators: set[tuple[str, str]] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)
    external: list[dict[str, str]] = field(default_factory=list)
    graphs: int = 0


def entry(weights: Path, name: str | None) -> Path:
    """The `.onnx` file of `weights`: the file `name` of a folder, or `weights` itself. Raises `Refused`."""
    if name is None:
        if not weights.is_file():
            raise _invalid(
                "the weights are a folder: the manifest's model.weights.file must name a file in it"
            )
        return weights
    return _inside(weights, name, what="the model file")


def check(file: Path, *, folder: Path | None, max_bytes: int) -> None:
    """Refuse what must not be loaded.

    Parameters
    ----------
    folder : where external data may lie, which is the file's own; None where the file is all there is.
    max_bytes : most bytes that the file and its external data may have together.

    Raises
    ------
    Refused
    """
    size = file.stat().st_size
    if size == 0:
        raise _invalid("the file is empty")
    if size > MAX_ONNX_BYTES:
        raise _invalid("an .onnx file is at most 2 GiB: save the weights as external data beside it")
    found = _Found(Budget(MAX_FIELDS))
    problem = None
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        try:
            _model(view, found)
        except WireInvalid as error:
            problem = str(error)  # the error itself refers to views of the file, which keep it from closing
    if problem or not found.graphs:
        raise _invalid(f"not an ONNX file: {problem or 'it holds no graph'}")
    _check_operators(found)
    size += _external_bytes(found.external, folder)
    if size > max_bytes:
        raise _invalid(
            f"graph and weights have {size} bytes; a worker of this node may have {max_bytes} in all"
        )


def _check_operators(found: _Found) -> None:
    for domain, kind in sorted(found.operators - found.functions):
        if domain not in BUILT_IN:
            raise _invalid(
                f"the operator {kind!r} of the domain {domain!r} is not part of ONNX; "
                "export the model with standard operators only"
            )
    opset = found.opsets.get("")
    if opset is None:
        if any(domain == "" for domain, _ in found.operators):
            raise _invalid("the file does not say which ONNX operator set it uses (opset_import)")
    elif opset < MIN_OPSET:
        raise _invalid(
            f"the model uses ONNX operator set {opset}; {MIN_OPSET} or newer is served: convert it with "
            "onnx.version_converter"
        )


def _external_bytes(entries: list[dict[str, str]], folder: Path | None) -> int:
    """Size of all external data, each file of which must lie in `folder` itself."""
    if not entries:
        return 0
    if folder is None:
        raise _invalid("the weights are outside the file (external data): publish the folder that has both")
    sizes: dict[str, int] = {}
    for data in entries:
        location = data.get("location", "")
        if location not in sizes:
            sizes[location] = _inside(folder, location, what="external data").stat().st_size
        offset, length = _number(data, "offset"), _number(data, "length")
        if offset + length > sizes[location]:
            raise _invalid(f"a tensor's data ends behind its file {location!r}")
    return sum(sizes.values())


def _inside(folder: Path, name: str, *, what: str) -> Path:
    """A regular file in `folder` or below it, reached without a link or a step outwards."""
    path = PurePosixPath(name)
    leaves = path.is_absolute() or ".." in path.parts
    if not path.parts or leaves or "\0" in name or _IN_MEMORY_TAG in name:
        raise _invalid(f"{what} {name!r} must be a relative path inside the model's folder")
    target = folder / path
    steps = [target, *list(target.parents)[: len(path.parts) - 1]]
    try:
        modes = [step.lstat().st_mode for step in steps]
    except OSError:
        raise _invalid(f"{what} {name!r} is missing from the model's folder") from None
    if any(stat.S_ISLNK(mode) for mode in modes) or not stat.S_ISREG(modes[0]):
        raise _invalid(f"{what} {name!r} must be a regular file, not a link")
    return target


def _number(data: dict[str, str], name: str) -> int:
    text = data.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise _invalid(f"a tensor's external data has the {name} {text[:40]!r}, which is not a number")
    return int(text)


# -- the messages of onnx.proto, as far as they matter


def _model(message: memoryview, found: _Found) -> None:
    for number, value in fields(message, found.budget):
        if isinstance(value, int):
            continue
        if number == 7:
            found.graphs += 1
            _graph(value, found, 0)
        elif number == 8:
            _opset(value, found)
        elif number == 25:
            _function(value, found)


def _opset(message: memoryview, found: _Found) -> None:
    domain, version = "", 0
    for number, value in fields(message, found.budget):
        if number == 1:
            domain = _text(value)
        elif number == 2 and isinstance(value, int):
            version = value
    found.opsets[_canonical(domain)] = version


def _function(message: memoryview, found: _Found) -> None:
    name = domain = ""
    for number, value in fields(message, found.budget):
        if number == 1:
            name = _text(value)
        elif number == 10:
            domain = _text(value)
        elif number == 7 and not isinstance(value, int):
            _node(value, found, 0)
        elif number == 11 and not isinstance(value, int):
            _attribute(value, found, 0)
    found.functions.add((_canonical(domain), name))


def _graph(message: memoryview, found: _Found, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise WireInvalid(f"graphs are nested more than {MAX_DEPTH} deep")
    for number, value in fields(message, found.budget):
        if isinstance(value, int):
            continue
        if number == 1:
            _node(value, found, depth)
        elif number == 5:
            _tensor(value, found)
        elif number == 15:
            _sparse(value, found)


def _node(message: memoryview, found: _Found, depth: int) -> None:
    kind = domain = ""
    for number, value in fields(message, found.budget):
        if number == 4:
            kind = _text(value)
        elif number == 7:
            domain = _text(value)
        elif number == 5 and not isinstance(value, int):
            _attribute(value, found, depth)
    found.operators.add((_canonical(domain), kind))


def _attribute(message: memoryview, found: _Found, depth: int) -> None:
    for number, value in fields(message, found.budget):
        if isinstance(value, int):
            continue
        if number in {5, 10}:
            _tensor(value, found)
        elif number in {6, 11}:
            _graph(value, found, depth + 1)
        elif number in {22, 23}:
            _sparse(value, found)


def _sparse(message: memoryview, found: _Found) -> None:
    for number, value in fields(message, found.budget):
        if number in {1, 2} and not isinstance(value, int):
            _tensor(value, found)


def _tensor(message: memoryview, found: _Found) -> None:
    external: dict[str, str] = {}
    outside = False
    for number, value in fields(message, found.budget):
        if number == 13 and not isinstance(value, int):
            outside = True
            key, text = _pair(value, found)
            external[key] = text
        elif number == 14:
            outside = outside or value == 1
    if outside:
        found.external.append(external)


def _pair(message: memoryview, found: _Found) -> tuple[str, str]:
    key = value = ""
    for number, content in fields(message, found.budget):
        if number == 1:
            key = _text(content)
        elif number == 2:
            value = _text(content)
    return key, value


def _text(value: int | memoryview) -> str:
    if isinstance(value, int):
        raise WireInvalid("a number where a text belongs")
    try:
        return bytes(value[:4096]).decode()
    except UnicodeDecodeError:
        raise WireInvalid("a text that is not UTF-8") from None


def _canonical(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _invalid(text: str) -> Refused:
    return Refused("model_invalid", text)
