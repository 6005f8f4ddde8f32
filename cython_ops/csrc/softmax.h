/* Scores of a classifier: activation, k best and entropy in two passes over a row.
 *
 * Pass 1 keeps 4 * VL lane maxima. Each is a different element, so the k-th largest of them is a lower bound
 * of the k-th largest element: pass 2 (exp and sums) looks only at what exceeds it, which is little more than
 * k elements. Those go through a heap that lives in the caller's output arrays.
 *
 * Order: logit descending, index ascending. Rows that hold NaN, +Inf, or nothing but -Inf make pass 2's sum
 * NaN and are answered by `special_row`; the common row pays nothing for them.
 */
#ifndef LONJA_SOFTMAX_H
#define LONJA_SOFTMAX_H

#include "kernels.h"
#include "vmath.h"

#define SUM_BLOCK (64 * VL) /* floats summed in single precision before the sum goes to a double */

#define MASS_LOW 1e-30 /* ready-made scores outside of these are no distribution */
#define MASS_HIGH 1e30f

/* ---- the k best so far: a heap with the worst at [0] ---- */
typedef struct {
    float *value;
    int64_t *index;
    int64_t count, k;
} best_heap;

INLINE int worse(float av, int64_t ai, float bv, int64_t bi) { return av < bv || (av == bv && ai > bi); }

static void heap_down(const best_heap *h, int64_t at, int64_t count, float v, int64_t i)
{
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= count) break;
        if (child + 1 < count && worse(h->value[child + 1], h->index[child + 1], h->value[child], h->index[child]))
            child++;
        if (!worse(h->value[child], h->index[child], v, i)) break;
        h->value[at] = h->value[child];
        h->index[at] = h->index[child];
        at = child;
    }
    h->value[at] = v;
    h->index[at] = i;
}
/* Elements come in rising index, so one that only equals the worst kept loses. */
static inline void heap_offer(best_heap *h, float v, int64_t i)
{
    if (h->count == h->k) {
        if (v > h->value[0]) heap_down(h, 0, h->count, v, i);
        return;
    }
    int64_t at = h->count++;
    while (at > 0) {
        int64_t parent = (at - 1) / 2;
        if (!worse(v, i, h->value[parent], h->index[parent])) break;
        h->value[at] = h->value[parent];
        h->index[at] = h->index[parent];
        at = parent;
    }
    h->value[at] = v;
    h->index[at] = i;
}
/* An element in any order. */
static inline void heap_take(best_heap *h, float v, int64_t i)
{
    if (h->count < h->k) heap_offer(h, v, i);
    else if (worse(h->value[0], h->index[0], v, i)) heap_down(h, 0, h->count, v, i);
}
static void heap_sort(best_heap *h) /* best first */
{
    for (int64_t last = h->count - 1; last > 0; last--) {
        float v = h->value[last];
        int64_t i = h->index[last];
        h->value[last] = h->value[0];
        h->index[last] = h->index[0];
        heap_down(h, 0, last, v, i);
    }
}

/* ---- pass 1 ---- */
typedef struct {
    vf lane[4];
} lane_maxima;

static inline float row_max(const float *x, int64_t c, lane_maxima *m)
{
    const vf low = vf_set1(-INFINITY);
    vf a = low, b = low, d = low, e = low;
    int64_t i = 0;
    for (; i + 4 * VL <= c; i += 4 * VL) {
        a = vf_max(a, vf_load(x + i));
        b = vf_max(b, vf_load(x + i + VL));
        d = vf_max(d, vf_load(x + i + 2 * VL));
        e = vf_max(e, vf_load(x + i + 3 * VL));
    }
    for (; i + VL <= c; i += VL) {
        vf v = vf_max(a, vf_load(x + i));
        a = b;
        b = d;
        d = e;
        e = v;
    }
    if (i < c) a = vf_max(a, vf_load_n(x + i, c - i, -INFINITY));
    m->lane[0] = a;
    m->lane[1] = b;
    m->lane[2] = d;
    m->lane[3] = e;
    return vf_hmax(vf_max(vf_max(a, b), vf_max(d, e)));
}

