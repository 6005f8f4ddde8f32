/* The kernels of one tier: compiled once a tier with its -march and -DTIER=<name>. */
#include "backward.h"
#include "bf16.h"
#include "boxes.h"
#include "codes.h"
#include "image.h"
#include "kernels.h"
#include "network.h"
#include "optimize.h"
#include "rows.h"
#include "softmax.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

const kernel_table JOIN(lonja_tier_, TIER) = {
    .name = TEXT(TIER),
    .width = VL,
    .widened = {"widened", bf16_scratch, bf16_network, bf16_pack_rows, bf16_layer_rows, NULL, NULL},
    .bf16_row = bf16_row,
    .score_topk = score_topk,
    .image_to_planes = image_to_planes,
    .image_to_pixels = image_to_pixels,
    .softmax_rows = softmax_rows,
    .log_softmax_rows = log_softmax_rows,
    .cross_entropy = cross_entropy,
    .cross_entropy_back = cross_entropy_back,
    .activate = activate,
    .activate_back = activate_back,
    .network_scratch = network_scratch,
    .network = network,
    .product_scratch = product_scratch,
    .back_to_weights = back_to_weights,
    .back_to_input = back_to_input,
    .optimizer_step = optimizer_step,
    .nms_greedy = nms_greedy,
    .iou_matrix = iou_matrix,
    .cosine_topk = cosine_topk,
    .quantize_rows = quantize_rows,
    .cosine_topk_codes = cosine_topk_codes,
};
