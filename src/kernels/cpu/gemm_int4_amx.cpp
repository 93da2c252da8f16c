// Four-bit weights with AMX, decoded to bfloat16, where codes are exact: integers times bfloat16
// activations, or times int8 activations (exact too) in groups that byte tiles cannot do, and
// float4 e2m1 times bfloat16. Scales of groups count in float32 at the end of each group, with the
// share of the zero points; e4m3 scales are multiplied in while decoding, exactly.
#include "kernels/cpu/amx_panel.h"
#include "kernels/cpu/few_rows_avx512.h"

MOESTRO_TARGET_AMX_BEGIN
namespace moestro::kernels::cpu {
namespace {

template <class Decoder>
void panel(const PanelCall& call, TileState& state) {
  using Weights = amx::Decoded<Decoder>;
  avx512::Stretch stretch(call, call.w->format.zero_points, 0.0f);
  if (call.rows <= avx512::kFewRows) return avx512::few_rows<Decoder>(call, stretch);
  if (call.w->format.group_k && !avx512::decoded_with_scales(call.w->format))
    return amx::panel_groups<amx::Products::kBf16, Weights>(call, state, stretch);
  amx::panel_sums<amx::Products::kBf16, Weights>(call, state);
  stretch.finish();
}

constexpr TileOps ops(tensor::WeightType weight, void (*panel)(const PanelCall&, TileState&)) {
  return {weight,
          256,
          avx512::group_values_per_row<avx512::Sums::kZeroPoints>,
          avx512::pack_groups<avx512::Packed::kBf16Pairs, avx512::Sums::kZeroPoints>,
          panel,
          avx512::store,
          avx512::gated,
          amx::finish};
}

}  // namespace

const TileOps kInt4Amx = ops(tensor::WeightType::kInt4, panel<avx512::Int4Weights>);
const TileOps kFp4Amx = ops(tensor::WeightType::kFp4, panel<avx512::Fp4Weights>);

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
