from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cython_ops import RowCodes, cosine_topk, cosine_topk_codes, quantize_rows, reference

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
    for found in (
        cosine_topk(rows, rows[0], 5, threads=threads),
        cosine_topk_codes(quantize_rows(rows), rows, rows[0], 5, threads=threads),
    ):
        assert found[1].tolist() == [0, 1, 2, 25, 26]


def test_rows_without_a_finite_score_come_last(tier: str) -> None:
    rows = np.array([[math.nan, 1], [1, 0], [math.inf, 0], [0, 0], [-1, 0]], np.float32)
    query = np.array([1, 0], np.float32)
    scores, indices = cosine_topk(rows, query, 5)
    assert indices.tolist() == [1, 3, 4, 0, 2]
    assert scores.tolist() == [1, 0, -1, -math.inf, -math.inf]
    scores, indices = cosine_topk_codes(quantize_rows(rows), rows, query, 5)
    assert indices.tolist() == [1, 3, 4, 0, 2]


def test_codes_lie_in_two_planes_of_half_bytes(tier: str) -> None:
    row = np.zeros((1, 34), np.float32)  # columns 0 and 32 share a byte, as do 1 and 33
    row[0, [0, 1, 2, 32, 33]] = [119, -119, 8, -9, 7]
    codes = quantize_rows(row)
    assert codes.upper.shape == codes.lower.shape == (1, 32)
    # 119 = 16 * 7 + 7, -119 = 16 * -7 - 7, 8 = 16 * 1 - 8, -9 = 16 * -1 + 7, 7 = 16 * 0 + 7; halves plus 8
    assert codes.upper[0, :4].tolist() == [15 | 7 << 4, 1 | 8 << 4, 9 | 8 << 4, 8 | 8 << 4]
    assert codes.lower[0, :4].tolist() == [15 | 15 << 4, 1 | 15 << 4, 0 | 8 << 4, 8 | 8 << 4]
    assert codes.upper.ctypes.data % 64 == 0


@pytest.mark.parametrize("d", [0, 1, 15, 32, 33, 63, 64, 96, 100, 300, 384])
def test_codes_equal_the_twin(tier: str, d: int) -> None:
    rows = np.random.default_rng(d).standard_normal((40, d), np.float32)
    if d:
        rows[3] = 0
        rows[5:9, 0] = math.nan, math.inf, 1e30, 1e-30
        rows[9] *= 1e-20
        rows[10] *= 1e12
        rows[11, 0] = 300
    codes, want = quantize_rows(rows), reference.quantize_rows(rows)
    numbers, want_numbers = codes.numbers(), want.numbers()
    assert np.abs(numbers - want_numbers).max(initial=0) <= 1  # a rounding tie may fall either way
    same = (numbers == want_numbers).all(axis=1)
    assert same.sum() >= 36
    for part, want_part in zip(codes[2:], want[2:], strict=True):
        np.testing.assert_allclose(part[same], want_part[same], rtol=2e-4, atol=1e-6)


@given(n=st.integers(1, 60), d=st.integers(1, 25), seed=st.integers(0, 999))
@ANY_TIER
def test_margins_bound_the_error_of_few_columns(tier: str, n: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((n, d)) ** 3).astype(np.float32)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    codes = quantize_rows(rows)
    numbers = codes.numbers()[:, :d]
    rest = numbers * codes.gains[:, None] - unit
    queries = np.concatenate([unit, rng.standard_normal((20, d)), rest])
    queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-9)
    upper = codes.halves()[:, :d] * codes.upper_gains[:, None]
    for whole, margins in (
        (upper, codes.upper_margins),
        (numbers * codes.gains[:, None], codes.margins),
    ):
        assert (np.abs(whole @ queries.T - unit @ queries.T) <= margins[:, None] + 1e-6).all()


MAKERS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "heavy tails": lambda rng, shape: rng.standard_cauchy(shape),
    "counts": lambda rng, shape: rng.poisson(0.4, shape),
    "signs": lambda rng, shape: np.sign(rng.standard_normal(shape)),
    "one large column": lambda rng, shape: rng.standard_normal(shape) + 40 * (np.arange(shape[-1]) == 1),
    "few directions": lambda rng, shape: np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])],
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("d", [33, 64, 300, 384])
@pytest.mark.parametrize("kind", MAKERS)
def test_codes_find_what_the_exact_scan_finds(tier: str, kind: str, d: int, threads: int) -> None:
    rng = np.random.default_rng(d)
    rows = MAKERS[kind](rng, (3000, d)).astype(np.float32)
    codes = quantize_rows(rows)
    for query in MAKERS[kind](rng, (6, d)).astype(np.float32):
        want_scores, want = cosine_topk(rows, query, 10)
        scores, indices = cosine_topk_codes(codes, rows, query, 10, threads=threads)
        np.testing.assert_array_equal(indices, want)
        np.testing.assert_array_equal(scores, want_scores)


