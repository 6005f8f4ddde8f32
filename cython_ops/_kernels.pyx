# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, embedsignature=True
# cython: freethreading_compatible=True
"""The checked Python face of the C kernels in csrc/.

In: ndarrays. Each function checks type, dtype, shape, contiguity and overlap (checks.pxi), then calls the
function of the active tier, without the GIL when the work is long enough to repay its release. Out: new
ndarrays, or the caller's `out`. docs/kernels.md has the semantics; reference.py the same functions in NumPy.
"""
from libc.stdint cimport int64_t, uint8_t, uintptr_t
cimport numpy as cnp

import os

cnp.import_array()

cdef extern from "kernels.h" nogil:
    enum: SCORE_SOFTMAX, SCORE_SIGMOID, SCORE_NONE
    ctypedef struct kernel_table:
        const char *name
        int width
        void (*score_topk)(const float *, int64_t, int64_t, int64_t, int, float *, int64_t *, double *) noexcept nogil
        void (*image_to_planes)(const uint8_t *, int64_t, int64_t, const float *, const float *, int, float *) noexcept nogil
        void (*image_to_pixels)(const uint8_t *, int64_t, int64_t, const float *, const float *, int, float *) noexcept nogil
    const kernel_table *const lonja_tiers[]
    int lonja_tier_runs(const kernel_table *)

# Below this many elements a call ends sooner than the GIL could be released and taken again.
cdef int64_t RELEASE = 16384

include "face/tiers.pxi"
include "face/checks.pxi"
include "face/scores.pxi"
include "face/image.pxi"
