// float8 e4m3 weights with AMX, times e4m3 or bfloat16 activations: both are exact in bfloat16, so
// tdpbf16ps adds exact products in float32. Scales of groups, of weights or activations, count in
// float32 at the end of each group.
#include "kernels/cpu/amx_panel.h"
#include "kernels/cpu/few_rows_avx512.h"

MOESTRO_TARGET_AMX_BEGIN
namespace moestro::kernels::cpu {
namespace {

void panel(const PanelCall& call, TileState& state) {
  using Weights = amx::Decoded<avx512::Fp8Weights>;
  avx512::Stretch stretch(call, false, 0.0f);
  if (call.rows <= avx512::kFewRows) return avx512::few_rows<avx512::Fp8Weights>(call, stretch);
  if (call.w->format.group_k || call.w->format.activation_group)
    return amx::panel_groups<amx::Products::kBf16, Weights>(call, state, stretch);
  amx::panel_sums<amx::Products::kBf16, Weights>(call, state);
  stretch.finish();
}

}  // namespace

const TileOps kFp8Amx = {tensor::WeightType::kFp8,
                         128,
                         avx512::group_values_per_row<avx512::Sums::kNever>,
                         avx512::pack_groups<avx512::Packed::kBf16Pairs, avx512::Sums::kNever>,
                         panel,
                         avx512::store,
                         avx512::gated,
                         amx::finish};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
