/* The k rows most similar to a query by cosine: over float32 rows, or over int8 codes with an exact second look.
 *
 * Both scans are bound by memory: the float scan forms the norms in passing; the int8 scan reads a quarter of the
 * bytes, keeps the best `candidates`, and scores those again from the float rows. Threads share the rows; each
 * has a heap of its own, and the heaps are merged in row order, so the answer does not depend on their number.
 * A row without a finite score (zero norm scores 0) counts as -Inf.
 */
#ifndef LONJA_COSINE_H
#define LONJA_COSINE_H

#include "softmax.h"
#include "team.h"

#define COSINE_AHEAD 1024 /* floats after the one in use to fetch: a quarter faster on memory-bound rows */

typedef struct {
    double dot, square;
} row_products;

INLINE row_products products(const float *row, const float *query, int64_t d)
{
    vf a = vf_zero(), b = vf_zero(), p = vf_zero(), q = vf_zero();
    int64_t i = 0;
    for (; i + 2 * VL <= d; i += 2 * VL) {
        __builtin_prefetch(row + i + COSINE_AHEAD, 0, 3);
        if (VL == 16) __builtin_prefetch(row + i + COSINE_AHEAD + VL, 0, 3);
        vf u = vf_load(row + i), v = vf_load(row + i + VL);
        a = vf_fma(u, vf_load(query + i), a);
        b = vf_fma(v, vf_load(query + i + VL), b);
        p = vf_fma(u, u, p);
        q = vf_fma(v, v, q);
    }
    for (; i < d; i += VL) {
        const int64_t m = d - i < VL ? d - i : VL;
        vf u = vf_load_n(row + i, m, 0.0f);
        a = vf_fma(u, vf_load_n(query + i, m, 0.0f), a);
        p = vf_fma(u, u, p);
    }
    return (row_products){(double)vf_hsum(a + b), (double)vf_hsum(p + q)};
}
INLINE float cosine_of(row_products r, double query_square)
{
    const double both = r.square * query_square;
    if (both == 0.0) return 0.0f;
    const double c = r.dot / sqrt(both);
    return c >= -2.0 && c <= 2.0 ? (float)c : -INFINITY;
}

INLINE int32_t dot_codes(const int8_t *row, const int16_t *query, int64_t d)
{
    int64_t i = 0;
    int32_t sum = 0;
#if LONJA_AVX512
    __m512i a = _mm512_setzero_si512(), b = a;
    for (; i + 64 <= d; i += 64) {
        __builtin_prefetch(row + i + 4 * COSINE_AHEAD, 0, 3);
        const __m512i u = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(row + i)));
        const __m512i v = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(row + i + 32)));
        a = _mm512_add_epi32(a, _mm512_madd_epi16(u, _mm512_loadu_si512(query + i)));
        b = _mm512_add_epi32(b, _mm512_madd_epi16(v, _mm512_loadu_si512(query + i + 32)));
    }
    sum = _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
#elif LONJA_AVX2
    __m256i a = _mm256_setzero_si256(), b = a;
    for (; i + 32 <= d; i += 32) {
        __builtin_prefetch(row + i + 4 * COSINE_AHEAD, 0, 3);
        const __m256i u = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(row + i)));
        const __m256i v = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(row + i + 16)));
        a = _mm256_add_epi32(a, _mm256_madd_epi16(u, _mm256_loadu_si256((const __m256i *)(query + i))));
        b = _mm256_add_epi32(b, _mm256_madd_epi16(v, _mm256_loadu_si256((const __m256i *)(query + i + 16))));
    }
    a = _mm256_add_epi32(a, b);
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    sum = _mm_cvtsi128_si32(_mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1)));
#endif
#if LONJA_SSE
    __m128i a = _mm_setzero_si128();
    for (; i + 8 <= d; i += 8) {
        const __m128i u = _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(row + i)));
        a = _mm_add_epi32(a, _mm_madd_epi16(u, _mm_loadu_si128((const __m128i *)(query + i))));
    }
    a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0x4e));
    sum = _mm_cvtsi128_si32(_mm_add_epi32(a, _mm_shuffle_epi32(a, 0xb1)));
#endif
    for (; i < d; i++) sum += (int32_t)row[i] * query[i];
    return sum;
}

