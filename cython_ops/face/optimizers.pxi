# Optimizer steps, in place. Formulas and defaults as in torch.optim.

cdef cnp.ndarray _flat(object given, str name, bint writable):
    """A C-contiguous float32 array of any shape."""
    cdef int ndim = cnp.PyArray_NDIM(<cnp.ndarray>given) if isinstance(given, cnp.ndarray) else 1
    if writable:
        return _target(given, name, cnp.NPY_FLOAT32, ndim)
    return _array(given, name, cnp.NPY_FLOAT32, ndim)


cdef object _step(int kind, object param, object grad, object first, str first_name, object second, str second_name,
                  const step_settings *settings):
    cdef cnp.ndarray p = _flat(param, "param", True), g = _flat(grad, "grad", False)
    cdef cnp.ndarray s = None if first is None else _flat(first, first_name, True)
    cdef cnp.ndarray t = None if second is None else _flat(second, second_name, True)
    shape = (<object>p).shape
    _shaped(g, "grad", shape)
    _apart(p, "param", g, "grad")
    if s is not None:
        _shaped(s, first_name, shape)
        _apart(s, first_name, p, "param")
        _apart(s, first_name, g, "grad")
    if t is not None:
        _shaped(t, second_name, shape)
        _apart(t, second_name, p, "param")
        _apart(t, second_name, g, "grad")
        if s is not None:
            _apart(t, second_name, s, first_name)
    cdef float *ps = NULL if s is None else <float *>cnp.PyArray_DATA(s)
    cdef float *pt = NULL if t is None else <float *>cnp.PyArray_DATA(t)
    cdef int64_t n = cnp.PyArray_SIZE(p)
    with nogil:
        K.optimizer_step(kind, <float *>cnp.PyArray_DATA(p), <const float *>cnp.PyArray_DATA(g), ps, pt, n, settings)


def sgd_step(param, grad, velocity=None, *, double lr, double momentum=0.0, double weight_decay=0.0):
    """Stochastic gradient descent: v = momentum v + g, param -= lr v, with g = grad + weight_decay param.

    Parameters
    ----------
    param : float32, any shape, C-contiguous, writable: changed in place
    grad : float32 of that shape; may be read-only
    velocity : float32 of that shape, changed in place, starting at zeros; None only without momentum
    lr, momentum, weight_decay : as in torch.optim.SGD

    Notes
    -----
    State below 1.2e-38 in magnitude becomes zero. Tolerance against the twin: 4e-6 relative to the values' size.
    """
    if velocity is None and momentum != 0.0:
        raise ValueError("velocity must be an array when momentum is not 0")
    cdef step_settings o = step_settings(rate=lr, beta1=momentum, beta2=0, epsilon=0, decay=weight_decay, shrink=1,
                                         unbias2=1)
    _step(STEP_SGD, param, grad, velocity, "velocity", None, "", &o)


cdef step_settings _adam(double lr, double beta1, double beta2, double epsilon, int step) except *:
    if step < 1:
        raise ValueError(f"step counts from 1, but is {step}")
    if not (0.0 <= beta1 < 1.0 and 0.0 <= beta2 < 1.0):
        raise ValueError(f"beta1 and beta2 must be in [0, 1), but are {beta1} and {beta2}")
    return step_settings(rate=lr / (1.0 - beta1 ** step), beta1=beta1, beta2=beta2, epsilon=epsilon, decay=0, shrink=1,
                         unbias2=1.0 / (1.0 - beta2 ** step) ** 0.5)


def adam_step(param, grad, mean, square, *, int step, double lr=1e-3, double beta1=0.9, double beta2=0.999,
              double epsilon=1e-8, double weight_decay=0.0):
    """Adam (Kingma and Ba 2015), weight decay added to the gradient.

    Parameters
    ----------
    param : float32, any shape, C-contiguous, writable: changed in place
    grad : float32 of that shape; may be read-only
    mean, square : float32 of that shape, changed in place, starting at zeros
    step : number of this step, from 1
    lr, beta1, beta2, epsilon, weight_decay : as in torch.optim.Adam

    Notes
    -----
    State below 1.2e-38 in magnitude becomes zero. Tolerance against the twin: 4e-6 relative to the values' size.
    """
    cdef step_settings o = _adam(lr, beta1, beta2, epsilon, step)
    o.decay = weight_decay
    _step(STEP_ADAM, param, grad, mean, "mean", square, "square", &o)


def adamw_step(param, grad, mean, square, *, int step, double lr=1e-3, double beta1=0.9, double beta2=0.999,
               double epsilon=1e-8, double weight_decay=1e-2):
    """AdamW (Loshchilov and Hutter 2019): Adam with param *= 1 - lr weight_decay before the step.

    Parameters and notes as `adam_step`.
    """
    cdef step_settings o = _adam(lr, beta1, beta2, epsilon, step)
    o.shrink = 1.0 - lr * weight_decay
    _step(STEP_ADAM, param, grad, mean, "mean", square, "square", &o)


def rmsprop_step(param, grad, square, *, double lr=1e-2, double smoothing=0.99, double epsilon=1e-8,
                 double weight_decay=0.0):
    """RMSprop (Tieleman and Hinton 2012): square = smoothing square + (1 - smoothing) g^2,
    param -= lr g / (sqrt(square) + epsilon).

    Parameters
    ----------
    param : float32, any shape, C-contiguous, writable: changed in place
    grad : float32 of that shape; may be read-only
    square : float32 of that shape, changed in place, starting at zeros
    lr, smoothing, epsilon, weight_decay : as in torch.optim.RMSprop (smoothing is its alpha)
    """
    cdef step_settings o = step_settings(rate=lr, beta1=0, beta2=smoothing, epsilon=epsilon, decay=weight_decay,
                                         shrink=1, unbias2=1)
    _step(STEP_RMSPROP, param, grad, None, "", square, "square", &o)
