"""What a manifest says of a model's input: one struct a kind of input. msgspec only, no NumPy.

Enters: the `input` member of a manifest. Leaves: a checked spec from which a worker makes the
preprocessor (`preprocessors/registry.py` says which) and the main process tells what a model takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

Side = Annotated[int, Meta(ge=1, le=8192)]
Divisor = Annotated[float, Meta(ge=1e-9, le=1e9)]
Shift = Annotated[float, Meta(ge=-1e9, le=1e9)]
Scale = Annotated[float, Meta(ge=1e-30, le=1e30)]
Offset = Annotated[float, Meta(ge=-1e30, le=1e30)]
TensorName = Annotated[str, Meta(min_length=1, max_length=256)]
Dtype = Literal["float32", "float16", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]
Resize = Literal["stretch", "crop", "letterbox"]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Color = Literal["rgb", "bgr", "gray"]
Layout = Literal["nchw", "nhwc"]


@dataclass(frozen=True, slots=True)
class Preset:
    """Values that a preset's name stands for."""

    size: tuple[int, int]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


PRESETS: Final = {
    "imagenet": Preset((224, 224), 255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": Preset((299, 299), 255.0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """An `ImageInput` with every value filled in: what the preprocessor works from.

    `mean` and `std` have one value a channel, in the order in which the channels stand in the tensor.
    """

    height: int
    width: int
    resize: Resize
    interpolation: Interpolation
    pad: int
    color: Color
    layout: Layout
    dtype: Literal["float32", "float16", "uint8"]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        return 1 if self.color == "gray" else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one row of the tensor."""
        if self.layout == "nchw":
            return (self.channels, self.height, self.width)
        return (self.height, self.width, self.channels)


class ImageInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="image"):
    """A picture. Tensor value = (pixel / scale - mean) / std, pixels being 0 to 255.

    Members that are left out take the preset's value, then the default that `picture` names.
    """

    name: Annotated[TensorName | None, Meta(description="of the graph's input; left out, its only one")] = (
        None
    )
    preset: Annotated[
        Literal["imagenet", "inception"] | None,
        Meta(description="stands for size, scale, mean and std; explicit members win"),
    ] = None
    size: Annotated[
        tuple[Side, Side] | None, Meta(description="[height, width]; needed where no preset gives it")
    ] = None
    resize: Annotated[
        Resize,
        Meta(
            description="stretch; crop: the centre of the target's proportions, then resize; letterbox: pad"
        ),
    ] = "stretch"
    interpolation: Interpolation = "bicubic"
    pad: Annotated[int, Meta(ge=0, le=255, description="pixel value around a letterboxed picture")] = 0
    color: Annotated[Color, Meta(description="order of the channels in the tensor")] = "rgb"
    layout: Layout = "nchw"
    dtype: Annotated[
        Literal["float32", "float16", "uint8"], Meta(description="uint8 takes the pixels as they are")
    ] = "float32"
    scale: Annotated[Divisor | None, Meta(description="pixels are divided by it first; default 255")] = None
    mean: Annotated[
        Annotated[list[Shift], Meta(min_length=1, max_length=3)] | None,
        Meta(description="one a channel, in the order of `color`; default 0"),
    ] = None
    std: Annotated[
        Annotated[list[Divisor], Meta(min_length=1, max_length=3)] | None,
        Meta(description="one a channel, in the order of `color`; default 1"),
    ] = None

    def __post_init__(self) -> None:
        if self.size is None and self.preset is None:
            raise ValueError("`size` ([height, width]) is needed where no `preset` gives it")
        if self.dtype == "uint8":
            given = [name for name in ("scale", "mean", "std") if getattr(self, name) is not None]
            if given or self.preset:
                raise ValueError(
                    "a `uint8` input takes pixels as they are: leave out `scale`, `mean`, `std` and `preset`"
                )
            return
        picture = self.picture()
        for name, values in (("mean", picture.mean), ("std", picture.std)):
            if len(values) != picture.channels:
                raise ValueError(_length_error(name, len(values), self.color, self.preset))

    def picture(self) -> Picture:
        """All values: explicit ones first, then the preset's, then scale 255, mean 0, std 1.

        (scale 1 for `uint8`, whose pixels stay as they are.)
        """
        channels = 1 if self.color == "gray" else 3
        plain = Preset((1, 1), 1.0 if self.dtype == "uint8" else 255.0, (0.0,) * channels, (1.0,) * channels)
        base = PRESETS[self.preset] if self.preset else plain
        height, width = self.size or base.size
        order = -1 if self.color == "bgr" else 1  # a preset's values follow their colours
        return Picture(
            height=height,
            width=width,
            resize=self.resize,
            interpolation=self.interpolation,
            pad=self.pad,
            color=self.color,
            layout=self.layout,
            dtype=self.dtype,
            scale=base.scale if self.scale is None else self.scale,
            mean=base.mean[::order] if self.mean is None else tuple(self.mean),
            std=base.std[::order] if self.std is None else tuple(self.std),
        )


class TensorInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tensor"):
    """Numbers."""

    shape: Annotated[
        list[Annotated[int, Meta(ge=1, le=2**31 - 1)] | None],
        Meta(max_length=8, description="of one row, without the batch dimension; null stands for any size"),
    ]
    name: Annotated[TensorName | None, Meta(description="of the graph's input; left out, its only one")] = (
        None
    )
    dtype: Dtype = "float32"


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column of a table: a number, scaled to (x - mean) / std, or one of several `values`."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    mean: Annotated[Offset, Meta(description="subtracted first")] = 0.0
    std: Annotated[Scale, Meta(description="divided by then")] = 1.0
    missing: Annotated[
        Offset | None,
        Meta(
            description="stands in, unscaled, where a row lacks the feature or has null; left out, an error"
        ),
    ] = None
    values: Annotated[
        Annotated[list[Annotated[str, Meta(max_length=256)] | int], Meta(min_length=2, max_length=4096)]
        | None,
        Meta(description="the feature is one of these, and becomes one column for each: a 1 among zeros"),
    ] = None

    def __post_init__(self) -> None:
        if self.values is None:
            return
        if self.mean != 0 or self.std != 1:
            raise ValueError("a feature with `values` has no `mean` and `std`")
        if len(set(self.values)) != len(self.values):
            raise ValueError("a feature's `values` must differ from each other")

    @property
    def width(self) -> int:
        """Columns that the feature takes."""
        return 1 if self.values is None else len(self.values)


class TabularInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tabular"):
    """Named features, in the order of the tensor's columns."""

    features: Annotated[list[Feature], Meta(min_length=1, max_length=4096)]
    name: Annotated[TensorName | None, Meta(description="of the graph's input; left out, its only one")] = (
        None
    )

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two `features` have the name {twice!r}")

    @property
    def width(self) -> int:
        """Columns of all features."""
        return sum(feature.width for feature in self.features)


def _length_error(name: str, got: int, color: str, preset: str | None) -> str:
    channels = 1 if color == "gray" else 3
    source = f"the preset {preset!r} gives `{name}` {got} values" if preset else f"`{name}` has {got} values"
    return f"{source}, but `color` {color!r} has {channels}: give `{name}` {channels} explicitly"
