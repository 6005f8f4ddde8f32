/* A chain of dense layers, one call: y = layers(x).
 *
 * Up to NETWORK_SMALL rows the layers run one after the other over dot.h, each layer's outputs shared among the
 * threads; a single layer of few outputs takes dot.h for any number of rows. More rows are taken in chunks and
 * kept feature-major, in panels of batch lanes, through the whole chain: the only transpositions are those of the
 * input and of the last output. Threads share the rows if whole panels can be dealt out evenly and a second-level cache
 * holds each layer's weights, else the outputs of each layer.
 *
 * `scratch` (network_scratch floats) belongs to the call: two callers never share any.
 */
#ifndef LONJA_NETWORK_H
#define LONJA_NETWORK_H

#include "activate.h"
#include "dot.h"
#include "rows.h"
#include "team.h"
#include "tile.h"

#if LONJA_AVX512
#define NETWORK_SMALL 32
#elif LONJA_AVX2
#define NETWORK_SMALL 8
#else
#define NETWORK_SMALL 3
#endif
#define NETWORK_NARROW 32 /* outputs of a single layer that do not repay the transposition of its input */
#define NETWORK_CHUNK 64  /* rows kept in panels at once; few, so that they stay in the second-level cache */
#define ROW_PAD 16        /* rows of equal low address bits would fight for the same cache sets */

typedef struct {
    const dense_layer *layers;
    int count;
    const float *x;
    int64_t n;
    float *y, *scratch;
    int64_t widest, chunk;
    int together; /* threads share the outputs of each layer, not the rows */
    int reverse;  /* each layer from its last outputs to the first, as dot_layer says */
} network_call;

static int64_t widest_of(const dense_layer *layers, int count)
{
    int64_t w = layers[0].in;
    for (int i = 0; i < count; i++) w = layers[i].out > w ? layers[i].out : w;
    return w;
}
INLINE int64_t whole_panels(int64_t rows) { return (rows + TILE_LANES - 1) / TILE_LANES * TILE_LANES; }
/* rows that a thread keeps in panels at once */
static int64_t chunk_rows(int64_t n, int threads)
{
    const int64_t share = whole_panels((n + threads - 1) / threads);
    return share < NETWORK_CHUNK ? share : NETWORK_CHUNK;
}
/* Whether the threads share each layer's outputs: weights come from afar, then each for one thread alone; or some
 * threads would have no panel, or (up to four panels each) more than an eighth above their share. */
static int work_together(const dense_layer *layers, int count, int64_t n, int threads)
{
    const int64_t even = (int64_t)TILE_LANES * threads;
    if (threads == 1) return 0;
    for (int i = 0; i < count; i++)
        if (layers[i].in * layers[i].out > DOT_FAR) return 1;
    return n <= 4 * even && (n + even - 1) / even * even * 8 > n * 9;
}
/* of n rows left, those that all threads keep in panels at once when they work together; no short run is left over */
INLINE int64_t rows_together(int64_t n) { return n < 2 * NETWORK_CHUNK ? n : NETWORK_CHUNK; }
INLINE int64_t panels_together(int64_t n) { return whole_panels(n < 2 * NETWORK_CHUNK ? n : 2 * NETWORK_CHUNK); }
INLINE int takes_dots(const dense_layer *layers, int count, int64_t n)
{
    return n <= NETWORK_SMALL || (count == 1 && layers[0].out <= NETWORK_NARROW);
}
/* floats of scratch that a call needs */
static int64_t network_scratch(const dense_layer *layers, int count, int64_t n, int threads)
{
    const int64_t w = widest_of(layers, count);
    if (count == 1 && takes_dots(layers, count, n)) return 16;
    if (takes_dots(layers, count, n)) return 2 * n * (w + ROW_PAD) + 16;
    const int together = work_together(layers, count, n, threads);
    return 2 * (together ? panels_together(n) : threads * chunk_rows(n, threads)) * w + 16;
}

static void network_small(void *context, lonja_team *team, int rank, int size)
{
    const network_call *call = context;
    const int64_t stride = call->widest + ROW_PAD, n = call->n;
    const float *x = call->x;
    int64_t xs = call->layers[0].in;
    for (int i = 0; i < call->count; i++) {
        const dense_layer *layer = &call->layers[i];
        const int last = i == call->count - 1;
        float *y = last ? call->y : call->scratch + (i % 2) * n * stride;
        const int64_t ys = last ? layer->out : stride;
        team_work w = team_deal(team, layer->out, 16, rank, size);
        while (team_takes(&w)) dot_layer(layer, w.from, w.to, call->reverse, x, xs, n, y, ys);
        if (!last || layer->activation == ACT_SOFTMAX) lonja_team_wait(team);
        x = y;
        xs = ys;
    }
    if (rank == 0 && call->layers[call->count - 1].activation == ACT_SOFTMAX)
        softmax_rows(call->y, call->y, n, call->layers[call->count - 1].out);
}

/* one layer of few outputs: threads share the rows */
static void network_narrow(void *context, lonja_team *team, int rank, int size)
{
    (void)team;
    const network_call *call = context;
    const dense_layer *layer = call->layers;
    int64_t from, to;
    team_share(call->n, 4, rank, size, &from, &to);
    if (from == to) return;
    float *y = call->y + from * layer->out;
    dot_layer(layer, 0, layer->out, call->reverse, call->x + from * layer->in, layer->in, to - from, y, layer->out);
    if (layer->activation == ACT_SOFTMAX) softmax_rows(y, y, to - from, layer->out);
}

