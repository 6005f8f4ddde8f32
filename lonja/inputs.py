"""What `infer` sends: pictures, tensors, URLs or ready JSON as the `input_data` member of a request."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Final

import msgspec

from lonja.errors import UsageInvalid

Image = str | Path | bytes | bytearray | memoryview
"""A file's path, or the bytes of a JPEG, PNG or WebP."""

_MAX_FILE: Final = 256 * 2**20


def input_data(
    *, image: Image | None = None, tensor: Any = None, url: str | None = None, json: Any = None
) -> bytes:
    """The JSON text of `input_data`, from exactly one source.

    Parameters
    ----------
    tensor : nested lists of numbers, {"shape", "data"}, or an array (NumPy, PyTorch).
    json : an object with `format` and `content`, sent as it is; anything else is sent as a tensor.

    Raises
    ------
    UsageInvalid
    """
    given = [name for name, value in _named(image, tensor, url, json).items() if value is not None]
    if len(given) != 1:
        raise UsageInvalid(
            f"give one input: image, tensor, url or json; {' and '.join(given) or 'none'} was given"
        )
    if image is not None:
        content = _image_bytes(image)
        return _encode(f"base64_{_kind(content)}", base64.b64encode(content).decode())
    if url is not None:
        return _encode("url", url)
    if isinstance(json, dict) and "format" in json and "content" in json:
        return msgspec.json.encode(json)
    return _encode("tensor", _plain(tensor if json is None else json))


def _named(image: object, tensor: object, url: object, json: object) -> dict[str, object]:
    return {"image": image, "tensor": tensor, "url": url, "json": json}


def _image_bytes(image: Image) -> bytes:
    if not isinstance(image, str | Path):
        return bytes(image)
    path = Path(image)
    try:
        if path.stat().st_size > _MAX_FILE:
            raise UsageInvalid(f"{path} is larger than {_MAX_FILE} bytes")
        return path.read_bytes()
    except OSError as error:
        raise UsageInvalid(f"picture {path}: {error.strerror or error}") from None


def _kind(content: bytes) -> str:
    if content[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    raise UsageInvalid("not a JPEG, PNG or WebP picture")


def _plain(tensor: Any) -> Any:
    if hasattr(tensor, "tolist") and hasattr(tensor, "shape"):
        return {"shape": list(tensor.shape), "data": tensor.reshape(-1).tolist()}
    return tensor


def _encode(name: str, content: Any) -> bytes:
    try:
        return msgspec.json.encode({"format": name, "content": content})
    except (TypeError, ValueError) as error:
        raise UsageInvalid(f"this input cannot be written as JSON: {error}") from None
