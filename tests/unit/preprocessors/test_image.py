from __future__ import annotations

import base64
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from preprocessors.base import InputInvalid, InputTooBig, Limits
from preprocessors.image import ImagePreprocessor
from preprocessors.registry import INPUTS
from preprocessors.specs import PRESETS, ImageInput

from .pictures import encode, photo

PICTURE = photo(32, 24)
PNG = encode(PICTURE, "PNG")


def made(*, limits: Limits | None = None, **spec: Any) -> ImagePreprocessor:
    return ImagePreprocessor(ImageInput(**({"size": (24, 32)} | spec)), limits=limits or Limits())


def text(content: bytes) -> bytes:
    return msgspec.json.encode(base64.b64encode(content).decode())


def url(content: bytes, media: str = "image/png") -> bytes:
    return msgspec.json.encode(f"data:{media};base64,{base64.b64encode(content).decode()}")


EXPECTED = (np.asarray(PICTURE, np.float32) / 255).transpose(2, 0, 1)[None]


@pytest.mark.parametrize(
    ("name", "content", "encoding"),
    [
        ("base64_png", text(PNG), "json"),
        ("base64_webp", text(encode(PICTURE, "WEBP", lossless=True)), "json"),
        ("data_url", url(PNG), "json"),
        ("data_url", url(PNG).replace(b"/", b"\\/"), "json"),
        ("data_url", url(PNG).replace(b"+", b"%2B"), "json"),
        ("data_url", url(PNG, "image/png;name=a.png"), "json"),
        ("image", PNG, "binary"),
        ("image", memoryview(PNG), "binary"),
        ("base64_png", memoryview(text(PNG)), "json"),
        ("tensor", msgspec.json.encode(EXPECTED.tolist()), "json"),
        ("tensor", msgspec.json.encode(EXPECTED[0].tolist()), "json"),
        ("tensor", msgspec.json.encode(EXPECTED.ravel().tolist()), "json"),
    ],
)
def test_every_format_gives_the_same_tensor(name: str, content: bytes, encoding: Any) -> None:
    tensor = made()(name, content, encoding)
    assert (tensor.dtype, tensor.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_allclose(tensor, EXPECTED, atol=1e-6)


def test_jpeg_comes_in_all_its_formats() -> None:
    content = encode(PICTURE, "JPEG", quality=95)
    tensors = [
        made()("base64_jpeg", text(content), "json"),
        made()("data_url", url(content, "image/jpeg"), "json"),
        made()("data_url", url(content, "image/jpg"), "json"),
        made()("image", content, "binary"),
    ]
    for tensor in tensors[1:]:
        np.testing.assert_array_equal(tensor, tensors[0])


def test_every_listed_format_is_known() -> None:
    spec = ImageInput(size=(24, 32))
    for entry in INPUTS.formats(spec):
        with pytest.raises(InputInvalid) as caught:
            INPUTS.create(spec, limits=Limits())(entry.name, b"7", entry.encoding)
        assert "unknown" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "encoding", "says"),
    [
        ("base64_gif", b'""', "json", "the format 'base64_gif' is unknown; this model takes base64_jpeg,"),
        ("base64_png", b"12", "json", "must be a string of base64"),
        ("base64_png", b'"***"', "json", "is not base64: use the standard alphabet with padding"),
        ("base64_png", b'"aGVsbG8"', "json", "is not base64: use the standard alphabet with padding"),
        ("base64_png", b'"aGVs-G8_"', "json", "is not base64: it uses the URL-safe alphabet"),
        ("base64_png", url(PNG), "json", "is a data URL: send it with the format 'data_url'"),
        ("base64_png", b'""', "json", "the file is empty"),
        (
            "base64_jpeg",
            text(PNG),
            "json",
            "declared as JPEG, but the content is a PNG: send it as base64_png",
        ),
        ("base64_png", PNG, "binary", "is text in JSON; send a raw file as 'image'"),
        ("image", text(PNG), "json", "is for a raw body or an uploaded file; in JSON send base64_jpeg"),
        ("data_url", text(PNG), "json", "is not a data URL of the form"),
        ("data_url", b'"data:image/png,abc"', "json", "is not a data URL of the form"),
        ("data_url", b'"data:image/png;base64"', "json", "is not a data URL of the form"),
        ("data_url", b'"data:\xff"', "json", "must be a string that holds a data URL"),
        ("base64_png", b'"\xff"', "json", "is not base64"),
        ("data_url", b"{}", "json", "must be a string that holds a data URL"),
        (
            "data_url",
            url(PNG, "image/gif"),
            "json",
            "declares 'image/gif'; image/jpeg, image/png, image/webp",
        ),
        ("data_url", url(PNG, "image/jpeg"), "json", "declared as JPEG, but the content is a PNG"),
        ("data_url", b'"data:image/png;base64,a-_="', "json", "is not base64"),
        ("data_url", '"data:image/png;base64,ä"'.encode(), "json", "is not base64"),
        ("tensor", b"[1, 2]", "json", "the tensor has shape [2]; this model takes one row [3, 24, 32]"),
    ],
)
def test_a_wrong_input_is_told_what_to_send(name: str, content: bytes, encoding: Any, says: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        made()(name, content, encoding)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"), [("base64_png", text(b"x" * 3000)), ("data_url", url(b"x" * 3000))]
)
def test_text_over_the_limit_is_not_decoded(name: str, content: bytes) -> None:
    with pytest.raises(InputTooBig, match="1000 are taken"):
        made(limits=Limits(max_bytes=1000))(name, content, "json")


