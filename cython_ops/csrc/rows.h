/* Softmax and log-softmax of whole rows, with the semantics of softmax.h for NaN and infinities. */
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

/* x may be y */
static void softmax_rows(const float *x, float *y, int64_t n, int64_t c)
{
    for (int64_t r = 0; r < n; r++, x += c, y += c) {
        lane_maxima lanes;
        float top = row_max(x, c, &lanes);
        if (UNLIKELY(!(top < INFINITY && top > -INFINITY))) {
            if (has_nan(x, c)) {
                fill_row(y, c, NAN);
            } else {
                float share = (float)(1.0 / (double)count_equal(x, c, top));
                for (int64_t i = 0; i < c; i++) y[i] = x[i] == top ? share : 0.0f;
            }
            continue;
        }
        double total = exp_row(x, y, c, top);
        if (UNLIKELY(total != total)) {
            fill_row(y, c, NAN);
            continue;
        }
        const vf scale = vf_set1((float)(1.0 / total));
        int64_t i = 0;
        for (; i + VL <= c; i += VL) vf_store(y + i, vf_load(y + i) * scale);
        for (; i < c; i++) y[i] *= scale[0];
    }
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
#endif
