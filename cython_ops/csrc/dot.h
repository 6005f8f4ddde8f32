/* Small batches: y[m][n] = bias[n] + x[m] . w[n], lanes along the inputs.
 *
 * The weights are used as they lie ([out, in], row-major). A tile is mb rows of x by as many rows of w as make
 * DOT_SUMS products (AVX2, for many rows of x: 3 by 4); its accumulators, one vector each, are summed up together by
 * vf_sum_each. All rows of x pass over a group of weights before the next group is read, and inputs are taken in
 * blocks, so that both stay in the first-level cache. How large a group is, is the walk:
 *   tiles   many outputs, and rows of x for full tiles: these from a pack, the weights once past each
 *   near    x leaves room in the first-level cache: a tile's rows of w at a time
 *   wide    x does not: DOT_SUMS rows of w at a time
 *   stream  no second-level cache holds the weights, and there are one or two rows of x: each row of w from end to end,
 *           what follows is fetched ahead
 *   far     the same for more rows of x: as wide, the next rows of w are fetched ahead, and tiles take x from a pack,
 *           [inputs / VL][rows of the tile][VL], as rows of equal low address bits would fight for the cache sets that
 *           the fetched rows need
 * A long single row of x takes dot_rows instead of tiles in any walk, where vectors are wide enough.
 */
#ifndef LONJA_DOT_H
#define LONJA_DOT_H

#include "activate.h"
#include "kernels.h"
#include "shuffle.h"

#if LONJA_AVX512
#define DOT_SUMS 16 /* accumulators a tile, and rows of w a group */
#else
#define DOT_SUMS 8
#endif
#define DOT_FULL (DOT_SUMS / 2) /* rows of x in a full tile, by two of w */
#define DOT_MOST 16 /* accumulators of the largest tile */
#define DOT_BLOCK 1024
#define DOT_LONG 512 /* inputs from which on a row is long: one of w repays being read on its own */
#define DOT_NEAR (8 * 1024) /* floats of x beside which a few rows of w stay in the first-level cache */
#define DOT_FAR (256 * 1024) /* floats of weights that no second-level cache holds */
#define DOT_MANY 64 /* outputs that repay packing x where weights are near */
#define DOT_PACK 4096 /* floats of x in a pack, and of w between those in use and those fetched: a third of a first-level
                       * cache each */

