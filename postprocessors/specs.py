"""What a manifest says of a model's output: one struct a task. msgspec only, no NumPy."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

TensorName = Annotated[str, Meta(min_length=1, max_length=256)]


class ClassificationOutput(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="task", tag="classification"
):
    """One score a class: the best `top_k` at or above `threshold`, best first.

    `activation` turns the model's numbers into confidences: `softmax` (exclusive classes),
    `sigmoid` (independent ones), or `none` where the model has already done it.
    """

    name: Annotated[TensorName | None, Meta(description="of the graph's output; left out, its first")] = None
    activation: Annotated[
        Literal["softmax", "sigmoid", "none"],
        Meta(description="softmax: exclusive classes; sigmoid: independent ones; none: already applied"),
    ] = "softmax"
    top_k: Annotated[
        int, Meta(ge=1, le=1000, description="classes given where the caller asks for no number")
    ] = 5
    threshold: Annotated[float | None, Meta(description="least confidence that is given")] = None


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number that a regression gives: the model's output * std + mean."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    unit: Annotated[str, Meta(max_length=64)] = ""
    mean: Annotated[float, Meta(ge=-1e30, le=1e30)] = 0.0
    std: Annotated[float, Meta(gt=0, le=1e30)] = 1.0


class RegressionOutput(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="task", tag="regression"
):
    """Numbers: one a target."""

    name: Annotated[TensorName | None, Meta(description="of the graph's output; left out, its first")] = None
    targets: Annotated[
        Annotated[list[Target], Meta(min_length=1, max_length=4096)] | None,
        Meta(description="one a column of the output; left out, the labels, else one called `value`"),
    ] = None


class RawOutput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="task", tag="raw"):
    """The model's tensors as they are. `names` picks and orders them; left out, all are given."""

    names: Annotated[
        Annotated[list[TensorName], Meta(min_length=1, max_length=64)] | None,
        Meta(description="the outputs that are given, in this order; left out, all"),
    ] = None
