/* Dense networks with weights and inputs rounded to bfloat16, sums in float32.
 *
 * Half the bytes of the float path, and on processors with bfloat16 products twice the arithmetic. Weights lie as
 * [out][depth], depth being `in` rounded up to BF16_ALIGN with zeros. A unit is a way to do it: `pack` rounds a
 * block of rows of x into the unit's layout, `layer` multiplies. This file has the driver and the unit of vectors:
 * AVX512_BF16 where compiled for it, otherwise bfloat16 widened to float32.
 */
#ifndef LONJA_BF16_H
#define LONJA_BF16_H

#include "activate.h"
#include "rows.h"
#include "shuffle.h"
#include "team.h"

#define BF16_ALIGN 32
#define BF16_CHUNK 128 /* rows of x at once */

INLINE int64_t bf16_depth(int64_t in) { return (in + BF16_ALIGN - 1) / BF16_ALIGN * BF16_ALIGN; }

/* to nearest, ties to even; NaN stays NaN */
INLINE uint16_t bf16_of(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    if (v != v) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
static void bf16_row(const float *x, int64_t in, int64_t depth, uint16_t *to)
{
    for (int64_t i = 0; i < in; i++) to[i] = bf16_of(x[i]);
    memset(to + in, 0, (size_t)(depth - in) * sizeof *to);
    vf_leave();
}

/* ---- the unit of vectors: rows of x and of w side by side, as in dot.h ---- */
#if LONJA_AVX512 && defined(__AVX512BF16__)
#define BF16_STEP 32
typedef __m512bh bf16_vector;
INLINE bf16_vector bf16_load(const uint16_t *p) { return (bf16_vector)_mm512_loadu_si512(p); }
INLINE vf bf16_dot(vf sum, bf16_vector a, bf16_vector b) { return (vf)_mm512_dpbf16_ps((__m512)sum, a, b); }
#else
#define BF16_STEP VL
typedef vf bf16_vector;
INLINE bf16_vector bf16_load(const uint16_t *p)
{
#if LONJA_AVX512
    const vi wide = (vi)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
#elif LONJA_AVX2
    const vi wide = (vi)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
#else
    const vi wide = {p[0], p[1], p[2], p[3]};
#endif
    return vf_from_bits(wide << 16);
}
INLINE vf bf16_dot(vf sum, bf16_vector a, bf16_vector b) { return vf_fma(a, b, sum); }
#endif

#if LONJA_AVX512
#define BF16_ROWS 4 /* outputs a tile; with 4 rows of x its sums fill whole vectors */
#else
#define BF16_ROWS 2
#endif

static void bf16_pack_rows(const float *x, int64_t xs, int64_t n, int64_t in, uint16_t *to)
{
    const int64_t depth = bf16_depth(in);
    for (int64_t r = 0; r < n; r++) bf16_row(x + r * xs, in, depth, to + r * depth);
}

/* sums of mb rows of x with BF16_ROWS rows of w; w is clamped to its last row */
INLINE void bf16_tile(const int mb, const bf16_layer *l, int64_t n, int64_t n1, const uint16_t *x, float *y, int64_t ys)
{
    const int64_t depth = bf16_depth(l->in);
    const uint16_t *w[BF16_ROWS];
    vf acc[16];
    float sum[16];
    EACH_UNROLLED for (int r = 0; r < BF16_ROWS; r++) w[r] = l->weight + (n + r < n1 ? n + r : n1 - 1) * depth;
    EACH_UNROLLED for (int i = 0; i < 16; i++) acc[i] = vf_zero();
    for (int64_t k = 0; k < depth; k += BF16_STEP) {
        bf16_vector v[BF16_ROWS];
        EACH_UNROLLED for (int r = 0; r < BF16_ROWS; r++) {
            v[r] = bf16_load(w[r] + k);
            if (mb == 4) __builtin_prefetch(w[r] + BF16_ROWS * depth + k, 0, 3);
        }
        EACH_UNROLLED for (int m = 0; m < mb; m++) {
            const bf16_vector u = bf16_load(x + m * depth + k);
            EACH_UNROLLED for (int r = 0; r < BF16_ROWS; r++)
                acc[m * BF16_ROWS + r] = bf16_dot(acc[m * BF16_ROWS + r], u, v[r]);
        }
    }
    EACH_UNROLLED for (int i = 0; i < mb * BF16_ROWS; i += VL) vf_store(sum + i, vf_sum_each(acc + i));
    for (int m = 0; m < mb; m++)
        for (int64_t r = 0; r < BF16_ROWS && n + r < n1; r++)
            y[m * ys + n + r] = sum[m * BF16_ROWS + r] + (l->bias ? l->bias[n + r] : 0.0f);
}
static void bf16_layer_rows(const bf16_layer *l, int64_t n0, int64_t n1, const uint16_t *x, int64_t rows, float *y,
                            int64_t ys)
{
    const int64_t depth = bf16_depth(l->in);
    for (int64_t n = n0; n < n1; n += BF16_ROWS) {
        int64_t r = 0;
        for (; r + 4 <= rows; r += 4) bf16_tile(4, l, n, n1, x + r * depth, y + r * ys, ys);
        for (; r < rows; r++) bf16_tile(1, l, n, n1, x + r * depth, y + r * ys, ys);
    }
}

/* ---- the driver ---- */
typedef struct {
    const bf16_unit *unit;
    const bf16_layer *layers;
    int count;
    const float *x;
    int64_t n;
    float *y, *rows[2];
    uint16_t *packed;
    int64_t widest;
} bf16_call;

static int64_t bf16_widest(const bf16_layer *layers, int count)
{
    int64_t w = bf16_depth(layers[0].in);
    for (int i = 0; i < count; i++) w = bf16_depth(layers[i].out) > w ? bf16_depth(layers[i].out) : w;
    return w;
}
/* two blocks of float rows and one of bfloat16 rows, rounded up to whole tiles of 32 */
static int64_t bf16_scratch(const bf16_layer *layers, int count, int64_t n)
{
    const int64_t rows = n < BF16_CHUNK ? (n + 31) / 32 * 32 : BF16_CHUNK;
    return rows * bf16_widest(layers, count) * 5 / 2 + 64;
}

static void bf16_share(void *context, lonja_team *team, int rank, int size)
{
    const bf16_call *c = context;
    if (c->unit->begin && !c->unit->begin()) return; /* asked before: cannot fail here */
    for (int64_t at = 0; at < c->n; at += BF16_CHUNK) {
        const int64_t rows = c->n - at < BF16_CHUNK ? c->n - at : BF16_CHUNK;
        const float *x = c->x + at * c->layers[0].in;
        int64_t xs = c->layers[0].in;
        for (int i = 0; i < c->count; i++) {
            const bf16_layer *l = &c->layers[i];
            const int last = i == c->count - 1;
            float *y = last ? c->y + at * l->out : c->rows[i % 2];
            const int64_t ys = last ? l->out : c->widest;
            int64_t from, to;
            if (rank == 0) c->unit->pack(x, xs, rows, l->in, c->packed);
            lonja_team_wait(team);
            team_share(l->out, 32, rank, size, &from, &to);
            if (from < to) {
                c->unit->layer(l, from, to, c->packed, rows, y, ys);
                if (l->activation != ACT_IDENTITY && l->activation != ACT_SOFTMAX)
                    for (int64_t r = 0; r < rows; r++)
                        activate(l->activation, l->alpha, y + r * ys + from, y + r * ys + from, to - from);
            }
            lonja_team_wait(team);
            x = y;
            xs = ys;
        }
        if (rank == 0 && c->layers[c->count - 1].activation == ACT_SOFTMAX)
            softmax_rows(x, c->y + at * xs, rows, xs);
    }
    if (c->unit->end) c->unit->end();
}
static void bf16_network(const bf16_unit *unit, const bf16_layer *layers, int count, const float *x, int64_t n,
                         float *y, float *scratch, int threads)
{
    const int64_t widest = bf16_widest(layers, count);
    const int64_t block = (n < BF16_CHUNK ? (n + 31) / 32 * 32 : BF16_CHUNK) * widest;
    bf16_call call = {unit, layers, count, x, n, y, {scratch, scratch + block}, (uint16_t *)(scratch + 2 * block), widest};
    lonja_team_run(threads, bf16_share, &call);
    vf_leave();
}
#endif
