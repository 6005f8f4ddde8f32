/* exp, log, sigmoid, tanh and erfc of a vector of floats.
 *
 * Polynomials after Cephes (S. Moshier, netlib.org/cephes, expf/logf/tanhf) and, for erfc, the Chebyshev fit
 * of Numerical Recipes. Relative error: exp and log <= 2 ulp; sigmoid and tanh <= 4 ulp; erfc <= 3e-6. NaN in, NaN out; no denormal is ever produced by exp.
 */
#ifndef LONJA_VMATH_H
#define LONJA_VMATH_H

#include "vec.h"

#define EXP_LOW -87.3f /* exp below is zero: its results would be denormals, 50 times slower further on */
#define EXP_HIGH 88.0f

INLINE vf exp_core(vf t) /* EXP_LOW <= t <= EXP_HIGH or NaN */
{
    vf n = vf_round(t * vf_set1(1.44269504088896341f));
    vf r = vf_fma(n, vf_set1(-0.693359375f), t);
    r = vf_fma(n, vf_set1(2.12194440e-4f), r);
    vf p = vf_set1(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set1(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set1(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set1(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set1(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set1(5.0000001201e-1f));
    p = vf_fma(p, r * r, r + vf_set1(1.0f));
    return vf_scale2(p, n);
}
/* exp of t <= 0 (or NaN): zero below EXP_LOW */
INLINE vf vf_exp_neg(vf t)
{
    const vf low = vf_set1(EXP_LOW);
    vf e = exp_core(vf_max(low, t));
    return vf_select(vf_lt(t, low), vf_zero(), e);
}
/* exp, held at exp(88) = 1.65e38 above: never infinite */
INLINE vf vf_exp(vf t) { return vf_exp_neg(vf_min(vf_set1(EXP_HIGH), t)); }

INLINE vf vf_sigmoid(vf x)
{
    vf e = vf_exp_neg(vf_zero() - vf_abs(x));
    vf r = vf_set1(1.0f) / (vf_set1(1.0f) + e);
    return vf_select(vf_lt(x, vf_zero()), e * r, r);
}
/* log(1 + e) for e in [0, 1]: 2 atanh(e / (2 + e)) */
INLINE vf vf_log1p_unit(vf e)
{
    vf s = e / (e + vf_set1(2.0f)), q = s * s;
    vf p = vf_set1(2.0f / 15.0f);
    p = vf_fma(p, q, vf_set1(2.0f / 13.0f));
    p = vf_fma(p, q, vf_set1(2.0f / 11.0f));
    p = vf_fma(p, q, vf_set1(2.0f / 9.0f));
    p = vf_fma(p, q, vf_set1(2.0f / 7.0f));
    p = vf_fma(p, q, vf_set1(2.0f / 5.0f));
    p = vf_fma(p, q, vf_set1(2.0f / 3.0f));
    p = vf_fma(p, q, vf_set1(2.0f));
    return p * s;
}
INLINE vf vf_tanh(vf x)
{
    vf a = vf_abs(x), q = x * x;
    /* small: odd polynomial (Cephes tanhf); large: 1 - 2 / (exp(2a) + 1) */
    vf p = vf_set1(-5.70498872745e-3f);
    p = vf_fma(p, q, vf_set1(2.06390887954e-2f));
    p = vf_fma(p, q, vf_set1(-5.37397155531e-2f));
    p = vf_fma(p, q, vf_set1(1.33314422036e-1f));
    p = vf_fma(p, q, vf_set1(-3.33332819422e-1f));
    vf small = vf_fma(p * q, x, x);
    vf e = vf_exp(vf_min(vf_set1(40.0f), a + a));
    vf big = vf_set1(1.0f) - vf_set1(2.0f) / (e + vf_set1(1.0f));
    big = vf_from_bits(vf_bits(big) | (vf_bits(x) & vi_set1((int32_t)0x80000000u)));
    return vf_select(vf_lt(a, vf_set1(0.625f)), small, big);
}
/* log of positive normal x; zero and denormals give log(FLT_MIN), NaN and +Inf themselves */
INLINE vf vf_log(vf x)
{
    const vf least = vf_set1(1.17549435e-38f), one = vf_set1(1.0f);
    vf v = vf_max(least, x);
    vi bits = vf_bits(v);
    vf e = vf_from_int((bits >> 23) - vi_set1(126));
    vf m = vf_from_bits((bits & vi_set1(0x007fffff)) | vi_set1(0x3f000000)); /* [0.5, 1) */
    vm low = vf_lt(m, vf_set1(0.707106781186547524f));
    e = vf_select(low, e - one, e);
    m = vf_select(low, m + m, m) - one;
    vf z = m * m, p = vf_set1(7.0376836292e-2f);
    p = vf_fma(p, m, vf_set1(-1.1514610310e-1f));
    p = vf_fma(p, m, vf_set1(1.1676998740e-1f));
    p = vf_fma(p, m, vf_set1(-1.2420140846e-1f));
    p = vf_fma(p, m, vf_set1(1.4249322787e-1f));
    p = vf_fma(p, m, vf_set1(-1.6668057665e-1f));
    p = vf_fma(p, m, vf_set1(2.0000714765e-1f));
    p = vf_fma(p, m, vf_set1(-2.4999993993e-1f));
    p = vf_fma(p, m, vf_set1(3.3333331174e-1f));
    p = p * m * z;
    p = vf_fma(e, vf_set1(-2.12194440e-4f), p);
    p = vf_fma(z, vf_set1(-0.5f), p);
    p = vf_fma(e, vf_set1(0.693359375f), m + p);
    return vf_select(vf_lt(x, vf_set1(INFINITY)), p, x);
}
/* erfc(z): Numerical Recipes 3rd ed. 6.2.2, relative error 1.2e-7 before rounding */
INLINE vf vf_erfc(vf z)
{
    vf a = vf_abs(z), t = vf_set1(1.0f) / vf_fma(a, vf_set1(0.5f), vf_set1(1.0f));
    vf p = vf_set1(0.17087277f);
    p = vf_fma(p, t, vf_set1(-0.82215223f));
    p = vf_fma(p, t, vf_set1(1.48851587f));
    p = vf_fma(p, t, vf_set1(-1.13520398f));
    p = vf_fma(p, t, vf_set1(0.27886807f));
    p = vf_fma(p, t, vf_set1(-0.18628806f));
    p = vf_fma(p, t, vf_set1(0.09678418f));
    p = vf_fma(p, t, vf_set1(0.37409196f));
    p = vf_fma(p, t, vf_set1(1.00002368f));
    p = vf_fma(p, t, vf_set1(-1.26551223f));
    vf e = t * vf_exp(p) * vf_exp_neg(vf_zero() - a * a);
    return vf_select(vf_lt(z, vf_zero()), vf_set1(2.0f) - e, e);
}
#endif
