# Whole rows: softmax, log-softmax, cross-entropy, activations and their derivatives.

cdef dict ACTIVATIONS = {
    "identity": ACT_IDENTITY, "relu": ACT_RELU, "leaky_relu": ACT_LEAKY_RELU, "gelu": ACT_GELU, "tanh": ACT_TANH,
    "sigmoid": ACT_SIGMOID, "softmax": ACT_SOFTMAX,
}


cdef int _activation(object name) except -1:
    kind = ACTIVATIONS.get(name)
    if kind is None:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {name!r}")
    return kind


cdef cnp.ndarray _like(cnp.ndarray a, object out, cnp.ndarray shape_of):
    """`out` checked against shape_of's shape, or a new float32 [n, c]."""
    if out is None:
        return _new(2, cnp.PyArray_DIM(shape_of, 0), cnp.PyArray_DIM(shape_of, 1), cnp.NPY_FLOAT32)
    cdef cnp.ndarray y = _target(out, "out", cnp.NPY_FLOAT32, 2)
    _shaped(y, "out", (<object>shape_of).shape)
    if cnp.PyArray_DATA(y) != cnp.PyArray_DATA(a):
        _apart(y, "out", a, "the input")
    return y


def softmax(logits, *, out=None):
    """Softmax of each row.

    Parameters
    ----------
    logits : float32 [n, c], C-contiguous; may be read-only
    out : float32 [n, c] to write into; may be `logits` itself

    Returns
    -------
    float32 [n, c]. NaN and infinities as in `softmax_topk`, except that a row with a NaN is NaN throughout.
    """
    cdef cnp.ndarray x = _array(logits, "logits", cnp.NPY_FLOAT32, 2)
    cdef cnp.ndarray y = _like(x, out, x)
    with nogil:
        K.softmax_rows(<const float *>cnp.PyArray_DATA(x), <float *>cnp.PyArray_DATA(y),
                       cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1))
    return y


def log_softmax(logits, *, out=None):
    """Logarithm of the softmax of each row, computed without going through it.

    Parameters
    ----------
    logits : float32 [n, c], C-contiguous; may be read-only
    out : float32 [n, c] to write into; may be `logits` itself

    Returns
    -------
    float32 [n, c]. A row with a NaN is NaN; +Inf logits share the mass (-log of their number, -Inf for the rest);
    nothing but -Inf is uniform. Tolerance against the twin: 2e-6 of the row's range.
    """
    cdef cnp.ndarray x = _array(logits, "logits", cnp.NPY_FLOAT32, 2)
    cdef cnp.ndarray y = _like(x, out, x)
    with nogil:
        K.log_softmax_rows(<const float *>cnp.PyArray_DATA(x), <float *>cnp.PyArray_DATA(y),
                           cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1))
    return y


cdef object _cross_entropy(object logits, object labels, object weights, object out, bint back):
    """Of rows of logits and the class of each: the loss, or (`back`) its gradient."""
    cdef cnp.ndarray x = _array(logits, "logits", cnp.NPY_FLOAT32, 2), l = _array(labels, "labels", cnp.NPY_INT64, 1)
    cdef cnp.ndarray w = None if weights is None else _array(weights, "weights", cnp.NPY_FLOAT32, 1), y
    cdef int64_t n = cnp.PyArray_DIM(x, 0), c = cnp.PyArray_DIM(x, 1), r
    cdef const float *px = <const float *>cnp.PyArray_DATA(x)
    cdef const int64_t *pl = <const int64_t *>cnp.PyArray_DATA(l)
    cdef const float *pw = NULL if w is None else <const float *>cnp.PyArray_DATA(w)
    cdef double loss
    if cnp.PyArray_DIM(l, 0) != n:
        raise ValueError(f"labels must have one entry a row of logits ({n}), not {cnp.PyArray_DIM(l, 0)}")
    for r in range(n):
        if not 0 <= pl[r] < c:
            raise ValueError(f"labels must lie in [0, {c}), but labels[{r}] is {pl[r]}")
    if w is not None:
        _shaped(w, "weights", (c,))
    if not back:
        with nogil:
            loss = K.cross_entropy(px, pl, pw, n, c)
        return loss
    y = _like(x, out, x)
    _apart(y, "out", l, "labels")
    if w is not None:
        _apart(y, "out", w, "weights")
    with nogil:
        K.cross_entropy_back(px, pl, pw, n, c, <float *>cnp.PyArray_DATA(y))
    return y