/* sum[m * rows + r] = x[m] . w[r] over k inputs */
INLINE void dot_tile(const int mb, const int rows, const float *x, int64_t xs, const float *const *w, int64_t k, vf *sum)
{
    const int held = mb > 1; /* for a single row of x, loads of w are better left to the products */
    vf a[DOT_MOST];
    EACH_UNROLLED for (int i = 0; i < mb * rows; i++) a[i] = vf_zero();
    int64_t at = 0;
    for (; at + VL <= k; at += VL) {
        if (mb == 3) { /* by four rows of w: 16 registers hold the sums, the rows of x, and one vector of w */
            vf u[3];
            EACH_UNROLLED for (int m = 0; m < mb; m++) u[m] = vf_held(vf_load(x + m * xs + at));
            EACH_UNROLLED for (int r = 0; r < rows; r++) {
                const vf v = vf_held(vf_load(w[r] + at));
                EACH_UNROLLED for (int m = 0; m < mb; m++) a[m * rows + r] = vf_fma(u[m], v, a[m * rows + r]);
            }
            continue;
        }
        vf v[8];
        EACH_UNROLLED for (int r = 0; r < rows; r++) {
            v[r] = vf_load(w[r] + at);
            if (held) v[r] = vf_held(v[r]);
        }
        EACH_UNROLLED for (int m = 0; m < mb; m++) {
            vf u = vf_load(x + m * xs + at);
            if (held) u = vf_held(u);
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
    EACH_UNROLLED for (int i = 0; i < mb * rows; i++) sum[i] = a[i];
}

/* as dot_tile for one or two rows of x, but each row of w from end to end, as the first-level prefetcher likes it */
INLINE void dot_rows(const int mb, const int rows, const int far, int64_t valid, const float *x, int64_t xs,
                     const float *const *w, int64_t k, vf *sum)
{
    EACH_UNROLLED for (int r = 0; r < rows; r++) {
        vf a[2][4];
        EACH_UNROLLED for (int i = 0; i < 8; i++) a[i / 4][i % 4] = vf_zero();
        const float *p = w[r];
        int64_t at = 0;
        if (r >= valid) k = 0;
        for (; at + 8 * VL <= k; at += 8 * VL) {
            if (far) EACH_UNROLLED for (int i = 0; i < 8 * VL; i += 16) __builtin_prefetch(p + at + i + DOT_PACK, 0, 3);
            EACH_UNROLLED for (int i = 0; i < 8; i++) {
                vf v = vf_load(p + at + i * VL);
                if (mb > 1) v = vf_held(v);
                EACH_UNROLLED for (int m = 0; m < mb; m++)
                    a[m][i % 4] = vf_fma(vf_load(x + m * xs + at + i * VL), v, a[m][i % 4]);
            }
        }
        for (; at + VL <= k; at += VL)
            EACH_UNROLLED for (int m = 0; m < mb; m++)
                a[m][0] = vf_fma(vf_load(x + m * xs + at), vf_load(p + at), a[m][0]);
        if (at < k) {
            const vf v = vf_load_n(p + at, k - at, 0.0f);
            EACH_UNROLLED for (int m = 0; m < mb; m++)
                a[m][1] = vf_fma(vf_load_n(x + m * xs + at, k - at, 0.0f), v, a[m][1]);
        }
        EACH_UNROLLED for (int m = 0; m < mb; m++) sum[m * rows + r] = (a[m][0] + a[m][1]) + (a[m][2] + a[m][3]);
    }
}

INLINE void dot_put(float *to, const float *from, int first, const float *bias, int64_t n)
{
    if (!first)
        for (int64_t j = 0; j < n; j++) to[j] += from[j];
    else if (bias)
        for (int64_t j = 0; j < n; j++) to[j] = from[j] + bias[j];
    else
        for (int64_t j = 0; j < n; j++) to[j] = from[j];
}

/* mb rows of x by outputs [n, n1), at most DOT_SUMS of them, over inputs [k0, k0 + k) */
INLINE void dot_group(const int mb, const int far, const dense_layer *layer, int64_t n, int64_t n1, const float *x,
                      int64_t xs, int64_t k0, int64_t k, float *y, int64_t ys)
{
    const int group = mb == 3 ? 4 : DOT_SUMS / mb;
    const int rows = group < 8 ? group : 8; /* 16 streams of weights would be too many */
    for (; n < n1; n += group) {
        vf acc[DOT_MOST];
        float sum[DOT_MOST];
        EACH_UNROLLED for (int i = mb * group; i < DOT_MOST; i++) acc[i] = vf_zero();
        const int64_t valid = n1 - n < group ? n1 - n : group;
        EACH_UNROLLED for (int t = 0; t < group; t += rows) {
            const float *w[8];
            EACH_UNROLLED for (int r = 0; r < rows; r++) { /* past the end: the last row again, not stored */
                const int64_t row = t + r < valid ? n + t + r : n1 - 1;
                w[r] = layer->weight + row * layer->in + k0;
            }
            if (t >= valid)
                EACH_UNROLLED for (int r = 0; r < rows; r++) acc[t + r] = vf_zero();
            else if (mb <= 2 && (far || (mb == 1 && DOT_SUMS == 16)) && k >= DOT_LONG)
                dot_rows(mb, rows, far, valid - t, x + k0, xs, w, k, acc + t);
            else dot_tile(mb, rows, x + k0, xs, w, k, acc + t);
        }
        EACH_UNROLLED for (int i = 0; i < mb * group; i += VL) vf_store(sum + i, vf_sum_each(acc + i));
        const float *bias = layer->bias ? layer->bias + n : NULL;
        if (valid == group)
            EACH_UNROLLED for (int m = 0; m < mb; m++) dot_put(y + m * ys + n, sum + m * group, !k0, bias, group);
        else
            for (int m = 0; m < mb; m++) dot_put(y + m * ys + n, sum + m * group, !k0, bias, valid);
    }
}

/* whether tiles of 3 by 4 pay for m rows of x and n of w */
INLINE int dot_tall(int64_t m, int64_t n, int64_t k) { return LONJA_AVX2 && m >= 12 && n > 2 && k >= 64; }

/* m rows of x by outputs [n0, n1), `step` of them after the other, over inputs [k0, k0 + k) */
INLINE void dot_block(const int step, const int far, const dense_layer *layer, int64_t n0, int64_t n1, int reverse,
                      const float *x, int64_t xs, int64_t m, int64_t k0, int64_t k, float *y, int64_t ys)
{
    const int64_t last = (n1 - n0 - 1) / step;
    for (int64_t i = 0; i <= last; i++) {
        const int64_t n = n0 + (reverse ? last - i : i) * step, stop = n + step < n1 ? n + step : n1;
        int64_t r = 0;
        if (dot_tall(m, stop - n, k))
            for (; m - r >= 3 && m - r != 4; r += 3)
                dot_group(3, 0, layer, n, stop, x + r * xs, xs, k0, k, y + r * ys, ys);
        for (; r + 4 <= m; r += 4) dot_group(4, 0, layer, n, stop, x + r * xs, xs, k0, k, y + r * ys, ys);
        for (; r + 2 <= m; r += 2) dot_group(2, far, layer, n, stop, x + r * xs, xs, k0, k, y + r * ys, ys);
        if (r < m) dot_group(1, far, layer, n, stop, x + r * xs, xs, k0, k, y + r * ys, ys);
    }
}
typedef void dot_blocks(const dense_layer *, int64_t, int64_t, int, const float *, int64_t, int64_t, int64_t, int64_t,
                        float *, int64_t);
/* Functions of their own: inlined into one, they would take each other's registers. */
#define DOT_BLOCKS(name, step, far) \
    static __attribute__((noinline)) void name(const dense_layer *layer, int64_t n0, int64_t n1, int reverse, \
                                               const float *x, int64_t xs, int64_t m, int64_t k0, int64_t k, float *y, \
                                               int64_t ys) \
    { \
        dot_block(step, far, layer, n0, n1, reverse, x, xs, m, k0, k, y, ys); \
    }
DOT_BLOCKS(dot_near, DOT_SUMS / 4, 0)
DOT_BLOCKS(dot_wide, DOT_SUMS, 0)
DOT_BLOCKS(dot_stream, DOT_SUMS, 1)

/* acc[m * rows + r] += x[m] * v[r], x from a pack */
INLINE void dot_products(const int mb, const int rows, const float *x, const vf *v, vf *acc)
{
    EACH_UNROLLED for (int m = 0; m < mb; m++) {
        const vf u = vf_held(vf_load(x + m * VL));
        EACH_UNROLLED for (int r = 0; r < rows; r++) acc[m * rows + r] = vf_fma(u, v[r], acc[m * rows + r]);
    }
}
/* m rows of x from a pack of mb; if it is the first, as much of w is fetched ahead as it holds of x */
INLINE void dot_packed(const int mb, const int fetch, const dense_layer *layer, int64_t n, int64_t n1, const float *pack,
                       int64_t m, int64_t k0, int64_t k, float *y, int64_t ys)
{
    const int rows = DOT_SUMS / mb;
    const int64_t ahead = mb * layer->in;
    for (int64_t taken; n < n1; n += taken) {
        taken = n1 - n < rows ? 1 : rows;
        const int64_t next = taken == 1 ? 0 : layer->in; /* a single row of w as all rows of the tile */
        const float *w = layer->weight + n * layer->in + k0, *x = pack;
        vf acc[DOT_SUMS];
        float sum[DOT_SUMS];
        EACH_UNROLLED for (int i = 0; i < DOT_SUMS; i++) acc[i] = vf_zero();
        int64_t left = k;
        for (vf v[4]; left >= VL; left -= VL, x += mb * VL, w += VL) {
            EACH_UNROLLED for (int r = 0; r < rows; r++) {
                v[r] = vf_held(vf_load(w + r * next));
                if (fetch && (k - left) % 16 == 0) __builtin_prefetch(w + r * next + ahead, 0, 3);
            }
            dot_products(mb, rows, x, v, acc);
        }
        if (left) {
            vf v[4];
            EACH_UNROLLED for (int r = 0; r < rows; r++) v[r] = vf_load_n(w + r * next, left, 0.0f);
            dot_products(mb, rows, x, v, acc);
        }
        EACH_UNROLLED for (int i = 0; i < DOT_SUMS; i += VL) vf_store(sum + i, vf_sum_each(acc + i));
        const float *bias = layer->bias ? layer->bias + n : NULL;
        EACH_UNROLLED for (int i = 0; i < mb; i++) {
            if (i == m) break;
            if (taken == rows) dot_put(y + i * ys + n, sum + i * rows, !k0, bias, rows);
            else dot_put(y + i * ys + n, sum + i * rows, !k0, bias, 1);
        }
    }
}
typedef void dot_pack_walk(const dense_layer *, int64_t, int64_t, const float *, int64_t, int64_t, int64_t, float *,
                           int64_t);
#define DOT_PACKED(name, mb, fetch) \
    static __attribute__((noinline)) void name(const dense_layer *layer, int64_t n, int64_t n1, const float *pack, \
                                               int64_t m, int64_t k0, int64_t k, float *y, int64_t ys) \
    { \
        dot_packed(mb, fetch, layer, n, n1, pack, m, k0, k, y, ys); \
    }
DOT_PACKED(dot_first_4, 4, 1)
DOT_PACKED(dot_next_4, 4, 0)
#if DOT_SUMS == 16
DOT_PACKED(dot_first_full, DOT_FULL, 1)
DOT_PACKED(dot_next_full, DOT_FULL, 0)
#else
#define dot_first_full dot_first_4
#define dot_next_full dot_next_4
#endif

/* rows of a pack for m rows of x; where that is more, the last are zeros */
INLINE int64_t dot_height(int64_t m) { return m > 4 ? DOT_FULL : 4; }
/* the first `valid` rows of x as a pack of `height` */
static void dot_pack(const float *x, int64_t xs, int64_t valid, int64_t k, int64_t height, float *pack)
{
    for (int64_t at = 0; at < k; at += VL)
        for (int64_t r = 0; r < height; r++, pack += VL) {
            const float *from = x + r * xs + at;
            vf_store(pack, r >= valid ? vf_zero() : k - at < VL ? vf_load_n(from, k - at, 0.0f) : vf_load(from));
        }
}
static void dot_far(const dense_layer *layer, int64_t n0, int64_t n1, const float *x, int64_t xs, int64_t m, int64_t k0,
                    int64_t k, float *y, int64_t ys)
{
    float packs[2][DOT_PACK] __attribute__((aligned(64)));
    const int64_t tall = dot_height(m), left = m - tall, second = left > 2 ? left : 0; /* one or two: as a rest */
    const int64_t height = second ? dot_height(second) : 0, rest = tall + height;
    dot_pack(x + k0, xs, m, k, tall, packs[0]);
    if (second) dot_pack(x + tall * xs + k0, xs, second, k, height, packs[1]);
    for (int64_t n = n0; n < n1; n += DOT_SUMS) {
        const int64_t stop = n + DOT_SUMS < n1 ? n + DOT_SUMS : n1;
        (tall > 4 ? dot_first_full : dot_first_4)(layer, n, stop, packs[0], m, k0, k, y, ys);
        if (second)
            (height > 4 ? dot_next_full : dot_next_4)(layer, n, stop, packs[1], second, k0, k, y + tall * ys, ys);
        if (rest < m) dot_wide(layer, n, stop, 0, x + rest * xs, xs, m - rest, k0, k, y + rest * ys, ys);
    }
}

/* m rows of x, of which a few may be missing, tile after tile of them */
static void dot_tiles(const dense_layer *layer, int64_t n0, int64_t n1, const float *x, int64_t xs, int64_t m, float *y,
                      int64_t ys)
{
    const int64_t block = 2 * DOT_PACK / DOT_FULL;
    float pack[2 * DOT_PACK] __attribute__((aligned(64)));
    for (int64_t r = 0; r < m; r += DOT_FULL)
        for (int64_t k0 = 0; k0 < layer->in; k0 += block) {
            const int64_t k = layer->in - k0 < block ? layer->in - k0 : block;
            dot_pack(x + r * xs + k0, xs, m - r, k, DOT_FULL, pack);
            dot_next_full(layer, n0, n1, pack, m - r, k0, k, y + r * ys, ys);
        }
}
/* How many of m rows take dot_tiles. With AVX-512, if rows are long, all but a rest that is no tile (seven are filled up);
 * else all or none, as another walk over the weights for the rest would take longer. */
INLINE int64_t dot_tiled(int64_t m, int64_t in)
{
    if (DOT_SUMS == 16) return in < DOT_LONG ? 0 : m % 8 == 7 ? m : m / 8 * 8;
    return m % 4 ? 0 : m;
}

/* One layer's outputs [n0, n1) for m rows; activation included, softmax not (it needs whole rows). `reverse`: the last
 * first, where rows of w are read one after the other and none are fetched ahead. */
static void dot_layer(const dense_layer *layer, int64_t n0, int64_t n1, int reverse, const float *x, int64_t xs, int64_t m,
                      float *y, int64_t ys)
{
    const int far = layer->in * layer->out > DOT_FAR;
    const int64_t tiled = !far && n1 - n0 >= DOT_MANY ? dot_tiled(m, layer->in) : 0, rest = m - tiled;
    const int64_t block = far && m > 2 ? DOT_PACK / dot_height(m) : far || rest == 1 ? layer->in : DOT_BLOCK;
    if (layer->in == 0)
        for (int64_t r = 0; r < m; r++)
            for (int64_t n = n0; n < n1; n++) y[r * ys + n] = layer->bias ? layer->bias[n] : 0.0f;
    dot_tiles(layer, n0, n1, x, xs, tiled, y, ys);
    for (int64_t k0 = 0; rest && k0 < layer->in; k0 += block) {
        const int64_t k = layer->in - k0 < block ? layer->in - k0 : block;
        const int near = rest % 4 == 0 && rest * k <= DOT_NEAR && !dot_tall(rest, n1 - n0, k);
        dot_blocks *run = near ? dot_near : dot_wide;
        if (far && m > 2) dot_far(layer, n0, n1, x, xs, m, k0, k, y, ys);
        else if (far) dot_stream(layer, n0, n1, 0, x, xs, m, k0, k, y, ys);
        else run(layer, n0, n1, reverse, x + tiled * xs, xs, rest, k0, k, y + tiled * ys, ys);
    }
    if (layer->activation != ACT_IDENTITY && layer->activation != ACT_SOFTMAX)
        for (int64_t r = 0; r < m; r++)
            activate(layer->activation, layer->alpha, y + r * ys + n0, y + r * ys + n0, n1 - n0);
}
#endif
