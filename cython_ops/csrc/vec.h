/* One vector of floats, whatever the instruction set.
 *
 * In: nothing but compiler flags (-march decides). Out: `vf` (VL floats), `vi` (VL int32), `vm` (a mask) and
 * about thirty operations. Kernels are written once against these names; + - * / work on vf and vi directly
 * (GCC/Clang vector extensions). Everything without intrinsics below is correct on any target: on aarch64 the
 * compiler turns it into NEON. LONJA_NO_INTRINSICS forces those paths, so they can be tested on x86.
 *
 * NaN rule: vf_max(a, b) and vf_min(a, b) give b when either is NaN. So `vf_max(bound, x)` keeps a NaN in x,
 * `vf_max(x, bound)` drops it.
 */
#ifndef LONJA_VEC_H
#define LONJA_VEC_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if (defined(__x86_64__) || defined(_M_X64)) && !defined(LONJA_NO_INTRINSICS)
#define LONJA_X86 1
#include <immintrin.h>
#else
#define LONJA_X86 0
#endif

#if LONJA_X86 && defined(__AVX512F__)
#define VL 16
#define LONJA_AVX512 1
#elif LONJA_X86 && defined(__AVX2__)
#define VL 8
#define LONJA_AVX2 1
#else
#define VL 4
#endif

#ifndef LONJA_AVX512
#define LONJA_AVX512 0
#endif
#ifndef LONJA_AVX2
#define LONJA_AVX2 0
#endif
#define LONJA_SSE (LONJA_X86 && !LONJA_AVX512 && !LONJA_AVX2)

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef float vf_u __attribute__((vector_size(VL * 4), aligned(1), may_alias));
typedef int32_t vi_u __attribute__((vector_size(VL * 4), aligned(1), may_alias));
#if LONJA_AVX512
typedef __mmask16 vm;
#else
typedef vi vm;
#endif

#define INLINE static inline __attribute__((always_inline))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Last in every function of the table. Registers left with their upper halves in use slow down all SSE code that
 * follows, five times in places, and gcc 12 forgets to clear them where calls of static functions come last. */
INLINE void vf_leave(void)
{
#if LONJA_AVX512 || LONJA_AVX2
    _mm256_zeroupper();
#endif
}

INLINE vf vf_load(const float *p) { return *(const vf_u *)p; }
INLINE void vf_store(float *p, vf v) { *(vf_u *)p = v; }
INLINE vf vf_set1(float x)
{
#if LONJA_AVX512
    return (vf)_mm512_set1_ps(x);
#elif LONJA_AVX2
    return (vf)_mm256_set1_ps(x);
#else
    return (vf){x, x, x, x};
#endif
}
INLINE vi vi_set1(int32_t x)
{
#if LONJA_AVX512
    return (vi)_mm512_set1_epi32(x);
#elif LONJA_AVX2
    return (vi)_mm256_set1_epi32(x);
#else
    return (vi){x, x, x, x};
#endif
}
INLINE vf vf_zero(void) { return vf_set1(0.0f); }

/* n in [0, VL]; lanes from n on hold `fill`. Never touches memory past p[n - 1]. */
INLINE vf vf_load_n(const float *p, int64_t n, float fill)
{
#if LONJA_AVX512
    return (vf)_mm512_mask_loadu_ps(_mm512_set1_ps(fill), (__mmask16)((1u << n) - 1u), p);
#elif LONJA_AVX2
    static const int32_t window[2 * VL] = {-1, -1, -1, -1, -1, -1, -1, -1}; /* a mask of n lanes starts at VL - n */
    const __m256i held = _mm256_loadu_si256((const __m256i *)(window + VL - n));
    return (vf)_mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(p, held), _mm256_castsi256_ps(held));
#else
    vf v = vf_set1(fill);
    memcpy(&v, p, (size_t)n * sizeof(float));
    return v;
#endif
}
INLINE void vf_store_n(float *p, vf v, int64_t n)
{
#if LONJA_AVX512
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), (__m512)v);
#else
    memcpy(p, &v, (size_t)n * sizeof(float));
#endif
}

/* v as a register: gcc would else load it from memory again for each use */
INLINE vf vf_held(vf v)
{
#if LONJA_X86
    __asm__("" : "+v"(v));
#endif
    return v;
}

/* a * b + c: one rounding where the target has FMA, two in the x86 base tier. */
INLINE vf vf_fma(vf a, vf b, vf c)
{
#if LONJA_AVX512
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif LONJA_AVX2
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    vf r;
    for (int i = 0; i < VL; i++) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return r;
#else
    return a * b + c;
#endif
}

INLINE vi vf_bits(vf v) { return (vi)v; }
INLINE vf vf_from_bits(vi v) { return (vf)v; }
INLINE vf vf_abs(vf v) { return (vf)((vi)v & vi_set1(0x7fffffff)); }

INLINE vm vf_gt(vf a, vf b)
{
#if LONJA_AVX512
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ);
#else
    return (vm)(a > b);
