/* Which tiers this library holds, and which of them this processor and system can run. */
#include "kernels.h"

#include <stddef.h>
#include <string.h>

extern const kernel_table lonja_tier_base;
#if defined(__x86_64__)
extern const kernel_table lonja_tier_avx2, lonja_tier_avx512;
const kernel_table *const lonja_tiers[] = {&lonja_tier_avx512, &lonja_tier_avx2, &lonja_tier_base, NULL};
#else
const kernel_table *const lonja_tiers[] = {&lonja_tier_base, NULL};
#endif

/* Feature bits, never the model: hypervisors mask the model. The builtin also asks XGETBV, so a system that
 * does not save the wide registers counts as one without them. */
int lonja_tier_runs(const kernel_table *tier)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") &&
                   __builtin_cpu_supports("popcnt");
    const int v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                   __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const int v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vl");
    if (tier == &lonja_tier_avx512) return v4;
    if (tier == &lonja_tier_avx2) return v3;
    return v2;
#else
    (void)tier;
    return 1;
#endif
}
