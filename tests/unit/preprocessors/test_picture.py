from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from preprocessors import picture
from preprocessors.base import InputInvalid, InputTooBig, Limits
from preprocessors.picture import read_pixels
from preprocessors.specs import ImageInput

from .pictures import difference, encode, exif, photo, png, png_chunk

LIMITS = Limits()


def read(content: bytes, *, limits: Limits = LIMITS, declared: Any = None, **spec: Any) -> Any:
    target = ImageInput(**({"size": (32, 32)} | spec)).picture()
    return read_pixels(content, target, limits=limits, declared=declared)


def plain(image: Image.Image, size: tuple[int, int] = (32, 32), how: str = "BICUBIC") -> Any:
    return np.asarray(image.resize(size, Image.Resampling[how]))


# -- layout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
def test_stretch_is_pillows_resize_in_every_interpolation(how: str) -> None:
    image = photo(97, 61)
    actual = read(encode(image, "PNG"), interpolation=how, size=(40, 24))
    np.testing.assert_array_equal(actual, plain(image, (24, 40), how.upper()))


@pytest.mark.parametrize("size", [(97, 61), (61, 97), (64, 64), (63, 64), (1, 50)])
def test_crop_is_the_centre_square_resized(size: tuple[int, int]) -> None:
    image = photo(*size)
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    expected = plain(image.crop((left, top, left + side, top + side)))
    np.testing.assert_array_equal(read(encode(image, "PNG"), resize="crop"), expected)


def test_crop_shows_what_resizing_the_shorter_side_and_cropping_shows() -> None:
    image = photo(256, 192)
    other = np.asarray(image.resize((64, 48), Image.Resampling.BICUBIC).crop((8, 0, 56, 48)))
    actual = read(encode(image, "PNG"), resize="crop", size=(48, 48))
    # the rim may differ: cropping first, the filter cannot see beyond the square
    assert difference(actual[2:-2, 2:-2], other[2:-2, 2:-2]) <= 1


def test_crop_keeps_the_proportions_of_a_target_that_is_not_square() -> None:
    image = photo(200, 200)
    expected = plain(image.crop((0, 50, 200, 150)), (40, 20))
    np.testing.assert_array_equal(read(encode(image, "PNG"), resize="crop", size=(20, 40)), expected)


def test_letterbox_keeps_proportions_and_pads_the_rest() -> None:
    image = photo(80, 40)
    actual = read(encode(image, "PNG"), resize="letterbox", pad=114)
    np.testing.assert_array_equal(actual[8:24], plain(image, (32, 16)))
    assert (actual[:8] == 114).all()
    assert (actual[24:] == 114).all()


def test_letterbox_of_a_sliver_keeps_at_least_one_pixel() -> None:
    assert read(encode(photo(2000, 3), "PNG"), resize="letterbox").shape == (32, 32, 3)


