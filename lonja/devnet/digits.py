"""A small real classifier, made here in a few seconds: digits drawn from fonts, learned by an MLP.

Enters: a folder and a seed. Leaves in it what a publisher would bring: `digits.onnx`, a draft
`metadata.json` and a picture to try. Nothing is downloaded; the fonts are those inside Pillow.

The same seed gives the same files on the same machine.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Floats: TypeAlias = npt.NDArray[np.float32]
Pixels: TypeAlias = npt.NDArray[np.uint8]

LABELS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE: Final = 28
HIDDEN: Final = 128
TRAIN_COUNT: Final = 10_000
HELD_OUT_COUNT: Final = 2_000
EPOCHS: Final = 12
BATCH: Final = 100
_SAMPLE: Final = 7
_DRAWN: Final = 64  # glyphs are drawn large and distorted on the way down
_INK: Final = 42  # height of a digit in that square


@dataclass(frozen=True, slots=True)
class DemoModel:
    """What `build` made.

    Attributes
    ----------
    accuracy : share of held-out pictures that are classified right.
    """

    onnx: Path
    metadata: Path
    picture: Path
    label: str
    accuracy: float


@dataclass(frozen=True, slots=True)
class _Network:
    """Weights [in, out] of a dense network with one hidden layer."""

    hidden: Floats
    hidden_bias: Floats
    out: Floats
    out_bias: Floats

    @property
    def parameters(self) -> tuple[Floats, ...]:
        return (self.hidden, self.hidden_bias, self.out, self.out_bias)

    def logits(self, rows: Floats) -> Floats:
        result: Floats = np.maximum(rows @ self.hidden + self.hidden_bias, 0) @ self.out + self.out_bias
        return result


def build(folder: Path, *, seed: int = 7) -> DemoModel:
    """Draw, train, export. Takes a few seconds on one core; `folder` is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pictures, classes = draw_digits(TRAIN_COUNT + HELD_OUT_COUNT, rng=rng)
    rows: Floats = np.divide(pictures.reshape(len(pictures), -1), np.float32(255), dtype=np.float32)
    network = _train(rows[:TRAIN_COUNT], classes[:TRAIN_COUNT], rng=rng)
    held_out = network.logits(rows[TRAIN_COUNT:]).argmax(axis=1)
    accuracy = float((held_out == classes[TRAIN_COUNT:]).mean())
    sample = _sample()
    model = DemoModel(
        folder / "digits.onnx", folder / "metadata.json", folder / "seven.png", LABELS[_SAMPLE], accuracy
    )
    model.onnx.write_bytes(_onnx(network))
    model.picture.write_bytes(sample)
    model.metadata.write_bytes(_metadata(accuracy, sample))
    return model


