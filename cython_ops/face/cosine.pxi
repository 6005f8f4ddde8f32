# Exact search by cosine.

cdef int _search(cnp.ndarray rows, cnp.ndarray query, int64_t k, int threads) except -1:
    if cnp.PyArray_DIM(query, 0) != cnp.PyArray_DIM(rows, 1):
        raise ValueError(f"query must have shape ({cnp.PyArray_DIM(rows, 1)},), one number a column of rows, "
                         f"not {(<object>query).shape}")
    if k < 0:
        raise ValueError(f"k must not be negative, but is {k}")
    return _threads(threads)


def cosine_topk(rows, query, Py_ssize_t k, *, int threads=1):
    """The k rows with the greatest cosine to the query.

    Parameters
    ----------
    rows : float32 [n, d], C-contiguous; of any length, they need not be normalised
    query : float32 [d]
    k : more than n means all n
    threads : how many may work on this call

    Returns
    -------
    scores : float32 [min(k, n)], descending
    indices : int64 [min(k, n)]; equal scores by rising index

    Notes
    -----
    A row or query of zeros scores 0; a row with a NaN or an infinity scores -Inf, and so do all rows if the query
    has one or a squared norm overflows. Tolerance against the twin: 2e-6 absolute. The answer does not depend on
    the number of threads.
    """
    cdef cnp.ndarray r = _array(rows, "rows", cnp.NPY_FLOAT32, 2), q = _array(query, "query", cnp.NPY_FLOAT32, 1)
    threads = _search(r, q, k, threads)
    cdef int64_t n = cnp.PyArray_DIM(r, 0), d = cnp.PyArray_DIM(r, 1), most = k if k < n else n, found
    cdef cnp.ndarray values = _new(2, threads, most + TEAM_GAP, cnp.NPY_FLOAT32)
    cdef cnp.ndarray indices = _new(2, threads, most + TEAM_GAP, cnp.NPY_INT64)
    cdef cnp.npy_intp slots = threads
    cdef cnp.ndarray counts = <cnp.ndarray>cnp.PyArray_ZEROS(1, &slots, cnp.NPY_INT64, 0)
    if most == 0:
        return (<object>values)[0, :0].copy(), (<object>indices)[0, :0].copy()
    with nogil:
        found = K.cosine_topk(<const float *>cnp.PyArray_DATA(r), <const float *>cnp.PyArray_DATA(q), n, d, most,
                              <float *>cnp.PyArray_DATA(values), <int64_t *>cnp.PyArray_DATA(indices),
                              <int64_t *>cnp.PyArray_DATA(counts), threads)
    return (<object>values)[0, :found].copy(), (<object>indices)[0, :found].copy()


def quantize_rows(rows):
    """Rows as int8 codes for `cosine_topk_codes`.

    Parameters
    ----------
    rows : float32 [n, d], C-contiguous

    Returns
    -------
    codes : int8 [n, d], symmetric: each row scaled so that its largest magnitude is 127
    gains : float32 [n]: codes * gain approximates the row divided by its norm; 0 for a row of zeros,
        NaN for one without a finite norm
    """
    cdef cnp.ndarray r = _array(rows, "rows", cnp.NPY_FLOAT32, 2)
    cdef int64_t n = cnp.PyArray_DIM(r, 0), d = cnp.PyArray_DIM(r, 1)
    cdef cnp.ndarray codes = _new(2, n, d, cnp.NPY_INT8), gains = _new(1, n, 0, cnp.NPY_FLOAT32)
    with nogil:
        K.quantize_rows(<const float *>cnp.PyArray_DATA(r), n, d, <int8_t *>cnp.PyArray_DATA(codes),
                        <float *>cnp.PyArray_DATA(gains))
    return codes, gains


def cosine_topk_codes(codes, gains, rows, query, Py_ssize_t k, *, candidates=None, int threads=1):
    """`cosine_topk` through int8 codes: a scan of a quarter of the bytes, then an exact score of the best.

    Parameters
    ----------
    codes, gains : of `quantize_rows(rows)`
    rows : float32 [n, d], C-contiguous; may be a memory map: only `candidates` of them are read
    query : float32 [d]
    k : more than n means all n
    candidates : rows scored exactly; None means 8 k + 64
    threads : how many may work on this call

    Returns
    -------
    scores : float32 [min(k, n)], exact cosines, descending
    indices : int64 [min(k, n)]. A row can be missed only if `candidates` others seemed better by their codes.
    """
    cdef cnp.ndarray c = _array(codes, "codes", cnp.NPY_INT8, 2), g = _array(gains, "gains", cnp.NPY_FLOAT32, 1)
    cdef cnp.ndarray r = _array(rows, "rows", cnp.NPY_FLOAT32, 2), q = _array(query, "query", cnp.NPY_FLOAT32, 1)
    threads = _search(r, q, k, threads)
    cdef int64_t n = cnp.PyArray_DIM(r, 0), d = cnp.PyArray_DIM(r, 1), best = k if k < n else n, found
    _shaped(c, "codes", (n, d))
    _shaped(g, "gains", (n,))
    if d > 131072:
        raise ValueError(f"rows must have at most 131072 columns for int8 codes, not {d}")
    cdef int64_t most = 8 * best + 64 if candidates is None else candidates
    if most < best:
        raise ValueError(f"candidates must be at least k ({best}), but is {most}")
    most = min(most, n)
    cdef cnp.ndarray values = _new(2, threads, most + TEAM_GAP, cnp.NPY_FLOAT32)
    cdef cnp.ndarray indices = _new(2, threads, most + TEAM_GAP, cnp.NPY_INT64)
    cdef cnp.npy_intp slots = threads
    cdef cnp.ndarray counts = <cnp.ndarray>cnp.PyArray_ZEROS(1, &slots, cnp.NPY_INT64, 0)
    if best == 0:
        return (<object>values)[0, :0].copy(), (<object>indices)[0, :0].copy()
    cdef cnp.ndarray query_codes = <cnp.ndarray>(quantize_rows((<object>q).reshape(1, d))[0].astype("int16"))
    with nogil:
        found = K.cosine_topk_codes(
            <const int8_t *>cnp.PyArray_DATA(c), <const float *>cnp.PyArray_DATA(g), <const float *>cnp.PyArray_DATA(r),
            <const float *>cnp.PyArray_DATA(q), <const int16_t *>cnp.PyArray_DATA(query_codes), n, d, best, most,
            <float *>cnp.PyArray_DATA(values), <int64_t *>cnp.PyArray_DATA(indices),
            <int64_t *>cnp.PyArray_DATA(counts), threads)
    return (<object>values)[0, :found].copy(), (<object>indices)[0, :found].copy()