def cross_entropy(logits, labels, *, weights=None):
    """Mean over rows of -weights[label] log softmax(row)[label], in nats.

    Parameters
    ----------
    logits : float32 [n, c], C-contiguous; may be read-only
    labels : int64 [n], each in [0, c)
    weights : float32 [c], of each class, finite; None: all 1

    Returns
    -------
    float; NaN without rows. A row with a NaN makes it NaN; otherwise infinities as in `log_softmax`.
    Tolerance against the twin: 8e-6 of the largest weight.
    """
    return _cross_entropy(logits, labels, weights, None, False)


def cross_entropy_backward(logits, labels, *, weights=None, out=None):
    """Gradient of `cross_entropy` by the logits: weights[label] (softmax(row) - [j = label]) / n.

    Parameters
    ----------
    logits, labels, weights : as in `cross_entropy`
    out : float32 [n, c] to write into; may be `logits` itself

    Returns
    -------
    float32 [n, c]. NaN and infinities as in `softmax`. Tolerance against the twin: 8e-6 of weights[label] / n.
    """
    return _cross_entropy(logits, labels, weights, out, True)


def activate(values, *, activation, float alpha=0.01, out=None):
    """An activation of every element (softmax: of every row).

    Parameters
    ----------
    values : float32 [n, c], C-contiguous; may be read-only
    activation : "identity", "relu", "leaky_relu", "gelu" (with erf), "tanh", "sigmoid" or "softmax"
    alpha : slope of leaky_relu below zero
    out : float32 [n, c] to write into; may be `values` itself

    Returns
    -------
    float32 [n, c]. NaN stays NaN. Tolerance against the twin: 2e-6 relative, 1e-7 absolute; gelu 6e-6 relative.
    """
    cdef int kind = _activation(activation)
    cdef cnp.ndarray x = _array(values, "values", cnp.NPY_FLOAT32, 2)
    cdef cnp.ndarray y = _like(x, out, x)
    cdef const float *px = <const float *>cnp.PyArray_DATA(x)
    cdef float *py = <float *>cnp.PyArray_DATA(y)
    cdef int64_t n = cnp.PyArray_DIM(x, 0), c = cnp.PyArray_DIM(x, 1)
    with nogil:
        if kind == ACT_SOFTMAX:
            K.softmax_rows(px, py, n, c)
        else:
            K.activate(kind, alpha, px, py, n * c)
    return y


def activate_backward(grad, values, *, activation, float alpha=0.01, out=None):
    """Gradient through an activation: grad times the derivative (softmax: times the Jacobian of the row).

    Parameters
    ----------
    grad : float32 [n, c], C-contiguous: the loss's gradient by the activation's output
    values : float32 [n, c], C-contiguous: the activation's *output*; for gelu its *input*
    activation, alpha : as in `activate`; alpha must be positive for leaky_relu
    out : float32 [n, c] to write into; may be `grad` itself

    Returns
    -------
    float32 [n, c]: the gradient by the activation's input. relu and leaky_relu take the slope at 0 from below.
    """
    cdef int kind = _activation(activation)
    cdef cnp.ndarray g = _array(grad, "grad", cnp.NPY_FLOAT32, 2)
    cdef cnp.ndarray v = _array(values, "values", cnp.NPY_FLOAT32, 2)
    _shaped(v, "values", (<object>g).shape)
    cdef cnp.ndarray y = _like(g, out, g)
    _apart(y, "out", v, "values")
    with nogil:
        K.activate_back(kind, alpha, <const float *>cnp.PyArray_DATA(g), <const float *>cnp.PyArray_DATA(v),
                        <float *>cnp.PyArray_DATA(y), cnp.PyArray_DIM(g, 0), cnp.PyArray_DIM(g, 1))
    return y
