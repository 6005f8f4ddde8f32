"""`metadata.json`: what a publisher says of a model, checked before anything is done with it.

Enters: untrusted bytes. Leaves: a `Manifest`, or a `ManifestInvalid` that names the member. The
members are described in docs/manifest.md and, for machines, by `json_schema()`, which is checked in
as `manifest.schema.json`.

Members of ERC-721 metadata that this node does not read (`attributes`, `external_url`, ...) may stand
beside `model`; inside `model` an unknown member is an error, so that a misspelt one cannot be
silently without effect.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, cast

import msgspec
from msgspec import Meta

from bare_models.layers import BareInvalid, Layers, check, needs
from bare_models.nesting import deeper_than
from node.addresses import parse_address
from node.cid import Cid, CidInvalid
from node.errors import InvalidInput, ManifestInvalid
from node.models.manifest_errors import explain
from postprocessors.registry import OUTPUTS, OutputTasks
from preprocessors.registry import INPUTS, InputKinds

if TYPE_CHECKING:
    from postprocessors.specs import ClassificationOutput, RawOutput, RegressionOutput
    from preprocessors.specs import ImageInput, TabularInput, TensorInput

    InputSpec = ImageInput | TensorInput | TabularInput
    OutputSpec = ClassificationOutput | RegressionOutput | RawOutput
else:
    InputSpec = INPUTS.union
    OutputSpec = OUTPUTS.union

MAX_MANIFEST_BYTES: Final = 2**20
MAX_DEPTH: Final = 64
"""Levels of lists and objects in a manifest, whatever other members it has."""
MAX_LABELS_BYTES: Final = 16 * 2**20
MAX_LABELS: Final = 1_000_000

_END: Final = r"$(?!\n)"  # `$` alone would let a line break through behind the last character

ModelId = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}{_END}",
        description="1 to 64 letters, digits, dots, dashes and underscores, the first a letter or digit",
    ),
]
CidText = Annotated[str, Meta(min_length=1, max_length=512, description="a CID: base32 ('b...') or 'Qm...'")]
ModelType = Annotated[
    str, Meta(pattern=rf"^[a-z][a-z0-9_]{{0,63}}{_END}", description="e.g. image_classification; for people")
]
Publisher = Annotated[
    str,
    Meta(
        description="the account that registers the token; the manifest is refused in a token of another's",
        extra_json_schema={"pattern": "^0x[0-9a-fA-F]{40}$"},  # what is wrong is told by `_check_publisher`
    ),
]
Label = Annotated[str, Meta(max_length=512)]
_LAYERS: Final = "of a bare model, first to last"
_ALLOW_NAN: Final = "whether a bare model's numbers may be NaN or infinite"
RelativePath = Annotated[
    str, Meta(min_length=1, max_length=1024, description="a path inside the folder, parts separated by /")
]
T = TypeVar("T", bound=msgspec.Struct)


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the weights are and what they must be."""

    cid: CidText
    bytes: Annotated[int, Meta(ge=1, description="size of the file, or of all files of the folder")]
    sha256: Annotated[
        str, Meta(pattern=rf"^[0-9a-f]{{64}}{_END}", description="of the model file, in lower-case hex")
    ]
    encoding: Annotated[Literal["plain"], Meta(description="how the file is stored; plain is as it is")] = (
        "plain"
    )
    container: Annotated[
        Literal["safetensors", "raw"] | None,
        Meta(description="how the numbers of a bare model lie in the file"),
    ] = None
    dtype: Annotated[Literal["float32"] | None, Meta(description="of the numbers of a raw file")] = None
    file: Annotated[
        RelativePath | None,
        Meta(description="the model file where `cid` names a folder (a graph with external data)"),
    ] = None

    def __post_init__(self) -> None:
        _check_cid(self.cid)
        if self.file is not None:
            _check_path(self.file)


class LabelsRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Labels that are a JSON list in a file of their own."""

    cid: CidText

    def __post_init__(self) -> None:
        _check_cid(self.cid)


class LabelsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Labels in a file beside a draft."""

    file: RelativePath

    def __post_init__(self) -> None:
        _check_path(self.file)


