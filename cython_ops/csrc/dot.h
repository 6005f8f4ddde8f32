/* Small batches: y[m][n] = bias[n] + x[m] . w[n], lanes along the inputs.
 *
 * The weights are used as they lie ([out, in], row-major), each read once for up to 8 rows of x. Accumulators:
 * one vector for each (row of x, row of w) of a group, summed up together by vf_sum_each. Inputs are taken in
 * blocks so that the rows of x stay in the first-level cache.
 */
#ifndef LONJA_DOT_H
#define LONJA_DOT_H

#include "kernels.h"
#include "shuffle.h"

#if LONJA_AVX512
#define DOT_SUMS 16 /* accumulators a group */
#define DOT_ROWS 8  /* largest number of rows of x at once */
#else
#define DOT_SUMS 8
#define DOT_ROWS 4
#endif
#define DOT_BLOCK 1024

/* acc[m * step + r] += x[m] . w[r] over k inputs */
INLINE void dot_tile(const int mb, const int rows, const int step, const float *x, int64_t xs,
                     const float *const *w, int64_t k, vf *acc)
{
    vf a[DOT_SUMS];
    EACH_UNROLLED for (int i = 0; i < mb * rows; i++) a[i] = vf_zero();
    int64_t at = 0;
    for (; at + VL <= k; at += VL) {
        vf v[8];
        EACH_UNROLLED for (int r = 0; r < rows; r++) v[r] = vf_load(w[r] + at);
        EACH_UNROLLED for (int m = 0; m < mb; m++) {
            const vf u = vf_load(x + m * xs + at);
            EACH_UNROLLED for (int r = 0; r < rows; r++) a[m * rows + r] = vf_fma(u, v[r], a[m * rows + r]);
        }
    }
    if (at < k) {
        EACH_UNROLLED for (int m = 0; m < mb; m++) {
            const vf u = vf_load_n(x + m * xs + at, k - at, 0.0f);
            EACH_UNROLLED for (int r = 0; r < rows; r++)
                a[m * rows + r] = vf_fma(u, vf_load_n(w[r] + at, k - at, 0.0f), a[m * rows + r]);
        }
    }
    EACH_UNROLLED for (int m = 0; m < mb; m++)
        EACH_UNROLLED for (int r = 0; r < rows; r++) acc[m * step + r] = a[m * rows + r];
}

/* Outputs [n0, n1) of mb rows of x, over inputs [k0, k0 + k). */
INLINE void dot_rows(const int mb, const dense_layer *layer, int64_t n0, int64_t n1, const float *x, int64_t xs,
                     int64_t k0, int64_t k, float *y, int64_t ys)
{
    const int group = DOT_SUMS / mb, rows = group < 8 ? group : 8;
    for (int64_t n = n0; n < n1; n += group) {
        vf acc[DOT_SUMS];
        float sum[DOT_SUMS];
        const int64_t valid = n1 - n < group ? n1 - n : group;
        EACH_UNROLLED for (int t = 0; t < group; t += rows) {
            const float *w[8];
            if (t >= valid) { /* nothing left for the second half of the group */
                EACH_UNROLLED for (int i = 0; i < mb * rows; i++) acc[(i / rows) * group + t + i % rows] = vf_zero();
                continue;
            }
            EACH_UNROLLED for (int r = 0; r < rows; r++) { /* past the end: the last row again, not stored */
                int64_t row = t + r < valid ? n + t + r : n1 - 1;
                w[r] = layer->weight + row * layer->in + k0;
            }
            dot_tile(mb, rows, group, x + k0, xs, w, k, acc + t);
        }
        EACH_UNROLLED for (int i = 0; i < DOT_SUMS; i += VL) vf_store(sum + i, vf_sum_each(acc + i));
        for (int m = 0; m < mb; m++) {
            float *to = y + m * ys + n;
            const float *from = sum + m * group;
            if (k0 > 0)
                for (int64_t j = 0; j < valid; j++) to[j] += from[j];
            else if (layer->bias)
                for (int64_t j = 0; j < valid; j++) to[j] = from[j] + layer->bias[n + j];
            else
                for (int64_t j = 0; j < valid; j++) to[j] = from[j];
        }
    }
}

/* One layer's outputs [n0, n1) for m rows; activation included, softmax not (it needs whole rows). */
static void dot_layer(const dense_layer *layer, int64_t n0, int64_t n1, const float *x, int64_t xs, int64_t m,
                      float *y, int64_t ys)
{
    if (layer->in == 0)
        for (int64_t r = 0; r < m; r++)
            for (int64_t n = n0; n < n1; n++) y[r * ys + n] = layer->bias ? layer->bias[n] : 0.0f;
    const int64_t block = m == 1 ? layer->in : DOT_BLOCK;
    for (int64_t k0 = 0; k0 < layer->in; k0 += block) {
        const int64_t k = layer->in - k0 < block ? layer->in - k0 : block;
        int64_t r = 0;
#if DOT_ROWS == 8
        for (; r + 8 <= m; r += 8) dot_rows(8, layer, n0, n1, x + r * xs, xs, k0, k, y + r * ys, ys);
#endif
        for (; r + 4 <= m; r += 4) dot_rows(4, layer, n0, n1, x + r * xs, xs, k0, k, y + r * ys, ys);
        for (; r + 2 <= m; r += 2) dot_rows(2, layer, n0, n1, x + r * xs, xs, k0, k, y + r * ys, ys);
        if (r < m) dot_rows(1, layer, n0, n1, x + r * xs, xs, k0, k, y + r * ys, ys);
    }
    if (layer->activation != ACT_IDENTITY && layer->activation != ACT_SOFTMAX)
        for (int64_t r = 0; r < m; r++)
            activate(layer->activation, layer->alpha, y + r * ys + n0, y + r * ys + n0, n1 - n0);
}
#endif
