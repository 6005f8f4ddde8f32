/* A loop that only reads, in the threads of a call. Built by benchmarks/machine.py, together with csrc/team.c. */
#include "team.h"

typedef float vector __attribute__((vector_size(64)));
typedef struct {
    const char *const *blocks;
    const int64_t *sizes;
    int64_t count;
    float *sums; /* 32 a thread; written, so that no loop is left out */
} reading;

static void read_share(void *context, lonja_team *team, int rank, int size)
{
    (void)team;
    const reading *r = context;
    float *sum = r->sums + 32 * rank;
    vector a = {0}, b = {0};
    int64_t first = 0, last = r->count;
    if (r->count >= TEAM_MOST) { /* whole blocks each: halves would pay for the ends of loops twice */
        team_share(r->count, 1, rank, size, &first, &last);
        rank = 0;
        size = 1;
    }
    for (int64_t i = first; i < last; i++) {
        const char *start = r->blocks[i] + (-(uintptr_t)r->blocks[i] & 63);
        int64_t from, to;
        team_share((r->sizes[i] - 64) / 128 * 128, 128, rank, size, &from, &to);
        for (const char *at = start + from; at < start + to; at += 128) {
            __builtin_prefetch(at + 12288, 0, 3);
            __builtin_prefetch(at + 12288 + 64, 0, 3);
            a += ((const vector *)at)[0];
            b += ((const vector *)at)[1];
        }
    }
    *(vector *)sum = a + b;
}
/* once over all blocks, but for their edges */
void machine_read(const char *const *blocks, const int64_t *sizes, int64_t count, float *sums, int threads)
{
    lonja_team_run(threads, read_share, &(reading){blocks, sizes, count, sums});
}