# -- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["imagenet", "inception"])
@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_presets_normalise_each_colour_by_its_own_values(preset: Any, color: Any, layout: Any) -> None:
    spec = ImageInput(preset=preset, color=color, layout=layout)
    side = PRESETS[preset].size[0]
    tensor = ImagePreprocessor(spec, limits=Limits())(
        "image", encode(Image.new("RGB", (10, 10), (255, 128, 0)), "PNG"), "binary"
    )
    values = (np.array([255, 128, 0]) / 255 - PRESETS[preset].mean) / np.array(PRESETS[preset].std)
    values = values if color == "rgb" else values[::-1]
    assert tensor.shape == ((1, 3, side, side) if layout == "nchw" else (1, side, side, 3))
    pixel = tensor[0, :, 5, 5] if layout == "nchw" else tensor[0, 5, 5]
    np.testing.assert_allclose(pixel, values, atol=1e-5)


def test_the_presets_are_those_of_the_field() -> None:
    imagenet, inception = (ImageInput(preset=name).picture() for name in ("imagenet", "inception"))
    assert (imagenet.height, imagenet.width, imagenet.scale) == (224, 224, 255)
    assert (imagenet.mean, imagenet.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (inception.height, inception.width, inception.scale) == (299, 299, 255)
    assert (inception.mean, inception.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_explicit_values_win_over_the_preset() -> None:
    picture = ImageInput(preset="imagenet", size=(10, 20), mean=[0, 0, 0], scale=1).picture()
    assert (picture.height, picture.width, picture.scale, picture.mean) == (10, 20, 1, (0, 0, 0))
    assert picture.std == (0.229, 0.224, 0.225)


def test_without_preset_values_are_zero_to_one() -> None:
    picture = ImageInput(size=(2, 2)).picture()
    assert (picture.scale, picture.mean, picture.std) == (255, (0, 0, 0), (1, 1, 1))


def test_explicit_values_stand_in_the_order_of_the_channels() -> None:
    tensor = made(color="bgr", scale=1, mean=[1, 2, 3])(
        "image", encode(Image.new("RGB", (4, 4), (30, 20, 10)), "PNG"), "binary"
    )
    assert tensor[0, :, 0, 0].tolist() == [9, 18, 27]


def test_grey_has_one_channel() -> None:
    tensor = made(color="gray", scale=1)("image", encode(Image.new("L", (9, 9), 77), "PNG"), "binary")
    assert (tensor.shape, tensor[0, 0, 3, 3]) == ((1, 1, 24, 32), 77)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
def test_uint8_is_the_pixels_themselves(layout: Any, color: Any) -> None:
    tensor = made(dtype="uint8", layout=layout, color=color)("image", PNG, "binary")
    pixels = np.asarray(PICTURE.convert("L"))[:, :, None] if color == "gray" else np.asarray(PICTURE)
    pixels = pixels[:, :, ::-1] if color == "bgr" else pixels
    expected = pixels.transpose(2, 0, 1) if layout == "nchw" else pixels
    assert (tensor.dtype, tensor.flags.c_contiguous) == (np.uint8, True)
    np.testing.assert_array_equal(tensor[0], expected)


def test_float16_is_the_float32_result_rounded() -> None:
    half, full = (made(dtype=dtype)("image", PNG, "binary") for dtype in ("float16", "float32"))
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, full.astype(np.float16))
