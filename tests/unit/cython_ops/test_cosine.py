from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cython_ops import cosine_topk, cosine_topk_codes, quantize_rows, reference

ANY_TIER = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120
)


@given(
    n=st.integers(0, 80),
    d=st.integers(0, 100),
    k=st.integers(0, 90),
    threads=st.integers(1, 3),
    seed=st.integers(0, 999),
)
@ANY_TIER
def test_the_scan_equals_the_twin(tier: str, n: int, d: int, k: int, threads: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, query = rng.standard_normal((n, d), np.float32), rng.standard_normal(d, np.float32)
    scores, indices = cosine_topk(rows, query, k, threads=threads)
    want, want_indices = reference.cosine_topk(rows, query, k)
    np.testing.assert_allclose(scores, want, rtol=0, atol=2e-6)
    every = dict(zip(*map(np.ndarray.tolist, reference.cosine_topk(rows, query, n)[::-1]), strict=True))
    assert sorted(set(indices.tolist())) == sorted(indices.tolist())
    np.testing.assert_allclose([every[i] for i in indices.tolist()], want, rtol=0, atol=2e-6)
    assert len(indices) == len(want_indices)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_equal_rows_come_in_index_order_whatever_the_threads(tier: str, threads: int) -> None:
    rows = np.ones((50, 20), np.float32)
    assert cosine_topk(rows, rows[0], 5, threads=threads)[1].tolist() == [0, 1, 2, 3, 4]
    rows[3:25] = 0  # a second thread has more of the best than are wanted
    codes, gains = quantize_rows(rows)
    for found in (
        cosine_topk(rows, rows[0], 5, threads=threads),
        cosine_topk_codes(codes, gains, rows, rows[0], 5, candidates=5, threads=threads),
    ):
        assert found[1].tolist() == [0, 1, 2, 25, 26]


def test_rows_without_a_finite_score_come_last(tier: str) -> None:
    rows = np.array([[math.nan, 1], [1, 0], [math.inf, 0], [0, 0], [-1, 0]], np.float32)
    query = np.array([1, 0], np.float32)
    scores, indices = cosine_topk(rows, query, 5)
    assert indices.tolist() == [1, 3, 4, 0, 2]
    assert scores.tolist() == [1, 0, -1, -math.inf, -math.inf]
    codes, gains = quantize_rows(rows)
    scores, indices = cosine_topk_codes(codes, gains, rows, query, 5)
    assert indices.tolist() == [1, 3, 4, 0, 2]


@pytest.mark.parametrize("d", [1, 15, 32, 63, 64, 96, 100, 384])
def test_codes_equal_the_twin(tier: str, d: int) -> None:
    rows = np.random.default_rng(d).standard_normal((40, d), np.float32)
    rows[3] = 0
    rows[5, 0] = math.nan
    codes, gains = quantize_rows(rows)
    want, want_gains = reference.quantize_rows(rows)
    assert np.abs(codes.astype(int) - want).max() <= 1  # a rounding tie may fall either way
    np.testing.assert_allclose(gains, want_gains, rtol=2e-6)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("d", [33, 64, 384])
def test_codes_find_what_the_exact_scan_finds(tier: str, d: int, threads: int) -> None:
    rng = np.random.default_rng(d)
    rows = rng.standard_normal((5000, d), np.float32)
    codes, gains = quantize_rows(rows)
    for query in rng.standard_normal((10, d), np.float32):
        want_scores, want = cosine_topk(rows, query, 10)
        scores, indices = cosine_topk_codes(codes, gains, rows, query, 10, threads=threads)
        np.testing.assert_array_equal(indices, want)
        np.testing.assert_array_equal(scores, want_scores)


@given(
    n=st.integers(1, 200),
    d=st.integers(1, 150),
    k=st.integers(0, 70),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@ANY_TIER
def test_the_coded_scan_equals_the_twin(tier: str, n: int, d: int, k: int, threads: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, query = rng.standard_normal((n, d), np.float32), rng.standard_normal(d, np.float32)
    codes, gains = quantize_rows(rows)
    scores, _ = cosine_topk_codes(codes, gains, rows, query, k, threads=threads)
    want, _ = reference.cosine_topk_codes(codes, gains, rows, query, k)
    np.testing.assert_allclose(scores, want, rtol=0, atol=2e-6)


def test_wrong_arguments_are_named() -> None:
    rows = np.zeros((3, 4), np.float32)
    codes, gains = quantize_rows(rows)
    with pytest.raises(ValueError, match=r"query must have shape \(4,\)"):
        cosine_topk(rows, np.zeros(5, np.float32), 1)
    with pytest.raises(ValueError, match="k must not be negative"):
        cosine_topk(rows, rows[0], -1)
    with pytest.raises(TypeError, match="codes must be int8"):
        cosine_topk_codes(rows, gains, rows, rows[0], 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"codes must have shape \(3, 4\)"):
        cosine_topk_codes(codes[:2], gains, rows, rows[0], 1)
    with pytest.raises(ValueError, match=r"candidates must be at least k \(3\), but is 2"):
        cosine_topk_codes(codes, gains, rows, rows[0], 5, candidates=2)
