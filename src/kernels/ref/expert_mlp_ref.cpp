#include "kernels/ref/expert_mlp_ref.h"

#include "kernels/ref/packed_access.h"

namespace moestro::kernels::ref {
namespace {

// A worker's scratch: the rounded input row, the intermediate row, the rounded intermediate row,
// scales.
int64_t worker_bytes(const tensor::PackedFormat& format, int32_t hidden, int32_t intermediate) {
  return round_up_64(int64_t{4} * hidden) + 2 * round_up_64(int64_t{4} * intermediate) +
         round_up_64(int64_t{4} * row_scales(format, std::max(hidden, intermediate)));
}

float clamp(float v, float low, float high) { return v < low ? low : v > high ? high : v; }

float gated(const GatedActivation& act, float gate, float up) {
  const float g = gate > act.limit ? act.limit : gate;
  return g / (1.0f + std::exp(-act.alpha * g)) * (clamp(up, -act.limit, act.limit) + act.up_offset);
}

}  // namespace

std::string_view expert_mlp_why_not(const ExpertMlpShape&) noexcept { return ""; }

int64_t expert_mlp_scratch_bytes(const ExpertMlpShape& shape, int num_workers) noexcept {
  return worker_bytes(shape.format, shape.hidden, shape.intermediate) * num_workers;
}

void expert_mlp_run(const ExpertMlpArgs& args, platform::Worker& worker) noexcept {
  if (args.gate_up.empty()) return;
  const int32_t hidden = args.gate_up.front().k, intermediate = args.down.front().k;
  auto* x = reinterpret_cast<float*>(
      args.scratch + worker_bytes(args.down.front().format, hidden, intermediate) * worker.index());
  float* h = x + round_up_64(int64_t{4} * hidden) / 4;
  float* h_rounded = h + round_up_64(int64_t{4} * intermediate) / 4;
  float* scales = h_rounded + round_up_64(int64_t{4} * intermediate) / 4;
  const auto [begin, end] = worker.share(args.row_offsets.back());
  size_t e = 0;
  for (int64_t r = begin; r < end; ++r) {
    while (args.row_offsets[e + 1] <= r) ++e;
    const tensor::PackedMatrix &gate_up = args.gate_up[e], &down = args.down[e];
    const int64_t token = args.row_token ? args.row_token[r] : r;
    round_row(gate_up, args.x + token * args.x_stride, x, scales);
    for (int32_t i = 0; i < intermediate; ++i) {
      const int32_t gate =
          i / tensor::kTileChannels * tensor::kPanelChannels + i % tensor::kTileChannels;
      const int32_t up = gate + tensor::kTileChannels;
      h[i] = gated(args.activation, dot(gate_up, gate, x, scales) + bias_at(gate_up, gate),
                   dot(gate_up, up, x, scales) + bias_at(gate_up, up));
    }
    round_row(down, h, h_rounded, scales);
    float* y = args.y + r * args.y_stride;
    for (int32_t c = 0; c < hidden; ++c) {
      const float v = dot(down, c, h_rounded, scales) + bias_at(down, c);
      y[c] = args.accumulate ? y[c] + v : v;
    }
  }
}

}  // namespace moestro::kernels::ref
