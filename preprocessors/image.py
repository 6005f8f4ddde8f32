"""Pictures to tensors: base64, data URL, raw file, or a tensor that is ready.

Enters: one picture in any of `IMAGE_FORMATS`. Leaves: [1, C, H, W] or [1, H, W, C], or as many rows
as a ready tensor has. Tensor = (pixel / scale - mean) / std.
"""

from __future__ import annotations

import binascii
import urllib.parse
from typing import Final

import msgspec

from preprocessors.base import Array, Encoding, InputInvalid, InputTooBig, Limits
from preprocessors.formats import IMAGE_FORMATS, IMAGE_MEDIA_TYPES
from preprocessors.normalize import normalize
from preprocessors.picture import read_pixels
from preprocessors.sniff import Kind
from preprocessors.specs import ImageInput, TensorInput
from preprocessors.tensor import TensorPreprocessor

_BASE64: Final[dict[str, Kind]] = {"base64_jpeg": "jpeg", "base64_png": "png", "base64_webp": "webp"}
_BY_MEDIA_TYPE: Final[dict[str, Kind]] = {
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",  # not registered, but widely sent
    "image/png": "png",
    "image/webp": "webp",
}


class ImagePreprocessor:
    """Serves `ImageInput`."""

    def __init__(self, spec: ImageInput, *, limits: Limits) -> None:
        self._picture = spec.picture()
        self._limits = limits
        row = TensorInput(shape=list(self._picture.shape), dtype=spec.dtype)
        self._tensor = TensorPreprocessor(row, limits=limits)

    def __call__(self, format: str, content: bytes | memoryview, encoding: Encoding) -> Array:  # noqa: A002
        """Decode one picture. See `Preprocessor`."""
        if format == "tensor":
            return self._tensor(format, content, encoding)
        file, declared = self._file(format, content, encoding)
        pixels = read_pixels(file, self._picture, limits=self._limits, declared=declared)
        return normalize(pixels, self._picture)

    def _file(
        self,
        format: str,  # noqa: A002
        content: bytes | memoryview,
        encoding: Encoding,
    ) -> tuple[bytes, Kind | None]:
        if format == "image":
            if encoding != "binary":
                raise InputInvalid(
                    "the format 'image' is for a raw body or an uploaded file; in JSON send base64_jpeg, "
                    "base64_png, base64_webp or data_url"
                )
            return bytes(content), None
        declared = _BASE64.get(format)
        if declared is None and format != "data_url":
            names = ", ".join(entry.name for entry in IMAGE_FORMATS)
            raise InputInvalid(f"the format {format!r} is unknown; this model takes {names}")
        if encoding != "json":
            raise InputInvalid(f"the format {format!r} is text in JSON; send a raw file as 'image'")
        if len(content) * 3 // 4 > self._limits.max_bytes + 128:
            raise InputTooBig(
                f"the file has about {len(content) * 3 // 4} bytes; {self._limits.max_bytes} are taken"
            )
        return (_base64(content), declared) if declared else _data_url(content)


def _base64(content: bytes | memoryview) -> bytes:
    try:
        return msgspec.json.decode(content, type=bytes)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        if "Expected `bytes`" in str(error):
            raise InputInvalid("`content` must be a string of base64") from None
        head = bytes(content[:16])
        if head.startswith(b'"data:'):
            raise InputInvalid("`content` is a data URL: send it with the format 'data_url'") from None
        if b"-" in bytes(content) or b"_" in bytes(content):
            hint = "it uses the URL-safe alphabet; use + and /"
        else:
            hint = "use the standard alphabet with padding, without line breaks"
        raise InputInvalid(f"`content` is not base64: {hint}") from None


def _data_url(content: bytes | memoryview) -> tuple[bytes, Kind]:
    """Read `data:<media type>;base64,<data>` (RFC 2397)."""
    try:
        text = msgspec.json.decode(content, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise InputInvalid("`content` must be a string that holds a data URL") from None
    head, comma, data = text.partition(",")
    media, *parameters = head[5:].lower().split(";")
    if not (comma and head[:5].lower() == "data:" and "base64" in [part.strip() for part in parameters]):
        raise InputInvalid("`content` is not a data URL of the form data:image/jpeg;base64,...")
    kind = _BY_MEDIA_TYPE.get(media.strip())
    if kind is None:
        known = ", ".join(IMAGE_MEDIA_TYPES.values())
        raise InputInvalid(f"the data URL declares {media.strip()!r}; {known} are taken")
    if "%" in data:
        data = urllib.parse.unquote(data)
    try:
        return binascii.a2b_base64(data, strict_mode=True), kind
    except (binascii.Error, ValueError):
        raise InputInvalid(
            "the data URL's data is not base64 with the standard alphabet and padding"
        ) from None
