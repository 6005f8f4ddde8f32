# Boxes of a detector: x1, y1, x2, y2 a row.

cdef cnp.ndarray _boxes(object given, str name):
    cdef cnp.ndarray a = _array(given, name, cnp.NPY_FLOAT32, 2)
    if cnp.PyArray_DIM(a, 1) != 4:
        raise ValueError(f"{name} must have shape (n, 4): x1, y1, x2, y2 a row, not {(<object>a).shape}")
    return a


def iou(a, b):
    """Intersection over union of each box of `a` with each of `b`.

    Parameters
    ----------
    a : float32 [n, 4], x1 y1 x2 y2, C-contiguous
    b : float32 [m, 4]

    Returns
    -------
    float32 [n, m]: 0 where both boxes are empty, NaN where a coordinate is NaN. Equal to the twin to the bit.
    """
    cdef cnp.ndarray x = _boxes(a, "a"), y = _boxes(b, "b")
    cdef int64_t n = cnp.PyArray_DIM(x, 0), m = cnp.PyArray_DIM(y, 0)
    cdef cnp.ndarray out = _new(2, n, m, cnp.NPY_FLOAT32)
    with nogil:
        K.iou_matrix(<const float *>cnp.PyArray_DATA(x), n, <const float *>cnp.PyArray_DATA(y), m,
                     <float *>cnp.PyArray_DATA(out))
    return out


cdef scratch_spare NMS_SPARE


def nms(boxes, scores, *, double iou_threshold, double score_threshold=float("-inf"), classes=None, max_output=None):
    """Greedy non-maximum suppression.

    Parameters
    ----------
    boxes : float32 [n, 4], x1 y1 x2 y2, C-contiguous
    scores : float32 [n]
    iou_threshold : a box falls if its IoU with a better one that stays is above this; in [0, 1]
    score_threshold : boxes with a lower score are left out
    classes : int64 [n], each in [-2**31, 2**31): only boxes of one class suppress each other; None: all do
    max_output : at most so many, the best; None: no limit

    Returns
    -------
    int64 [m]: indices of the boxes that stay, by falling score, equal scores by rising index. Boxes with a NaN
    score never stay; a box with a NaN coordinate overlaps with nothing. Equal to the twin exactly.
    """
    cdef cnp.ndarray b = _boxes(boxes, "boxes"), s = _array(scores, "scores", cnp.NPY_FLOAT32, 1)
    cdef cnp.ndarray c = None
    cdef nms_request q
    q.n = cnp.PyArray_DIM(b, 0)
    if cnp.PyArray_DIM(s, 0) != q.n:
        raise ValueError(f"scores must have one entry a box ({q.n}), not {cnp.PyArray_DIM(s, 0)}")
    if q.n >= 2 ** 31:
        raise ValueError(f"boxes must be fewer than 2**31, not {q.n}")
    if not 0.0 <= iou_threshold <= 1.0:
        raise ValueError(f"iou_threshold must be between 0 and 1, but is {iou_threshold}")
    if score_threshold != score_threshold:
        raise ValueError("score_threshold must not be NaN")
    q.classes = NULL
    if classes is not None:
        c = _array(classes, "classes", cnp.NPY_INT64, 1)
        if cnp.PyArray_DIM(c, 0) != q.n:
            raise ValueError(f"classes must have one entry a box ({q.n}), not {cnp.PyArray_DIM(c, 0)}")
        if q.n and not (-2 ** 31 <= (<object>c).min() and (<object>c).max() < 2 ** 31):
            raise ValueError("classes must lie in [-2**31, 2**31)")
        q.classes = <const int64_t *>cnp.PyArray_DATA(c)
    q.most = q.n if max_output is None else max_output
    if q.most < 0:
        raise ValueError(f"max_output must not be negative, but is {max_output}")
    q.boxes = <const float *>cnp.PyArray_DATA(b)
    q.scores = <const float *>cnp.PyArray_DATA(s)
    q.iou_threshold = iou_threshold
    q.score_threshold = score_threshold
    cdef cnp.ndarray chosen = _new(1, q.n, 0, cnp.NPY_INT64)
    cdef int64_t *into = <int64_t *>cnp.PyArray_DATA(chosen)
    cdef int64_t kept
    cdef float *scratch = scratch_take(&NMS_SPARE, lonja_nms_scratch(q.n))
    if scratch == NULL:
        raise MemoryError
    with nogil:
        kept = lonja_nms(K, &q, into, scratch)
    scratch_give(&NMS_SPARE, scratch)
    return (<object>chosen)[:kept].copy()
