# Argument checks: each error names the argument, says what it is and what it must be.

cdef object _refuse(object array, str name, int type_num, int ndim, bint writable):
    """The error for an array that failed the quick check, or its aligned copy if that is all it lacks."""
    if not isinstance(array, cnp.ndarray):
        raise TypeError(f"{name} must be a NumPy array, not {type(array).__name__}")
    cdef cnp.ndarray a = array
    wanted = cnp.PyArray_DescrFromType(type_num)
    if array.dtype != wanted:
        raise TypeError(f"{name} must be {wanted} in native byte order, not {array.dtype.str}")
    if cnp.PyArray_NDIM(a) != ndim:
        raise ValueError(f"{name} must have {ndim} dimension{'s' if ndim != 1 else ''}, not shape {array.shape}")
    if not cnp.PyArray_IS_C_CONTIGUOUS(a):
        raise ValueError(f"{name} must be C-contiguous: pass numpy.ascontiguousarray({name})")
    if writable and not cnp.PyArray_ISWRITEABLE(a):
        raise ValueError(f"{name} is read-only, but it is written to")
    if writable:
        raise ValueError(f"{name} starts at an address that is no multiple of its item size; it is written to, "
                         "so it is not copied")
    return array.copy()


cdef inline cnp.ndarray _array(object array, str name, int type_num, int ndim):
    """`array` itself if it is a C-contiguous, native, aligned array of this type; copied if only misaligned."""
    if (isinstance(array, cnp.ndarray) and cnp.PyArray_TYPE(<cnp.ndarray>array) == type_num
            and cnp.PyArray_NDIM(<cnp.ndarray>array) == ndim and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>array)):
        return <cnp.ndarray>array
    return <cnp.ndarray>_refuse(array, name, type_num, ndim, False)


cdef inline cnp.ndarray _target(object array, str name, int type_num, int ndim):
    """`array` if it can be written in place."""
    if (isinstance(array, cnp.ndarray) and cnp.PyArray_TYPE(<cnp.ndarray>array) == type_num
            and cnp.PyArray_NDIM(<cnp.ndarray>array) == ndim and cnp.PyArray_ISCARRAY(<cnp.ndarray>array)):
        return <cnp.ndarray>array
    return <cnp.ndarray>_refuse(array, name, type_num, ndim, True)


cdef inline cnp.ndarray _new(int ndim, cnp.npy_intp d0, cnp.npy_intp d1, int type_num):
    cdef cnp.npy_intp dims[2]
    dims[0] = d0
    dims[1] = d1
    return <cnp.ndarray>cnp.PyArray_EMPTY(ndim, dims, type_num, 0)


cdef int _apart(cnp.ndarray a, str a_name, cnp.ndarray b, str b_name) except -1:
    """Raise if two contiguous arrays share memory."""
    cdef uintptr_t a0 = <uintptr_t>cnp.PyArray_DATA(a), b0 = <uintptr_t>cnp.PyArray_DATA(b)
    if a0 < b0 + <uintptr_t>cnp.PyArray_NBYTES(b) and b0 < a0 + <uintptr_t>cnp.PyArray_NBYTES(a):
        raise ValueError(f"{a_name} and {b_name} overlap in memory; {a_name} must be an array of its own")
    return 0


cdef int _shaped(cnp.ndarray a, str name, tuple shape) except -1:
    if (<object>a).shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {(<object>a).shape}")
    return 0