def test_one_pixel_fills_the_target() -> None:
    actual = read(encode(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"))
    assert (actual == (9, 8, 7)).all()


# -- orientation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_pictures_are_turned_upright(orientation: int, resize: str, kind: str) -> None:
    options: dict[str, Any] = {"PNG": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 95}}[kind]
    content = encode(photo(91, 64), kind, exif=exif(orientation), **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    expected = read(encode(upright, "PNG"), resize=resize, size=(24, 40))
    assert difference(read(content, resize=resize, size=(24, 40)), expected) <= 1


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(value: int) -> None:
    image = photo(40, 30)
    np.testing.assert_array_equal(read(encode(image, "PNG", exif=exif(value))), plain(image))


def test_damaged_exif_does_not_refuse_the_picture() -> None:
    image = photo(40, 30)
    content = encode(image, "PNG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    np.testing.assert_array_equal(read(content), plain(image))


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_large_photo_is_turned_after_it_was_reduced(orientation: int) -> None:
    content = encode(photo(1600, 1200), "JPEG", quality=90, exif=exif(orientation))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert difference(read(content, resize="crop", size=(64, 64)), plain_crop(upright, 64)) <= 4


def plain_crop(image: Image.Image, side: int) -> Any:
    return np.asarray(ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC))


# -- reduced decoding -----------------------------------------------------------------------------


@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize("size", [(4000, 3000), (4001, 2999)])
def test_a_reduced_jpeg_is_within_two_of_a_full_decode(resize: str, size: tuple[int, int]) -> None:
    content = encode(photo(*size), "JPEG", quality=90)
    full = Image.open(io.BytesIO(content)).convert("RGB")
    if resize == "crop":
        side, left = size[1], (size[0] - size[1]) // 2
        full = full.crop((left, 0, left + side, side))
    actual = read(content, preset="imagenet", size=None, resize=resize)
    assert difference(actual, plain(full, (224, 224))) <= 2


def test_grey_of_a_reduced_colour_jpeg_is_the_luma() -> None:
    content = encode(photo(1600, 1200), "JPEG", quality=90)
    full = Image.open(io.BytesIO(content)).convert("L")
    assert difference(read(content, color="gray")[:, :, 0], plain(full)) <= 2


def test_a_small_jpeg_is_decoded_in_full() -> None:
    content = encode(photo(224 * 5, 224 * 5), "JPEG", quality=90)
    full = Image.open(io.BytesIO(content))
    np.testing.assert_array_equal(read(content, size=(224, 224)), plain(full, (224, 224)))


def test_nearest_takes_its_pixels_from_a_full_decode() -> None:
    content = encode(photo(640, 640), "JPEG", quality=90)
    full = Image.open(io.BytesIO(content))
    np.testing.assert_array_equal(read(content, interpolation="nearest"), plain(full, how="NEAREST"))


# -- modes ----------------------------------------------------------------------------------------


def test_transparency_is_laid_on_white() -> None:
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 4, 8))
    image.paste((0, 0, 0, 128), (0, 0, 2, 8))
    actual = read(encode(image, "PNG"), size=(8, 8))
    assert actual[0, 0].tolist() == [127, 127, 127]
    assert actual[0, 3].tolist() == [0, 0, 255]
    assert actual[0, 7].tolist() == [255, 255, 255]


