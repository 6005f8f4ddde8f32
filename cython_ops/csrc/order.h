/* Indices in order of falling score: a radix sort, so equal scores stay in index order. */
#ifndef LONJA_ORDER_H
#define LONJA_ORDER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Ascending keys: rising with the score's reverse order. NaN is the caller's to leave out. */
static inline uint32_t falling_key(float score)
{
    uint32_t u;
    score = score == 0.0f ? 0.0f : score; /* -0 equals 0 */
    memcpy(&u, &score, sizeof u);
    return u & 0x80000000u ? u : ~(u | 0x80000000u);
}

typedef struct {
    uint32_t key;
    uint32_t index;
} sort_item;

/* Sorts `items` by key through `spare`; three passes of 11 bits, those with one value only are skipped.
 * Returns where the result lies. */
static inline sort_item *sort_items(sort_item *items, sort_item *spare, int64_t n)
{
    uint32_t counts[3][2048];
    memset(counts, 0, sizeof counts);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t k = items[i].key;
        counts[0][k & 2047]++;
        counts[1][(k >> 11) & 2047]++;
        counts[2][k >> 22]++;
    }
    for (int pass = 0; pass < 3; pass++) {
        uint32_t *count = counts[pass], at = 0;
        const int shift = 11 * pass;
        if (n == 0 || count[(items[0].key >> shift) & 2047] == n) continue;
        for (int b = 0; b < 2048; b++) {
            const uint32_t c = count[b];
            count[b] = at;
            at += c;
        }
        for (int64_t i = 0; i < n; i++) spare[count[(items[i].key >> shift) & 2047]++] = items[i];
        sort_item *swap = items;
        items = spare;
        spare = swap;
    }
    return items;
}
#endif
