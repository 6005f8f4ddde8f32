from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cython_ops import normalize_image, reference

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def picture(h: int, w: int, c: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, c), dtype=np.uint8)


@given(
    h=st.integers(0, 9),
    w=st.integers(0, 40),
    c=st.integers(1, 5),
    layout=st.sampled_from(["nchw", "nhwc"]),
    bgr=st.booleans(),
    scale=st.sampled_from([1.0, 255.0, 127.5]),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_pictures_equal_the_twin(
    tier: str, h: int, w: int, c: int, layout: str, bgr: bool, scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = picture(h, w, c, seed)
    arguments = {"scale": scale, "mean": rng.uniform(-1, 1, c), "std": rng.uniform(0.1, 2, c)}
    got = normalize_image(pixels, **arguments, layout=layout, bgr=bgr)
    want = reference.normalize_image(pixels, **arguments, layout=layout, bgr=bgr)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=4e-7 * (255 / scale + 1) / 0.1)


def test_mean_belongs_to_the_output_channel(tier: str) -> None:
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    out = normalize_image(red, mean=(0, 0, 1), bgr=True)
    assert out.ravel().tolist() == [0, 0, 0]


def test_out_is_written_and_returned(tier: str) -> None:
    pixels, out = picture(5, 7, 3), np.empty((1, 3, 5, 7), np.float32)
    assert normalize_image(pixels, out=out, **IMAGENET) is out
    np.testing.assert_array_equal(out, normalize_image(pixels, **IMAGENET))


def test_read_only_pixels_and_odd_addresses_are_fine(tier: str) -> None:
    pixels = picture(11, 13, 3)
    want = normalize_image(pixels, **IMAGENET)
    shifted = np.frombuffer(b"x" + pixels.tobytes(), np.uint8)[1:].reshape(pixels.shape)
    assert not shifted.flags.writeable
    np.testing.assert_array_equal(normalize_image(shifted, **IMAGENET), want)


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"pixels": np.zeros((2, 2, 3))}, TypeError, "pixels must be uint8"),
        ({"pixels": np.zeros((2, 2), np.uint8)}, ValueError, "pixels must have 3 dimensions"),
        (
            {"pixels": np.zeros((2, 2, 17), np.uint8)},
            ValueError,
            "1 to 16 channels in its last dimension, not 17",
        ),
        ({"pixels": np.zeros((2, 2, 3), np.uint8)[::-1]}, ValueError, "pixels must be C-contiguous"),
        ({"mean": (1.0, 2.0)}, ValueError, "mean has 2 numbers for 3 channels"),
        ({"std": (1.0, 0.0, 1.0)}, ValueError, "std must hold numbers other than 0"),
        ({"scale": 0}, ValueError, "scale must be a number other than 0"),
        ({"layout": "chwn"}, ValueError, "layout must be 'nchw' or 'nhwc', not 'chwn'"),
        ({"out": np.zeros((1, 3, 2, 3), np.float32)}, ValueError, r"out must have shape \(1, 3, 2, 2\)"),
        ({"out": np.zeros((1, 3, 2, 2))}, TypeError, "out must be float32"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, object], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        normalize_image(**({"pixels": picture(2, 2, 3)} | change))  # type: ignore[arg-type]


def test_a_read_only_or_overlapping_out_is_refused() -> None:
    out = np.zeros((1, 3, 2, 2), np.float32)
    with pytest.raises(ValueError, match="out and pixels overlap in memory"):
        normalize_image(out.view(np.uint8).ravel()[:12].reshape(2, 2, 3), out=out)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        normalize_image(picture(2, 2, 3), out=out)
