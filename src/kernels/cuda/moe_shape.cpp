// Host-side choices of the CUDA MoE layer: which shapes it takes, tile sizes, workspace. Built
// without CUDA too.
#include "kernels/cuda/moe_workspace.h"

#include <string>

namespace moestro::kernels::cuda {

Status check_moe_shape(const DeviceMoeShape& s) {
  auto refuse = [](const std::string& what) { return unsupported("CUDA MoE layer: " + what); };
  if (s.experts < 1 || s.experts > kMaxDeviceExperts)
    return refuse(std::to_string(s.experts) + " experts; 1 to " +
                  std::to_string(kMaxDeviceExperts) + " are supported");
  if (s.top_k < 1 || s.top_k > kMaxDeviceTopK || s.top_k > s.experts)
    return refuse("top-" + std::to_string(s.top_k) + "; 1 to min(" +
                  std::to_string(kMaxDeviceTopK) + ", experts) are supported");
  if (s.hidden < 8 || s.hidden % 8 != 0 || s.hidden > kMaxDeviceWidth)
    return refuse("hidden size " + std::to_string(s.hidden) + "; multiples of 8 up to " +
                  std::to_string(kMaxDeviceWidth) + " are supported");
  if (s.intermediate < 1 || s.intermediate > kMaxDeviceWidth)
    return refuse("intermediate size " + std::to_string(s.intermediate) + "; 1 to " +
                  std::to_string(kMaxDeviceWidth) + " are supported");
  if (s.max_tokens < 1 || s.max_tokens > (1 << 20))
    return refuse(std::to_string(s.max_tokens) + " tokens a launch; 1 to 1048576 are supported");
  if (s.value_bytes != 1 && s.value_bytes != 2)
    return refuse(std::to_string(s.value_bytes) + " bytes a value; 1 or 2");
  if (s.step_scales && s.value_bytes != 1)
    return refuse("scales by blocks with " + std::to_string(s.value_bytes) +
                  " bytes a value; only with 1");
  if (s.int4 && (s.value_bytes != 2 || s.step_scales))
    return refuse("4-bit weights with activations that are not bfloat16");
  const DeviceRouter& r = s.router;
  if (r.n_group < 1 || r.n_group > 32 || s.experts % r.n_group != 0 || r.topk_group < 1 ||
      r.topk_group > r.n_group)
    return refuse(std::to_string(r.n_group) + " groups (" + std::to_string(r.topk_group) +
                  " kept); 1 to 32 that divide the experts are supported");
  if (s.row_tile != 0 && s.row_tile != 8 && s.row_tile != 16 && s.row_tile != 32 &&
      s.row_tile != 64 && s.row_tile != kPrefillRows)
    return refuse("row tile " + std::to_string(s.row_tile) + "; 8, 16, 32, 64 or 160");
  return {};
}

// Thresholds by hand: about the smallest tile that holds nearly every expert's rows under even
// routing, so that weights are streamed once; past 42 rows products decide.
int32_t moe_row_tile(const DeviceMoeShape& s) {
  if (s.row_tile != 0) return s.row_tile;
  if (s.max_tokens <= kResidentTokens) return 8;
  const double mean = static_cast<double>(s.max_tokens) * s.top_k / s.experts;
  return mean <= 2.5 ? 8 : mean <= 8.5 ? 16 : mean <= 24 ? 32 : kPrefillRows;
}

int64_t moe_workspace_bytes(const DeviceMoeShape& s, int32_t num_sms) {
  return place_moe_workspace(s, num_sms, nullptr).bytes;
}

}  // namespace moestro::kernels::cuda
