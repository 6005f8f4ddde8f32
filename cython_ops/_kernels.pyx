# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, embedsignature=True
# cython: freethreading_compatible=True
"""The checked Python face of the C kernels in csrc/.

In: ndarrays. Each function checks type, dtype, shape, contiguity and overlap (checks.pxi), then calls the
function of the active tier, without the GIL when the work is long enough to repay its release. Out: new
ndarrays, or the caller's `out`. docs/kernels.md has the semantics; reference.py the same functions in NumPy.
"""
from libc.string cimport memset
from libc.stdlib cimport calloc, free
from libc.stdint cimport int8_t, int16_t, int64_t, uint8_t, uint16_t, uintptr_t
cimport numpy as cnp

import os

from cython_ops.row_codes import RowCodes

cnp.import_array()

cdef extern from "kernels.h" nogil:
    enum: SCORE_SOFTMAX, SCORE_SIGMOID, SCORE_NONE
    enum: ACT_IDENTITY, ACT_RELU, ACT_LEAKY_RELU, ACT_GELU, ACT_TANH, ACT_SIGMOID, ACT_SOFTMAX
    ctypedef struct dense_layer:
        const float *weight
        const float *bias
        int64_t inputs "in"
        int64_t outputs "out"
        int activation
        float alpha
    ctypedef struct bf16_layer:
        const uint16_t *weight
        const float *bias
        int64_t inputs "in"
        int64_t outputs "out"
        int activation
        float alpha
    ctypedef struct bf16_unit:
        const char *name
        int64_t (*scratch)(const bf16_layer *, int, int64_t) noexcept nogil
        void (*network)(const bf16_unit *, const bf16_layer *, int, const float *, int64_t, float *, float *,
                        int) noexcept nogil
    enum: STEP_SGD, STEP_ADAM, STEP_RMSPROP
    ctypedef struct step_settings:
        float rate
        float beta1
        float beta2
        float epsilon
        float decay
        float shrink
        float unbias2
    ctypedef struct row_codes:
        uint8_t *upper
        uint8_t *lower
        float *upper_gains
        float *upper_margins
        float *gains
        float *margins
    ctypedef struct code_look:
        pass
    int64_t half_bytes(int64_t)
    ctypedef struct kernel_table:
        const char *name
        int width
        bf16_unit widened
        void (*bf16_row)(const float *, int64_t, int64_t, uint16_t *) noexcept nogil
        void (*score_topk)(const float *, int64_t, int64_t, int64_t, int, float *, int64_t *, double *) noexcept nogil
        void (*image_to_planes)(const uint8_t *, int64_t, int64_t, const float *, const float *, int, float *) noexcept nogil
        void (*image_to_pixels)(const uint8_t *, int64_t, int64_t, const float *, const float *, int, float *) noexcept nogil
        void (*softmax_rows)(const float *, float *, int64_t, int64_t) noexcept nogil
        void (*log_softmax_rows)(const float *, float *, int64_t, int64_t) noexcept nogil
        double (*cross_entropy)(const float *, const int64_t *, const float *, int64_t, int64_t) noexcept nogil
        void (*cross_entropy_back)(const float *, const int64_t *, const float *, int64_t, int64_t,
                                   float *) noexcept nogil
        void (*activate)(int, float, const float *, float *, int64_t) noexcept nogil
        void (*activate_back)(int, float, const float *, const float *, float *, int64_t, int64_t) noexcept nogil
        int64_t (*network_scratch)(const dense_layer *, int, int64_t, int) noexcept nogil
        void (*network)(const dense_layer *, int, const float *, int64_t, float *, float *, int, int) noexcept nogil
        int64_t (*product_scratch)(int) noexcept nogil
        void (*back_to_weights)(const float *, const float *, int64_t, int64_t, int64_t, float *, float *, float *,
                                int) noexcept nogil
        void (*back_to_input)(const float *, const float *, int64_t, int64_t, int64_t, float *, float *,
                              int) noexcept nogil
        void (*optimizer_step)(int, float *, const float *, float *, float *, int64_t,
                               const step_settings *) noexcept nogil
        void (*iou_matrix)(const float *, int64_t, const float *, int64_t, float *) noexcept nogil
        int64_t (*cosine_topk)(const float *, const float *, int64_t, int64_t, int64_t, float *, int64_t *, int64_t *,
                               int) noexcept nogil
        void (*quantize_rows)(const float *, int64_t, int64_t, float *, const row_codes *) noexcept nogil
        int64_t (*cosine_topk_codes)(const row_codes *, const float *, const float *, int64_t, int64_t, int64_t,
                                     code_look *, int8_t *, float *, float *, int64_t *, int64_t *, int) noexcept nogil
    const kernel_table *const lonja_tiers[]
    int lonja_tier_runs(const kernel_table *)
    int lonja_upper_halves_in_use()
    const bf16_unit *const lonja_bf16_units[]
    int lonja_unit_runs(const bf16_unit *)

cdef extern from "team.h" nogil:
    enum: TEAM_MOST, TEAM_GAP

cdef extern from "nms.h" nogil:
    ctypedef struct nms_request:
        const float *boxes
        const float *scores
        const int64_t *classes
        int64_t n
        float iou_threshold
        float score_threshold
        int64_t most
    int64_t lonja_nms(const kernel_table *, const nms_request *, int64_t *, float *)
    int64_t lonja_nms_scratch(int64_t)

cdef extern from "scratch.h" nogil:
    ctypedef struct scratch_spare:
        void *block
    float *scratch_take(scratch_spare *, int64_t)
    void scratch_give(scratch_spare *, float *)
    void scratch_keep(scratch_spare *, float *)
    void scratch_free(scratch_spare *)

# Below this many elements a call ends sooner than the GIL could be released and taken again.
cdef int64_t RELEASE = 16384
cdef int64_t RELEASE_PRODUCTS = 262144  # of a network: some 5 us

include "face/tiers.pxi"
include "face/checks.pxi"
include "face/scores.pxi"
include "face/rows.pxi"
include "face/dense.pxi"
include "face/backward.pxi"
include "face/optimizers.pxi"
include "face/image.pxi"
include "face/boxes.pxi"
include "face/cosine.pxi"