class ModelDraft(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a publisher writes; publishing turns it into a `Model`."""

    schema: Literal[1]
    model_id: ModelId
    model_type: ModelType
    format: Literal["onnx", "bare"]
    input: InputSpec
    output: OutputSpec
    labels: Annotated[list[Label], Meta(min_length=1, max_length=MAX_LABELS)] | LabelsFile | None = None
    layers: Annotated[Layers | None, Meta(description=_LAYERS)] = None
    allow_nan: Annotated[bool, Meta(description=_ALLOW_NAN)] = False
    publisher: Publisher | None = None

    def __post_init__(self) -> None:
        _check_publisher(self.publisher)
        if self.format == "bare" and self.layers is not None:
            _check_layers(self.layers)
        elif self.format != "bare" and (self.layers is not None or self.allow_nan):
            raise ValueError("`layers` and `allow_nan` belong to the format `bare`")


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a node needs to serve a model."""

    schema: Literal[1]
    model_id: ModelId
    model_type: ModelType
    format: Literal["onnx", "bare"]
    weights: Weights
    input: InputSpec
    output: OutputSpec
    labels: Annotated[list[Label], Meta(min_length=1, max_length=MAX_LABELS)] | LabelsRef | None = None
    layers: Annotated[Layers | None, Meta(description=_LAYERS)] = None
    allow_nan: Annotated[bool, Meta(description=_ALLOW_NAN)] = False
    publisher: Publisher | None = None

    def __post_init__(self) -> None:
        _check_publisher(self.publisher)
        if self.format == "bare":
            _check_bare(self.weights, self.layers)
        elif self.layers is not None or self.allow_nan or self.weights.container is not None:
            raise ValueError("`layers`, `allow_nan` and `weights.container` belong to the format `bare`")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A published `metadata.json`: ERC-721 metadata with a `model`."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: Annotated[str, Meta(max_length=65536)] = ""
    image: Annotated[str, Meta(max_length=65536)] = ""
    model: Model


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """The `metadata.json` given to `lonja publish`: without weights, labels perhaps in a file."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: Annotated[str, Meta(max_length=65536)] = ""
    image: Annotated[str, Meta(max_length=65536)] = ""
    model: ModelDraft


def parse(raw: bytes, *, inputs: InputKinds = INPUTS, outputs: OutputTasks = OUTPUTS) -> Manifest:
    """Read and check a published manifest. Raises `ManifestInvalid` naming the member."""
    manifest: Manifest = _decode(raw, _whole_type(Manifest, Model, inputs, outputs))
    return manifest


def parse_draft(raw: bytes, *, inputs: InputKinds = INPUTS, outputs: OutputTasks = OUTPUTS) -> Draft:
    """Read and check a draft. Raises `ManifestInvalid` naming the member."""
    members = _members(raw)
    model = members.get("model")
    if isinstance(model, dict) and "weights" in model:
        raise ManifestInvalid("model.weights: leave it out of a draft; publishing fills it in")
    draft: Draft = _decode(raw, _whole_type(Draft, ModelDraft, inputs, outputs))
    return draft


def complete(
    raw: bytes, *, weights: Weights, labels_cid: Cid | None = None, publisher: str | None = None
) -> bytes:
    """Turn the bytes of a draft into those of the manifest to publish.

    Parameters
    ----------
    raw : the draft; everything in it that is not replaced is kept, other ERC-721 members too.
    labels_cid : CID of the labels file, where the draft names one.
    publisher : who registers the token, where the draft does not say so.

    Returns
    -------
    The manifest as indented UTF-8 JSON, checked. The same arguments give the same bytes.

    Raises
    ------
    ManifestInvalid
    """
    draft = parse_draft(raw)
    members = _members(raw)
    model = dict(members["model"])
    if isinstance(draft.model.labels, LabelsFile):
        if labels_cid is None:
            raise ManifestInvalid(f"model.labels: the CID of {draft.model.labels.file!r} is needed")
        model["labels"] = {"cid": str(labels_cid)}
    if publisher is not None:
        model.setdefault("publisher", publisher)
    model["weights"] = msgspec.to_builtins(weights)
    for member in ("container", "dtype", "file"):
        if model["weights"][member] is None:
            del model["weights"][member]
    finished = msgspec.json.format(msgspec.json.encode({**members, "model": model}), indent=2) + b"\n"
    parse(finished)
    return finished


def parse_model(raw: bytes, *, inputs: InputKinds = INPUTS, outputs: OutputTasks = OUTPUTS) -> Model:
    """Read the `model` member alone, as a worker is given it. Raises `ManifestInvalid`."""
    model: Model = _decode(raw, _part_type(Model, inputs, outputs), at="model")
    return model


def parse_labels(raw: bytes) -> list[str]:
    """Read a labels file: a JSON list of strings, label i naming class i. Raises `ManifestInvalid`."""
    if len(raw) > MAX_LABELS_BYTES:
        raise ManifestInvalid(f"labels: {len(raw)} bytes; a labels file has at most {MAX_LABELS_BYTES}")
    try:
        labels: list[str] = msgspec.json.decode(
            raw, type=Annotated[list[Label], Meta(min_length=1, max_length=MAX_LABELS)]
        )
    except msgspec.MsgspecError as error:
        raise ManifestInvalid(f"labels: not a JSON list of strings: {explain(error, at='labels')}") from None
    return labels


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a published manifest."""
    schema = msgspec.json.schema(Manifest)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lonja model manifest (metadata.json)",
        **schema,
    }


