/* VL x VL transposition, and VL horizontal sums at once, from one pattern.
 *
 * PAIR(s) of rows a and b exchanges blocks of s lanes: LOW takes lane j of a where (j & s) == 0, else lane
 * j - s of b; HIGH takes lane j + s of a where (j & s) == 0, else lane j of b. All stages s = VL/2 .. 1 over rows
 * i and i + s transpose; adding LOW to HIGH instead of keeping both sums up.
 */
#ifndef LONJA_SHUFFLE_H
#define LONJA_SHUFFLE_H

#include "vec.h"

#if VL == 16
#define LANES(s, a, b, f) \
    __builtin_shufflevector(a, b, f(0, s), f(1, s), f(2, s), f(3, s), f(4, s), f(5, s), f(6, s), f(7, s), \
                            f(8, s), f(9, s), f(10, s), f(11, s), f(12, s), f(13, s), f(14, s), f(15, s))
#elif VL == 8
#define LANES(s, a, b, f) \
    __builtin_shufflevector(a, b, f(0, s), f(1, s), f(2, s), f(3, s), f(4, s), f(5, s), f(6, s), f(7, s))
#else
#define LANES(s, a, b, f) __builtin_shufflevector(a, b, f(0, s), f(1, s), f(2, s), f(3, s))
#endif
#define LOW_LANE(j, s) (((j) & (s)) ? VL + (j) - (s) : (j))
#define HIGH_LANE(j, s) (((j) & (s)) ? VL + (j) : (j) + (s))
#define PAIR_LOW(s, a, b) LANES(s, a, b, LOW_LANE)
#define PAIR_HIGH(s, a, b) LANES(s, a, b, HIGH_LANE)

#define EACH_UNROLLED _Pragma("GCC unroll 32")

#define TRANSPOSE_STAGE(s) \
    EACH_UNROLLED for (int i = 0; i < VL; i++) if (!(i & (s))) { \
        vf low = PAIR_LOW(s, r[i], r[i + (s)]), high = PAIR_HIGH(s, r[i], r[i + (s)]); \
        r[i] = low; \
        r[i + (s)] = high; \
    }
#define SUM_STAGE(s) \
    EACH_UNROLLED for (int i = 0; i < (s); i++) \
        r[i] = PAIR_LOW(s, r[i], r[i + (s)]) + PAIR_HIGH(s, r[i], r[i + (s)]);

/* r[i][j] <-> r[j][i] */
INLINE void vf_transpose(vf *r)
{
#if VL == 16
    TRANSPOSE_STAGE(8)
#endif
#if VL >= 8
    TRANSPOSE_STAGE(4)
#endif
    TRANSPOSE_STAGE(2)
    TRANSPOSE_STAGE(1)
}
/* lane i of the answer = sum of the lanes of r[i]; r is spent */
INLINE vf vf_sum_each(vf *r)
{
#if VL == 16
    SUM_STAGE(8)
#endif
#if VL >= 8
    SUM_STAGE(4)
#endif
    SUM_STAGE(2)
    SUM_STAGE(1)
    return r[0];
}
#endif
