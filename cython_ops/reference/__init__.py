"""What each kernel computes, in plain NumPy, mostly in double precision.

In and out as the kernels of the same names. Slow and obvious on purpose: the parity tests hold every tier to
these, and they serve where the extension cannot be built.
"""

from __future__ import annotations

from cython_ops.reference.boxes import iou, nms
from cython_ops.reference.cosine import cosine_topk, cosine_topk_codes, quantize_rows
from cython_ops.reference.dense import (
    DenseNetwork,
    activate,
    activate_backward,
    dense,
    dense_backward_input,
    dense_backward_weights,
)
from cython_ops.reference.image import normalize_image
from cython_ops.reference.optimizers import adam_step, adamw_step, rmsprop_step, sgd_step
from cython_ops.reference.scores import (
    cross_entropy,
    cross_entropy_backward,
    entropy,
    log_softmax,
    softmax,
    softmax_topk,
)

__all__ = [
    "DenseNetwork",
    "activate",
    "activate_backward",
    "adam_step",
    "adamw_step",
    "cosine_topk",
    "cosine_topk_codes",
    "cross_entropy",
    "cross_entropy_backward",
    "dense",
    "dense_backward_input",
    "dense_backward_weights",
    "entropy",
    "iou",
    "log_softmax",
    "nms",
    "normalize_image",
    "quantize_rows",
    "rmsprop_step",
    "sgd_step",
    "softmax",
    "softmax_topk",
]
