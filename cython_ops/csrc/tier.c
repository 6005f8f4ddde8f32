/* The kernels of one tier: compiled once a tier with its -march and -DTIER=<name>. */
#include "image.h"
#include "kernels.h"
#include "network.h"
#include "rows.h"
#include "softmax.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

const kernel_table JOIN(lonja_tier_, TIER) = {
    .name = TEXT(TIER),
    .width = VL,
    .score_topk = score_topk,
    .image_to_planes = image_to_planes,
    .image_to_pixels = image_to_pixels,
    .softmax_rows = softmax_rows,
    .log_softmax_rows = log_softmax_rows,
    .activate = activate,
    .activate_back = activate_back,
    .network_scratch = network_scratch,
    .network = network,
};
