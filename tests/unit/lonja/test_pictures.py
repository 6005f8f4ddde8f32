from __future__ import annotations

from io import BytesIO

from PIL import Image

from lonja.cli.pictures import bars, picture


def png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_bars_are_as_long_as_their_share():
    lines = bars([("seven", 0.75), ("one", 0.25), ("two", 0.0)], width=4).splitlines()
    assert lines == ["seven  ███    75.0 %", "one    █      25.0 %", "two            0.0 %"]


def test_bars_show_eighths_and_bound_what_is_out_of_range():
    assert bars([("a", 0.5625)], width=2).startswith("a  █▏ ")
    assert bars([("a", 1.5)], width=2).startswith("a  ██ ")
    assert bars([]) == "(no class is likely enough)"


def test_a_picture_in_colour_is_half_blocks_of_its_pixels():
    image = Image.new("RGB", (2, 2), (255, 0, 0))
    image.putpixel((0, 1), (0, 0, 255))
    drawn = picture(png(image), columns=2)
    assert drawn == "\x1b[38;2;255;0;0;48;2;0;0;255m▀\x1b[38;2;255;0;0;48;2;255;0;0m▀\x1b[0m"


def test_a_picture_without_colour_is_shades(tmp_path):
    image = Image.new("L", (4, 4), 0)
    image.paste(255, (2, 0, 4, 4))
    path = tmp_path / "x.png"
    path.write_bytes(png(image))
    assert picture(path, columns=4, colour=False) == "  ██\n  ██"


def test_a_label_does_nothing_to_the_terminal():
    assert "\x1b" not in bars([("cat\x1b]0;owned\x07", 0.5)])
    assert len(bars([("cat\n dog  100.0 %\u202e", 0.5)]).splitlines()) == 1
