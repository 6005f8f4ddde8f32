/* The k rows most similar to a query by cosine: over float32 rows, or over int8 codes with an exact second look.
 *
 * Both scans are bound by memory: the float scan forms the norms in passing; the int8 scan reads a quarter of the
 * bytes, keeps the best `candidates`, and scores those again from the float rows. Threads share the rows, and the
 * candidates; each has a heap of its own, and ties go to the lower row, so the answer does not depend on their number.
 * A row without a finite score (zero norm scores 0) counts as -Inf.
 */
#ifndef LONJA_COSINE_H
#define LONJA_COSINE_H

#include "shuffle.h"
#include "softmax.h"
#include "team.h"

#define COSINE_AHEAD 12288 /* bytes after those in use to fetch: a third faster on memory-bound rows */
#define COSINE_BLOCK 64 /* rows scored before they are ranked: what is one of the best interrupts no row */

typedef struct {
    double dot, square;
} row_products;

/* A vector of a row that comes from memory. Whole vectors of AVX-512 all straddle two cache lines where an array is not
 * aligned to one, as NumPy's are not, which takes a quarter longer than halves. */
INLINE vf row_load(const float *p)
{
#if LONJA_AVX512
    return (vf)_mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(p)), _mm256_loadu_ps(p + 8), 1);
#else
    return vf_load(p);
#endif
}
INLINE row_products products(const float *row, const float *query, int64_t d)
{
    vf a = vf_zero(), b = vf_zero(), p = vf_zero(), q = vf_zero();
    int64_t i = 0;
    for (; i + 2 * VL <= d; i += 2 * VL) {
        __builtin_prefetch(row + i + COSINE_AHEAD / 4, 0, 3);
        if (VL == 16) __builtin_prefetch(row + i + COSINE_AHEAD / 4 + VL, 0, 3);
        vf u = row_load(row + i), v = row_load(row + i + VL);
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

/* Products of `rows` (1 to 4) rows of codes, which lie one after the other, with a query that is loaded once. */
INLINE void dot_codes(const int rows, const int8_t *row, const int16_t *query, int64_t d, int32_t *sums)
{
    int64_t i = 0;
    EACH_UNROLLED for (int r = 0; r < rows; r++) sums[r] = 0;
#if LONJA_AVX512
    __m512i a[4];
    EACH_UNROLLED for (int r = 0; r < rows; r++) a[r] = _mm512_setzero_si512();
    for (; i + 64 <= d; i += 64) {
        const __m512i p = _mm512_loadu_si512(query + i), q = _mm512_loadu_si512(query + i + 32);
        EACH_UNROLLED for (int r = 0; r < rows; r++) {
            const int8_t *at = row + r * d + i;
            __builtin_prefetch(row + COSINE_AHEAD + i * rows + r * 64, 0, 3);
            const __m512i u = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)at));
            const __m512i v = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(at + 32)));
            a[r] = _mm512_add_epi32(a[r], _mm512_add_epi32(_mm512_madd_epi16(u, p), _mm512_madd_epi16(v, q)));
        }
    }
    EACH_UNROLLED for (int r = 0; r < rows; r++) sums[r] = _mm512_reduce_add_epi32(a[r]);
#elif LONJA_AVX2
    __m256i a[4];
    EACH_UNROLLED for (int r = 0; r < rows; r++) a[r] = _mm256_setzero_si256();
    for (; i + 32 <= d; i += 32) {
        const __m256i p = _mm256_loadu_si256((const __m256i *)(query + i));
        const __m256i q = _mm256_loadu_si256((const __m256i *)(query + i + 16));
        EACH_UNROLLED for (int r = 0; r < rows; r++) {
            const int8_t *at = row + r * d + i;
            if (r % 2 == 0) __builtin_prefetch(row + COSINE_AHEAD + i * rows + r * 32, 0, 3);
            const __m256i u = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)at));
            const __m256i v = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(at + 16)));
            a[r] = _mm256_add_epi32(a[r], _mm256_add_epi32(_mm256_madd_epi16(u, p), _mm256_madd_epi16(v, q)));
        }
    }
    EACH_UNROLLED for (int r = 0; r < rows; r++) {
        __m128i h = _mm_add_epi32(_mm256_castsi256_si128(a[r]), _mm256_extracti128_si256(a[r], 1));
        h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
        sums[r] = _mm_cvtsi128_si32(_mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1)));
    }
#endif
    for (int r = 0; r < rows; r++, row += d) {
        int64_t j = i;
#if LONJA_SSE
        __m128i c = _mm_setzero_si128();
        for (; j + 8 <= d; j += 8) {
            const __m128i u = _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(row + j)));
            c = _mm_add_epi32(c, _mm_madd_epi16(u, _mm_loadu_si128((const __m128i *)(query + j))));
        }
        c = _mm_add_epi32(c, _mm_shuffle_epi32(c, 0x4e));
        sums[r] += _mm_cvtsi128_si32(_mm_add_epi32(c, _mm_shuffle_epi32(c, 0xb1)));
