from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cython_ops.row_codes import RowCodes

Floats = NDArray[np.float32]
Score = Literal["softmax", "sigmoid", "none"]
Activation = Literal["identity", "relu", "leaky_relu", "gelu", "tanh", "sigmoid", "softmax"]
Layer = tuple[Floats, Floats | None, Activation] | tuple[Floats, Floats | None, Activation, float]

def available_tiers() -> tuple[str, ...]: ...
def upper_halves_in_use() -> bool: ...
def active_tier() -> str: ...
def use_tier(name: str, /) -> None: ...
def available_units() -> tuple[str, ...]: ...
def active_unit() -> str: ...
def use_unit(name: str, /) -> None: ...
def softmax_topk(
    logits: Floats, k: int, *, activation: Score = "softmax"
) -> tuple[Floats, NDArray[np.int64], NDArray[np.float64]]: ...
def entropy(logits: Floats, *, activation: Score = "softmax") -> NDArray[np.float64]: ...
def softmax(logits: Floats, *, out: Floats | None = None) -> Floats: ...
def log_softmax(logits: Floats, *, out: Floats | None = None) -> Floats: ...
def cross_entropy(logits: Floats, labels: NDArray[np.int64], *, weights: Floats | None = None) -> float: ...
def cross_entropy_backward(
    logits: Floats,
    labels: NDArray[np.int64],
    *,
    weights: Floats | None = None,
    out: Floats | None = None,
) -> Floats: ...
def activate(
    values: Floats, *, activation: Activation, alpha: float = 0.01, out: Floats | None = None
) -> Floats: ...
def activate_backward(
    grad: Floats, values: Floats, *, activation: Activation, alpha: float = 0.01, out: Floats | None = None
) -> Floats: ...
def dense(
    x: Floats,
    weight: Floats,
    bias: Floats | None = None,
    *,
    activation: Activation = "identity",
    alpha: float = 0.01,
    threads: int = 1,
    out: Floats | None = None,
) -> Floats: ...

class DenseNetwork:
    @property
    def inputs(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    def __init__(
        self, layers: Sequence[Layer], *, precision: Literal["float32", "bfloat16"] = "float32"
    ) -> None: ...
    def __call__(self, x: Floats, *, threads: int = 1, out: Floats | None = None) -> Floats: ...

def dense_backward_weights(
    grad: Floats,
    x: Floats,
    *,
    threads: int = 1,
    grad_weight: Floats | None = None,
    grad_bias: Floats | None = None,
) -> tuple[Floats, Floats]: ...
def dense_backward_input(
    grad: Floats, weight: Floats, *, threads: int = 1, out: Floats | None = None
) -> Floats: ...
def sgd_step(
    param: Floats,
    grad: Floats,
    velocity: Floats | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> None: ...
def adam_step(
    param: Floats,
    grad: Floats,
    mean: Floats,
    square: Floats,
    *,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> None: ...
def adamw_step(
    param: Floats,
    grad: Floats,
    mean: Floats,
    square: Floats,
    *,
    step: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 1e-2,
) -> None: ...
def rmsprop_step(
    param: Floats,
    grad: Floats,
    square: Floats,
    *,
    lr: float = 1e-2,
    smoothing: float = 0.99,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> None: ...
def normalize_image(
    pixels: NDArray[np.uint8],
    *,
    scale: float = 255.0,
    mean: float | Sequence[float] | Floats = 0.0,
    std: float | Sequence[float] | Floats = 1.0,
    layout: Literal["nchw", "nhwc"] = "nchw",
    bgr: bool = False,
    out: Floats | None = None,
) -> Floats: ...
def iou(a: Floats, b: Floats) -> Floats: ...
def nms(
    boxes: Floats,
    scores: Floats,
    *,
    iou_threshold: float,
    score_threshold: float = ...,
    classes: NDArray[np.int64] | None = None,
    max_output: int | None = None,
) -> NDArray[np.int64]: ...
def cosine_topk(
    rows: Floats, query: Floats, k: int, *, threads: int = 1
) -> tuple[Floats, NDArray[np.int64]]: ...
def quantize_rows(rows: Floats) -> RowCodes: ...
def cosine_topk_codes(
    codes: RowCodes, rows: Floats, query: Floats, k: int, *, threads: int = 1
) -> tuple[Floats, NDArray[np.int64]]: ...
