/* Softmax, log-softmax and cross-entropy of whole rows, with the semantics of softmax.h for NaN and infinities. */
#ifndef LONJA_ROWS_H
#define LONJA_ROWS_H

#include "softmax.h"

static double exp_row(const float *x, float *y, int64_t c, float top)
{
    const vf vtop = vf_set1(top);
    double total = 0.0;
    int64_t i = 0;
    while (i + VL <= c) {
        int64_t stop = i + SUM_BLOCK <= c ? i + SUM_BLOCK : c - VL + 1;
        vf mass = vf_zero();
        for (; i < stop; i += VL) {
            vf e = vf_exp_neg(vf_load(x + i) - vtop);
            vf_store(y + i, e);
            mass += e;
        }
        total += (double)vf_hsum(mass);
    }
    if (i < c) {
        vf e = vf_exp_neg(vf_load_n(x + i, c - i, -INFINITY) - vtop);
        vf_store_n(y + i, e, c - i);
        total += (double)vf_hsum(e);
    }
    return total;
}
static void fill_row(float *y, int64_t c, float v)
{
    for (int64_t i = 0; i < c; i++) y[i] = v;
}
static int64_t count_equal(const float *x, int64_t c, float v)
{
    int64_t n = 0;
    for (int64_t i = 0; i < c; i++) n += x[i] == v;
    return n;
}

static void special_share(const float *x, float *y, int64_t c, float top, float share)
{
    if (has_nan(x, c)) {
        fill_row(y, c, NAN);
        return;
    }
    share = (float)((double)share / (double)count_equal(x, c, top));
    for (int64_t i = 0; i < c; i++) y[i] = x[i] == top ? share : 0.0f;
}

/* y = share * softmax(x); x may be y. A row of one vector stays in its register. */
static void share_row(const float *x, float *y, int64_t c, float share)
{
    if (c <= VL) {
        const vf v = vf_load_n(x, c, -INFINITY);
        const float top = vf_hmax(v);
        const vf e = vf_exp_neg(v - vf_set1(top));
        const float total = vf_hsum(e);
        if (UNLIKELY(!(total >= 1.0f))) special_share(x, y, c, top, share);
        else vf_store_n(y, e * vf_set1(share / total), c);
        return;
    }
    lane_maxima lanes;
    const float top = row_max(x, c, &lanes);
    if (UNLIKELY(!(top < INFINITY && top > -INFINITY))) {
        special_share(x, y, c, top, share);
        return;
    }
    const double total = exp_row(x, y, c, top);
    if (UNLIKELY(total != total)) {
        fill_row(y, c, NAN);
        return;
    }
    const vf scale = vf_set1((float)((double)share / total));
    int64_t i = 0;
    for (; i + VL <= c; i += VL) vf_store(y + i, vf_load(y + i) * scale);
    for (; i < c; i++) y[i] *= scale[0];
}
static void softmax_rows(const float *x, float *y, int64_t n, int64_t c)
{
    if (c == 0) return;
    for (int64_t r = 0; r < n; r++) share_row(x + r * c, y + r * c, c, 1.0f);
    vf_leave();
}

static double mass_of(const float *x, int64_t c, float top)
{
    best_heap none = {NULL, NULL, 0, 0};
    return sums_and_best(SCORE_SOFTMAX, x, c, top, INFINITY, &none).mass;
}
static void log_softmax_rows(const float *x, float *y, int64_t n, int64_t c)
{
    for (int64_t r = 0; r < n; r++, x += c, y += c) {
        lane_maxima lanes;
        float top = row_max(x, c, &lanes);
        double mass = mass_of(x, c, top);
        if (UNLIKELY(mass != mass)) {
            if (has_nan(x, c)) {
                fill_row(y, c, NAN);
            } else {
                float share = (float)-log((double)count_equal(x, c, top));
                for (int64_t i = 0; i < c; i++) y[i] = x[i] == top ? share : -INFINITY;
            }
            continue;
        }
        /* (x - top) - log(mass): subtracting their sum at once would lose the small difference */
        const vf vtop = vf_set1(top), vlog = vf_set1((float)log(mass));
        int64_t i = 0;
        for (; i + VL <= c; i += VL) vf_store(y + i, vf_load(x + i) - vtop - vlog);
        for (; i < c; i++) y[i] = x[i] - top - vlog[0];
    }
    vf_leave();
}

/* A row's class. Read once, and -1 where it is none: another thread may write to what the face has checked. */
INLINE int64_t label_of(const int64_t *label, int64_t c)
{
    const int64_t l = __atomic_load_n(label, __ATOMIC_RELAXED);
    return l >= 0 && l < c ? l : -1;
}
/* -log softmax(x)[label], in nats; NaN without a label */
static double surprise(const float *x, int64_t c, int64_t label)
{
    float top;
    double mass;
    if (UNLIKELY(label < 0)) return (double)NAN;
    if (c <= VL) {
        const vf v = vf_load_n(x, c, -INFINITY);
        top = vf_hmax(v);
        mass = (double)vf_hsum(vf_exp_neg(v - vf_set1(top)));
    } else {
        lane_maxima lanes;
        top = row_max(x, c, &lanes);
        mass = mass_of(x, c, top);
    }
    if (LIKELY(mass >= 1.0)) return log(mass) - ((double)x[label] - (double)top);
    if (has_nan(x, c)) return (double)NAN;
    return x[label] == top ? log((double)count_equal(x, c, top)) : (double)INFINITY;
}
/* The mean over rows of weights[label] surprise; weights may be NULL. */
static double cross_entropy(const float *x, const int64_t *labels, const float *weights, int64_t n, int64_t c)
{
    double sum = 0.0;
    for (int64_t r = 0; r < n; r++, x += c) {
        const int64_t label = label_of(labels + r, c);
        sum += surprise(x, c, label) * (weights && label >= 0 ? (double)weights[label] : 1.0);
    }
    vf_leave();
    return sum / (double)n;
}
/* Its gradient by x; x may be y. */
static void cross_entropy_back(const float *x, const int64_t *labels, const float *weights, int64_t n, int64_t c, float *y)
{
    for (int64_t r = 0; r < n; r++, x += c, y += c) {
        const int64_t label = label_of(labels + r, c);
        if (UNLIKELY(label < 0)) {
            fill_row(y, c, NAN);
            continue;
        }
        const float share = (float)((weights ? (double)weights[label] : 1.0) / (double)n);
        share_row(x, y, c, share);
        y[label] -= share;
    }
    vf_leave();
}
#endif
