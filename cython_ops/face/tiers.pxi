# Which instruction-set tier is in use: chosen once at import, from feature bits or LONJA_CPU_TIER.

cdef const kernel_table *K = NULL


def available_tiers():
    """Names of the tiers that this processor runs, best first."""
    cdef int i = 0
    names = []
    while lonja_tiers[i] != NULL:
        if lonja_tier_runs(lonja_tiers[i]):
            names.append(lonja_tiers[i].name.decode())
        i += 1
    return tuple(names)


def use_tier(str name, /):
    """Make `name` the active tier of this process; for tests and benchmarks, not while kernels run.

    Raises
    ------
    ValueError
        If this build has no such tier or this processor cannot run it.
    """
    global K
    cdef int i = 0
    while lonja_tiers[i] != NULL:
        if lonja_tiers[i].name.decode() == name and lonja_tier_runs(lonja_tiers[i]):
            K = lonja_tiers[i]
            use_unit(available_units()[0])
            return
        i += 1
    raise ValueError(f"no tier {name!r} here: this build on this processor runs {', '.join(available_tiers())}")


def active_tier():
    """Name of the tier whose kernels are called."""
    return K.name.decode()


def upper_halves_in_use():
    """Whether upper halves of vector registers are in use, which slows down other code; for tests."""
    return bool(lonja_upper_halves_in_use())


# ---- bfloat16 units ----

cdef const bf16_unit *U = NULL  # NULL: the tier's own, widened


def available_units():
    """Names of the ways to multiply bfloat16 in the active tier, best first."""
    cdef int i = 0
    names = []
    while K.name == b"avx512" and lonja_bf16_units[i] != NULL:
        if lonja_unit_runs(lonja_bf16_units[i]):
            names.append(lonja_bf16_units[i].name.decode())
        i += 1
    return (*names, "widened")


def use_unit(str name, /):
    """Make `name` the active bfloat16 unit of this process; for tests and benchmarks.

    Raises
    ------
    ValueError
        If the active tier has no such unit here.
    """
    global U
    cdef int i = 0
    if name not in available_units():
        raise ValueError(f"no bfloat16 unit {name!r} here, only {', '.join(available_units())}")
    U = NULL
    while lonja_bf16_units[i] != NULL:
        if lonja_bf16_units[i].name.decode() == name:
            U = lonja_bf16_units[i]
        i += 1


cdef const bf16_unit *_unit():
    return U if U != NULL else &K.widened


def active_unit():
    """Name of the bfloat16 unit that is used."""
    return _unit().name.decode()


def _choose_tier():
    tiers = available_tiers()
    if not tiers:
        raise ImportError("cython_ops needs at least an x86-64-v2 processor (SSE4.2); build it for this one instead")
    wanted = os.environ.get("LONJA_CPU_TIER") or tiers[0]
    if wanted not in tiers:
        raise ImportError(f"LONJA_CPU_TIER is {wanted!r}, but this processor runs only {', '.join(tiers)}; "
                          "unset it to get the best of these")
    use_tier(wanted)


_choose_tier()
