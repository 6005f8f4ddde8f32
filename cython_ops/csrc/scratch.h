/* Working memory of a call: taken before it, given back after it.
 *
 * One spare block is kept an owner, swapped in and out atomically: calls that overlap get blocks of their own, and
 * none waits. The block's size stands in the 64 bytes before it.
 */
#ifndef LONJA_SCRATCH_H
#define LONJA_SCRATCH_H

#include <stdint.h>
#include <stdlib.h>

#define SCRATCH_HEAD 64
#define SCRATCH_KEEP (64 << 20) /* bytes; a larger block goes back to the system at once */

typedef struct {
    void *block;
} scratch_spare;

/* 64-byte aligned room for so many floats, or NULL */
static inline float *scratch_take(scratch_spare *spare, int64_t floats)
{
    const uint64_t need = (uint64_t)floats * sizeof(float);
    char *block = __atomic_exchange_n(&spare->block, NULL, __ATOMIC_ACQ_REL);
    if (block && *(uint64_t *)block >= need) return (float *)(block + SCRATCH_HEAD);
    free(block);
    if (posix_memalign((void **)&block, 64, SCRATCH_HEAD + need)) return NULL;
    *(uint64_t *)block = need;
    return (float *)(block + SCRATCH_HEAD);
}
static inline void scratch_give(scratch_spare *spare, float *floats)
{
    char *block = (char *)floats - SCRATCH_HEAD;
    if (*(uint64_t *)block > SCRATCH_KEEP) {
        free(block);
        return;
    }
    free(__atomic_exchange_n(&spare->block, (void *)block, __ATOMIC_ACQ_REL));
}
/* Keeps a block of any size: for memory that lives as long as its owner. */
static inline void scratch_keep(scratch_spare *spare, float *floats) { spare->block = (char *)floats - SCRATCH_HEAD; }
static inline void scratch_free(scratch_spare *spare)
{
    free(__atomic_exchange_n(&spare->block, NULL, __ATOMIC_ACQ_REL));
}
#endif