#endif
}
INLINE vm vf_lt(vf a, vf b) { return vf_gt(b, a); }
INLINE vm vf_ge(vf a, vf b)
{
#if LONJA_AVX512
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ);
#else
    return (vm)(a >= b);
#endif
}
/* m ? a : b, lane by lane */
INLINE vf vf_select(vm m, vf a, vf b)
{
#if LONJA_AVX512
    return (vf)_mm512_mask_blend_ps(m, (__m512)b, (__m512)a);
#elif LONJA_AVX2
    return (vf)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)m);
#elif LONJA_SSE
    return (vf)_mm_blendv_ps((__m128)b, (__m128)a, (__m128)m);
#else
    return (vf)((m & (vi)a) | (~m & (vi)b));
#endif
}
/* one bit a lane, lane 0 lowest */
INLINE uint32_t vm_bits(vm m)
{
#if LONJA_AVX512
    return (uint32_t)m;
#elif LONJA_AVX2
    return (uint32_t)_mm256_movemask_ps((__m256)m);
#elif LONJA_SSE
    return (uint32_t)_mm_movemask_ps((__m128)m);
#else
    return (uint32_t)((m[0] & 1) | (m[1] & 2) | (m[2] & 4) | (m[3] & 8));
#endif
}
INLINE vf vf_max(vf a, vf b)
{
#if LONJA_AVX512
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif LONJA_AVX2
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif LONJA_SSE
    return (vf)_mm_max_ps((__m128)a, (__m128)b);
#else
    return vf_select(vf_gt(a, b), a, b);
#endif
}
INLINE vf vf_min(vf a, vf b)
{
#if LONJA_AVX512
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif LONJA_AVX2
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#elif LONJA_SSE
    return (vf)_mm_min_ps((__m128)a, (__m128)b);
#else
    return vf_select(vf_lt(a, b), a, b);
#endif
}
/* to the nearest integer, halves to even; |v| < 2^22 */
INLINE vf vf_round(vf v)
{
#if LONJA_AVX512
    return (vf)_mm512_roundscale_ps((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif LONJA_AVX2
    return (vf)_mm256_round_ps((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif LONJA_SSE
    return (vf)_mm_round_ps((__m128)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    const vf magic = vf_set1(12582912.0f); /* 1.5 * 2^23: adding it leaves no bits for a fraction */
    return (v + magic) - magic;
#endif
}
INLINE vf vf_sqrt(vf v)
{
#if LONJA_AVX512
    return (vf)_mm512_sqrt_ps((__m512)v);
#elif LONJA_AVX2
    return (vf)_mm256_sqrt_ps((__m256)v);
#elif LONJA_SSE
    return (vf)_mm_sqrt_ps((__m128)v);
#else
    vf r;
    for (int i = 0; i < VL; i++) r[i] = __builtin_sqrtf(v[i]);
    return r;
#endif
}
INLINE vi vf_to_int(vf v) /* truncates; any finite |v| < 2^31 */
{
#if LONJA_AVX512
    return (vi)_mm512_cvttps_epi32((__m512)v);
#elif LONJA_AVX2
    return (vi)_mm256_cvttps_epi32((__m256)v);
#elif LONJA_SSE
    return (vi)_mm_cvttps_epi32((__m128)v);
#else
    vi r;
    for (int i = 0; i < VL; i++) {
        float x = v[i];
        r[i] = (x > -2147483648.0f && x < 2147483648.0f) ? (int32_t)x : INT32_MIN;
    }
    return r;
#endif
}
INLINE vf vf_from_int(vi v) { return __builtin_convertvector(v, vf); }
/* v * 2^n for whole n in [-126, 127] */
INLINE vf vf_scale2(vf v, vf n)
{
#if LONJA_AVX512
    return (vf)_mm512_scalef_ps((__m512)v, (__m512)n);
#else
    typedef uint32_t vu __attribute__((vector_size(VL * 4)));
    return v * (vf)(((vu)vf_to_int(n) + 127u) << 23);
#endif
}
INLINE float vf_hmax(vf v)
{
#if LONJA_AVX512
    return _mm512_reduce_max_ps((__m512)v);
#else
    float r = v[0];
    for (int i = 1; i < VL; i++) r = v[i] > r ? v[i] : r;
    return r;
#endif
}
INLINE float vf_hsum(vf v)
{
#if LONJA_AVX512
    return _mm512_reduce_add_ps((__m512)v);
#elif LONJA_AVX2
    __m128 h = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
#else
    return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}
/* the VL bytes at p as floats */
INLINE vf vf_from_u8(const uint8_t *p)
{
#if LONJA_AVX512
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
#elif LONJA_AVX2
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
#elif LONJA_SSE
    int32_t four;
    memcpy(&four, p, 4);
    return (vf)_mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four)));
#else
    return (vf){(float)p[0], (float)p[1], (float)p[2], (float)p[3]};
#endif
}

#endif
