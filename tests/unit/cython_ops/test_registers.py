from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import cython_ops
from cython_ops import _kernels


def _calls() -> dict[str, Callable[[], object]]:
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape, np.float32) for shape in ((40, 70), (90, 70), (90,)))
    network = cython_ops.DenseNetwork([(w, b, "gelu")])
    rounded = cython_ops.DenseNetwork([(w, b, "gelu")], precision="bfloat16")
    grad, state = rng.standard_normal((40, 90), np.float32), np.zeros((40, 70), np.float32)
    codes = cython_ops.quantize_rows(x)
    labels = np.arange(40)
    pixels, boxes = np.zeros((9, 9, 3), np.uint8), np.abs(x[:, :4]).copy()
    return {
        "softmax_topk": lambda: cython_ops.softmax_topk(x, 5),
        "softmax": lambda: cython_ops.softmax(x),
        "log_softmax": lambda: cython_ops.log_softmax(x),
        "cross_entropy": lambda: cython_ops.cross_entropy(x, labels),
        "cross_entropy_backward": lambda: cython_ops.cross_entropy_backward(x, labels),
        "activate": lambda: cython_ops.activate(x, activation="gelu"),
        "activate_backward": lambda: cython_ops.activate_backward(x, x, activation="tanh"),
        "one row": lambda: network(x[:1]),
        "few rows": lambda: network(x[:7]),
        "many rows": lambda: network(x),
        "bfloat16": lambda: rounded(x),
        "dense_backward_weights": lambda: cython_ops.dense_backward_weights(grad, x),
        "dense_backward_input": lambda: cython_ops.dense_backward_input(grad, w),
        "sgd_step": lambda: cython_ops.sgd_step(state, x, lr=0.1),
        "normalize_image planes": lambda: cython_ops.normalize_image(pixels),
        "normalize_image pixels": lambda: cython_ops.normalize_image(pixels, layout="nhwc", bgr=True),
        "iou": lambda: cython_ops.iou(boxes, boxes),
        "nms": lambda: cython_ops.nms(boxes, b[:40].copy(), iou_threshold=0.5),
        "cosine_topk": lambda: cython_ops.cosine_topk(x, x[0], 5),
        "quantize_rows": lambda: cython_ops.quantize_rows(x),
        "cosine_topk_codes": lambda: cython_ops.cosine_topk_codes(codes, x, x[0], 5),
    }


@pytest.mark.parametrize("name", _calls())
def test_no_kernel_leaves_upper_halves_of_registers_in_use(tier: str, name: str) -> None:
    call = _calls()[name]
    left = 0
    for _ in range(20):  # other code of the interpreter may leave them so now and then, a kernel always does
        call()
        left += _kernels.upper_halves_in_use()
    assert left < 20
