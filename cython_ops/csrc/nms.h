/* Non-maximum suppression: sorting and grouping around a tier's greedy pass (boxes.h). */
#ifndef LONJA_NMS_H
#define LONJA_NMS_H

#include "kernels.h"

typedef struct {
    const float *boxes, *scores;
    const int64_t *classes; /* or NULL: boxes of all classes compete */
    int64_t n;
    float iou_threshold, score_threshold;
    int64_t most;
} nms_request;

/* Indices of the boxes that stay into `chosen` (room for n), best first; their number.
 * Boxes with a NaN score, or one below the score threshold, never stay. Class numbers must fit 32 bits. */
int64_t lonja_nms(const kernel_table *tier, const nms_request *request, int64_t *chosen, float *scratch);
/* floats of scratch that n boxes need */
int64_t lonja_nms_scratch(int64_t n);

#endif
