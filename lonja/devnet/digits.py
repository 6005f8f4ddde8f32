"""A small real classifier, made here in a few seconds: digits drawn from fonts, learned by our own engine.

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

from training.chain import links
from training.diagnosis import Verdict, diagnose
from training.layers import Dense
from training.losses import CrossEntropy
from training.network import Network
from training.onnx_export import onnx_bytes
from training.optimizers import Adam
from training.profile import profile
from training.schedules import Schedule
from training.settings import Settings
from training.trainer import Trainer

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
    verdict : on the network's health.
    """

    onnx: Path
    metadata: Path
    picture: Path
    label: str
    accuracy: float
    verdict: Verdict


def build(folder: Path, *, seed: int = 7) -> DemoModel:
    """Draw, train, export. Takes a few seconds on one core; `folder` is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pictures, classes = draw_digits(TRAIN_COUNT + HELD_OUT_COUNT, rng=rng)
    rows: Floats = np.divide(pictures.reshape(len(pictures), -1), np.float32(255), dtype=np.float32)
    parts = (slice(TRAIN_COUNT), slice(TRAIN_COUNT, None))
    train, held_out = ((rows[part], classes[part]) for part in parts)
    trainer = _trained(train, held_out, seed=seed)
    accuracy = float((trainer.network.predict(held_out[0]).argmax(axis=1) == held_out[1]).mean())
    sample = _sample()
    model = DemoModel(
        folder / "digits.onnx",
        folder / "metadata.json",
        folder / "seven.png",
        LABELS[_SAMPLE],
        accuracy,
        diagnose(trainer.stats),
    )
    model.onnx.write_bytes(onnx_bytes(links(trainer.network), output="logits", input_shape=(1, SIDE, SIDE)))
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


def _trained(
    train: tuple[Floats, npt.NDArray[np.int64]], held_out: tuple[Floats, npt.NDArray[np.int64]], *, seed: int
) -> Trainer:
    """One hidden layer; Adam, the rate falling as a cosine."""
    trainer = Trainer(
        Network(train[0].shape[1], [Dense(HIDDEN, "relu"), Dense(len(LABELS))], seed=seed),
        CrossEntropy(),
        Settings(
            epochs=EPOCHS, batch=BATCH, optimizer=Adam(rate=0.002), schedule=Schedule("cosine"), seed=seed
        ),
        train=train,
        validation=held_out,
    )
    trainer.stats.data = profile(train, held_out, classes=LABELS)
    trainer.fit()
    return trainer


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
