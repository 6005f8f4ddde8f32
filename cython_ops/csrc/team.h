/* Threads of one call: started for it, done before it ends. Where calls follow each other closely they watch for the next
 * one for a tenth of a millisecond; otherwise nothing spins beside other runtimes' threads. */
#ifndef LONJA_TEAM_H
#define LONJA_TEAM_H

#include <stdint.h>

#define TEAM_MOST 64 /* threads that work on one call, however many may */

typedef struct lonja_team lonja_team;
typedef void (*team_task)(void *context, lonja_team *team, int rank, int size);

/* Runs `task` on up to `size` threads, the caller being rank 0. Fewer if the system gives no more. */
void lonja_team_run(int size, team_task task, void *context);
/* All members wait here for the last. */
void lonja_team_wait(lonja_team *team);

/* rank's share [from, to) of n things handed out in multiples of `grain` */
static inline void team_share(int64_t n, int64_t grain, int rank, int size, int64_t *from, int64_t *to)
{
    const int64_t grains = (n + grain - 1) / grain;
    *from = grains * rank / size * grain;
    *to = grains * (rank + 1) / size * grain;
    if (*from > n) *from = n;
    if (*to > n) *to = n;
}
#endif
