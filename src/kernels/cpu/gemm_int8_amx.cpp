// int8 with AMX: tdpbusd from five rows up, vpdpbusd below. Both are exact in int32, so a row does
// not show which one ran.
#include "kernels/cpu/amx_panel.h"
#include "kernels/cpu/int8_vnni.h"
#include "kernels/cpu/rows_avx512.h"

MOESTRO_TARGET_AMX_BEGIN
namespace moestro::kernels::cpu {
namespace {

constexpr int32_t kVectorRows = 4;

void panel(const PanelCall& call, TileState& state) {
  if (call.rows <= kVectorRows) return int8_vnni_panel(call, state);
  amx::panel_sums<amx::Products::kU8S8, amx::InPlace>(call, state);
  avx512::scale_int8_sums(call);
}

}  // namespace

const TileOps kInt8Amx = {tensor::WeightType::kInt8,
                          64,
                          one_row_scale,
                          avx512::pack_int8,
                          panel,
                          avx512::store,
                          avx512::gated,
                          amx::finish};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
