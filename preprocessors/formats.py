"""The formats an input may come in, and the errors that a bad one raises. No NumPy here."""

from __future__ import annotations

from typing import Final, Literal

import msgspec


class InputInvalid(ValueError):
    """The input cannot be read as what it claims to be; the text is for the caller."""


class InputTooBig(ValueError):
    """The input is over a limit; the text names the limit and the size."""


class Format(msgspec.Struct, frozen=True):
    """One way of writing an input.

    Attributes
    ----------
    name : value of `input_data.format`.
    encoding : "json" where the content stands in the JSON body, "binary" where it is raw bytes.
    media_types : what a raw body or an uploaded part declares.
    """

    name: str
    encoding: Literal["json", "binary"]
    media_types: list[str]
    description: str


IMAGE_MEDIA_TYPES: Final = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}

TENSOR_FORMAT: Final = Format(
    "tensor",
    "json",
    [],
    'ready numbers: nested lists, one flat list, or {"shape": [...], "data": [...]}',
)
IMAGE_FORMATS: Final = (
    *(
        Format(f"base64_{kind}", "json", [media], f"a {kind.upper()} file as base64 text")
        for kind, media in IMAGE_MEDIA_TYPES.items()
    ),
    Format(
        "data_url",
        "json",
        list(IMAGE_MEDIA_TYPES.values()),
        "a JPEG, PNG or WebP file as `data:image/...;base64,...`",
    ),
    Format(
        "image",
        "binary",
        list(IMAGE_MEDIA_TYPES.values()),
        "a JPEG, PNG or WebP file as the raw body, or as an uploaded part",
    ),
    TENSOR_FORMAT,
)
TENSOR_FORMATS: Final = (TENSOR_FORMAT,)
TABULAR_FORMAT: Final = Format("tabular", "json", [], "an object of named features, or a list of them")
TABULAR_FORMATS: Final = (TABULAR_FORMAT, TENSOR_FORMAT)
