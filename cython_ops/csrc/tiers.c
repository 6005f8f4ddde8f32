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

#if defined(__x86_64__)
#include <cpuid.h>
int lonja_upper_halves_in_use(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid_count(0xd, 1, &a, &b, &c, &d) || !(a >> 2 & 1)) return 0; /* no XGETBV with ECX = 1 */
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(1));
    return a >> 2 & 1;
}
#else
int lonja_upper_halves_in_use(void) { return 0; }
#endif

#if defined(LONJA_HAS_BF16)
extern const bf16_unit lonja_bf16_avx512;
#endif
#if defined(LONJA_HAS_AMX)
extern const bf16_unit lonja_bf16_amx;
extern int lonja_amx_allowed(void);
#endif
const bf16_unit *const lonja_bf16_units[] = {
#if defined(LONJA_HAS_AMX)
    &lonja_bf16_amx,
#endif
#if defined(LONJA_HAS_BF16)
    &lonja_bf16_avx512,
#endif
    NULL,
};

#if defined(LONJA_HAS_AMX) && !defined(LONJA_AMX_EMULATED)
static int has_amx_bf16(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) && (d >> 24 & 1); /* AMX-BF16, AMX-TILE */
}
#endif

int lonja_unit_runs(const bf16_unit *unit)
{
#if defined(LONJA_HAS_AMX) && defined(LONJA_AMX_EMULATED)
    if (unit == &lonja_bf16_amx) return 1;
#elif defined(LONJA_HAS_AMX)
    if (unit == &lonja_bf16_amx) return lonja_tier_runs(&lonja_tier_avx512) && has_amx_bf16() && lonja_amx_allowed();
#endif
#if defined(LONJA_HAS_BF16)
    __builtin_cpu_init();
    if (unit == &lonja_bf16_avx512) return lonja_tier_runs(&lonja_tier_avx512) && __builtin_cpu_supports("avx512bf16");
#endif
    (void)unit;
    return 0;
}

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