def _decode(raw: bytes, kind: type[T], *, at: str = "") -> T:
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ManifestInvalid(f"the manifest has {len(raw)} bytes; at most {MAX_MANIFEST_BYTES} are read")
    if deeper_than(MAX_DEPTH, raw):
        raise ManifestInvalid(f"the manifest is nested deeper than {MAX_DEPTH} levels")
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestInvalid(explain(error, at=at, kind=kind, raw=raw)) from None


def _members(raw: bytes) -> dict[str, Any]:
    if deeper_than(MAX_DEPTH, raw):
        raise ManifestInvalid(f"the manifest is nested deeper than {MAX_DEPTH} levels")
    try:
        members = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestInvalid(explain(error)) from None
    if not isinstance(members, dict):
        raise ManifestInvalid("the manifest is a JSON object")
    return members


@functools.cache
def _part_type(part: type[T], inputs: InputKinds, outputs: OutputTasks) -> type[T]:
    """`part` (`Model`, `ModelDraft`) taking the registered kinds of input and tasks."""
    if inputs is INPUTS and outputs is OUTPUTS:
        return part
    fields = [("input", inputs.union), ("output", outputs.union)]
    made = msgspec.defstruct(
        part.__name__, fields, bases=(part,), frozen=True, forbid_unknown_fields=True, kw_only=True
    )
    return cast("type[T]", made)


@functools.cache
def _whole_type(
    whole: type[T], part: type[msgspec.Struct], inputs: InputKinds, outputs: OutputTasks
) -> type[T]:
    """`whole` (`Manifest`, `Draft`) with such a part as its `model`."""
    model = _part_type(part, inputs, outputs)
    if model is part:
        return whole
    made = msgspec.defstruct(whole.__name__, [("model", model)], bases=(whole,), frozen=True, kw_only=True)
    return cast("type[T]", made)


def _check_cid(text: str) -> None:
    try:
        Cid.parse(text)
    except CidInvalid as error:
        raise ValueError(f"`cid` is not a CID that this node accepts: {error}") from None


def _check_publisher(text: str | None) -> None:
    try:
        if text is not None:
            parse_address(text)
    except InvalidInput as error:
        raise ValueError(f"`publisher` is not an account: {error.message}") from None


def _check_layers(layers: Layers) -> None:
    try:
        check(layers)
    except BareInvalid as error:
        raise ValueError(str(error)) from None


def _check_bare(weights: Weights, layers: Layers | None) -> None:
    """The numbers that the layers need must fit into the file, before anything is fetched."""
    if layers is None:
        raise ValueError("`layers` is needed for the format `bare`")
    _check_layers(layers)
    if weights.container is None or weights.file is not None:
        raise ValueError("`weights` of a bare model has `container` and no `file`")
    if weights.container == "raw" and weights.dtype is None:
        raise ValueError("`weights.dtype` is needed for a raw file: 'float32'")
    size = sum(need.nbytes for need in needs(layers))
    if weights.bytes < size or (weights.container == "raw" and weights.bytes != size):
        raise ValueError(f"`layers` take {size} bytes of numbers, but `weights.bytes` is {weights.bytes}")


def _check_path(text: str) -> None:
    parts = text.split("/")
    if "\\" in text or "\0" in text or any(part in {"", ".", ".."} for part in parts):
        raise ValueError(f"`file` {text!r} must be a plain path inside the folder, without '..'")
