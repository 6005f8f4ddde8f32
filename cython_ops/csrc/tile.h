/* The matrix product behind everything but small batches.
 *
 * C[m][lane] (+)= sum over k of A(m, k) * B[k][lane]. B is a packed panel: rows of `nv` vectors, contiguous. A
 * is any strided matrix whose elements are broadcast, so it is used as it lies: weights [out, in] in the forward
 * pass (lanes = batch), gradients in the backward pass (lanes = inputs). A tile is mr rows of A by nv vectors,
 * all in registers.
 */
#ifndef LONJA_TILE_H
#define LONJA_TILE_H

#include "shuffle.h"

#if LONJA_AVX512 || defined(__aarch64__) || defined(LONJA_NO_INTRINSICS)
#define TILE_NV 4 /* 32 vector registers */
#else
#define TILE_NV 2
#endif
#define TILE_LANES (TILE_NV * VL)

#define TILE_DEPTH 1024 /* k in a block: a panel of it stays in the second-level cache */

typedef struct {
    const float *a;
    int64_t row, step; /* strides of m and k, in floats */
} broadcast_matrix;

/* how a tile begins: from C, from a bias a row, or from zero */
typedef struct {
    int accumulate;
    const float *bias;
    const float *ahead; /* the strip of A that comes next, to be fetched meanwhile; or NULL */
} tile_start;

INLINE void tile(const int mr, const int nv, const broadcast_matrix *A, int64_t m0, int64_t k0, int64_t depth,
                 const float *b, float *c, int64_t ldc, int64_t lanes, tile_start start)
{
    vf acc[24];
    const int full = lanes == nv * VL;
    EACH_UNROLLED for (int i = 0; i < mr; i++)
        EACH_UNROLLED for (int v = 0; v < nv; v++) {
            if (start.accumulate) {
                int64_t left = lanes - v * VL;
                acc[i * nv + v] = full ? vf_load(c + i * ldc + v * VL)
                                       : vf_load_n(c + i * ldc + v * VL, left < 0 ? 0 : left > VL ? VL : left, 0.0f);
            } else {
                acc[i * nv + v] = vf_set1(start.bias ? start.bias[i] : 0.0f);
            }
        }
    const float *a = A->a + m0 * A->row + k0 * A->step;
    const int64_t row = A->row, step = A->step;
    const float *ahead = start.ahead;
    for (int64_t k = 0; k < depth; k += 16) { /* a cache line of each row of A */
        if (ahead) {
            EACH_UNROLLED for (int i = 0; i < mr; i++) __builtin_prefetch(ahead + i * row, 0, 3);
            ahead += 16;
        }
        const float *const stop = b + (depth - k < 16 ? depth - k : 16) * nv * VL;
        for (; b != stop; a += step, b += nv * VL) {
            vf x[TILE_NV];
            EACH_UNROLLED for (int v = 0; v < nv; v++) x[v] = vf_load(b + v * VL);
            EACH_UNROLLED for (int i = 0; i < mr; i++) {
                const vf w = vf_set1(a[i * row]);
                EACH_UNROLLED for (int v = 0; v < nv; v++) acc[i * nv + v] = vf_fma(w, x[v], acc[i * nv + v]);
            }
        }
    }
    EACH_UNROLLED for (int i = 0; i < mr; i++)
        EACH_UNROLLED for (int v = 0; v < nv; v++) {
            int64_t left = lanes - v * VL;
            if (full) vf_store(c + i * ldc + v * VL, acc[i * nv + v]);
            else vf_store_n(c + i * ldc + v * VL, acc[i * nv + v], left < 0 ? 0 : left > VL ? VL : left);
        }
}

/* tiles of fixed shape as functions, so that each is compiled once */
#define TILE(mr, nv) \
    static __attribute__((noinline)) void tile_##mr##_##nv(const broadcast_matrix *A, int64_t m0, int64_t k0, \
                                                           int64_t depth, const float *b, float *c, int64_t ldc, \
                                                           int64_t lanes, tile_start start) \
    { \
        tile(mr, nv, A, m0, k0, depth, b, c, ldc, lanes, start); \
    }
typedef void (*tile_fn)(const broadcast_matrix *, int64_t, int64_t, int64_t, const float *, float *, int64_t, int64_t,
                        tile_start);