/* The greatest float below the k-th largest lane maximum (equal maxima count once: the bound stays one). */
static inline float topk_bound(lane_maxima *m, float top, int64_t k)
{
    const vf low = vf_set1(-INFINITY);
    for (int64_t j = 1; j < k; j++) {
        const vf t = vf_set1(top);
        for (int q = 0; q < 4; q++) m->lane[q] = vf_select(vf_ge(m->lane[q], t), low, m->lane[q]);
        top = vf_hmax(vf_max(vf_max(m->lane[0], m->lane[1]), vf_max(m->lane[2], m->lane[3])));
    }
    return nextafterf(top, -INFINITY);
}

/* ---- pass 2 ---- */
static inline void offer_lanes(best_heap *h, const float *x, int64_t at, uint32_t bits, vf *bound)
{
    do {
        int lane = __builtin_ctz(bits);
        bits &= bits - 1;
        heap_offer(h, x[at + lane], at + lane);
    } while (bits);
    if (h->count == h->k) {
        float least = h->value[0];
        if (least > (*bound)[0]) *bound = vf_set1(least);
    }
}

typedef struct {
    double mass, weighted; /* softmax: sum e, sum e*t; sigmoid: entropy in both; none: sum p, sum p*log p */
} row_sums;

INLINE void add_terms(int score, vf x, vf top, vf *mass, vf *weighted)
{
    if (score == SCORE_SOFTMAX) {
        const vf low = vf_set1(EXP_LOW);
        vf t = x - top, held = vf_max(low, t);
        vf e = vf_select(vf_lt(t, low), vf_zero(), exp_core(held));
        *mass += e;
        *weighted = vf_fma(e, held, *weighted);
    } else if (score == SCORE_SIGMOID) {
        vf a = vf_min(vf_set1(90.0f), vf_abs(x)), e = vf_exp_neg(vf_zero() - a);
        *mass += vf_log1p_unit(e);
        *weighted = vf_fma(a, e / (e + vf_set1(1.0f)), *weighted);
    } else {
        vf p = vf_select(vf_ge(x, vf_zero()), x, vf_set1(NAN));
        p = vf_select(vf_gt(p, vf_set1(MASS_HIGH)), vf_set1(NAN), p);
        *mass += p;
        *weighted = vf_fma(p, vf_log(p), *weighted);
    }
}

INLINE row_sums sums_and_best(int score, const float *x, int64_t c, float top, float bound_from, best_heap *h)
{
    row_sums s = {0.0, 0.0};
    vf bound = vf_set1(bound_from);
    const vf vtop = vf_set1(top);
    const int want = h->k > 0;
    int64_t i = 0;
    while (i + VL <= c) {
        int64_t stop = i + SUM_BLOCK <= c ? i + SUM_BLOCK : c - VL + 1;
        vf mass = vf_zero(), weighted = vf_zero();
        for (; i < stop; i += VL) {
            vf v = vf_load(x + i);
            uint32_t bits = vm_bits(vf_gt(v, bound));
            add_terms(score, v, vtop, &mass, &weighted);
            if (UNLIKELY(bits) && want) offer_lanes(h, x, i, bits, &bound);
        }
        s.mass += (double)vf_hsum(mass);
        s.weighted += (double)vf_hsum(weighted);
    }
    if (i < c) {
        const float fill = score == SCORE_NONE ? 0.0f : -INFINITY; /* adds nothing to either sum */
        vf mass = vf_zero(), weighted = vf_zero();
        vf v = vf_load_n(x + i, c - i, fill);
        add_terms(score, v, vtop, &mass, &weighted);
        uint32_t bits = vm_bits(vf_gt(v, bound)) & ((1u << (c - i)) - 1u);
        if (bits && want) offer_lanes(h, x, i, bits, &bound);
        s.mass += (double)vf_hsum(mass);
        s.weighted += (double)vf_hsum(weighted);
    }
    return s;
}

