"""Picture files to 8-bit pixels of the wanted size, with Pillow.

Enters: the bytes of a JPEG, PNG or WebP file. Leaves: uint8 [height, width, channels], upright.

- Limits are checked on the header, before Pillow sees a byte.
- Transparency is laid on white; 16-bit samples keep their high byte; CMYK is converted without
  colour management; embedded ICC profiles are not applied.
- Animations are refused: which frame counts is the caller's to say.
"""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from preprocessors import geometry
from preprocessors.base import Image8, InputInvalid, InputTooBig, Limits
from preprocessors.sniff import Header, Kind, read_header
from preprocessors.specs import Picture

_READERS: Final[dict[Kind, type[ImageFile]]] = {
    "jpeg": JpegImageFile,
    "png": PngImageFile,
    "webp": WebPImageFile,
}
_RESAMPLING: Final = {name.lower(): value for name, value in Image.Resampling.__members__.items()}
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION: Final = 0x0112


def read_pixels(content: bytes, target: Picture, *, limits: Limits, declared: Kind | None = None) -> Image8:
    """Decode, lay out and resize one picture.

    Parameters
    ----------
    content : the file.
    declared : what the caller says that it is; None leaves it to the file's first bytes.

    Returns
    -------
    uint8 [target.height, target.width, target.channels], channels in the order red, green, blue.

    Raises
    ------
    InputInvalid, InputTooBig
    """
    header = check(content, limits=limits, declared=declared)
    try:
        image = _read(content, header, target)
    except MemoryError:
        raise InputTooBig(f"the {header.kind.upper()} needs more memory than a picture may take") from None
    except InputInvalid:
        raise
    except Exception as error:  # Pillow's readers raise whatever their parsing trips over
        raise InputInvalid(f"the {header.kind.upper()} cannot be decoded: {_reason(error)}") from error
    pixels: Image8 = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def check(content: bytes, *, limits: Limits, declared: Kind | None) -> Header:
    """Check size in bytes and pixels and the declared kind, on the header alone."""
    if len(content) > limits.max_bytes:
        raise InputTooBig(f"the file has {len(content)} bytes; {limits.max_bytes} are taken")
    header = read_header(content)
    if declared is not None and header.kind != declared:
        raise InputInvalid(
            f"declared as {declared.upper()}, but the content is a {header.kind.upper()}: "
            f"send it as base64_{header.kind}"
        )
    if header.width * header.height > limits.max_pixels:
        raise InputTooBig(
            f"the picture has {header.width} x {header.height} pixels; {limits.max_pixels} are taken: "
            "scale it down before sending"
        )
    if header.animated:
        raise InputInvalid(_ANIMATED)
    return header


_ANIMATED: Final = "the picture is animated: send one frame as a still picture"


def _read(content: bytes, header: Header, target: Picture) -> Image.Image:
    # the reader itself, not Image.open: no other format can be reached, whatever the bytes say
    image: Any = _READERS[header.kind](io.BytesIO(content))
    if header.kind != "jpeg" and getattr(image, "n_frames", 1) > 1:
        raise InputInvalid(_ANIMATED)
    if image.size != (header.width, header.height):
        raise InputInvalid(f"the {header.kind.upper()} is damaged: its headers disagree about its size")
    orientation = _orientation(image)
    turned = geometry.is_turned(orientation)
    width, height = image.size[::-1] if turned else image.size
    layout = geometry.plan(width, height, target)
    box = geometry.stored_box(layout.box, orientation, width, height)
    factor = _reduce(image, layout, target) if header.kind == "jpeg" else 1
    image.load()
    size = (layout.height, layout.width) if turned else (layout.width, layout.height)
    resized = _resize(image, box, factor, size, target)
    if orientation in _TURNS:
        resized = resized.transpose(_TURNS[orientation])
    return _padded(resized, target)


def _orientation(image: ImageFile) -> int:
    """EXIF orientation 1 to 8; 1 (upright) where there is none or it cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # metadata is no reason to refuse a picture that decodes
        return 1
    return value if value in _TURNS else 1


def _reduce(image: ImageFile, layout: geometry.Geometry, target: Picture) -> int:
    """Ask libjpeg for a reduced scale where the target allows; returns the factor."""
    gray = target.color == "gray"
    factor = 1 if target.interpolation == "nearest" else geometry.reduction(layout)
    width, height = image.size
    # in "L" libjpeg decodes the luma only, which is the grey that Pillow computes (ITU-R BT.601)
    image.draft("L" if gray and image.mode == "RGB" else None, (width // factor, height // factor))
    return round(width / image.size[0]) if factor > 1 else 1


def _resize(
    image: Image.Image, box: geometry.Box, factor: int, size: tuple[int, int], target: Picture
) -> Image.Image:
    left, top, right, bottom = box
    outer = (
        left // factor,
        top // factor,
        min(image.width, -(-right // factor)),
        min(image.height, -(-bottom // factor)),
    )
    part = image if outer == (0, 0, *image.size) else image.crop(outer)
    part.info = image.info
    inner = (
        left / factor - outer[0],
        top / factor - outer[1],
        right / factor - outer[0],
        bottom / factor - outer[1],
    )
    flat = _flatten(part, gray=target.color == "gray")
    return flat.resize(size, _RESAMPLING[target.interpolation], box=inner)


def _flatten(image: Image.Image, *, gray: bool) -> Image.Image:
    """To 8-bit grey or RGB, transparency laid on white."""
    if image.mode.startswith("I"):
        image = _sixteen_bit(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("L" if gray else "RGB")


def _sixteen_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits to 8: the high byte, as Pillow takes it of 16-bit colour."""
    samples = np.asarray(image)
    high = (samples >> 8).clip(0, 255).astype(np.uint8)
    key = image.info.get("transparency")
    if isinstance(key, int):
        high[samples == key] = 255
    return Image.fromarray(high)


def _padded(image: Image.Image, target: Picture) -> Image.Image:
    if image.size == (target.width, target.height):
        return image
    fill = (target.pad,) * target.channels if target.channels > 1 else target.pad
    canvas = Image.new(image.mode, (target.width, target.height), fill)
    canvas.paste(image, ((target.width - image.width) // 2, (target.height - image.height) // 2))
    return canvas


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if "truncated" in text or isinstance(error, EOFError):
        return "it is cut short"
    return "it is damaged" if not text or len(text) > 100 else text
