// Four-bit integer weights times int8 activations with AMX: signed activations times unsigned
// codes, exact in int32 over a group (or over all of k), less the zero point times the activations'
// sum. Up to four rows with vpdpbusd, which gives the same sums.
#include "kernels/cpu/amx_panel.h"
#include "kernels/cpu/int8_vnni.h"

MOESTRO_TARGET_AMX_BEGIN
namespace moestro::kernels::cpu {
namespace {

void panel(const PanelCall& call, TileState& state) {
  if (call.rows <= kInt4VectorRows) return int4_int8_vnni_rows(call);
  using Weights = amx::Decoded<avx512::Int4Bytes>;
  avx512::Stretch stretch(call, true, Weights::kZero);
  if (call.w->format.group_k)
    return amx::panel_groups<amx::Products::kS8U8, Weights>(call, state, stretch);
  amx::panel_sums<amx::Products::kS8U8, Weights>(call, state);
  stretch.finish_integers();
}

}  // namespace

const TileOps kInt4Int8Amx = {tensor::WeightType::kInt4,
                              128,
                              avx512::group_values_per_row<avx512::Sums::kAll>,
                              avx512::pack_groups<avx512::Packed::kBytes, avx512::Sums::kAll>,
                              panel,
                              avx512::store,
                              avx512::gated,
                              amx::finish};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
