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
    A row or query of zeros scores 0; a row with a NaN or an infinity, or whose squared norm overflows (norm above
    1e19), scores -Inf, and so do all rows if the query is such. Tolerance against the twin: 2e-6 absolute for norms
    from 1e-15; the squares of shorter rows lose digits, and below 1e-22 they score 0. The answer does not depend on
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


cdef cnp.ndarray _aligned(cnp.npy_intp n, cnp.npy_intp width):
    """uint8 [n, width] at a multiple of 64 bytes."""
    room = _new(1, n * width + 63, 0, cnp.NPY_UINT8)
    cdef int64_t start = -<int64_t><uintptr_t>cnp.PyArray_DATA(room) & 63
    return (<object>room)[start:start + n * width].reshape(n, width)


cdef row_codes _parts(tuple codes, int64_t n, int64_t d) except *:
    """The arrays of RowCodes, checked. They must stay alive in the caller's hands."""
    cdef cnp.ndarray part
    cdef void *at[6]
    cdef int i
    cdef int64_t h = half_bytes(d)
    if d > 131072:
        raise ValueError(f"rows must have at most 131072 columns for int8 codes, not {d}")
    if len(codes) != 6:
        raise ValueError(f"codes must have six arrays, as quantize_rows makes them, not {len(codes)}")
    for i, (name, value) in enumerate(zip(RowCodes._fields, codes)):
        name = "codes." + name
        if i < 2:
            part = _array(value, name, cnp.NPY_UINT8, 2)
            _shaped(part, name, (n, h))
        else:
            part = _array(value, name, cnp.NPY_FLOAT32, 1)
            _shaped(part, name, (n,))
        if part is not value:  # a copy would not outlive this function
            raise ValueError(f"{name} starts at an address that is no multiple of its item size; pass a copy of it")
        at[i] = cnp.PyArray_DATA(part)
    return row_codes(<uint8_t *>at[0], <uint8_t *>at[1], <float *>at[2], <float *>at[3], <float *>at[4], <float *>at[5])


def quantize_rows(rows):
    """Rows as int8 codes for `cosine_topk_codes`.

    Parameters
    ----------
    rows : float32 [n, d], C-contiguous; at most 131072 columns

    Returns
    -------
    codes : RowCodes. Each row is scaled so that its largest magnitude is 119, and rounded
    """
    cdef cnp.ndarray r = _array(rows, "rows", cnp.NPY_FLOAT32, 2)
    cdef int64_t n = cnp.PyArray_DIM(r, 0), d = cnp.PyArray_DIM(r, 1), h = half_bytes(d)
    codes = RowCodes(_aligned(n, h), _aligned(n, h), *(_new(1, n, 0, cnp.NPY_FLOAT32) for _ in range(4)))
    cdef tuple parts = tuple(codes)
    cdef row_codes c = _parts(parts, n, d)
    cdef cnp.ndarray work = _new(1, 6 * h, 0, cnp.NPY_FLOAT32)
    with nogil:
        K.quantize_rows(<const float *>cnp.PyArray_DATA(r), n, d, <float *>cnp.PyArray_DATA(work), &c)
    return codes


def cosine_topk_codes(codes, rows, query, Py_ssize_t k, *, int threads=1):
    """`cosine_topk` by way of int8 codes: a scan of an eighth of the bytes, then exact scores of what may be best.

    Parameters
    ----------
    codes : of `quantize_rows(rows)`
    rows : float32 [n, d], C-contiguous; may be a memory map: few of them are read
    query : float32 [d]
    k : more than n means all n
    threads : how many may work on this call

    Returns
    -------
    scores : float32 [min(k, n)], exact cosines, descending
    indices : int64 [min(k, n)]; equal scores by rising index

    Notes
    -----
    With up to 25 columns the answer is always that of `cosine_topk`. With more, a row can be missed if the errors of
    its rounding, which lie in all directions, happen to add up along the query: by more than five times the
    largest of them (docs/kernels.md). Only then can answers of different numbers of threads differ. The more rows lie
    so close to the best that their codes do not tell them apart, the more are scored exactly: all of them at
    worst, as for a query of zeros. Where a few columns are much larger than the others, codes tell little;
    bring the columns to like size first, or take `cosine_topk`.
    """
    cdef cnp.ndarray r = _array(rows, "rows", cnp.NPY_FLOAT32, 2), q = _array(query, "query", cnp.NPY_FLOAT32, 1)
    threads = _search(r, q, k, threads)
    cdef int64_t n = cnp.PyArray_DIM(r, 0), d = cnp.PyArray_DIM(r, 1), h = half_bytes(d), most = k if k < n else n, found
    if not isinstance(codes, RowCodes):
        raise TypeError(f"codes must be RowCodes, as quantize_rows makes them, not {type(codes).__name__}")
    cdef tuple parts = tuple(codes)
    cdef row_codes c = _parts(parts, n, d)
    cdef cnp.ndarray values = _new(2, threads, most + TEAM_GAP, cnp.NPY_FLOAT32)
    cdef cnp.ndarray indices = _new(2, threads, most + TEAM_GAP, cnp.NPY_INT64)
    cdef cnp.npy_intp slots = threads
    cdef cnp.ndarray counts = <cnp.ndarray>cnp.PyArray_ZEROS(1, &slots, cnp.NPY_INT64, 0)
    if most == 0:
        return (<object>values)[0, :0].copy(), (<object>indices)[0, :0].copy()
    cdef cnp.ndarray looks = _new(2, n, sizeof(code_look), cnp.NPY_UINT8), work = _new(1, 6 * h, 0, cnp.NPY_FLOAT32)
    cdef cnp.ndarray query_codes = _new(1, 2 * h, 0, cnp.NPY_INT8)
    with nogil:
        found = K.cosine_topk_codes(
            &c, <const float *>cnp.PyArray_DATA(r), <const float *>cnp.PyArray_DATA(q), n, d, most,
            <code_look *>cnp.PyArray_DATA(looks), <int8_t *>cnp.PyArray_DATA(query_codes),
            <float *>cnp.PyArray_DATA(work), <float *>cnp.PyArray_DATA(values),
            <int64_t *>cnp.PyArray_DATA(indices), <int64_t *>cnp.PyArray_DATA(counts), threads)
    return (<object>values)[0, :found].copy(), (<object>indices)[0, :found].copy()