TILE(1, 1) TILE(2, 1) TILE(4, 1) TILE(12, 1)
TILE(1, 2) TILE(2, 2) TILE(4, 2) TILE(6, 2)
#if TILE_NV == 4
TILE(12, 2)
TILE(1, 3) TILE(2, 3) TILE(4, 3) TILE(8, 3)
TILE(1, 4) TILE(2, 4) TILE(4, 4) TILE(6, 4)
#endif

typedef struct {
    int mr;
    tile_fn run;
} tile_shape;

/* for each width, heights from the largest down to 1 */
static const tile_shape tile_shapes[TILE_NV + 1][5] = {
    {{0, NULL}},
    {{12, tile_12_1}, {4, tile_4_1}, {2, tile_2_1}, {1, tile_1_1}},
#if TILE_NV == 4
    {{12, tile_12_2}, {6, tile_6_2}, {4, tile_4_2}, {2, tile_2_2}, {1, tile_1_2}},
    {{8, tile_8_3}, {4, tile_4_3}, {2, tile_2_3}, {1, tile_1_3}},
    {{6, tile_6_4}, {4, tile_4_4}, {2, tile_2_4}, {1, tile_1_4}},
#else
    {{6, tile_6_2}, {4, tile_4_2}, {2, tile_2_2}, {1, tile_1_2}},
#endif
};

INLINE const tile_shape *tile_for(int nv, int64_t rows_left)
{
    const tile_shape *s = tile_shapes[nv];
    while (s->mr > rows_left) s++;
    return s;
}

/* vectors a panel of so many lanes needs */
INLINE int panel_vectors(int64_t lanes)
{
    int64_t nv = (lanes + VL - 1) / VL;
    return (int)(nv < TILE_NV ? nv : TILE_NV);
}

/* panel[k][lane] = x[lane][k]: `lanes` rows of x (stride xs), zero beyond them up to nv vectors */
static void panel_of_rows(const float *x, int64_t xs, int64_t lanes, int64_t k, int nv, float *panel)
{
    const int64_t width = (int64_t)nv * VL;
    for (int64_t l0 = 0; l0 < width; l0 += VL)
        for (int64_t at = 0; at < k; at += VL) {
            vf r[VL];
            const int64_t depth = k - at < VL ? k - at : VL;
            EACH_UNROLLED for (int i = 0; i < VL; i++) {
                if (l0 + i >= lanes) r[i] = vf_zero();
                else if (depth == VL) r[i] = vf_load(x + (l0 + i) * xs + at);
                else r[i] = vf_load_n(x + (l0 + i) * xs + at, depth, 0.0f);
            }
            vf_transpose(r);
            if (depth == VL) {
                EACH_UNROLLED for (int i = 0; i < VL; i++) vf_store(panel + (at + i) * width + l0, r[i]);
            } else {
                for (int i = 0; i < depth; i++) vf_store(panel + (at + i) * width + l0, r[i]);
            }
        }
}
/* the way back: y[lane][n] = panel[n][lane] */
static void rows_of_panel(const float *panel, int nv, int64_t n, int64_t lanes, float *y, int64_t ys)
{
    const int64_t width = (int64_t)nv * VL;
    for (int64_t at = 0; at < n; at += VL)
        for (int64_t l0 = 0; l0 < lanes; l0 += VL) {
            vf r[VL];
            const int64_t rows = n - at < VL ? n - at : VL, valid = lanes - l0 < VL ? lanes - l0 : VL;
            EACH_UNROLLED for (int i = 0; i < VL; i++)
                r[i] = i < rows ? vf_load(panel + (at + i) * width + l0) : vf_zero();
            vf_transpose(r);
            for (int i = 0; i < valid; i++) {
                if (rows == VL) vf_store(y + (l0 + i) * ys + at, r[i]);
                else vf_store_n(y + (l0 + i) * ys + at, r[i], rows);
            }
        }
}
/* panel[k][lane] = b[k][lane]: a strip of a row-major matrix (stride bs), zero beyond `lanes` */
static void panel_of_columns(const float *b, int64_t bs, int64_t lanes, int64_t k, int nv, float *panel)
{
    for (int64_t at = 0; at < k; at++, b += bs)
        for (int v = 0; v < nv; v++, panel += VL) {
            int64_t left = lanes - v * VL;
            vf_store(panel, left >= VL ? vf_load(b + v * VL) : vf_load_n(b + v * VL, left < 0 ? 0 : left, 0.0f));
        }
}
#endif
