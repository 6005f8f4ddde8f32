# Scores of a classifier.

cdef int _score(str activation) except -1:
    if activation == "softmax":
        return SCORE_SOFTMAX
    if activation == "sigmoid":
        return SCORE_SIGMOID
    if activation == "none":
        return SCORE_NONE
    raise ValueError(f"activation must be 'softmax', 'sigmoid' or 'none', not {activation!r}")


def softmax_topk(logits, Py_ssize_t k, *, str activation not None="softmax"):
    """The k best classes of each row, with their scores and the row's entropy.

    Parameters
    ----------
    logits : float32 [n, c], C-contiguous; may be read-only
    k : classes wanted a row; more than c means all c
    activation : "softmax"; "sigmoid" (independent classes); "none" (values are scores already)

    Returns
    -------
    values : float32 [n, min(k, c)], descending
    indices : int64 [n, min(k, c)]; classes of equal logits in ascending order
    entropy : float64 [n], nats; softmax: of the distribution; sigmoid: sum of the classes' Bernoulli entropies;
        none: of the values divided by their sum; NaN if one is negative or above 1e30 or the sum is below 1e-30

    Notes
    -----
    A row with a NaN has NaN values, indices 0..k-1 and NaN entropy. Softmax: +Inf logits share the whole mass;
    a row of nothing but -Inf is uniform. c == 0 has entropy 0. Tolerance against the twin: 8e-6 relative, and
    1e-37 absolute as exp is zero below -87.3; entropy 2e-5.
    """
    cdef cnp.ndarray x = _array(logits, "logits", cnp.NPY_FLOAT32, 2)
    cdef int score = _score(activation)
    cdef int64_t n = cnp.PyArray_DIM(x, 0), c = cnp.PyArray_DIM(x, 1)
    if k < 0:
        raise ValueError(f"k must not be negative, but is {k}")
    cdef int64_t best = k if k < c else c
    cdef cnp.ndarray values = _new(2, n, best, cnp.NPY_FLOAT32)
    cdef cnp.ndarray indices = _new(2, n, best, cnp.NPY_INT64)
    cdef cnp.ndarray entropy = _new(1, n, 0, cnp.NPY_FLOAT64)
    cdef const float *px = <const float *>cnp.PyArray_DATA(x)
    cdef float *pv = <float *>cnp.PyArray_DATA(values)
    cdef int64_t *pi = <int64_t *>cnp.PyArray_DATA(indices)
    cdef double *pe = <double *>cnp.PyArray_DATA(entropy)
    if n * c < RELEASE:
        K.score_topk(px, n, c, best, score, pv, pi, pe)
    else:
        with nogil:
            K.score_topk(px, n, c, best, score, pv, pi, pe)
    return values, indices, entropy


def entropy(logits, *, str activation not None="softmax"):
    """Entropy of each row's scores.

    Parameters
    ----------
    logits : float32 [n, c], C-contiguous; may be read-only
    activation : "softmax", "sigmoid" or "none", as in `softmax_topk`

    Returns
    -------
    float64 [n], nats; exactly the third result of `softmax_topk`
    """
    return softmax_topk(logits, 0, activation=activation)[2]
