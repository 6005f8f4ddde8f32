# Dense layers forward.

cdef int _threads(int threads) except -1:
    if threads < 1:
        raise ValueError(f"threads must be at least 1, but is {threads}")
    return 0


cdef int _fill_layer(dense_layer *layer, cnp.ndarray weight, cnp.ndarray bias, int activation, float alpha) except -1:
    layer.weight = <const float *>cnp.PyArray_DATA(weight)
    layer.outputs = cnp.PyArray_DIM(weight, 0)
    layer.inputs = cnp.PyArray_DIM(weight, 1)
    layer.bias = NULL
    if bias is not None:
        if cnp.PyArray_DIM(bias, 0) != layer.outputs:
            raise ValueError(f"bias must have shape ({layer.outputs},), one a row of weight, not {(<object>bias).shape}")
        layer.bias = <const float *>cnp.PyArray_DATA(bias)
    layer.activation = activation
    layer.alpha = alpha
    return 0


cdef cnp.ndarray _forward(const dense_layer *layers, int count, object given, object out, int threads,
                          scratch_spare *spare):
    cdef cnp.ndarray x = _array(given, "x", cnp.NPY_FLOAT32, 2)
    cdef int64_t n = cnp.PyArray_DIM(x, 0), outputs = layers[count - 1].outputs
    cdef cnp.ndarray y
    if cnp.PyArray_DIM(x, 1) != layers[0].inputs:
        raise ValueError(f"x must have shape (n, {layers[0].inputs}), as weight has {layers[0].inputs} columns, "
                         f"not {(<object>x).shape}")
    _threads(threads)
    if out is None:
        y = _new(2, n, outputs, cnp.NPY_FLOAT32)
    else:
        y = _target(out, "out", cnp.NPY_FLOAT32, 2)
        _shaped(y, "out", (n, outputs))
        _apart(y, "out", x, "x")
    cdef const float *px = <const float *>cnp.PyArray_DATA(x)
    cdef float *py = <float *>cnp.PyArray_DATA(y)
    cdef float *scratch = scratch_take(spare, K.network_scratch(layers, count, n, threads))
    if scratch == NULL:
        raise MemoryError
    if n * outputs * layers[0].inputs < RELEASE and count == 1:
        K.network(layers, count, px, n, py, scratch, threads)
    else:
        with nogil:
            K.network(layers, count, px, n, py, scratch, threads)
    scratch_give(spare, scratch)
    return y


cdef scratch_spare DENSE_SPARE


def dense(x, weight, bias=None, *, activation="identity", float alpha=0.01, int threads=1, out=None):
    """One dense layer: activation(x @ weight.T + bias).

    Parameters
    ----------
    x : float32 [n, inputs], C-contiguous; may be read-only
    weight : float32 [outputs, inputs], C-contiguous, used as it lies; 64-byte aligned is fastest
    bias : float32 [outputs], or None
    activation, alpha : as in `activate`
    threads : how many may work on this call, the caller included
    out : float32 [n, outputs] to write into; must not share memory with the other arrays

    Returns
    -------
    float32 [n, outputs]

    Notes
    -----
    NaN and infinities go where IEEE arithmetic takes them. Sums are in float32 and their order depends on n, the
    tier and nothing else. Tolerance against the twin: 2e-6 of sum(|x| |weight|) + |bias| before the activation.
    """
    cdef int kind = _activation(activation)
    cdef cnp.ndarray w = _array(weight, "weight", cnp.NPY_FLOAT32, 2)
    cdef cnp.ndarray b = None if bias is None else _array(bias, "bias", cnp.NPY_FLOAT32, 1)
    cdef dense_layer layer
    _fill_layer(&layer, w, b, kind, alpha)
    if isinstance(out, cnp.ndarray):
        _apart(<cnp.ndarray>out, "out", w, "weight")
        if b is not None:
            _apart(<cnp.ndarray>out, "out", b, "bias")
    return _forward(&layer, 1, x, out, threads, &DENSE_SPARE)


cdef class DenseNetwork:
    """A chain of dense layers, checked once and run in one call.

    Parameters
    ----------
    layers : sequence of (weight, bias, activation) or (weight, bias, activation, alpha), as in `dense`.
        The arrays are kept, not copied (except misaligned ones), so a change of theirs shows in the next call.
        Softmax only in the last layer.

    Notes
    -----
    Calls may overlap in several threads: each has its own working memory. Semantics and tolerance as `dense`.
    """

    cdef dense_layer *layers
    cdef int count
    cdef tuple kept
    cdef scratch_spare spare
    cdef readonly int64_t inputs
    cdef readonly int64_t outputs

    def __cinit__(self, layers):
        cdef int i = 0
        cdef cnp.ndarray w, b
        kept = []
        given = list(layers)
        if not given:
            raise ValueError("layers must hold at least one layer")
        self.count = len(given)
        self.layers = <dense_layer *>calloc(self.count, sizeof(dense_layer))
        if self.layers == NULL:
            raise MemoryError
        for i, layer in enumerate(given):
            if len(layer) not in (3, 4):
                raise ValueError(f"layers[{i}] must be (weight, bias, activation) or (..., alpha), "
                                 f"but has {len(layer)} members")
            kind = _activation(layer[2])
            if kind == ACT_SOFTMAX and i != self.count - 1:
                raise ValueError(f"layers[{i}] has activation softmax, which only the last layer may have")
            w = _array(layer[0], f"layers[{i}] weight", cnp.NPY_FLOAT32, 2)
            b = None if layer[1] is None else _array(layer[1], f"layers[{i}] bias", cnp.NPY_FLOAT32, 1)
            _fill_layer(&self.layers[i], w, b, kind, layer[3] if len(layer) == 4 else 0.01)
            if i and self.layers[i].inputs != self.layers[i - 1].outputs:
                raise ValueError(f"layers[{i}] weight has {self.layers[i].inputs} columns, but layers[{i - 1}] gives "
                                 f"{self.layers[i - 1].outputs} values")
            kept.append((w, b))
        self.kept = tuple(kept)
        self.inputs = self.layers[0].inputs
        self.outputs = self.layers[self.count - 1].outputs

    def __dealloc__(self):
        free(self.layers)
        scratch_free(&self.spare)

    def __call__(self, x, *, int threads=1, out=None):
        """Run the chain: float32 [n, inputs] to float32 [n, outputs]; `threads` and `out` as in `dense`."""
        if isinstance(out, cnp.ndarray):
            for w, b in self.kept:
                _apart(<cnp.ndarray>out, "out", <cnp.ndarray>w, "a weight")
                if b is not None:
                    _apart(<cnp.ndarray>out, "out", <cnp.ndarray>b, "a bias")
        return _forward(self.layers, self.count, x, out, threads, &self.spare)
