# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, embedsignature=True
# cython: freethreading_compatible=True
"""One row through a chain of dense layers, from a list of numbers to a list of numbers, without NumPy.

For the main process, which has none: the kernels are those of `cython_ops.DenseNetwork` and
`cython_ops.softmax_topk` in the same tier, and so are the semantics and tolerances (docs/kernels.md).
Working memory is taken a call, so calls may overlap.
"""
from libc.math cimport isfinite
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE

import os

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
    ctypedef struct kernel_table:
        const char *name
        void (*score_topk)(const float *, int64_t, int64_t, int64_t, int, float *, int64_t *, double *) noexcept nogil
        int64_t (*network_scratch)(const dense_layer *, int, int64_t, int) noexcept nogil
        void (*network)(const dense_layer *, int, const float *, int64_t, float *, float *, int, int) noexcept nogil
    const kernel_table *const lonja_tiers[]
    int lonja_tier_runs(const kernel_table *)

cdef extern from "scratch.h" nogil:
    ctypedef struct scratch_spare:
        void *block
    float *scratch_take(scratch_spare *, int64_t)
    void scratch_give(scratch_spare *, float *)
    void scratch_free(scratch_spare *)

ACTIVATIONS = {"identity": ACT_IDENTITY, "relu": ACT_RELU, "leaky_relu": ACT_LEAKY_RELU, "gelu": ACT_GELU,
               "tanh": ACT_TANH, "sigmoid": ACT_SIGMOID, "softmax": ACT_SOFTMAX}
SCORES = {"softmax": SCORE_SOFTMAX, "sigmoid": SCORE_SIGMOID, "none": SCORE_NONE}

cdef const kernel_table *K = NULL


cdef int _choose_tier() except -1:
    """As `cython_ops` does, which names what is wrong with `LONJA_CPU_TIER`."""
    global K
    cdef int i = 0
    wanted = os.environ.get("LONJA_CPU_TIER")
    while lonja_tiers[i] != NULL:
        if lonja_tier_runs(lonja_tiers[i]) and (not wanted or lonja_tiers[i].name.decode() == wanted):
            K = lonja_tiers[i]
            return 0
        i += 1
    raise ImportError("this processor has no tier for the kernels" + (f" called {wanted!r}" if wanted else ""))


_choose_tier()


cdef int64_t _padded(int64_t floats):
    return (floats + 15) // 16 * 16


cdef class RowNetwork:
    """A chain of dense layers that takes one row at a time.

    Parameters
    ----------
    layers : sequence of (weight, bias, activation, alpha): float32 buffers [outputs * inputs], row-major, and
        [outputs] or None, which are kept and not copied; the names of `ACTIVATIONS`, softmax in the last layer only.

    Raises
    ------
    ValueError
        A size does not fit, or an activation is unknown.
    """

    cdef dense_layer *layers
    cdef int count
    cdef int reverse  # every other call, as in `DenseNetwork`
    cdef tuple kept
    cdef scratch_spare spare
    cdef int64_t room
    cdef readonly int64_t inputs
    cdef readonly int64_t outputs

    def __cinit__(self, layers, *, int64_t inputs):
        cdef const float[::1] weight, bias
        cdef int64_t width = inputs
        cdef dense_layer *layer
        given, kept = list(layers), []
        if not given or inputs < 1:
            raise ValueError("layers must hold at least one layer, and inputs be at least 1")
        self.count = len(given)
        self.layers = <dense_layer *>calloc(self.count, sizeof(dense_layer))
        if self.layers == NULL:
            raise MemoryError
        for i, (w, b, activation, alpha) in enumerate(given):
            if activation not in ACTIVATIONS or (activation == "softmax" and i != self.count - 1):
                raise ValueError(f"layers[{i}] cannot have the activation {activation!r}")
            weight = w
            layer = &self.layers[i]
            layer.inputs, layer.outputs = width, weight.shape[0] // width
            if layer.outputs < 1 or weight.shape[0] != layer.outputs * width:
                raise ValueError(f"layers[{i}] takes {width} values, which its {weight.shape[0]} weights do not fit")
            layer.weight, layer.activation, layer.alpha = &weight[0], ACTIVATIONS[activation], alpha
            if b is not None:
                bias = b
                if bias.shape[0] != layer.outputs:
                    raise ValueError(f"layers[{i}] gives {layer.outputs} values, its bias has {bias.shape[0]}")
                layer.bias = &bias[0]
            kept.append((w, b, weight, bias if b is not None else None))
            width = layer.outputs
        self.kept = tuple(kept)
        self.inputs, self.outputs = inputs, width
        # input, output, best scores, their classes (two floats each), working memory
        self.room = _padded(inputs) + 2 * _padded(width) + 2 * _padded(width)
        self.room += K.network_scratch(self.layers, self.count, 1, 1)

    def __dealloc__(self):
        free(self.layers)
        scratch_free(&self.spare)

    cdef float *_run(self, list values) except? NULL:
        """The working memory with the output behind the input; NULL where a value does not fit float32."""
        cdef int64_t i
        cdef float value
        cdef float *work
        if PyList_GET_SIZE(values) != self.inputs:
            return NULL
        work = scratch_take(&self.spare, self.room)
        if work == NULL:
            raise MemoryError
        for i in range(self.inputs):
            number = <object>PyList_GET_ITEM(values, i)
            value = <float>(PyFloat_AS_DOUBLE(number) if PyFloat_CheckExact(number) else <double>number)
            if not isfinite(value):
                scratch_give(&self.spare, work)
                return NULL
            work[i] = value
        self.reverse ^= 1
        K.network(self.layers, self.count, work, 1, work + _padded(self.inputs),
                  work + _padded(self.inputs) + 4 * _padded(self.outputs), 1, self.reverse)
        return work

    def __call__(self, list values not None):
        """The network's output for one row: `inputs` numbers to `outputs` numbers.

        None where there are not `inputs` values or one is not finite in float32.
        """
        cdef float *work = self._run(values)
        cdef int64_t i
        if work == NULL:
            return None
        result = [<double>work[_padded(self.inputs) + i] for i in range(self.outputs)]
        scratch_give(&self.spare, work)
        return result

    def best(self, list values not None, int64_t k, str activation not None):
        """The k best classes of one row: their scores, the classes, the entropy in nats, as `softmax_topk` has them.

        None as in calling. Raises `KeyError` where the activation is not one of `SCORES`.
        """
        cdef int score = SCORES[activation]
        cdef int64_t i, best = min(max(k, 0), self.outputs)
        cdef double entropy = 0
        cdef float *work = self._run(values)
        if work == NULL:
            return None
        cdef float *y = work + _padded(self.inputs)
        cdef float *scores = y + _padded(self.outputs)
        cdef int64_t *classes = <int64_t *>(scores + _padded(self.outputs))
        K.score_topk(y, 1, self.outputs, best, score, scores, classes, &entropy)
        result = [<double>scores[i] for i in range(best)], [classes[i] for i in range(best)], entropy
        scratch_give(&self.spare, work)
        return result