/* ---- rows with NaN or infinities ---- */
static int has_nan(const float *x, int64_t c)
{
    for (int64_t i = 0; i < c; i++)
        if (x[i] != x[i]) return 1;
    return 0;
}
static void best_of_all(const float *x, int64_t c, best_heap *h)
{
    h->count = 0;
    for (int64_t i = 0; i < c; i++) heap_offer(h, x[i], i);
}
static double nan_row(float *values, int64_t *indices, int64_t k)
{
    for (int64_t j = 0; j < k; j++) {
        values[j] = NAN;
        indices[j] = j;
    }
    return (double)NAN;
}
/* Softmax as the limit of logits that grow together: the +Inf (or, if all are -Inf, all) share the mass. */
static double special_softmax(const float *x, int64_t c, best_heap *h, float top)
{
    int64_t sharers = 0;
    for (int64_t i = 0; i < c; i++) sharers += x[i] == top;
    if (h->k > 0) best_of_all(x, c, h);
    heap_sort(h);
    for (int64_t j = 0; j < h->k; j++) h->value[j] = h->value[j] == top ? (float)(1.0 / (double)sharers) : 0.0f;
    return log((double)sharers);
}

/* ---- a row ---- */
static void activate_best(int score, float *v, int64_t k, float top, double mass)
{
    if (score == SCORE_NONE) return;
    for (int64_t j = 0; j < k; j += VL) {
        int64_t m = k - j < VL ? k - j : VL;
        vf x = vf_load_n(v + j, m, 0.0f);
        x = score == SCORE_SOFTMAX ? vf_exp_neg(x - vf_set1(top)) * vf_set1((float)(1.0 / mass)) : vf_sigmoid(x);
        vf_store_n(v + j, x, m);
    }
}
INLINE double score_row(int score, const float *x, int64_t c, best_heap *h)
{
    lane_maxima lanes;
    float top = row_max(x, c, &lanes);
    float bound = h->k > 0 && h->k <= 4 * VL && c > 2 * VL ? topk_bound(&lanes, top, h->k) : -INFINITY;
    row_sums s = sums_and_best(score, x, c, top, bound, h);
    if (UNLIKELY(s.mass != s.mass || s.weighted != s.weighted)) {
        if (has_nan(x, c)) return nan_row(h->value, h->index, h->k);
        if (score == SCORE_SOFTMAX) return special_softmax(x, c, h, top);
    }
    if (UNLIKELY(h->count < h->k)) best_of_all(x, c, h); /* some of the k best are -Inf */
    heap_sort(h);
    activate_best(score, h->value, h->k, top, s.mass);
    if (score == SCORE_SOFTMAX) return log(s.mass) - s.weighted / s.mass;
    if (score == SCORE_SIGMOID) return s.mass + s.weighted;
    return s.mass >= MASS_LOW ? log(s.mass) - s.weighted / s.mass : (double)NAN;
}

static void score_topk(const float *x, int64_t n, int64_t c, int64_t k, int score, float *values,
                       int64_t *indices, double *entropy)
{
    for (int64_t r = 0; r < n; r++, x += c) {
        best_heap h = {values + r * k, indices + r * k, 0, k};
        double bits;
        if (c == 0) bits = 0.0;
        else if (score == SCORE_SOFTMAX) bits = score_row(SCORE_SOFTMAX, x, c, &h);
        else if (score == SCORE_SIGMOID) bits = score_row(SCORE_SIGMOID, x, c, &h);
        else bits = score_row(SCORE_NONE, x, c, &h);
        entropy[r] = bits > 0.0 || bits != bits ? bits : 0.0; /* rounding must not make it negative */
    }
    vf_leave();
}
#endif