/* outputs [n0, n1) of one layer over `panels` panels of nv vectors: in [panel][in][lane], out [panel][out][lane] */
static void panel_layer(const dense_layer *layer, int64_t n0, int64_t n1, int nv, int64_t panels, const float *in,
                        float *out)
{
    const broadcast_matrix w = {layer->weight, layer->in, 1};
    const int64_t width = (int64_t)nv * VL;
    for (int64_t k = 0; k < layer->in || k == 0; k += TILE_DEPTH) {
        const int64_t depth = layer->in - k < TILE_DEPTH ? layer->in - k : TILE_DEPTH;
        const int done = k + TILE_DEPTH >= layer->in;
        const tile_shape *shape;
        for (int64_t m = n0; m < n1; m += shape->mr) {
            shape = tile_for(nv, n1 - m);
            tile_start start = {k > 0, layer->bias ? layer->bias + m : NULL, NULL};
            if (m + 2 * shape->mr <= layer->out) start.ahead = layer->weight + (m + shape->mr) * layer->in + k;
            for (int64_t p = 0; p < panels; p++, start.ahead = NULL) {
                float *c = out + (p * layer->out + m) * width;
                shape->run(&w, m, k, depth, in + (p * layer->in + k) * width, c, width, width, start);
                if (done) activate(layer->activation, layer->alpha, c, c, shape->mr * width);
            }
        }
    }
}
/* Rows [first, first + lanes) through the chain in panels of equal width. The members of `team` (one, if they do not
 * share these rows) divide inputs and outputs, and wait for each other in between. */
static void network_panels(const network_call *call, lonja_team *team, int rank, int size, int nv, int64_t first,
                           int64_t lanes, float *a, float *b)
{
    const int64_t width = (int64_t)nv * VL, panels = (lanes + width - 1) / width;
    const int64_t in = call->layers[0].in, out = call->layers[call->count - 1].out;
    int64_t from, to;
    team_share(in, VL, rank, size, &from, &to);
    for (int64_t p = 0; p < panels; p++) {
        const int64_t left = lanes - p * width;
        panel_of_rows(call->x + (first + p * width) * in + from, in, left < width ? left : width, to - from, nv,
                      a + (p * in + from) * width);
    }
    for (int i = 0; i < call->count; i++) {
        if (size > 1) lonja_team_wait(team);
        team_work w = team_deal(team, call->layers[i].out, 24, rank, size);
        while (team_takes(&w)) {
            panel_layer(&call->layers[i], w.from, w.to, nv, panels, a, b);
            for (int64_t p = 0; p < panels && i == call->count - 1; p++) {
                const int64_t left = lanes - p * width;
                rows_of_panel(b + (p * out + w.from) * width, nv, w.to - w.from, left < width ? left : width,
                              call->y + (first + p * width) * out + w.from, out);
            }
        }
        float *swap = a;
        a = b;
        b = swap;
    }
    if (size > 1) lonja_team_wait(team);
}
/* a run of rows: whole panels, then what is left in a narrower one */
static void network_rows(const network_call *call, lonja_team *team, int rank, int size, int64_t at, int64_t rows,
                         float *a, float *b)
{
    const int64_t whole = rows / TILE_LANES * TILE_LANES;
    if (whole) network_panels(call, team, rank, size, TILE_NV, at, whole, a, b);
    if (rows > whole) network_panels(call, team, rank, size, panel_vectors(rows - whole), at + whole, rows - whole, a, b);
}
static void network_large(void *context, lonja_team *team, int rank, int size)
{
    const network_call *call = context;
    const int64_t out = call->layers[call->count - 1].out;
    int64_t from, to;
    if (call->together) {
        float *a = call->scratch, *b = a + panels_together(call->n) * call->widest;
        for (int64_t at = 0, rows; at < call->n; at += rows) {
            rows = rows_together(call->n - at);
            network_rows(call, team, rank, size, at, rows, a, b);
        }
        team_share(call->n, 1, rank, size, &from, &to);
    } else {
        const int64_t room = call->chunk * call->widest;
        float *a = call->scratch + 2 * rank * room, *b = a + room;
        team_share(call->n, TILE_LANES, rank, size, &from, &to);
        for (int64_t at = from; at < to; at += call->chunk)
            network_rows(call, NULL, 0, 1, at, to - at < call->chunk ? to - at : call->chunk, a, b);
    }
    if (from < to && call->layers[call->count - 1].activation == ACT_SOFTMAX)
        softmax_rows(call->y + from * out, call->y + from * out, to - from, out);
}

static void network(const dense_layer *layers, int count, const float *x, int64_t n, float *y, float *scratch,
                    int threads, int reverse)
{
    network_call call = {layers, count, x, n, y, scratch, widest_of(layers, count), chunk_rows(n, threads),
                         work_together(layers, count, n, threads), reverse};
    if (n == 0) return;
    team_task task = n <= NETWORK_SMALL ? network_small : takes_dots(layers, count, n) ? network_narrow : network_large;
    lonja_team_run(threads, task, &call);
    vf_leave();
}
#endif