def test_transparency_of_webp_is_laid_on_white() -> None:
    content = encode(Image.new("RGBA", (8, 8), (200, 0, 0, 0)), "WEBP", lossless=True)
    assert (read(content, size=(8, 8)) == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_and_palette_pictures_are_read_as_colour(mode: str) -> None:
    image = photo(32, 32).convert(mode)
    np.testing.assert_array_equal(read(encode(image, "PNG")), np.asarray(image.convert("RGB")))


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert (read(encode(image, "PNG", transparency=1)) == 255).all()
    assert (read(encode(image, "PNG")) == (10, 20, 30)).all()


def test_grey_with_alpha_is_laid_on_white() -> None:
    assert (read(encode(Image.new("LA", (8, 8), (0, 0)), "PNG"), color="gray") == 255).all()


def test_sixteen_bit_grey_keeps_its_high_byte() -> None:
    samples = np.array([[0x0000, 0x00FF, 0x0100], [0x7FFF, 0x8000, 0xFFFF]], np.uint16)
    content = encode(Image.fromarray(samples), "PNG")
    assert read(content, size=(2, 3), color="gray")[:, :, 0].tolist() == [[0, 0, 1], [0x7F, 0x80, 0xFF]]
    assert read(content, size=(2, 3))[1, 2].tolist() == [255, 255, 255]


def test_the_transparent_value_of_sixteen_bit_grey_is_white() -> None:
    rows = b"\x00" + b"\x12\x34" + b"\x12\x35"
    content = png(2, 1, depth=16, color=0, rows=rows, extra=png_chunk(b"tRNS", b"\x12\x34"))
    assert read(content, size=(1, 2), color="gray")[0, :, 0].tolist() == [255, 0x12]


def test_sixteen_bit_colour_keeps_its_high_byte() -> None:
    content = png(1, 1, depth=16, color=2, rows=b"\x00" + b"\x12\xff\x80\x00\xff\x01")
    assert read(content, size=(1, 1)).tolist() == [[[0x12, 0x80, 0xFF]]]


def test_cmyk_is_converted() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red, green, blue = read(encode(image, "JPEG", quality=95), size=(1, 1))[0, 0]
    assert (red > 240, green < 15, blue < 15) == (True, True, True)


def test_cmyk_is_reduced_like_other_jpegs() -> None:
    content = encode(photo(1600, 1200).convert("CMYK"), "JPEG", quality=90)
    full = Image.open(io.BytesIO(content)).convert("RGB")
    assert difference(read(content), plain(full)) <= 2


def test_of_several_pictures_in_one_jpeg_the_first_counts() -> None:
    first = photo(64, 48)
    content = encode(first, "MPO", save_all=True, append_images=[photo(64, 48, seed=1)])
    expected = read(encode(first, "JPEG"))
    np.testing.assert_array_equal(read(content), expected)


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_too_many_pixels_are_refused_before_anything_is_decoded(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "_READERS", {})
    with pytest.raises(InputTooBig, match="101 x 100 pixels; 10000 are taken"):
        read(encode(photo(101, 100), kind), limits=Limits(max_pixels=10_000))


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = png(100_000, 100_000, depth=1, color=0, rows=b"\x00" * 1_250_100)
    assert len(bomb) < 2000
    with pytest.raises(InputTooBig, match="100000 x 100000"):
        read(bomb)


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(InputTooBig, match="bytes; 100 are taken"):
        read(encode(photo(64, 64), "PNG"), limits=Limits(max_bytes=100))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_truncated_picture_is_refused(kind: str, share: float) -> None:
    content = encode(photo(300, 200), kind)
    with pytest.raises(InputInvalid, match=f"the {kind if kind != 'WEBP' else 'WebP'}|cannot be decoded"):
        read(content[: int(len(content) * share)])


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused(kind: str) -> None:
    content = encode(photo(32, 32), kind, save_all=True, append_images=[photo(32, 32, seed=1)])
    with pytest.raises(InputInvalid, match="send one frame"):
        read(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_of_another_kind_than_declared_is_refused(kind: str) -> None:
    wrong = "jpeg" if kind != "JPEG" else "png"
    with pytest.raises(InputInvalid, match=f"but the content is a {kind}: send it as base64_{kind.lower()}"):
        read(encode(photo(8, 8), kind), declared=wrong)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"GIF89a" + b"\0" * 50, "the file is GIF"),
        (b"BM" + b"\0" * 50, "the file is BMP"),
        (b"II*\0" + b"\0" * 50, "the file is TIFF"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 50, "the file is HEIC"),
        (b"\0\0\0\x18ftypavif" + b"\0" * 50, "the file is AVIF"),
        (b"%PDF-1.7", "the file is PDF"),
        (b"<svg xmlns=''>", "the file is SVG"),
        (b"hello", "not a picture that this node reads"),
        (b"\xff\xd8\xff", "the JPEG is cut short"),
        (b"\xff\xd8\xff\xd9" + b"\0" * 20, "the JPEG is cut short"),
        (b"\x89PNG\r\n\x1a\n", "the PNG is cut short"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "the WebP is cut short"),
        (b"RIFF\0\0\0\0WEBPABCD" + b"\0" * 30, "the WebP is cut short"),
        (png(0, 5, depth=8, color=2, rows=b""), "no pixels"),
    ],
)
def test_what_is_no_picture_is_named(content: bytes, says: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        read(content)
    assert says in str(caught.value)


def test_headers_that_disagree_are_refused() -> None:
    content = bytearray(encode(photo(40, 30).convert("RGBA"), "WEBP", exif=exif(1)))
    assert content[12:16] == b"VP8X"
    content[24] = 9
    with pytest.raises(InputInvalid, match="WEBP"):
        read(bytes(content))


def test_memory_that_runs_out_is_the_pictures_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(picture, "_read", fail)
    with pytest.raises(InputTooBig, match="more memory"):
        read(encode(photo(8, 8), "PNG"))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_damaged_pictures_never_raise_anything_else(kind: str) -> None:
    chance = random.Random(5)
    content = encode(photo(60, 40), kind, exif=exif(6))
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(12, len(damaged))] = chance.randrange(256)
        try:
            pixels = read(bytes(damaged), limits=Limits(max_pixels=100_000))
        except (InputInvalid, InputTooBig):
            refused += 1
        else:
            assert pixels.shape == (32, 32, 3)
    assert refused > 0
