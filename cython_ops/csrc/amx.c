/* The bfloat16 unit of AMX: tiles of 16 outputs by 16 rows of x, 32 inputs deep.
 *
 * The weights are the first operand as they lie. The second wants pairs of inputs side by side: x is packed as
 * [block of 16 rows][input pair][row][2]. Two by two tiles keep four sums busy. With LONJA_AMX_EMULATED the tile
 * instructions are functions in C, so that everything around them is tested on processors without AMX.
 */
#include "bf16.h"

#ifndef LONJA_AMX_EMULATED
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define TILE_SIDE 16

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} tile_config;

#ifdef LONJA_AMX_EMULATED
static __thread float emulated[8][TILE_SIDE][TILE_SIDE];
#define ZERO(t) memset(emulated[t], 0, sizeof emulated[t])
#define LOAD(t, p, stride) \
    for (int row_ = 0; row_ < TILE_SIDE; row_++) memcpy(emulated[t][row_], (const char *)(p) + row_ * (stride), 64)
#define STORE(t, p, stride) \
    for (int row_ = 0; row_ < TILE_SIDE; row_++) memcpy((char *)(p) + row_ * (stride), emulated[t][row_], 64)
#define MULTIPLY(c, a, b) multiply(emulated[c], emulated[a], emulated[b])
static float widened(uint16_t v)
{
    const uint32_t u = (uint32_t)v << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static void multiply(float c[][TILE_SIDE], const float a[][TILE_SIDE], const float b[][TILE_SIDE])
{
    for (int m = 0; m < TILE_SIDE; m++)
        for (int n = 0; n < TILE_SIDE; n++)
            for (int k = 0; k < TILE_SIDE; k++) {
                uint16_t u[2], v[2];
                memcpy(u, &a[m][k], 4);
                memcpy(v, &b[k][n], 4);
                c[m][n] += widened(u[0]) * widened(v[0]);
                c[m][n] += widened(u[1]) * widened(v[1]);
            }
}
static int begin(void) { return 1; }
static void end(void) {}
int lonja_amx_allowed(void) { return 1; }
#else
#define ZERO(t) _tile_zero(t)
#define LOAD(t, p, stride) _tile_loadd(t, p, stride)
#define STORE(t, p, stride) _tile_stored(t, p, stride)
#define MULTIPLY(c, a, b) _tile_dpbf16ps(c, a, b)
static int begin(void)
{
    tile_config config = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        config.bytes[t] = 64;
        config.rows[t] = TILE_SIDE;
    }
    _tile_loadconfig(&config);
    return 1;
}
static void end(void) { _tile_release(); }
/* Linux gives the 8 KB of tile state only to those who ask (Documentation/arch/x86/xstate.rst). Once for the
 * process; threads started later inherit it. */
int lonja_amx_allowed(void)
{
#if defined(__linux__)
    enum { REQUEST = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#else
    return 0;
#endif
}
#endif

static void pack(const float *x, int64_t xs, int64_t n, int64_t in, uint16_t *to)
{
    const int64_t depth = bf16_depth(in);
    for (int64_t r0 = 0; r0 < n; r0 += TILE_SIDE)
        for (int64_t k = 0; k < depth; k += 2)
            for (int64_t r = r0; r < r0 + TILE_SIDE; r++, to += 2) {
                to[0] = r < n && k < in ? bf16_of(x[r * xs + k]) : 0;
                to[1] = r < n && k + 1 < in ? bf16_of(x[r * xs + k + 1]) : 0;
            }
}

/* outputs [n, stop) of up to 16 and rows [m, m + 16) from one tile of sums [output][row] */
static void put(const bf16_layer *l, const float *sum, int64_t n, int64_t stop, int64_t m, int64_t rows, float *y,
                int64_t ys)
{
    for (int64_t r = m; r < rows && r < m + TILE_SIDE; r++)
        for (int64_t o = n; o < stop && o < n + TILE_SIDE; o++)
            y[r * ys + o] = sum[(o - n) * TILE_SIDE + r - m] + (l->bias ? l->bias[o] : 0.0f);
}

/* A tile reads 16 rows of weights: the store behind `weight` has that many past the last (see the face). */
static void layer(const bf16_layer *l, int64_t n0, int64_t n1, const uint16_t *x, int64_t rows, float *y, int64_t ys)
{
    const int64_t depth = bf16_depth(l->in), block = TILE_SIDE * depth;
    float sum[4][TILE_SIDE * TILE_SIDE];
    for (int64_t n = n0; n < n1; n += 2 * TILE_SIDE)
        for (int64_t m = 0; m < rows; m += 2 * TILE_SIDE) {
            const int more_n = n + TILE_SIDE < n1, more_m = m + TILE_SIDE < rows;
            const uint16_t *w = l->weight + n * depth, *v = x + m / TILE_SIDE * block;
            ZERO(0);
            ZERO(1);
            ZERO(2);
            ZERO(3);
            for (int64_t k = 0; k < depth; k += BF16_ALIGN) {
                LOAD(4, w + k, depth * 2);
                LOAD(6, v + k * TILE_SIDE, 64);
                MULTIPLY(0, 4, 6);
                if (more_n) {
                    LOAD(5, w + block + k, depth * 2);
                    MULTIPLY(1, 5, 6);
                }
                if (more_m) {
                    LOAD(7, v + block + k * TILE_SIDE, 64);
                    MULTIPLY(2, 4, 7);
                }
                if (more_n && more_m) MULTIPLY(3, 5, 7);
            }
            STORE(0, sum[0], 64);
            STORE(1, sum[1], 64);
            STORE(2, sum[2], 64);
            STORE(3, sum[3], 64);
            put(l, sum[0], n, n1, m, rows, y, ys);
            if (more_n) put(l, sum[1], n + TILE_SIDE, n1, m, rows, y, ys);
            if (more_m) put(l, sum[2], n, n1, m + TILE_SIDE, rows, y, ys);
            if (more_n && more_m) put(l, sum[3], n + TILE_SIDE, n1, m + TILE_SIDE, rows, y, ys);
        }
}

const bf16_unit lonja_bf16_amx = {"amx_bf16", bf16_scratch, bf16_network, pack, layer, begin, end};
