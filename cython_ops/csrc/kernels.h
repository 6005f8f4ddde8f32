/* What the Cython face calls: one table of functions a tier.
 *
 * All arrays are C-contiguous; the face has checked shapes, types and overlap. No function allocates what it
 * does not free, keeps state, or changes the floating-point environment.
 */
#ifndef LONJA_KERNELS_H
#define LONJA_KERNELS_H

#include <stdint.h>

enum { SCORE_SOFTMAX = 0, SCORE_SIGMOID = 1, SCORE_NONE = 2 };

typedef struct {
    const char *name;
    int width; /* floats a vector */
    void (*score_topk)(const float *x, int64_t n, int64_t c, int64_t k, int score, float *values,
                       int64_t *indices, double *entropy);
    void (*image_to_planes)(const uint8_t *x, int64_t pixels, int64_t channels, const float *gain,
                            const float *shift, int reversed, float *out);
    void (*image_to_pixels)(const uint8_t *x, int64_t pixels, int64_t channels, const float *gain,
                            const float *shift, int reversed, float *out);
} kernel_table;

/* Best first; ends with NULL. `lonja_tier_runs` asks the processor and the operating system. */
extern const kernel_table *const lonja_tiers[];
int lonja_tier_runs(const kernel_table *tier);

#endif
