/* The bfloat16 unit of AVX512_BF16: compiled with that extension on top of x86-64-v4. */
#include "bf16.h"

const bf16_unit lonja_bf16_avx512 = {"avx512_bf16", bf16_scratch, bf16_network, bf16_pack_rows, bf16_layer_rows, NULL, NULL};
