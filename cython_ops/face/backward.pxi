# Gradients of a dense layer.

cdef cnp.ndarray _result(object out, str name, int ndim, int64_t d0, int64_t d1):
    """`out` checked, or a new float32 array of that shape."""
    if out is None:
        return _new(ndim, d0, d1, cnp.NPY_FLOAT32)
    cdef cnp.ndarray y = _target(out, name, cnp.NPY_FLOAT32, ndim)
    if ndim == 2:
        _shaped(y, name, (d0, d1))
    else:
        _shaped(y, name, (d0,))
    return y


cdef scratch_spare PRODUCT_SPARE


def dense_backward_weights(grad, x, *, int threads=1, grad_weight=None, grad_bias=None):
    """Gradients of a dense layer's weight and bias.

    Parameters
    ----------
    grad : float32 [n, outputs], C-contiguous: the loss's gradient by x @ weight.T + bias
    x : float32 [n, inputs], C-contiguous: what the layer was given
    threads : how many may work on this call
    grad_weight, grad_bias : float32 [outputs, inputs] and [outputs] to write into (not added to)

    Returns
    -------
    (grad_weight, grad_bias). n == 0 gives zeros. Tolerance against the twin: 2e-6 of the sums of magnitudes.
    """
    cdef cnp.ndarray g = _array(grad, "grad", cnp.NPY_FLOAT32, 2)
    cdef cnp.ndarray v = _array(x, "x", cnp.NPY_FLOAT32, 2)
    cdef int64_t n = cnp.PyArray_DIM(g, 0), outputs = cnp.PyArray_DIM(g, 1), inputs = cnp.PyArray_DIM(v, 1)
    if cnp.PyArray_DIM(v, 0) != n:
        raise ValueError(f"x must have as many rows as grad ({n}), not {cnp.PyArray_DIM(v, 0)}")
    threads = _threads(threads)
    cdef cnp.ndarray dw = _result(grad_weight, "grad_weight", 2, outputs, inputs)
    cdef cnp.ndarray db = _result(grad_bias, "grad_bias", 1, outputs, 0)
    _apart(dw, "grad_weight", g, "grad")
    _apart(dw, "grad_weight", v, "x")
    _apart(db, "grad_bias", g, "grad")
    _apart(db, "grad_bias", v, "x")
    _apart(db, "grad_bias", dw, "grad_weight")
    cdef float *scratch = scratch_take(&PRODUCT_SPARE, K.product_scratch(threads))
    if scratch == NULL:
        raise MemoryError
    with nogil:
        K.back_to_weights(<const float *>cnp.PyArray_DATA(g), <const float *>cnp.PyArray_DATA(v), n, inputs, outputs,
                          <float *>cnp.PyArray_DATA(dw), <float *>cnp.PyArray_DATA(db), scratch, threads)
    scratch_give(&PRODUCT_SPARE, scratch)
    return dw, db


def dense_backward_input(grad, weight, *, int threads=1, out=None):
    """Gradient of a dense layer's input: grad @ weight.

    Parameters
    ----------
    grad : float32 [n, outputs], C-contiguous: the loss's gradient by x @ weight.T + bias
    weight : float32 [outputs, inputs], C-contiguous
    threads : how many may work on this call
    out : float32 [n, inputs] to write into

    Returns
    -------
    float32 [n, inputs]. Tolerance against the twin: 2e-6 of the sum of magnitudes.
    """
    cdef cnp.ndarray g = _array(grad, "grad", cnp.NPY_FLOAT32, 2)
    cdef cnp.ndarray w = _array(weight, "weight", cnp.NPY_FLOAT32, 2)
    cdef int64_t n = cnp.PyArray_DIM(g, 0), outputs = cnp.PyArray_DIM(g, 1), inputs = cnp.PyArray_DIM(w, 1)
    if cnp.PyArray_DIM(w, 0) != outputs:
        raise ValueError(f"weight must have as many rows as grad has columns ({outputs}), not {cnp.PyArray_DIM(w, 0)}")
    threads = _threads(threads)
    cdef cnp.ndarray dx = _result(out, "out", 2, n, inputs)
    _apart(dx, "out", g, "grad")
    _apart(dx, "out", w, "weight")
    cdef float *scratch = scratch_take(&PRODUCT_SPARE, K.product_scratch(threads))
    if scratch == NULL:
        raise MemoryError
    with nogil:
        K.back_to_input(<const float *>cnp.PyArray_DATA(g), <const float *>cnp.PyArray_DATA(w), n, inputs, outputs,
                        <float *>cnp.PyArray_DATA(dx), scratch, threads)
    scratch_give(&PRODUCT_SPARE, scratch)
    return dx