typedef struct {
    const float *rows, *query;
    const int8_t *codes;
    const int16_t *query_codes;
    const float *gains;
    int64_t n, d, k;
    double query_square;
    float *values;
    int64_t *indices, *counts;
} cosine_scan;

static void scan_rows(void *context, lonja_team *team, int rank, int size)
{
    (void)team;
    const cosine_scan *s = context;
    best_heap h = {s->values + rank * s->k, s->indices + rank * s->k, 0, s->k};
    int64_t from, to;
    team_share(s->n, 1, rank, size, &from, &to);
    for (int64_t r = from; r < to; r++) {
        float score;
        if (s->codes) {
            score = (float)dot_codes(s->codes + r * s->d, s->query_codes, s->d) * s->gains[r];
            score = score < INFINITY ? score : -INFINITY;
        } else {
            score = cosine_of(products(s->rows + r * s->d, s->query, s->d), s->query_square);
        }
        heap_offer(&h, score, r);
    }
    s->counts[rank] = h.count;
}

/* Heaps of the threads into the first one, best first; the number of rows found. */
static int64_t merge_heaps(const cosine_scan *s, int size)
{
    best_heap all = {s->values, s->indices, s->counts[0], s->k};
    for (int t = 1; t < size; t++) {
        best_heap part = {s->values + t * s->k, s->indices + t * s->k, s->counts[t], s->k};
        heap_sort(&part); /* equal scores of a part in index order, and its indices all come after those before */
        for (int64_t j = 0; j < part.count; j++) heap_offer(&all, part.value[j], part.index[j]);
    }
    heap_sort(&all);
    return all.count;
}

/* values and indices: threads * k each, the answer in the first k; counts: threads, zeroed */
static int64_t cosine_topk(const float *rows, const float *query, int64_t n, int64_t d, int64_t k, float *values,
                           int64_t *indices, int64_t *counts, int threads)
{
    cosine_scan s = {.rows = rows, .query = query, .n = n, .d = d, .k = k,
                     .query_square = products(query, query, d).square,
                     .values = values, .indices = indices, .counts = counts};
    lonja_team_run(threads, scan_rows, &s);
    vf_leave();
    return merge_heaps(&s, threads);
}

/* codes [n][d], gains [n]: codes * gain approximates row / |row|. Rows without a finite norm: gain NaN. */
static void quantize_rows(const float *rows, int64_t n, int64_t d, int8_t *codes, float *gains)
{
    for (int64_t r = 0; r < n; r++, rows += d, codes += d) {
        float top = 0.0f;
        for (int64_t i = 0; i < d; i++) top = fabsf(rows[i]) > top ? fabsf(rows[i]) : top;
        const double norm = sqrt(products(rows, rows, d).square);
        const int usable = norm <= 3e38 && norm > 0.0;
        const float scale = usable && top >= 1.17549435e-38f ? 127.0f / top : 0.0f;
        for (int64_t i = 0; i < d; i++) codes[i] = scale > 0.0f && scale < INFINITY ? (int8_t)lrintf(rows[i] * scale) : 0;
        gains[r] = norm != norm || norm > 3e38 ? NAN : usable ? (float)((double)top / 127.0 / norm) : 0.0f;
    }
    vf_leave();
}

/* values and indices: threads * candidates each; the k best of them, scored exactly, first */
static int64_t cosine_topk_codes(const int8_t *codes, const float *gains, const float *rows, const float *query,
                                 const int16_t *query_codes, int64_t n, int64_t d, int64_t k, int64_t candidates,
                                 float *values, int64_t *indices, int64_t *counts, int threads)
{
    cosine_scan s = {.rows = rows, .query = query, .codes = codes, .query_codes = query_codes, .gains = gains,
                     .n = n, .d = d, .k = candidates, .values = values, .indices = indices, .counts = counts};
    const double query_square = products(query, query, d).square;
    lonja_team_run(threads, scan_rows, &s);
    best_heap h = {values, indices, merge_heaps(&s, threads), candidates};
    for (int64_t j = 0; j < h.count; j++)
        h.value[j] = cosine_of(products(rows + h.index[j] * d, query, d), query_square);
    for (int64_t j = h.count / 2 - 1; j >= 0; j--) heap_down(&h, j, h.count, h.value[j], h.index[j]);
    heap_sort(&h);
    vf_leave();
    return h.count < k ? h.count : k;
}
#endif
