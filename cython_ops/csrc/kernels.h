/* What the Cython face calls: one table of functions a tier.
 *
 * All arrays are C-contiguous; the face has checked shapes, types and overlap. No function allocates what it
 * does not free, keeps state, or changes the floating-point environment.
 */
#ifndef LONJA_KERNELS_H
#define LONJA_KERNELS_H

#include <stdint.h>

enum { SCORE_SOFTMAX = 0, SCORE_SIGMOID = 1, SCORE_NONE = 2 };

enum { ACT_IDENTITY, ACT_RELU, ACT_LEAKY_RELU, ACT_GELU, ACT_TANH, ACT_SIGMOID, ACT_SOFTMAX };

typedef struct {
    const float *weight, *bias; /* [out][in]; [out] or NULL */
    int64_t in, out;
    int activation;
    float alpha; /* slope of leaky relu below zero */
} dense_layer;

typedef struct {
    const uint16_t *weight; /* bfloat16 [out + 15][in rounded up to 32] */
    const float *bias;
    int64_t in, out;
    int activation;
    float alpha;
} bf16_layer;

/* A way to multiply bfloat16. `pack` and `layer` are the unit's own; the face calls scratch and network. */
typedef struct bf16_unit bf16_unit;
struct bf16_unit {
    const char *name;
    int64_t (*scratch)(const bf16_layer *layers, int count, int64_t n);
    void (*network)(const bf16_unit *unit, const bf16_layer *layers, int count, const float *x, int64_t n, float *y,
                    float *scratch, int threads);
    void (*pack)(const float *x, int64_t xs, int64_t n, int64_t in, uint16_t *to);
    void (*layer)(const bf16_layer *layer, int64_t n0, int64_t n1, const uint16_t *x, int64_t rows, float *y, int64_t ys);
    int (*begin)(void); /* on each thread, or NULL */
    void (*end)(void);
};

enum { STEP_SGD, STEP_ADAM, STEP_RMSPROP };

typedef struct {
    float rate, beta1, beta2, epsilon, decay, shrink, unbias2;
} step_settings;

/* int8 codes of rows in two planes of half bytes, [n][half_bytes(d)] each, and how well they fit: [n] each. See codes.h. */
typedef struct {
    uint8_t *upper, *lower;
    float *upper_gains, *upper_margins, *gains, *margins;
} row_codes;

static inline int64_t half_bytes(int64_t d) { return (d + 31) / 32 * 16; }

typedef struct {
    int64_t row;
    int32_t upper; /* product of the upper halves with the query */
    float bound;   /* the score is not above */
} code_look;

typedef struct {
    const char *name;
    int width; /* floats a vector */
    bf16_unit widened; /* bfloat16 widened to float32 */
    void (*bf16_row)(const float *x, int64_t in, int64_t depth, uint16_t *to);
    void (*score_topk)(const float *x, int64_t n, int64_t c, int64_t k, int score, float *values,
                       int64_t *indices, double *entropy);
    void (*image_to_planes)(const uint8_t *x, int64_t pixels, int64_t channels, const float *gain,
                            const float *shift, int reversed, float *out);
    void (*image_to_pixels)(const uint8_t *x, int64_t pixels, int64_t channels, const float *gain,
                            const float *shift, int reversed, float *out);
    void (*softmax_rows)(const float *x, float *y, int64_t n, int64_t c);
    void (*log_softmax_rows)(const float *x, float *y, int64_t n, int64_t c);
    double (*cross_entropy)(const float *x, const int64_t *labels, const float *weights, int64_t n, int64_t c);
    void (*cross_entropy_back)(const float *x, const int64_t *labels, const float *weights, int64_t n, int64_t c,
                               float *y);
    void (*activate)(int kind, float alpha, const float *x, float *y, int64_t n);
    void (*activate_back)(int kind, float alpha, const float *grad, const float *value, float *out, int64_t rows,
                          int64_t c);
    int64_t (*network_scratch)(const dense_layer *layers, int count, int64_t n, int threads);
    /* reverse: from the last outputs of a layer to the first, where that is worth it */
    void (*network)(const dense_layer *layers, int count, const float *x, int64_t n, float *y, float *scratch,
                    int threads, int reverse);
    int64_t (*product_scratch)(int threads);
    void (*back_to_weights)(const float *grad, const float *x, int64_t n, int64_t in, int64_t out, float *dw,
                            float *db, float *scratch, int threads);
    void (*back_to_input)(const float *grad, const float *w, int64_t n, int64_t in, int64_t out, float *dx,
                          float *scratch, int threads);
    void (*optimizer_step)(int kind, float *p, const float *g, float *s, float *t, int64_t n,
                           const step_settings *settings);
    int64_t (*nms_greedy)(const float *boxes, const int64_t *order, int64_t count, float threshold, int64_t most,
                          uint8_t *keep, float *columns, int64_t room);
    void (*iou_matrix)(const float *a, int64_t n, const float *b, int64_t m, float *out);
    int64_t (*cosine_topk)(const float *rows, const float *query, int64_t n, int64_t d, int64_t k, float *values,
                           int64_t *indices, int64_t *counts, int threads);
    void (*quantize_rows)(const float *rows, int64_t n, int64_t d, float *work, const row_codes *codes);
    int64_t (*cosine_topk_codes)(const row_codes *codes, const float *rows, const float *query, int64_t n, int64_t d,
                                 int64_t k, code_look *looks, int8_t *query_codes, float *work, float *values,
                                 int64_t *indices, int64_t *counts, int threads);
} kernel_table;

/* Best first; ends with NULL. `lonja_tier_runs` asks the processor and the operating system. */
extern const kernel_table *const lonja_tiers[];
int lonja_tier_runs(const kernel_table *tier);

/* Are upper halves of vector registers in use (bit 2 of XINUSE)? 0 where the processor cannot say. For tests: a kernel
 * that leaves them so slows down all that follows. */
int lonja_upper_halves_in_use(void);

/* The bfloat16 units, best first; ends with NULL. `lonja_unit_runs` may have to ask the system for AMX. */
extern const bf16_unit *const lonja_bf16_units[];
int lonja_unit_runs(const bf16_unit *unit);

#endif
