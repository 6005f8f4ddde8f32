#include "nms.h"
#include "order.h"

typedef struct {
    sort_item *items, *spare;
    int64_t *order;
    float *columns;
    uint8_t *keep, *stays;
} nms_memory;

static void suppress(const kernel_table *tier, const nms_request *q, const nms_memory *m, int64_t from, int64_t count)
{
    memset(m->keep, 0, (size_t)count);
    tier->nms_greedy(q->boxes, m->order + from, count, q->iou_threshold, q->most, m->keep, m->columns, q->n + 16);
    for (int64_t j = 0; j < count; j++) m->stays[m->order[from + j]] = m->keep[j];
}

static int64_t nms_in(const kernel_table *tier, const nms_request *q, const nms_memory *m, int64_t *chosen)
{
    int64_t count = 0, kept = 0;
    for (int64_t i = 0; i < q->n; i++)
        if (q->scores[i] >= q->score_threshold) m->items[count++] = (sort_item){falling_key(q->scores[i]), (uint32_t)i};
    sort_item *best = sort_items(m->items, m->spare, count), *grouped = best;
    sort_item *other = best == m->items ? m->spare : m->items;
    for (int64_t j = 0; j < count; j++) chosen[j] = best[j].index;
    if (q->classes) { /* stable, so each class's boxes stay in order of score */
        for (int64_t j = 0; j < count; j++) best[j].key = (uint32_t)q->classes[best[j].index];
        grouped = sort_items(best, other, count);
    }
    for (int64_t j = 0; j < count; j++) m->order[j] = grouped[j].index;
    for (int64_t from = 0, to; from < count; from = to) {
        for (to = from + 1; to < count && (!q->classes || grouped[to].key == grouped[from].key);) to++;
        suppress(tier, q, m, from, to - from);
    }
    for (int64_t j = 0; j < count && kept < q->most; j++)
        if (m->stays[chosen[j]]) chosen[kept++] = chosen[j];
    return kept;
}

int64_t lonja_nms_scratch(int64_t n) { return (n + 16) * 12; }

int64_t lonja_nms(const kernel_table *tier, const nms_request *q, int64_t *chosen, float *scratch)
{
    const int64_t n = q->n + 16;
    nms_memory m;
    m.order = (int64_t *)scratch;
    m.items = (sort_item *)(m.order + n);
    m.spare = m.items + n;
    m.columns = (float *)(m.spare + n);
    m.keep = (uint8_t *)(m.columns + 5 * n);
    m.stays = m.keep + n;
    return nms_in(tier, q, &m, chosen);
}
