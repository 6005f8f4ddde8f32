# Dense layers forward.

cdef int _threads(int threads) except -1:
    """How many of `threads` a call can use."""
    if threads < 1:
        raise ValueError(f"threads must be at least 1, but is {threads}")
    return min(threads, TEAM_MOST)


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


cdef cnp.ndarray _input(object given, int64_t inputs):
    cdef cnp.ndarray x = _array(given, "x", cnp.NPY_FLOAT32, 2)
    if cnp.PyArray_DIM(x, 1) != inputs:
        raise ValueError(f"x must have shape (n, {inputs}), as weight has {inputs} columns, not {(<object>x).shape}")
    return x


cdef cnp.ndarray _output(object out, cnp.ndarray x, int64_t outputs):
    cdef int64_t n = cnp.PyArray_DIM(x, 0)
    if out is None:
        return _new(2, n, outputs, cnp.NPY_FLOAT32)
    cdef cnp.ndarray y = _target(out, "out", cnp.NPY_FLOAT32, 2)
    _shaped(y, "out", (n, outputs))
    _apart(y, "out", x, "x")
    return y


cdef int _run(const dense_layer *layers, int count, cnp.ndarray x, cnp.ndarray y, int threads,
              int reverse, scratch_spare *spare) except -1:
    cdef int i
    cdef int64_t n = cnp.PyArray_DIM(x, 0)
    cdef const float *px = <const float *>cnp.PyArray_DATA(x)
    cdef float *py = <float *>cnp.PyArray_DATA(y)
    cdef float *scratch = scratch_take(spare, K.network_scratch(layers, count, n, threads))
    if scratch == NULL:
        raise MemoryError
    cdef int64_t products = 0
    for i in range(count):
        products += n * layers[i].inputs * layers[i].outputs
    if products < RELEASE_PRODUCTS:
        K.network(layers, count, px, n, py, scratch, threads, reverse)
    else:
        with nogil:
            K.network(layers, count, px, n, py, scratch, threads, reverse)
    scratch_give(spare, scratch)
    return 0


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
    cdef cnp.ndarray given = _input(x, layer.inputs), y = _output(out, given, layer.outputs)
    _run(&layer, 1, given, y, _threads(threads), 0, &DENSE_SPARE)
    return y


cdef class DenseNetwork:
    """A chain of dense layers, checked once and run in one call.

    Parameters
    ----------
    layers : sequence of (weight, bias, activation) or (weight, bias, activation, alpha), as in `dense`.
        The arrays are kept, not copied (except misaligned ones), so a change of theirs shows in the next call.
        Softmax only in the last layer.
    precision : "float32", or "bfloat16": weights (copied) and each layer's inputs are rounded to bfloat16, sums are
        float32. Half the memory traffic, and twice the arithmetic or more with AVX512_BF16 or AMX
        (`build_info()["bfloat16"]`); about three digits.

    Notes
    -----
    bfloat16: denormal products may count as zero. Tolerance against the twin, which rounds alike, as `dense` for one
    layer; a chain may round a middle value the other way: 1e-2 of the sums of magnitudes.
    Calls may overlap in several threads: each has its own working memory. Semantics and tolerance as `dense`.
    """

    cdef dense_layer *layers
    cdef int count
    cdef int reverse  # every other call: what the one before read last is still in the caches
    cdef tuple kept
    cdef scratch_spare spare
    cdef bf16_layer *rounded
    cdef scratch_spare weights
    cdef readonly int64_t inputs
    cdef readonly int64_t outputs

    def __cinit__(self, layers, *, str precision not None="float32"):
        cdef int i = 0
        cdef cnp.ndarray w, b
        if precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be 'float32' or 'bfloat16', not {precision!r}")
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
        if precision == "bfloat16":
            self._round()

    def __dealloc__(self):
        free(self.layers)
        free(self.rounded)
        scratch_free(&self.spare)
        scratch_free(&self.weights)

    def __call__(self, x, *, int threads=1, out=None):
        """Run the chain: float32 [n, inputs] to float32 [n, outputs]; `threads` and `out` as in `dense`."""
        if isinstance(out, cnp.ndarray):
            for w, b in self.kept:
                _apart(<cnp.ndarray>out, "out", <cnp.ndarray>w, "a weight")
                if b is not None:
                    _apart(<cnp.ndarray>out, "out", <cnp.ndarray>b, "a bias")
        cdef cnp.ndarray given = _input(x, self.inputs), y = _output(out, given, self.outputs)
        if self.rounded == NULL:
            self.reverse ^= 1
            _run(self.layers, self.count, given, y, _threads(threads), self.reverse, &self.spare)
        else:
            self._run_rounded(given, y, _threads(threads))
        return y

    cdef int _run_rounded(self, cnp.ndarray x, cnp.ndarray y, int threads) except -1:
        cdef int64_t n = cnp.PyArray_DIM(x, 0)
        cdef const bf16_unit *unit = _unit()
        cdef float *scratch = scratch_take(&self.spare, unit.scratch(self.rounded, self.count, n))
        if scratch == NULL:
            raise MemoryError
        with nogil:
            unit.network(unit, self.rounded, self.count, <const float *>cnp.PyArray_DATA(x), n,
                         <float *>cnp.PyArray_DATA(y), scratch, threads)
        scratch_give(&self.spare, scratch)
        return 0

    cdef int _round(self) except -1:
        """bfloat16 copies of the weights, in one block: 64-byte aligned, with 15 spare rows a layer for AMX."""
        cdef int64_t total = 0, r, depth
        cdef int i
        for i in range(self.count):
            total += (self.layers[i].outputs + 15) * ((self.layers[i].inputs + 31) // 32 * 32)
        self.rounded = <bf16_layer *>calloc(self.count, sizeof(bf16_layer))
        self.weights.block = NULL
        cdef float *block = scratch_take(&self.weights, (total + 1) // 2)
        if self.rounded == NULL or block == NULL:
            raise MemoryError
        memset(block, 0, <size_t>((total + 1) // 2) * sizeof(float))
        scratch_keep(&self.weights, block)
        cdef uint16_t *at = <uint16_t *>block
        for i in range(self.count):
            depth = (self.layers[i].inputs + 31) // 32 * 32
            self.rounded[i] = bf16_layer(weight=at, bias=self.layers[i].bias, inputs=self.layers[i].inputs,
                                         outputs=self.layers[i].outputs, activation=self.layers[i].activation,
                                         alpha=self.layers[i].alpha)
            for r in range(self.layers[i].outputs):
                K.bf16_row(self.layers[i].weight + r * self.layers[i].inputs, self.layers[i].inputs, depth,
                           at + r * depth)
            at += (self.layers[i].outputs + 15) * depth
        return 0
