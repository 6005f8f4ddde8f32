/* A call's threads share one lonja_team. They meet by its round counter, which a waiting thread watches for a short
 * while before it sleeps: on a virtual machine a wake-up takes longer than most layers. The members are detached;
 * all have done their part when lonja_team_run returns, the last to leave frees the team. */
#define _GNU_SOURCE
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#define MOST 64
#define SPIN 1000 /* looks before a thread sleeps: some 20 us */

struct lonja_team {
    pthread_mutex_t lock;
    pthread_cond_t turn;
    int size, ranks, waiting, users;
    unsigned round; /* 0 until all have been started, then one more each time that all have met */
    team_task task;
    void *context;
};

static unsigned round_of(lonja_team *t) { return __atomic_load_n(&t->round, __ATOMIC_ACQUIRE); }

static void await_next(lonja_team *t, unsigned round)
{
    for (int i = 0; i < SPIN; i++) {
        if (round_of(t) != round) return;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    pthread_mutex_lock(&t->lock);
    while (round_of(t) == round) pthread_cond_wait(&t->turn, &t->lock);
    pthread_mutex_unlock(&t->lock);
}
static void begin_next(lonja_team *t)
{
    pthread_mutex_lock(&t->lock);
    __atomic_store_n(&t->round, t->round + 1, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&t->turn);
    pthread_mutex_unlock(&t->lock);
}

void lonja_team_wait(lonja_team *t)
{
    if (t->size == 1) return;
    const unsigned round = round_of(t);
    if (__atomic_add_fetch(&t->waiting, 1, __ATOMIC_ACQ_REL) < t->size) {
        await_next(t, round);
        return;
    }
    t->waiting = 0;
    begin_next(t);
}

/* a member's part, and until all have done theirs; the last to leave frees the team */
static void take_part(lonja_team *t, int rank)
{
    t->task(t->context, t, rank, t->size);
    lonja_team_wait(t);
    if (__atomic_sub_fetch(&t->users, 1, __ATOMIC_ACQ_REL)) return;
    pthread_cond_destroy(&t->turn);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
static void *member_main(void *given)
{
    lonja_team *t = given;
    await_next(t, 0);
    take_part(t, __atomic_add_fetch(&t->ranks, 1, __ATOMIC_RELAXED));
    return NULL;
}

/* Members start on other processors than the caller's: Linux would at times leave one behind a caller that never
 * sleeps, and both would take turns. Whether that is asked for. */
static int keep_off_caller(pthread_attr_t *members)
{
#ifdef __GLIBC__
    cpu_set_t others;
    if (sched_getaffinity(0, sizeof others, &others)) return 0;
    CPU_CLR(sched_getcpu(), &others);
    return CPU_COUNT(&others) && !pthread_attr_setaffinity_np(members, sizeof others, &others);
#else
    (void)members;
    return 0;
#endif
}
static int let_run_anywhere(pthread_attr_t *members)
{
#ifdef __GLIBC__
    pthread_attr_setaffinity_np(members, 0, NULL);
#else
    (void)members;
#endif
    return 0;
}

void lonja_team_run(int size, team_task task, void *context)
{
    lonja_team *t = size > 1 ? calloc(1, sizeof *t) : NULL;
    if (!t) {
        lonja_team alone = {.size = 1};
        task(context, &alone, 0, 1);
        return;
    }
    t->size = 1;
    t->task = task;
    t->context = context;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->turn, NULL);
    pthread_attr_t detached; /* to join a thread would be to wait for its burial, some 15 us */
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    int kept_off = keep_off_caller(&detached);
    /* signals are for the interpreter's own thread */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (t->size < size && t->size < MOST) {
        pthread_t thread;
        if (!pthread_create(&thread, &detached, member_main, t)) t->size++;
        else if (kept_off) kept_off = let_run_anywhere(&detached); /* a sandbox may forbid to choose processors */
        else break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
    t->users = t->size;
    begin_next(t);
    take_part(t, 0);
}
