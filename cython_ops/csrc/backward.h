/* Gradients of a dense layer, from `grad` [n][out], the loss's gradient by x w^T + b.
 *
 *   weights  dw [out][in] = grad^T x      bias  db [out] = column sums of grad      input  dx [n][in] = grad w
 *
 * Both products broadcast grad as it lies; x or w are packed a panel and a block at a time into the caller's
 * thread's share of `scratch`. Threads share the columns of the result.
 */
#ifndef LONJA_BACKWARD_H
#define LONJA_BACKWARD_H

#include "team.h"
#include "tile.h"

#define PRODUCT_SCRATCH (TILE_DEPTH * TILE_LANES)

typedef struct {
    broadcast_matrix a;
    int64_t rows, depth, columns;
    const float *b;
    float *c, *scratch;
} product;

/* c [rows][columns] = a [rows][depth] b [depth][columns] */
static void product_share(void *context, lonja_team *team, int rank, int size)
{
    (void)team;
    const product *p = context;
    float *panel = p->scratch + (int64_t)rank * PRODUCT_SCRATCH;
    int64_t from, to;
    team_share(p->columns, TILE_LANES, rank, size, &from, &to);
    for (int64_t n = from; n < to; n += TILE_LANES) {
        const int64_t lanes = to - n < TILE_LANES ? to - n : TILE_LANES;
        const int nv = panel_vectors(lanes);
        for (int64_t k = 0; k < p->depth || k == 0; k += TILE_DEPTH) {
            const int64_t depth = p->depth - k < TILE_DEPTH ? p->depth - k : TILE_DEPTH;
            const tile_start start = {k > 0, NULL, NULL};
            const tile_shape *shape;
            panel_of_columns(p->b + k * p->columns + n, p->columns, lanes, depth, nv, panel);
            for (int64_t m = 0; m < p->rows; m += shape->mr) {
                shape = tile_for(nv, p->rows - m);
                shape->run(&p->a, m, k, depth, panel, p->c + m * p->columns + n, p->columns, lanes, start);
            }
        }
    }
}

static void column_sums(const float *grad, int64_t n, int64_t out, float *sums)
{
    int64_t i = 0;
    for (; i < out; i += VL) {
        const int64_t lanes = out - i < VL ? out - i : VL;
        vf total = vf_zero();
        for (int64_t r = 0; r < n; r++)
            total += lanes == VL ? vf_load(grad + r * out + i) : vf_load_n(grad + r * out + i, lanes, 0.0f);
        vf_store_n(sums + i, total, lanes);
    }
}

static int64_t product_scratch(int threads) { return (int64_t)threads * PRODUCT_SCRATCH; }

static void back_to_weights(const float *grad, const float *x, int64_t n, int64_t in, int64_t out, float *dw,
                            float *db, float *scratch, int threads)
{
    product p = {{grad, 1, out}, out, n, in, x, dw, scratch};
    lonja_team_run(threads, product_share, &p);
    column_sums(grad, n, out, db);
    vf_leave();
}
static void back_to_input(const float *grad, const float *w, int64_t n, int64_t in, int64_t out, float *dx,
                          float *scratch, int threads)
{
    product p = {{grad, out, 1}, n, out, in, w, dx, scratch};
    lonja_team_run(threads, product_share, &p);
    vf_leave();
}
#endif
