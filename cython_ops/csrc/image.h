/* uint8 pixels to normalised floats: out = pixel * gain[c] + shift[c].
 *
 * gain and shift belong to the output channel; `reversed` takes output channel c from input channel C - 1 - c.
 * Three channels, the common case, are split 16 pixels at a time with byte shuffles.
 */
#ifndef LONJA_IMAGE_H
#define LONJA_IMAGE_H

#include "vec.h"

#if LONJA_X86
/* r, g, b: 16 bytes each, from the 48 at p */
INLINE void split3(const uint8_t *p, uint8_t *r, uint8_t *g, uint8_t *b)
{
    const __m128i u = _mm_loadu_si128((const __m128i *)p), v = _mm_loadu_si128((const __m128i *)(p + 16)),
                  w = _mm_loadu_si128((const __m128i *)(p + 32));
    /* blend so that each channel's bytes stand in one register, then put them in order */
    const __m128i m0 = _mm_setr_epi8(-1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1);
    const __m128i m1 = _mm_setr_epi8(0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0);
    const __m128i r0 = _mm_blendv_epi8(_mm_blendv_epi8(v, w, m1), u, m0);
    const __m128i g0 = _mm_blendv_epi8(_mm_blendv_epi8(w, v, m0), u, m1);
    const __m128i b0 = _mm_blendv_epi8(_mm_blendv_epi8(u, v, m1), w, m0);
    _mm_storeu_si128((__m128i *)r,
                     _mm_shuffle_epi8(r0, _mm_setr_epi8(0, 3, 6, 9, 12, 15, 2, 5, 8, 11, 14, 1, 4, 7, 10, 13)));
    _mm_storeu_si128((__m128i *)g,
                     _mm_shuffle_epi8(g0, _mm_setr_epi8(1, 4, 7, 10, 13, 0, 3, 6, 9, 12, 15, 2, 5, 8, 11, 14)));
    _mm_storeu_si128((__m128i *)b,
                     _mm_shuffle_epi8(b0, _mm_setr_epi8(2, 5, 8, 11, 14, 1, 4, 7, 10, 13, 0, 3, 6, 9, 12, 15)));
}
#else
INLINE void split3(const uint8_t *p, uint8_t *r, uint8_t *g, uint8_t *b)
{
    for (int i = 0; i < 16; i++) {
        r[i] = p[3 * i];
        g[i] = p[3 * i + 1];
        b[i] = p[3 * i + 2];
    }
}
#endif

static void planes3(const uint8_t *x, int64_t pixels, const float *gain, const float *shift, float *const plane[3])
{
    const vf g0 = vf_set1(gain[0]), g1 = vf_set1(gain[1]), g2 = vf_set1(gain[2]);
    const vf s0 = vf_set1(shift[0]), s1 = vf_set1(shift[1]), s2 = vf_set1(shift[2]);
    int64_t i = 0;
    for (; i + 16 <= pixels; i += 16) {
        uint8_t c0[16], c1[16], c2[16];
        split3(x + 3 * i, c0, c1, c2);
        for (int j = 0; j < 16; j += VL) {
            vf_store(plane[0] + i + j, vf_fma(vf_from_u8(c0 + j), g0, s0));
            vf_store(plane[1] + i + j, vf_fma(vf_from_u8(c1 + j), g1, s1));
            vf_store(plane[2] + i + j, vf_fma(vf_from_u8(c2 + j), g2, s2));
        }
    }
    for (; i < pixels; i++)
        for (int c = 0; c < 3; c++) plane[c][i] = (float)x[3 * i + c] * gain[c] + shift[c];
}

static void image_to_planes(const uint8_t *x, int64_t pixels, int64_t channels, const float *gain,
                            const float *shift, int reversed, float *out)
{
    if (channels == 3) {
        /* in input order: the planes, gains and shifts change places instead of the bytes */
        const int a = reversed ? 2 : 0, b = reversed ? 0 : 2;
        const float g[3] = {gain[a], gain[1], gain[b]}, s[3] = {shift[a], shift[1], shift[b]};
        float *const plane[3] = {out + a * pixels, out + pixels, out + b * pixels};
        planes3(x, pixels, g, s, plane);
        vf_leave();
        return;
    }
    for (int64_t c = 0; c < channels; c++) {
        const uint8_t *from = x + (reversed ? channels - 1 - c : c);
        const float g = gain[c], s = shift[c];
        for (int64_t i = 0; i < pixels; i++) out[c * pixels + i] = (float)from[i * channels] * g + s;
    }
    vf_leave();
}

#define PERIOD 3 /* vectors after which three channels repeat */

static void pixels3(const uint8_t *x, int64_t values, const float *gain, const float *shift, float *out)
{
    vf g[PERIOD], s[PERIOD];
    for (int q = 0; q < PERIOD; q++)
        for (int j = 0; j < VL; j++) {
            g[q][j] = gain[(q * VL + j) % 3];
            s[q][j] = shift[(q * VL + j) % 3];
        }
    int64_t i = 0;
    for (; i + PERIOD * VL <= values; i += PERIOD * VL)
        for (int q = 0; q < PERIOD; q++)
            vf_store(out + i + q * VL, vf_fma(vf_from_u8(x + i + q * VL), g[q], s[q]));
    for (; i < values; i++) out[i] = (float)x[i] * gain[i % 3] + shift[i % 3];
}

static void image_to_pixels(const uint8_t *x, int64_t pixels, int64_t channels, const float *gain,
                            const float *shift, int reversed, float *out)
{
    if (channels == 3 && !reversed) {
        pixels3(x, 3 * pixels, gain, shift, out);
        vf_leave();
        return;
    }
    if (channels == 3) {
        uint8_t swapped[3 * 256];
        for (int64_t i = 0; i < pixels; i += 256) {
            int64_t m = pixels - i < 256 ? pixels - i : 256;
            for (int64_t j = 0; j < m; j++) {
                swapped[3 * j] = x[3 * (i + j) + 2];
                swapped[3 * j + 1] = x[3 * (i + j) + 1];
                swapped[3 * j + 2] = x[3 * (i + j)];
            }
            pixels3(swapped, 3 * m, gain, shift, out + 3 * i);
        }
        vf_leave();
        return;
    }
    for (int64_t i = 0; i < pixels; i++)
        for (int64_t c = 0; c < channels; c++)
            out[i * channels + c] = (float)x[i * channels + (reversed ? channels - 1 - c : c)] * gain[c] + shift[c];
    vf_leave();
}
#endif
