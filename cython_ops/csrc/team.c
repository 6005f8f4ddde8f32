/* The threads of a call share one lonja_team. They meet by its round counter, which a waiting thread watches for a
 * short while before it sleeps: on a virtual machine a wake-up takes longer than most layers. The members are
 * detached; all have done their part when lonja_team_run returns.
 *
 * Where calls follow each other closely, the members then watch on, and the next call finds them awake. To wake or to
 * start one costs 25 us and, where its processor has gone to sleep, two or three times that. The caller begins a call
 * by moving the counter on; a member that has watched in vain moves it to ENDED: whoever comes first decides for all.
 * Members serve again only a caller whose surroundings are those they were started in. None is left in a fork.
 */
#define _GNU_SOURCE
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#ifndef PATIENCE
#define PATIENCE 100000 /* nanoseconds that a thread watches the counter before it sleeps or leaves */
#define CLOSE 100000    /* between calls that follow each other closely */
#endif
#define ENDED UINT64_MAX

/* what a thread inherits from the one that starts it, as far as it matters here */
typedef struct {
    unsigned modes; /* of floating point: rounding, denormals */
    int count;      /* of `others`; -1 if unknown */
#ifdef __GLIBC__
    cpu_set_t others; /* processors that are not the caller's */
#endif
} surroundings;

struct lonja_team {
    pthread_mutex_t lock;
    pthread_cond_t turn;
    int wanted, size, ranks, waiting, users;
    int64_t drawn; /* since all met */
    int apart;        /* each member may have a processor of its own */
    int lingers;      /* after this call */
    int64_t patience; /* none where threads outnumber processors: whom they wait for could not run */
    surroundings around;
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
static int watch(lonja_team *t, uint64_t round) /* whether it ended meanwhile */
{
    if (round_of(t) != round) return 1;
    for (const int64_t end = clock_now() + t->patience; t->patience && clock_now() < end;)
        for (int i = 0; i < 16; i++) {
            if (round_of(t) != round) return 1;
#if defined(__x86_64__)
            __builtin_ia32_pause();
#elif defined(__aarch64__)
            __asm__ volatile("isb");
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
    if (t->size == 1) {
        t->drawn = 0;
        return;
    }
    const uint64_t round = round_of(t);
    if (__atomic_add_fetch(&t->waiting, 1, __ATOMIC_ACQ_REL) < t->size) {
        await_next(t, round);
        return;
    }
    t->waiting = 0;
    t->drawn = 0;
    begin_next(t);
}

int64_t lonja_team_draw(lonja_team *t) { return __atomic_fetch_add(&t->drawn, 1, __ATOMIC_RELAXED); }

static void leave(lonja_team *t)
{
    if (__atomic_sub_fetch(&t->users, 1, __ATOMIC_ACQ_REL)) return;
    pthread_cond_destroy(&t->turn);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
/* a team at rest that no call will take up: its members need not linger any longer */
static void dismiss(lonja_team *t)
{
    move_on(t, round_of(t), ENDED);
    leave(t);
}
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

static surroundings look_around(void)
{
    surroundings s = {.count = -1};
#if defined(__x86_64__)
    s.modes = __builtin_ia32_stmxcsr() & ~0x3fu; /* without the flags of what happened */
#elif defined(__aarch64__)
    s.modes = __builtin_aarch64_get_fpcr();
#endif
#ifdef __GLIBC__
    if (!sched_getaffinity(0, sizeof s.others, &s.others)) {
        CPU_CLR(sched_getcpu(), &s.others);
        s.count = CPU_COUNT(&s.others);
    }
#endif
    return s;
}
static int is_same(const surroundings *a, const surroundings *b)
{
#ifdef __GLIBC__
    if (!CPU_EQUAL(&a->others, &b->others)) return 0;
#endif
    return a->modes == b->modes;
}
/* Members start on other processors than the caller's: Linux would at times leave one behind a caller that never
 * sleeps, and both would take turns. Whether that is asked for. */
static int keep_off_caller(pthread_attr_t *members, const surroundings *around)
{
#ifdef __GLIBC__
    return around->count > 0 && !pthread_attr_setaffinity_np(members, sizeof around->others, &around->others);
#else
    (void)members, (void)around;
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
    t->lingers = linger && t->apart;
}
static lonja_team *gather(int size, team_task task, void *context)
{
    lonja_team *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->wanted = size;
    t->size = 1;
    t->around = look_around();
    const int enough = t->around.count >= (size < TEAM_MOST ? size : TEAM_MOST) - 1;
    if (enough || t->around.count < 0) t->patience = PATIENCE;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->turn, NULL);
    pthread_attr_t detached; /* to join a thread would be to wait for its burial, some 15 us */
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    int kept_off = keep_off_caller(&detached, &t->around);
    /* signals are for the interpreter's own thread */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (t->size < size && t->size < TEAM_MOST) {
        pthread_t thread;
        if (!pthread_create(&thread, &detached, member_main, t)) t->size++;
        else if (kept_off) kept_off = let_run_anywhere(&detached); /* a sandbox may forbid to choose processors */
        else break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
    t->users = t->size;
    t->apart = enough && kept_off;
    give(t, task, context, clock_now() - __atomic_load_n(&last_end, __ATOMIC_RELAXED) < CLOSE);
    begin_next(t);
    return t;
}
/* the team of the call before, at work again; NULL if there is none, or none that fits, or none any more */
static lonja_team *call_again(int size, team_task task, void *context)
{
    lonja_team *t = __atomic_exchange_n(&resting, NULL, __ATOMIC_ACQ_REL);
    if (!t) return NULL;
    const uint64_t round = round_of(t);
    const surroundings around = look_around();
    if (t->wanted == size && is_same(&t->around, &around) && round != ENDED) {
        give(t, task, context, 1);
        if (move_on(t, round, round + 1)) return t;
    }
    dismiss(t);
    return NULL;
}
/* by a handler, as process numbers come again, in namespaces at once */
static void forget(void)
{
    free(resting);
    resting = NULL;
}
__attribute__((constructor)) static void forget_in_forks(void) { pthread_atfork(NULL, NULL, forget); }

void lonja_team_run(int size, team_task task, void *context)
{
    lonja_team *t = size > 1 ? call_again(size, task, context) : NULL;
    if (!t && size > 1) t = gather(size, task, context);
    if (!t) {
        lonja_team alone = {.size = 1};
        task(context, &alone, 0, 1);
        return;
    }
    task(context, t, 0, t->size);
    lonja_team_wait(t);
    __atomic_store_n(&last_end, clock_now(), __ATOMIC_RELAXED);
    if (!t->lingers) leave(t);
    else if ((t = __atomic_exchange_n(&resting, t, __ATOMIC_ACQ_REL))) dismiss(t);
}
