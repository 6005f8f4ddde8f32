/* Intersection over union, and non-maximum suppression.
 *
 * Boxes are x1, y1, x2, y2. A side that ends before it begins counts as empty. The arithmetic is float32 without
 * contraction, in the order of the twin, so that both decide equally at the threshold:
 * a box falls when inter > threshold * (area_a + area_b - inter).
 *
 * Greedy over candidates in falling score. Those kept so far lie in separate arrays of coordinates, so that a
 * candidate meets VL of them at once and most fall at one of the first.
 */
#ifndef LONJA_BOXES_H
#define LONJA_BOXES_H

#include "kernels.h"
#include "vec.h"

typedef struct {
    float *x1, *y1, *x2, *y2, *area;
} box_columns;

INLINE float positive(float v) { return v < 0.0f ? 0.0f : v; } /* NaN stays */
INLINE float box_area(const float *b) { return positive(b[2] - b[0]) * positive(b[3] - b[1]); }

INLINE vf intersection(const box_columns *k, int64_t i, vf x1, vf y1, vf x2, vf y2)
{
    vf w = vf_min(x2, vf_load(k->x2 + i)) - vf_max(x1, vf_load(k->x1 + i));
    vf h = vf_min(y2, vf_load(k->y2 + i)) - vf_max(y1, vf_load(k->y1 + i));
    return vf_max(vf_zero(), w) * vf_max(vf_zero(), h);
}

/* Does `box` overlap too much with one of the first n kept? Columns are padded to whole vectors with NaN. */
INLINE int falls(const box_columns *k, int64_t n, const float *box, float area, float threshold)
{
    const vf x1 = vf_set1(box[0]), y1 = vf_set1(box[1]), x2 = vf_set1(box[2]), y2 = vf_set1(box[3]);
    const vf own = vf_set1(area), limit = vf_set1(threshold);
    for (int64_t i = 0; i < n; i += VL) {
        vf inter = intersection(k, i, x1, y1, x2, y2);
        vf both = (own + vf_load(k->area + i)) - inter;
        if (vm_bits(vf_gt(inter, limit * both))) return 1;
    }
    return 0;
}

/* Of `count` candidates (indices into boxes, best first) those that stay, marked in keep. Stops after `most`. */
static int64_t nms_greedy(const float *boxes, const int64_t *order, int64_t count, float threshold, int64_t most,
                          uint8_t *keep, float *columns, int64_t room)
{
    const box_columns k = {columns, columns + room, columns + 2 * room, columns + 3 * room, columns + 4 * room};
    int64_t kept = 0;
    for (int64_t j = 0; j < count && kept < most; j++) {
        const float *box = boxes + 4 * order[j];
        const float area = box_area(box);
        keep[j] = !falls(&k, kept, box, area, threshold);
        if (!keep[j]) continue;
        if (kept % VL == 0) {
            const vf none = vf_set1(NAN);
            vf_store(k.x1 + kept, none);
            vf_store(k.y1 + kept, none);
            vf_store(k.x2 + kept, none);
            vf_store(k.y2 + kept, none);
            vf_store(k.area + kept, none);
        }
        k.x1[kept] = box[0];
        k.y1[kept] = box[1];
        k.x2[kept] = box[2];
        k.y2[kept] = box[3];
        k.area[kept++] = area;
    }
    vf_leave();
    return kept;
}

/* out [n][m]; 0 where the union is empty */
static void iou_matrix(const float *a, int64_t n, const float *b, int64_t m, float *out)
{
    for (int64_t i = 0; i < n; i++, a += 4) {
        const float area = box_area(a);
        for (int64_t j = 0; j < m; j++) {
            const float *o = b + 4 * j;
            const float x1 = o[0] > a[0] || o[0] != o[0] ? o[0] : a[0], y1 = o[1] > a[1] || o[1] != o[1] ? o[1] : a[1];
            const float x2 = o[2] < a[2] || o[2] != o[2] ? o[2] : a[2], y2 = o[3] < a[3] || o[3] != o[3] ? o[3] : a[3];
            const float inter = positive(x2 - x1) * positive(y2 - y1), both = (area + box_area(o)) - inter;
            out[i * m + j] = both == 0.0f ? 0.0f : inter / both;
        }
    }
    vf_leave();
}
#endif