#endif
        for (; j < d; j++) sums[r] += (int32_t)row[j] * query[j];
    }
}

typedef struct {
    const float *rows, *query;
    const int8_t *codes;
    const int16_t *query_codes;
    const float *gains;
    int64_t n, d, k;
    double query_square;
    float *values;
    int64_t *indices, *counts, found;
} cosine_scan;

/* scores of `count` rows from `first` */
static void score_rows(const cosine_scan *s, int64_t first, int64_t count, float *scores)
{
    if (!s->codes) {
        for (int64_t r = 0; r < count; r++)
            scores[r] = cosine_of(products(s->rows + (first + r) * s->d, s->query, s->d), s->query_square);
        return;
    }
    int32_t sums[COSINE_BLOCK];
    int64_t r = 0;
    for (; r + 4 <= count; r += 4) dot_codes(4, s->codes + (first + r) * s->d, s->query_codes, s->d, sums + r);
    for (; r < count; r++) dot_codes(1, s->codes + (first + r) * s->d, s->query_codes, s->d, sums + r);
    for (r = 0; r < count; r++) {
        const float score = (float)sums[r] * s->gains[first + r];
        scores[r] = score < INFINITY ? score : -INFINITY;
    }
}

static void scan_rows(void *context, lonja_team *team, int rank, int size)
{
    (void)team;
    const cosine_scan *s = context;
    const int64_t slot = s->k + TEAM_GAP;
    best_heap h = {s->values + rank * slot, s->indices + rank * slot, 0, s->k};
    float scores[COSINE_BLOCK];
    int64_t from, to;
    team_share(s->n, 1, rank, size, &from, &to);
    for (; from < to; from += COSINE_BLOCK) {
        const int64_t count = to - from < COSINE_BLOCK ? to - from : COSINE_BLOCK;
        score_rows(s, from, count, scores);
        for (int64_t r = 0; r < count; r++) heap_offer(&h, scores[r], from + r);
    }
    s->counts[rank] = h.count;
}

/* Heaps of the threads into the first one, which stays a heap. */
static best_heap merge_heaps(const cosine_scan *s, int size)
{
    best_heap all = {s->values, s->indices, s->counts[0], s->k};
    const int64_t slot = s->k + TEAM_GAP;
    for (int t = 1; t < size; t++)
        for (int64_t j = t * slot; j < t * slot + s->counts[t]; j++) heap_take(&all, s->values[j], s->indices[j]);
    return all;
}

/* values and indices: threads * (k + TEAM_GAP) each, the answer in the first k; counts: threads, zeroed */
static int64_t cosine_topk(const float *rows, const float *query, int64_t n, int64_t d, int64_t k, float *values,
                           int64_t *indices, int64_t *counts, int threads)
{
    cosine_scan s = {.rows = rows, .query = query, .n = n, .d = d, .k = k,
                     .query_square = products(query, query, d).square,
                     .values = values, .indices = indices, .counts = counts};
    lonja_team_run(threads, scan_rows, &s);
    vf_leave();
    best_heap best = merge_heaps(&s, threads);
    heap_sort(&best);
    return best.count;
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

/* Scans the codes, and then scores the best `k` of all threads from the float rows. */
static void scan_twice(void *context, lonja_team *team, int rank, int size)
{
    cosine_scan *s = context;
    int64_t from, to;
    scan_rows(context, team, rank, size);
    lonja_team_wait(team);
    if (rank == 0) s->found = merge_heaps(s, size).count;
    lonja_team_wait(team);
    team_share(s->found, 1, rank, size, &from, &to);
    for (int64_t j = from; j < to; j++)
        s->values[j] = cosine_of(products(s->rows + s->indices[j] * s->d, s->query, s->d), s->query_square);
}

/* values and indices: threads * (candidates + TEAM_GAP) each; the k best of them, scored exactly, first */
static int64_t cosine_topk_codes(const int8_t *codes, const float *gains, const float *rows, const float *query,
                                 const int16_t *query_codes, int64_t n, int64_t d, int64_t k, int64_t candidates,
                                 float *values, int64_t *indices, int64_t *counts, int threads)
{
    cosine_scan s = {.rows = rows, .query = query, .codes = codes, .query_codes = query_codes, .gains = gains,
                     .n = n, .d = d, .k = candidates, .query_square = products(query, query, d).square,
                     .values = values, .indices = indices, .counts = counts};
    lonja_team_run(threads, scan_twice, &s);
    vf_leave();
    best_heap best = {values, indices, 0, k};
    for (int64_t j = 0; j < s.found; j++) heap_take(&best, values[j], indices[j]);
    heap_sort(&best);
    return best.count;
}
#endif
