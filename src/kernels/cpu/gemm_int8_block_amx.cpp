// int8 with groups of weights, of activations or of both ("block int8") with AMX: the int32 sum of
// a stretch of k that shares its scales is exact, then counts in float32.
#include "kernels/cpu/amx_panel.h"

MOESTRO_TARGET_AMX_BEGIN
namespace moestro::kernels::cpu {
namespace {

void panel(const PanelCall& call, TileState& state) {
  avx512::Stretch stretch(call, false, 0.0f);
  amx::panel_groups<amx::Products::kS8S8, amx::InPlace>(call, state, stretch);
}

}  // namespace

const TileOps kInt8BlockAmx = {tensor::WeightType::kInt8,
                               64,
                               avx512::group_values_per_row<avx512::Sums::kNever>,
                               avx512::pack_groups<avx512::Packed::kBytes, avx512::Sums::kNever>,
                               panel,
                               avx512::store,
                               avx512::gated,
                               amx::finish};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