def draw_digits(count: int, *, rng: np.random.Generator) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Draw white digits on black, each distorted in its own way.

    Returns
    -------
    pictures : uint8 [count, 28, 28].
    classes : int64 [count].
    """
    glyphs = [_glyphs(digit) for digit in range(10)]
    classes = rng.integers(0, 10, count)
    pictures = np.empty((count, SIDE, SIDE), np.uint8)
    for i, digit in enumerate(classes):
        pictures[i] = _distorted(glyphs[digit][rng.integers(len(glyphs[digit]))], rng)
    noise = rng.normal(0, 1, pictures.shape).astype(np.float32) * rng.uniform(0, 24, (count, 1, 1))
    ink = rng.uniform(0.55, 1, (count, 1, 1))
    return (pictures * ink + noise).clip(0, 255).astype(np.uint8), classes


def _glyphs(digit: int) -> list[Image.Image]:
    """One digit in each font and several thicknesses of stroke."""
    outline = _glyph(digit, ImageFont.load_default(60))
    bitmap = _glyph(digit, ImageFont.load_default_imagefont())
    return [outline, *(outline.filter(ImageFilter.MaxFilter(size)) for size in (3, 5)), bitmap]


def _glyph(digit: int, font: Any) -> Image.Image:
    """One clean digit of a set height in the middle of a square."""
    text = str(digit)
    left, top, right, bottom = (round(value) for value in font.getbbox(text))
    drawn = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(drawn).text((-left, -top), text, fill=255, font=font)
    drawn = drawn.crop(drawn.getbbox())
    drawn = drawn.resize((drawn.width * _INK // drawn.height, _INK), Image.Resampling.BICUBIC)
    square = Image.new("L", (_DRAWN, _DRAWN))
    square.paste(drawn, ((_DRAWN - drawn.width) // 2, (_DRAWN - drawn.height) // 2))
    return square


def _distorted(glyph: Image.Image, rng: np.random.Generator) -> Pixels:
    """Turn, shear, stretch, shift and blur: at twice the size, then reduced."""
    angle = np.deg2rad(rng.uniform(-14, 14))
    shear = rng.uniform(-0.25, 0.25)
    wide, high = rng.uniform(0.85, 1.25, 2) * (_DRAWN / SIDE / 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[wide, shear], [0, high]])
    middle = _DRAWN / 2 - matrix @ (np.array([SIDE, SIDE]) + rng.uniform(-4, 4, 2))
    coefficients = (*matrix[0], middle[0], *matrix[1], middle[1])
    bigger = glyph.transform(
        (SIDE * 2, SIDE * 2), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    return np.asarray(bigger.reduce(2).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.7))))


def _train(rows: Floats, classes: npt.NDArray[np.int64], *, rng: np.random.Generator) -> _Network:
    """Cross-entropy, Adam (Kingma and Ba 2015), the rate falling as a cosine; weights by He et al. 2015."""
    network = _Network(
        rng.normal(0, np.sqrt(2 / rows.shape[1]), (rows.shape[1], HIDDEN)).astype(np.float32),
        np.zeros(HIDDEN, np.float32),
        rng.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, 10)).astype(np.float32),
        np.zeros(10, np.float32),
    )
    means = [np.zeros_like(parameter) for parameter in network.parameters]
    squares = [np.zeros_like(parameter) for parameter in network.parameters]
    steps = EPOCHS * len(rows) // BATCH
    order = np.concatenate([rng.permutation(len(rows)) for _ in range(EPOCHS)]).reshape(steps, BATCH)
    for step, batch in enumerate(order, start=1):
        rate = 0.002 * 0.5 * (1 + np.cos(np.pi * step / steps))
        gradients = _gradients(network, rows[batch], classes[batch])
        for each in zip(network.parameters, means, squares, gradients, strict=True):
            _adam(*each, rate=rate, step=step)
    return network


def _adam(weight: Floats, mean: Floats, square: Floats, gradient: Floats, *, rate: float, step: int) -> None:
    """One step, in place."""
    mean += 0.1 * (gradient - mean)
    square += 0.001 * (gradient * gradient - square)
    corrected = np.sqrt(square / (1 - 0.999**step)) + 1e-8
    weight -= (rate / (1 - 0.9**step)) * mean / corrected


def _gradients(network: _Network, rows: Floats, classes: npt.NDArray[np.int64]) -> tuple[Floats, ...]:
    """Gradients of the mean cross-entropy, in the order of `parameters`."""
    active = np.maximum(rows @ network.hidden + network.hidden_bias, 0)
    logits = active @ network.out + network.out_bias
    error = np.exp(logits - logits.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(rows)), classes] -= 1
    error /= len(rows)
    back = (error @ network.out.T) * (active > 0)
    return (rows.T @ back, back.sum(axis=0), active.T @ error, error.sum(axis=0))


def _onnx(network: _Network) -> bytes:
    """The graph: `input` float [n, 1, 28, 28] -> `logits` float [n, 10]; opset 17."""
    import onnx  # half a second that only an export costs
    from onnx import TensorProto, helper, numpy_helper

    names = ("hidden.weight", "hidden.bias", "out.weight", "out.bias")
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["pixels"]),
            helper.make_node("Gemm", ["pixels", names[0], names[1]], ["mixed"]),
            helper.make_node("Relu", ["mixed"], ["active"]),
            helper.make_node("Gemm", ["active", names[2], names[3]], ["logits"]),
        ],
        "digits",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [
            numpy_helper.from_array(values, name)
            for name, values in zip(names, network.parameters, strict=True)
        ],
    )
    model = helper.make_model(
        graph, producer_name="lonja", opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _sample() -> bytes:
    """A clear seven as a PNG, enlarged so that a person sees it well."""
    file = io.BytesIO()
    _glyphs(_SAMPLE)[1].resize((SIDE * 4, SIDE * 4), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def _metadata(accuracy: float, sample: bytes) -> bytes:
    draft = {
        "name": "Digits",
        "description": (
            "Reads one printed digit, white on black. A dense network learned from digits that were drawn "
            f"from fonts, distorted and noised; {accuracy:.1%} of {HELD_OUT_COUNT} held-out pictures right."
        ),
        "image": "data:image/png;base64," + base64.b64encode(sample).decode(),
        "model": {
            "schema": 1,
            "model_id": "digits",
            "model_type": "image_classification",
            "format": "onnx",
            "labels": list(LABELS),
            "input": {
                "name": "input",
                "kind": "image",
                "size": [SIDE, SIDE],
                "resize": "stretch",
                "interpolation": "bilinear",
                "color": "gray",
                "layout": "nchw",
                "scale": 255,
            },
            "output": {"name": "logits", "task": "classification", "activation": "softmax", "top_k": 3},
        },
    }
    return msgspec.json.format(msgspec.json.encode(draft), indent=2) + b"\n"
