"""`lonja convert`."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from lonja.errors import UsageInvalid

if TYPE_CHECKING:
    from bare_models.layers import Layer

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_TARGET: Final = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Convert a dense network between ONNX and the bare format.")
@click.argument("model", type=_FILE)
@click.option("--to", type=click.Choice(["bare", "raw", "onnx"]), required=True, help="What to write.")
@click.option("--out", type=_TARGET, help="The file to write; left out, beside MODEL.")
@click.option(
    "--manifest", type=_FILE,
    help="A draft metadata.json. Gives the layers of a raw MODEL; a draft for the result is written.",
)  # fmt: skip
def command(
    *, model: Path, to: Literal["bare", "raw", "onnx"], out: Path | None, manifest: Path | None
) -> None:
    """Convert MODEL: .onnx to a bare model (.safetensors, or .bin for raw float32), or back.

    A graph converts if it is a chain of Gemm, MatMul and Add, BatchNormalization, activations, and what does
    nothing when a model is served; anything else is named and refused. With --manifest a draft for
    `lonja publish` is written beside the result.

    \b
    Examples:
      lonja convert digits.onnx --to bare
      lonja convert digits.onnx --to bare --manifest metadata.json --out digits.safetensors
      lonja convert digits.safetensors --to onnx
      lonja convert weights.bin --to onnx --manifest metadata.json
    """
    from bare_models.layers import BareInvalid

    members = None if manifest is None else _members(manifest)
    target = out or model.with_suffix({"bare": ".safetensors", "raw": ".bin", "onnx": ".onnx"}[to])
    if target.resolve() == model.resolve():
        raise UsageInvalid(f"{target} would be written over: give another --out")
    try:
        layers = _convert(model, to, target, members)
    except BareInvalid as error:
        raise UsageInvalid(f"{model.name}: {error}") from None
    except OSError as error:
        raise UsageInvalid(f"{error.filename or target}: {error.strerror}") from None
    numbers = sum(need.nbytes for need in _needs(layers)) // 4
    click.echo(f"{target}: {len(layers)} layers, {numbers:,} numbers")
    if members is not None and manifest is not None:
        draft = _write_draft(target, members, layers, bare=to != "onnx")
        names = f"{quote(target.name)} --manifest {quote(draft.name)}"
        click.echo(f"{draft}: a draft for `lonja publish {names} --offer price=0.01,days=30`")


def _convert(model: Path, to: str, target: Path, members: dict[str, Any] | None) -> list[Layer]:
    from bare_models.writer import write_raw, write_safetensors

    if model.suffix == ".onnx":
        from bare_models.from_onnx import read_onnx

        found = read_onnx(model)
        layers, numbers, row = found.layers, found.numbers, _row(members) or found.row
    else:
        layers, numbers = _read_bare(model, members)
        row = _row(members)
    if to == "onnx":
        from bare_models.to_onnx import write_onnx

        write_onnx(target, layers, numbers, row=row)
    elif to == "raw":
        write_raw(target, layers, numbers)
    else:
        write_safetensors(target, layers, numbers)
    return layers


def _read_bare(model: Path, members: dict[str, Any] | None) -> tuple[list[Layer], dict[str, Any]]:
    import numpy as np

    from bare_models.layers import needs
    from bare_models.reader import read, read_layers
    from lonja.publishing import container_of

    container = container_of(model)
    given = _layers(members)
    if given is None and container == "raw":
        raise UsageInvalid(f"{model.name} does not say what its layers are: give them with --manifest")
    layers = given or read_layers(model)
    limit = model.stat().st_size + 2**20
    found = read(model, layers, container=container, sha256=None, max_bytes=limit)
    return layers, {
        need.name: np.asarray(found.tensors[need.name]).reshape(need.shape) for need in needs(layers)
    }


def _members(manifest: Path) -> dict[str, Any]:
    try:
        members = json.loads(manifest.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageInvalid(f"{manifest} is not JSON: {error}") from None
    if not isinstance(members, dict) or not isinstance(members.get("model"), dict):
        raise UsageInvalid(f"{manifest} is not a manifest: it has no object `model`")
    return members


def _layers(members: dict[str, Any] | None) -> list[Layer] | None:
    import msgspec

    from bare_models.layers import Layers, check

    if members is None or "layers" not in members["model"]:
        return None
    try:
        layers: list[Layer] = msgspec.convert(members["model"]["layers"], Layers)
    except msgspec.ValidationError as error:
        raise UsageInvalid(f"model.layers of the manifest: {error}") from None
    check(layers)
    return layers


def _row(members: dict[str, Any] | None) -> tuple[int, ...] | None:
    """The shape of an input row as the manifest gives it, so that the graph takes what the node sends."""
    import msgspec

    from preprocessors.registry import INPUTS
    from preprocessors.specs import ImageInput, TensorInput

    if members is None or "input" not in members["model"]:
        return None
    try:
        spec = msgspec.convert(members["model"]["input"], INPUTS.union)
    except msgspec.ValidationError as error:
        raise UsageInvalid(f"model.input of the manifest: {error}") from None
    if isinstance(spec, ImageInput):
        return spec.picture().shape
    if isinstance(spec, TensorInput) and None not in spec.shape:
        return tuple(size for size in spec.shape if size is not None)
    return None


def _write_draft(target: Path, members: dict[str, Any], layers: list[Layer], *, bare: bool) -> Path:
    """The manifest for what was written, without the names of a graph's tensors that are gone now."""
    import msgspec

    model = {name: value for name, value in members["model"].items() if name not in {"weights", "layers"}}
    model["format"] = "bare" if bare else "onnx"
    for side in ("input", "output"):
        if isinstance(model.get(side), dict):
            model[side] = {name: value for name, value in model[side].items() if name != "name"}
    if bare:
        model["layers"] = msgspec.to_builtins(layers)
    else:
        model.pop("allow_nan", None)
    draft = target.with_suffix(".metadata.json")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode({**members, "model": model}), indent=2) + b"\n")
    return draft


def _needs(layers: list[Layer]) -> list[Any]:
    from bare_models.layers import needs

    return list(needs(layers))
