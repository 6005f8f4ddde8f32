from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from lonja.errors import UsageInvalid
from lonja.inputs import input_data

PNG = b"\x89PNG\r\n\x1a\n rest"


def sent(**given: object) -> dict[str, object]:
    return json.loads(input_data(**given))


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"\xff\xd8\xff rest", "base64_jpeg"), (PNG, "base64_png"), (b"RIFF1234WEBP rest", "base64_webp")],
)
def test_a_picture_is_sent_as_what_it_is(content, name):
    assert sent(image=content) == {"format": name, "content": base64.b64encode(content).decode()}


def test_a_picture_is_read_from_a_path(tmp_path):
    (tmp_path / "x.png").write_bytes(PNG)
    assert sent(image=tmp_path / "x.png") == sent(image=str(tmp_path / "x.png")) == sent(image=bytearray(PNG))


def test_a_url_is_left_to_the_node():
    assert sent(url="https://example.org/a.png") == {"format": "url", "content": "https://example.org/a.png"}


def test_numbers_are_a_tensor():
    assert sent(tensor=[[1, 2]]) == {"format": "tensor", "content": [[1, 2]]}
    assert sent(json=[1.5]) == {"format": "tensor", "content": [1.5]}


def test_an_array_keeps_its_shape():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert sent(tensor=array)["content"] == {"shape": [2, 3], "data": [0, 1, 2, 3, 4, 5]}


def test_ready_input_data_is_sent_as_it_is():
    ready = {"format": "data_url", "content": "data:image/png;base64,AA=="}
    assert sent(json=ready) == ready


def test_exactly_one_input_is_wanted():
    with pytest.raises(UsageInvalid, match="none was given"):
        input_data()
    with pytest.raises(UsageInvalid, match="image and url"):
        input_data(image=PNG, url="https://example.org")


def test_what_cannot_be_sent_is_said_before_anything_is():
    for given in ({"image": b"GIF89a"}, {"image": "/nowhere.png"}, {"tensor": [object()]}):
        with pytest.raises(UsageInvalid):
            input_data(**given)
