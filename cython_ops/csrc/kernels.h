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
    const char *name;
    int width; /* floats a vector */
    void (*score_topk)(const float *x, int64_t n, int64_t c, int64_t k, int score, float *values,
                       int64_t *indices, double *entropy);
    void (*image_to_planes)(const uint8_t *x, int64_t pixels, int64_t channels, const float *gain,
                            const float *shift, int reversed, float *out);
    void (*image_to_pixels)(const uint8_t *x, int64_t pixels, int64_t channels, const float *gain,
                            const float *shift, int reversed, float *out);
    void (*softmax_rows)(const float *x, float *y, int64_t n, int64_t c);
    void (*log_softmax_rows)(const float *x, float *y, int64_t n, int64_t c);
    void (*activate)(int kind, float alpha, const float *x, float *y, int64_t n);
    void (*activate_back)(int kind, float alpha, const float *grad, const float *value, float *out, int64_t rows,
                          int64_t c);
    int64_t (*network_scratch)(const dense_layer *layers, int count, int64_t n, int threads);
    void (*network)(const dense_layer *layers, int count, const float *x, int64_t n, float *y, float *scratch,
                    int threads);
} kernel_table;

/* Best first; ends with NULL. `lonja_tier_runs` asks the processor and the operating system. */
extern const kernel_table *const lonja_tiers[];
int lonja_tier_runs(const kernel_table *tier);

#endif
