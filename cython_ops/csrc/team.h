/* Threads of one call: started for it, done before it ends. Where calls follow each other closely they watch for the next
 * one for a tenth of a millisecond; otherwise nothing spins beside other runtimes' threads. */
#ifndef LONJA_TEAM_H
#define LONJA_TEAM_H

#include <stdint.h>

#define TEAM_MOST 64 /* threads that work on one call, however many may */
#define TEAM_GAP 32  /* numbers between what two threads write all the time, lest they fight for a cache line */

typedef struct lonja_team lonja_team;
typedef void (*team_task)(void *context, lonja_team *team, int rank, int size);

/* Runs `task` on up to `size` threads, the caller being rank 0. Fewer if the system gives no more. */
void lonja_team_run(int size, team_task task, void *context);
/* All members wait here for the last. */
void lonja_team_wait(lonja_team *team);
/* 0, 1, 2 and on: each number for one member alone, from 0 again when all have met. */
int64_t lonja_team_draw(lonja_team *team);

/* rank's share [from, to) of n things handed out in multiples of `grain` */
static inline void team_share(int64_t n, int64_t grain, int rank, int size, int64_t *from, int64_t *to)
{
    const int64_t grains = (n + grain - 1) / grain;
    *from = grains * rank / size * grain;
    *to = grains * (rank + 1) / size * grain;
    if (*from > n) *from = n;
    if (*to > n) *to = n;
}

/* n things between two meetings, for `while (team_takes(&w)) ...w.from, w.to...`. Of many, each member first takes most
 * of its share, the same in every call, for what its caches hold. The rest goes to whoever is free, as a processor is
 * often slowed down by others: each time half of an even share of what is left, down to a grain, so pieces are few and the
 * last are small (guided self-scheduling; Polychronopoulos and Kuck, 1987). */
#define TEAM_MANY 16 /* grains a member, from which on that is worth its while */
#define TEAM_OWN 80  /* percent of a share */
typedef struct {
    lonja_team *team;
    int64_t n, grain, rest; /* `rest`: where the last part begins */
    int64_t from, to;
    int size, began;
} team_work;

static inline team_work team_deal(lonja_team *team, int64_t n, int64_t grain, int rank, int size)
{
    const int64_t grains = (n + grain - 1) / grain, own = grains * TEAM_OWN / 100 / size * grain;
    team_work w = {team, n, grain, n, rank * own, (rank + 1) * own, size, 0};
    if (size > 1 && grains >= TEAM_MANY * size) w.rest = size * own;
    else team_share(n, grain, rank, size, &w.from, &w.to);
    return w;
}
static inline int team_takes(team_work *w)
{
    if (!w->began++) return w->from < w->to;
    if (w->rest == w->n) return 0;
    int64_t before = lonja_team_draw(w->team);
    for (w->from = w->rest; w->from < w->n; w->from = w->to) {
        const int64_t half = (w->n - w->from) / (2 * w->size) / w->grain * w->grain;
        w->to = w->from + (half > w->grain ? half : w->grain);
        if (w->to > w->n) w->to = w->n;
        if (!before--) return 1;
    }
    return 0;
}
#endif
