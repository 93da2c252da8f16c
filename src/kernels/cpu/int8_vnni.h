// The int8 panel with vpdpbusd: all rows where there is no AMX, up to four rows beside it.
#pragma once
#include "kernels/cpu/tile_ops.h"

namespace moestro::kernels::cpu {

// call.c becomes the scaled products. Needs AVX512-VNNI; activations as avx512::pack_int8 packs
// them.
void int8_vnni_panel(const PanelCall& call, TileState& state);

}  // namespace moestro::kernels::cpu
