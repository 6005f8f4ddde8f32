/* Activations, in place and over whole rows, and their derivatives.
 *
 * NaN stays NaN in all of them. relu(-Inf) = 0, gelu(-Inf) = 0 (their limits).
 */
#ifndef LONJA_ACTIVATE_H
#define LONJA_ACTIVATE_H

#include "kernels.h"
#include "vmath.h"

#define INV_SQRT2 0.70710678118654752f
#define INV_SQRT_2PI 0.39894228040143268f

INLINE vf act_gelu(vf x)
{
    vf v = vf_max(vf_set1(-14.0f), x); /* below, the float nearest to gelu(x) is zero */
    return v * vf_set1(0.5f) * vf_erfc(v * vf_set1(-INV_SQRT2));
}
INLINE vf act_apply(int kind, vf x, vf alpha)
{
    switch (kind) {
    case ACT_RELU: return vf_max(vf_zero(), x);
    case ACT_LEAKY_RELU: return vf_select(vf_lt(x, vf_zero()), x * alpha, x);
    case ACT_GELU: return act_gelu(x);
    case ACT_TANH: return vf_tanh(x);
    case ACT_SIGMOID: return vf_sigmoid(x);
    default: return x;
    }
}
/* d act / d x, from the output y; for gelu from the input x */
INLINE vf act_slope(int kind, vf v, vf alpha)
{
    const vf one = vf_set1(1.0f);
    switch (kind) {
    case ACT_RELU: return vf_select(vf_gt(v, vf_zero()), one, vf_zero());
    case ACT_LEAKY_RELU: return vf_select(vf_gt(v, vf_zero()), one, alpha);
    case ACT_GELU: {
        vf x = vf_min(vf_set1(14.0f), vf_max(vf_set1(-14.0f), v));
        vf phi = vf_exp_neg(x * x * vf_set1(-0.5f)) * vf_set1(INV_SQRT_2PI);
        return vf_fma(x, phi, vf_set1(0.5f) * vf_erfc(x * vf_set1(-INV_SQRT2)));
    }
    case ACT_TANH: return one - v * v;
    case ACT_SIGMOID: return v * (one - v);
    default: return one;
    }
}

INLINE void act_span(int kind, const float *x, float *y, int64_t n, vf alpha)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL) vf_store(y + i, act_apply(kind, vf_load(x + i), alpha));
    if (i < n) vf_store_n(y + i, act_apply(kind, vf_load_n(x + i, n - i, 0.0f), alpha), n - i);
}
/* y = act(x), elementwise; x may be y */
static void activate(int kind, float alpha, const float *x, float *y, int64_t n)
{
    const vf a = vf_set1(alpha);
    switch (kind) {
    case ACT_RELU: act_span(ACT_RELU, x, y, n, a); break;
    case ACT_LEAKY_RELU: act_span(ACT_LEAKY_RELU, x, y, n, a); break;
    case ACT_GELU: act_span(ACT_GELU, x, y, n, a); break;
    case ACT_TANH: act_span(ACT_TANH, x, y, n, a); break;
    case ACT_SIGMOID: act_span(ACT_SIGMOID, x, y, n, a); break;
    default:
        if (x != y) memcpy(y, x, (size_t)n * sizeof(float));
    }
    vf_leave();
}

INLINE void slope_span(int kind, const float *g, const float *v, float *out, int64_t n, vf alpha)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL) vf_store(out + i, vf_load(g + i) * act_slope(kind, vf_load(v + i), alpha));
    if (i < n) {
        vf r = vf_load_n(g + i, n - i, 0.0f) * act_slope(kind, vf_load_n(v + i, n - i, 0.0f), alpha);
        vf_store_n(out + i, r, n - i);
    }
}
/* dz = y * (dy - sum(dy * y)) a row; the sum in double, so a wide row keeps its digits */
static void softmax_slope(const float *g, const float *y, float *out, int64_t rows, int64_t c)
{
    for (int64_t r = 0; r < rows; r++, g += c, y += c, out += c) {
        double dot = 0.0;
        for (int64_t i = 0; i < c; i++) dot += (double)g[i] * (double)y[i];
        const float d = (float)dot;
        for (int64_t i = 0; i < c; i++) out[i] = y[i] * (g[i] - d);
    }
}
/* out = g * act'(v) over [rows, c]; out may be g */
static void activate_back(int kind, float alpha, const float *g, const float *v, float *out, int64_t rows,
                          int64_t c)
{
    const vf a = vf_set1(alpha);
    const int64_t n = rows * c;
    switch (kind) {
    case ACT_RELU: slope_span(ACT_RELU, g, v, out, n, a); break;
    case ACT_LEAKY_RELU: slope_span(ACT_LEAKY_RELU, g, v, out, n, a); break;
    case ACT_GELU: slope_span(ACT_GELU, g, v, out, n, a); break;
    case ACT_TANH: slope_span(ACT_TANH, g, v, out, n, a); break;
    case ACT_SIGMOID: slope_span(ACT_SIGMOID, g, v, out, n, a); break;
    case ACT_SOFTMAX: softmax_slope(g, v, out, rows, c); break;
    default:
        if (g != out) memcpy(out, g, (size_t)n * sizeof(float));
    }
    vf_leave();
}
#endif
