// bfloat16 with AMX for every number of rows: tdpbf16ps and vdpbf16ps do not add in the same order,
// and tiles of one row read memory as fast as the vector unit (which multiplies bfloat16 at half
// the rate of float32 on the processors we know).
#include "kernels/cpu/amx_panel.h"
#include "kernels/cpu/rows_avx512.h"

MOESTRO_TARGET_AMX_BEGIN
namespace moestro::kernels::cpu {
namespace {

void panel(const PanelCall& call, TileState& state) {
  amx::panel_sums<amx::Products::kBf16, amx::InPlace>(call, state);
}

}  // namespace

const TileOps kBf16Amx = {tensor::WeightType::kBf16,
                          64,
                          no_row_scales,
                          avx512::pack_bf16,
                          panel,
                          avx512::store,
                          avx512::gated,
                          amx::finish};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
