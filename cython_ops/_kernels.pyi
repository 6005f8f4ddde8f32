from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Activation = Literal["softmax", "sigmoid", "none"]

def available_tiers() -> tuple[str, ...]: ...
def active_tier() -> str: ...
def use_tier(name: str, /) -> None: ...
def softmax_topk(
    logits: NDArray[np.float32], k: int, *, activation: Activation = "softmax"
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]: ...
def normalize_image(
    pixels: NDArray[np.uint8],
    *,
    scale: float = 255.0,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    layout: Literal["nchw", "nhwc"] = "nchw",
    bgr: bool = False,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]: ...
