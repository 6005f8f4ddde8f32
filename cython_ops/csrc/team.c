/* The threads of a call share one lonja_team. They meet by its round counter, which a waiting thread watches for a short
 * while before it sleeps: on a virtual machine a wake-up takes longer than most layers. The members are detached; all
 * have done their part when lonja_team_run returns.
 *
 * Where calls follow each other closely, the members then watch on, and the next call finds them awake. To wake or to
 * start one costs 25 us and, where its processor has gone to sleep, two or three times that. The caller begins a call
 * by moving the counter on; a member that has looked in vain moves it to ENDED: whoever comes first decides for all.
 * A process that was forked in between has no members and starts its own.
 */
#define _GNU_SOURCE
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define MOST 64
#ifndef LOOKS
#define LOOKS 5000 /* at the counter before a thread sleeps or leaves: some 100 us */
#define CLOSE 100000 /* nanoseconds between calls that follow each other closely */
#endif
#define ENDED UINT64_MAX
#define NONE -1

struct lonja_team {
    pthread_mutex_t lock;
    pthread_cond_t turn;
    int wanted, size, ranks, waiting, users;
    int home;    /* the caller's processor, if each member may have one of the others; or NONE */
    int lingers; /* after this call */
    pid_t process;
    uint64_t round; /* 0 until all have been started, then one more each time that all have met or are called again */
    team_task task;
    void *context;
};

static lonja_team *resting; /* its members may linger */
static int64_t last_end;    /* of a call with several threads */

static int64_t clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}
static uint64_t round_of(lonja_team *t) { return __atomic_load_n(&t->round, __ATOMIC_ACQUIRE); }
static int move_on(lonja_team *t, uint64_t round, uint64_t to)
{
    return __atomic_compare_exchange_n(&t->round, &round, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
/* whether the round ended while looked for so often */
static int watch(lonja_team *t, uint64_t round)
{
    for (int i = 0; i < LOOKS; i++) {
        if (round_of(t) != round) return 1;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    return 0;
}
static void await_next(lonja_team *t, uint64_t round)
{
    if (watch(t, round)) return;
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
    const uint64_t round = round_of(t);
    if (__atomic_add_fetch(&t->waiting, 1, __ATOMIC_ACQ_REL) < t->size) {
        await_next(t, round);
        return;
    }
    t->waiting = 0;
    begin_next(t);
}

static void leave(lonja_team *t)
{
    if (__atomic_sub_fetch(&t->users, 1, __ATOMIC_ACQ_REL)) return;
    pthread_cond_destroy(&t->turn);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
/* whether another call comes soon */
static int is_called_again(lonja_team *t, uint64_t round)
{
    if (!watch(t, round) && move_on(t, round, ENDED)) return 0;
    return round_of(t) != ENDED;
}
static void *member_main(void *given)
{
    lonja_team *t = given;
    await_next(t, 0);
    const int rank = __atomic_add_fetch(&t->ranks, 1, __ATOMIC_RELAXED);
    for (;;) {
        t->task(t->context, t, rank, t->size);
        const int lingers = t->lingers;
        const uint64_t done = round_of(t) + 1;
        lonja_team_wait(t);
        if (!lingers || !is_called_again(t, done)) break;
    }
    leave(t);
    return NULL;
}

static int processor(void)
{
#ifdef __GLIBC__
    return sched_getcpu();
#else
    return NONE;
#endif
}
/* Members start on other processors than the caller's: Linux would at times leave one behind a caller that never
 * sleeps, and both would take turns. The number of those processors; 0 if none can be asked for. */
static int keep_off(int caller, pthread_attr_t *members)
{
#ifdef __GLIBC__
    cpu_set_t others;
    if (caller == NONE || sched_getaffinity(0, sizeof others, &others)) return 0;
    CPU_CLR(caller, &others);
    const int count = CPU_COUNT(&others);
    return count && !pthread_attr_setaffinity_np(members, sizeof others, &others) ? count : 0;
#else
    (void)caller, (void)members;
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

static void give(lonja_team *t, team_task task, void *context, int linger)
{
    t->task = task;
    t->context = context;
    t->lingers = linger && t->home != NONE;
}
static lonja_team *gather(int size, team_task task, void *context, int linger)
{
    lonja_team *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->wanted = size;
    t->size = 1;
    t->process = getpid();
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->turn, NULL);
    pthread_attr_t detached; /* to join a thread would be to wait for its burial, some 15 us */
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    t->home = processor();
    int others = keep_off(t->home, &detached);
    /* signals are for the interpreter's own thread */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (t->size < size && t->size < MOST) {
        pthread_t thread;
        if (!pthread_create(&thread, &detached, member_main, t)) t->size++;
        else if (others) others = let_run_anywhere(&detached); /* a sandbox may forbid to choose processors */
        else break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
    t->users = t->size;
    if (t->size == 1 || others < t->size - 1) t->home = NONE;
    give(t, task, context, linger);
    begin_next(t);
    return t;
}
/* The team of the call before, at work again; NULL if there is none of this size, or none any more, or if the caller was
 * moved, perhaps to a member's processor. */
static lonja_team *call_again(int size, team_task task, void *context)
{
    lonja_team *t = __atomic_exchange_n(&resting, NULL, __ATOMIC_ACQ_REL);
    if (!t) return NULL;
    if (t->process != getpid()) { /* its members are where this process was forked from */
        free(t);
        return NULL;
    }
    const uint64_t round = round_of(t);
    if (t->wanted == size && t->home == processor() && round != ENDED) {
        give(t, task, context, 1);
        if (move_on(t, round, round + 1)) return t;
    }
    leave(t);
    return NULL;
}

void lonja_team_run(int size, team_task task, void *context)
{
    lonja_team *t = size > 1 ? call_again(size, task, context) : NULL;
    if (!t && size > 1)
        t = gather(size, task, context, clock_now() - __atomic_load_n(&last_end, __ATOMIC_RELAXED) < CLOSE);
    if (!t) {
        lonja_team alone = {.size = 1};
        task(context, &alone, 0, 1);
        return;
    }
    task(context, t, 0, t->size);
    lonja_team_wait(t);
    __atomic_store_n(&last_end, clock_now(), __ATOMIC_RELAXED);
    if (t->lingers) t = __atomic_exchange_n(&resting, t, __ATOMIC_ACQ_REL);
    if (t) leave(t);
}
