#include "team.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define MOST 64

struct lonja_team {
    pthread_mutex_t lock;
    pthread_cond_t turn;
    int size, waiting, started;
    unsigned round;
    team_task task;
    void *context;
};
typedef struct {
    lonja_team *team;
    int rank;
} member;

static void *member_main(void *given)
{
    member *me = given;
    lonja_team *t = me->team;
    pthread_mutex_lock(&t->lock);
    while (!t->started) pthread_cond_wait(&t->turn, &t->lock);
    pthread_mutex_unlock(&t->lock);
    t->task(t->context, t, me->rank, t->size);
    return NULL;
}

void lonja_team_wait(lonja_team *t)
{
    if (t->size == 1) return;
    pthread_mutex_lock(&t->lock);
    const unsigned round = t->round;
    if (++t->waiting == t->size) {
        t->waiting = 0;
        t->round++;
        pthread_cond_broadcast(&t->turn);
    } else {
        while (t->round == round) pthread_cond_wait(&t->turn, &t->lock);
    }
    pthread_mutex_unlock(&t->lock);
}

void lonja_team_run(int size, team_task task, void *context)
{
    lonja_team t = {.size = 1, .task = task, .context = context};
    member members[MOST];
    pthread_t threads[MOST];
    if (size > MOST) size = MOST;
    if (size <= 1) {
        task(context, &t, 0, 1);
        return;
    }
    /* signals are for the interpreter's own thread */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pthread_mutex_init(&t.lock, NULL);
    pthread_cond_init(&t.turn, NULL);
    while (t.size < size) {
        members[t.size] = (member){&t, t.size};
        if (pthread_create(&threads[t.size], NULL, member_main, &members[t.size])) break;
        t.size++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_mutex_lock(&t.lock);
    t.started = 1;
    pthread_cond_broadcast(&t.turn);
    pthread_mutex_unlock(&t.lock);
    task(context, &t, 0, t.size);
    for (int i = 1; i < t.size; i++) pthread_join(threads[i], NULL);
    pthread_cond_destroy(&t.turn);
    pthread_mutex_destroy(&t.lock);
}
