/* The k rows most similar to a query by cosine, over float32 rows. (Over codes of them: codes.h.)
 *
 * Bound by memory: the scan forms the norms in passing. Threads share the rows; each has a heap of its own, and ties go to
 * the lower row, so the answer does not depend on their number. A row without a finite score (zero norm scores 0) counts
 * as -Inf.
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
/* `ahead`: bytes after those in use to fetch, of rows that are read one after the other */
INLINE row_products products(const float *row, const float *query, int64_t d, const int64_t ahead)
{
    vf a = vf_zero(), b = vf_zero(), p = vf_zero(), q = vf_zero();
    int64_t i = 0;
    for (; i + 2 * VL <= d; i += 2 * VL) {
        if (ahead) __builtin_prefetch(row + i + ahead / 4, 0, 3);
        if (ahead && VL == 16) __builtin_prefetch(row + i + ahead / 4 + VL, 0, 3);
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
    if (both == INFINITY) return -INFINITY;
    const double c = r.dot / sqrt(both);
    return c >= -2.0 && c <= 2.0 ? (float)c : -INFINITY;
}

/* ---- the best of several threads ---- */
INLINE int64_t heap_slot(int64_t k) { return k + TEAM_GAP; }
INLINE best_heap heap_of(float *values, int64_t *indices, int64_t k, int rank)
{
    return (best_heap){values + rank * heap_slot(k), indices + rank * heap_slot(k), 0, k};
}
/* Heaps of the threads, of counts[rank] each, into the first one, which stays a heap. */
static best_heap merge_heaps(float *values, int64_t *indices, const int64_t *counts, int64_t k, int size)
{
    best_heap all = {values, indices, counts[0], k};
    for (int t = 1; t < size; t++) {
        const best_heap one = heap_of(values, indices, k, t);
        for (int64_t j = 0; j < counts[t]; j++) heap_take(&all, one.value[j], one.index[j]);
    }
    return all;
}

typedef struct {
    const float *rows, *query;
    int64_t n, d, k;
    double query_square;
    float *values;
    int64_t *indices, *counts;
} cosine_scan;

static void scan_rows(void *context, lonja_team *team, int rank, int size)
{
    (void)team;
    const cosine_scan *s = context;
    best_heap h = heap_of(s->values, s->indices, s->k, rank);
    float scores[COSINE_BLOCK];
    int64_t from, to;
    team_share(s->n, 1, rank, size, &from, &to);
    for (; from < to; from += COSINE_BLOCK) {
        const int64_t count = to - from < COSINE_BLOCK ? to - from : COSINE_BLOCK;
        for (int64_t r = 0; r < count; r++)
            scores[r] = cosine_of(products(s->rows + (from + r) * s->d, s->query, s->d, COSINE_AHEAD), s->query_square);
        for (int64_t r = 0; r < count; r++) heap_offer(&h, scores[r], from + r);
    }
    s->counts[rank] = h.count;
}

/* values and indices: threads * heap_slot(k) each, the answer in the first k; counts: threads, zeroed */
static int64_t cosine_topk(const float *rows, const float *query, int64_t n, int64_t d, int64_t k, float *values,
                           int64_t *indices, int64_t *counts, int threads)
{
    cosine_scan s = {rows, query, n, d, k, products(query, query, d, 0).square, values, indices, counts};
    lonja_team_run(threads, scan_rows, &s);
    best_heap best = merge_heaps(values, indices, counts, k, threads);
    heap_sort(&best);
    vf_leave();
    return best.count;
}
#endif
