/* Optimizer steps, in place over flat arrays; formulas as in torch.optim.
 *
 * State that has decayed below the least normal float is set to zero: a unit that no longer gets gradients would
 * otherwise leave denormals, which many processors handle 50 times slower.
 */
#ifndef LONJA_OPTIMIZE_H
#define LONJA_OPTIMIZE_H

#include "kernels.h"
#include "vec.h"

INLINE vf settle(vf v) { return vf_select(vf_lt(vf_abs(v), vf_set1(1.17549435e-38f)), vf_zero(), v); }

typedef struct {
    vf p, s, t; /* parameters and up to two states */
} step_lanes;

INLINE step_lanes step_sgd(step_lanes v, vf g, const step_settings *o)
{
    g = vf_fma(vf_set1(o->decay), v.p, g);
    v.s = settle(vf_fma(vf_set1(o->beta1), v.s, g));
    v.p = v.p - vf_set1(o->rate) * v.s;
    return v;
}
/* decay: weight decay as L2 (into g); shrink: as AdamW (on p) */
INLINE step_lanes step_adam(step_lanes v, vf g, const step_settings *o)
{
    const vf one = vf_set1(1.0f), b1 = vf_set1(o->beta1), b2 = vf_set1(o->beta2);
    v.p = v.p * vf_set1(o->shrink);
    g = vf_fma(vf_set1(o->decay), v.p, g);
    v.s = settle(vf_fma(one - b1, g - v.s, v.s));
    v.t = settle(vf_fma((one - b2) * g, g, b2 * v.t));
    v.p = v.p - vf_set1(o->rate) * v.s / vf_fma(vf_sqrt(v.t), vf_set1(o->unbias2), vf_set1(o->epsilon));
    return v;
}
INLINE step_lanes step_rmsprop(step_lanes v, vf g, const step_settings *o)
{
    const vf one = vf_set1(1.0f), b2 = vf_set1(o->beta2);
    g = vf_fma(vf_set1(o->decay), v.p, g);
    v.t = settle(vf_fma((one - b2) * g, g, b2 * v.t));
    v.p = v.p - vf_set1(o->rate) * g / (vf_sqrt(v.t) + vf_set1(o->epsilon));
    return v;
}
INLINE step_lanes step_lanes_of(const int kind, step_lanes v, vf g, const step_settings *o)
{
    return kind == STEP_SGD ? step_sgd(v, g, o) : kind == STEP_ADAM ? step_adam(v, g, o) : step_rmsprop(v, g, o);
}

INLINE void step_all(const int kind, float *p, const float *g, float *s, float *t, int64_t n, const step_settings *o)
{
    for (int64_t i = 0; i < n; i += VL) {
        const int64_t m = n - i < VL ? n - i : VL;
        step_lanes v = {vf_zero(), vf_zero(), vf_zero()};
        if (LIKELY(m == VL)) {
            v.p = vf_load(p + i);
            if (s) v.s = vf_load(s + i);
            if (t) v.t = vf_load(t + i);
            v = step_lanes_of(kind, v, vf_load(g + i), o);
            vf_store(p + i, v.p);
            if (s) vf_store(s + i, v.s);
            if (t) vf_store(t + i, v.t);
        } else {
            v.p = vf_load_n(p + i, m, 0.0f);
            if (s) v.s = vf_load_n(s + i, m, 0.0f);
            if (t) v.t = vf_load_n(t + i, m, 0.0f);
            v = step_lanes_of(kind, v, vf_load_n(g + i, m, 0.0f), o);
            vf_store_n(p + i, v.p, m);
            if (s) vf_store_n(s + i, v.s, m);
            if (t) vf_store_n(t + i, v.t, m);
        }
    }
}
static void optimizer_step(int kind, float *p, const float *g, float *s, float *t, int64_t n, const step_settings *o)
{
    switch (kind) {
    case STEP_SGD: step_all(STEP_SGD, p, g, s, t, n, o); break;
    case STEP_ADAM: step_all(STEP_ADAM, p, g, s, t, n, o); break;
    default: step_all(STEP_RMSPROP, p, g, s, t, n, o);
    }
    vf_leave();
}
#endif
