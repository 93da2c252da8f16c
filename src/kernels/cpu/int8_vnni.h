// Panels with vpdpbusd: all rows where there is no AMX, up to four rows beside it.
#pragma once
#include "kernels/cpu/tile_ops.h"

namespace moestro::kernels::cpu {

// call.c becomes the scaled products. Needs AVX512-VNNI; activations as avx512::pack_int8 packs
// them.
void int8_vnni_panel(const PanelCall& call, TileState& state);

// Four-bit integers, straight from the registers: at most kInt4VectorRows rows, no groups or such
// as are multiples of 64.
inline constexpr int32_t kInt4VectorRows = 4;
void int4_int8_vnni_rows(const PanelCall& call);

}  // namespace moestro::kernels::cpu