@pytest.mark.parametrize("threads", [2, 3])
def test_rows_that_threads_draw_are_all_seen(tier: str, threads: int) -> None:
    rows = np.random.default_rng(threads).standard_normal((70_001, 3), np.float32)
    codes = quantize_rows(rows)
    for row in (0, 30_000, 60_000, 69_999, 70_000):
        scores, indices = cosine_topk_codes(codes, rows, rows[row], 50, threads=threads)
        want_scores, want = cosine_topk(rows, rows[row], 50)
        np.testing.assert_array_equal(indices, want)
        np.testing.assert_array_equal(scores, want_scores)
    rows[::2] = rows[1]
    codes = quantize_rows(rows)
    found = cosine_topk_codes(codes, rows, rows[0], 20_000, threads=threads)[1]
    np.testing.assert_array_equal(found, cosine_topk(rows, rows[0], 20_000)[1])


@given(
    n=st.integers(1, 200),
    d=st.integers(1, 150),
    k=st.integers(0, 70),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
    kind=st.sampled_from(sorted(MAKERS)),
)
@ANY_TIER
def test_the_coded_scan_equals_the_twin(
    tier: str, n: int, d: int, k: int, threads: int, seed: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    rows, query = (MAKERS[kind](rng, shape).astype(np.float32) for shape in ((n, d), (d,)))
    codes = quantize_rows(rows)
    scores, _ = cosine_topk_codes(codes, rows, query, k, threads=threads)
    want, _ = reference.cosine_topk_codes(codes, rows, query, k)
    np.testing.assert_allclose(scores, want, rtol=0, atol=2e-6)


SPECIAL = np.array([math.nan, math.inf, -math.inf, 0.0, 1e-45, 1e-20, 1.0, -3.0, 1e18, 3e38], np.float32)


@given(n=st.integers(1, 90), d=st.integers(1, 70), k=st.integers(1, 90), seed=st.integers(0, 999))
@ANY_TIER
def test_codes_of_any_numbers_find_what_the_exact_scan_finds(
    tier: str, n: int, d: int, k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.choice(SPECIAL, (n, d), p=[0.002] * 3 + [0.1, 0.002, 0.1, 0.5, 0.288, 0.002, 0.002])
    query = rng.choice(SPECIAL[3:8], d)
    want_scores, want = cosine_topk(rows, query, k)
    scores, indices = cosine_topk_codes(quantize_rows(rows), rows, query, k)
    np.testing.assert_array_equal(scores, want_scores)
    np.testing.assert_array_equal(indices, want)


def _amounts_beside_ratios(rng: np.random.Generator, n: int) -> np.ndarray:
    amounts = rng.lognormal(4, 1.2, (n, 3)) * rng.choice([0, 1], (n, 3))
    return np.concatenate([amounts, rng.random((n, 1000))], axis=1)


def _clusters_with_spikes(rng: np.random.Generator, n: int) -> np.ndarray:
    rows = np.repeat(rng.standard_normal((n // 12, 768)), 12, axis=0)
    rows += 0.1 * rng.standard_normal(rows.shape)
    spiked = np.flatnonzero(rng.random(len(rows)) < 0.4)
    rows[spiked, rng.integers(0, 768, len(spiked))] += 150
    return rows


@pytest.mark.parametrize("make", [_amounts_beside_ratios, _clusters_with_spikes])
def test_rows_with_a_few_large_columns_are_found(make: Callable[..., np.ndarray]) -> None:
    data = make(np.random.default_rng(1), 6000).astype(np.float32)
    rows, queries = data[20:], data[:20]
    codes = quantize_rows(rows)
    for query in queries:
        found = cosine_topk_codes(codes, rows, query, 10)[1]
        np.testing.assert_array_equal(found, cosine_topk(rows, query, 10)[1])


@pytest.mark.parametrize("d", [640, 805, 1272, 2412, 5000, 131_072])
def test_long_rows_that_round_alike_are_found(tier: str, d: int) -> None:
    rows = np.full((3, d), d**-0.5, np.float32)
    rows[1:] *= np.random.default_rng(d).choice(np.array([-1, 1], np.float32), (2, d))
    for row in range(3):
        assert cosine_topk_codes(quantize_rows(rows), rows, rows[row], 1)[1].tolist() == [row]


def test_signs_that_round_alike_are_found(tier: str) -> None:
    rng = np.random.default_rng(3)
    rows = np.repeat(rng.choice(np.array([-1, 1], np.float32), (1, 4096)), 300, axis=0)
    for row in rows:
        row[rng.integers(0, 4096, rng.integers(0, 9))] *= -1
    rows *= rng.uniform(0.01, 1, (300, 1)).astype(np.float32)
    codes = quantize_rows(rows)
    for query in rows[:20]:
        found = cosine_topk_codes(codes, rows, query, 10)[1]
        np.testing.assert_array_equal(found, cosine_topk(rows, query, 10)[1])


def test_there_are_k_answers_in_any_case(tier: str) -> None:
    query = np.random.default_rng(0).standard_normal(117).astype(np.float32)
    rows = np.stack([query, query])
    rows[1, 5] = 119  # hides all else
    scores, indices = cosine_topk_codes(quantize_rows(rows), rows, query, 2)
    assert indices.tolist() == [0, 1]
    np.testing.assert_array_equal(scores, cosine_topk(rows, query, 2)[0])
    wrong = RowCodes(*(np.zeros_like(part) for part in quantize_rows(rows)))
    assert cosine_topk_codes(wrong, rows, query, 2)[1].tolist() == [0, 1]


def test_a_norm_that_overflows_has_no_score(tier: str) -> None:
    rows = np.array([[1e20, 0], [-1, 0]], np.float32)
    for found in (cosine_topk, partial(cosine_topk_codes, quantize_rows(rows)), reference.cosine_topk):
        scores, indices = found(rows, rows[1], 2)
        assert (scores.tolist(), indices.tolist()) == ([1, -math.inf], [1, 0])


@pytest.mark.parametrize("value", [0.0, 1e-30, math.nan, math.inf])
def test_a_query_without_codes_is_answered_exactly(tier: str, value: float) -> None:
    rows = np.random.default_rng(0).standard_normal((300, 40), np.float32)
    query = np.full(40, value, np.float32)
    scores, indices = cosine_topk_codes(quantize_rows(rows), rows, query, 7)
    want_scores, want = cosine_topk(rows, query, 7)
    np.testing.assert_array_equal(scores, want_scores)
    np.testing.assert_array_equal(indices, want)


def test_codes_can_be_cut_and_joined() -> None:
    rows = np.random.default_rng(0).standard_normal((200, 48), np.float32)
    codes = quantize_rows(rows)
    first = RowCodes(*(part[:120] for part in codes))
    assert (
        cosine_topk_codes(first, rows[:120], rows[150], 3)[1].tolist()
        == cosine_topk(rows[:120], rows[150], 3)[1].tolist()
    )
    joined = RowCodes(
        *(np.concatenate(parts) for parts in zip(first, quantize_rows(rows[120:]), strict=True))
    )
    assert (
        cosine_topk_codes(joined, rows, rows[150], 3)[1].tolist()
        == cosine_topk(rows, rows[150], 3)[1].tolist()
    )


def test_wrong_arguments_are_named() -> None:
    rows = np.zeros((3, 4), np.float32)
    codes = quantize_rows(rows)
    with pytest.raises(ValueError, match=r"query must have shape \(4,\)"):
        cosine_topk(rows, np.zeros(5, np.float32), 1)
    with pytest.raises(ValueError, match="k must not be negative"):
        cosine_topk(rows, rows[0], -1)
    with pytest.raises(TypeError, match="codes must be RowCodes, as quantize_rows makes them, not ndarray"):
        cosine_topk_codes(rows, rows, rows[0], 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"codes\.lower must have shape \(3, 16\), not \(2, 16\)"):
        cosine_topk_codes(codes._replace(lower=codes.lower[:2]), rows, rows[0], 1)
    with pytest.raises(TypeError, match=r"codes\.gains must be float32"):
        cosine_topk_codes(codes._replace(gains=np.zeros(3)), rows, rows[0], 1)  # type: ignore[arg-type]
    askew = np.zeros(13, np.uint8)[1:].view(np.float32)
    with pytest.raises(ValueError, match=r"codes\.margins starts at an address"):
        cosine_topk_codes(codes._replace(margins=askew), rows, rows[0], 1)
    none = np.zeros((0, 131_073), np.float32)
    with pytest.raises(ValueError, match="at most 131072 columns"):
        quantize_rows(none)
    with pytest.raises(ValueError, match="at most 131072 columns"):
        cosine_topk_codes(codes, none, np.zeros(131_073, np.float32), 1)
    with pytest.raises(ValueError, match="codes must have six arrays, as quantize_rows makes them, not 2"):
        cosine_topk_codes(tuple.__new__(RowCodes, codes[:2]), rows, rows[0], 1)
