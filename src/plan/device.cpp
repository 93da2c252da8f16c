#include "plan/device.h"

#include <algorithm>
#include <span>

#include "base/format.h"
#include "base/strings.h"
#include "kernels/cuda/lists.h"
#include "plan/ops.h"

namespace moestro::plan {
namespace {

using kernels::cuda::DeviceMatrix;
using kernels::cuda::DeviceMoeShape;
using kernels::cuda::MoeLayerKernel;
using tensor::PackedFormat;
using tensor::WeightType;

constexpr double kUsable = 0.92;  // of a GPU's memory, as --gpu-memory-utilization has it

// Bytes of an expert's matrices, scales included.
int64_t channel_scaled_bytes(const DeviceMatrix& m) {
  return m.bytes() + (m.value_bytes == 1 ? int64_t{4} * m.padded_n() : 0);
}
int64_t step_scaled_bytes(const DeviceMatrix& m) { return m.bytes() + 4 * m.step_scales(); }
int64_t four_bit_bytes(const DeviceMatrix& m) { return m.int4_bytes(); }

// The lists by what their kernels take.
struct FormatList {
  bool (*takes)(const PackedFormat&);
  std::string_view what;  // it takes
  std::string_view layout, activations;
  int32_t value_bytes;
  bool step_scales, int4;  // of the shape
  int64_t (*matrix_bytes)(const DeviceMatrix&);
  std::span<const MoeLayerKernel> (*kernels)();
};
bool is_fp8(const PackedFormat& f, int32_t group) {
  return f.weight == WeightType::kFp8 && f.activation == tensor::ActivationType::kFp8 &&
         f.group_k == group;
}
constexpr FormatList kLists[] = {
    {[](const PackedFormat& f) { return f.weight == WeightType::kInt8 && f.group_k == 0; },
     "int8 weights per channel", "blocks256-int8", "int8 per token, requantised after SwiGLU", 1,
     false, false, channel_scaled_bytes, kernels::cuda::moe_layer_kernels_int8},
    {[](const PackedFormat& f) { return is_fp8(f, 0); },
     "float8 weights per channel with float8 activations", "blocks256-fp8",
     "float8 per token, requantised after SwiGLU", 1, false, false, channel_scaled_bytes,
     kernels::cuda::moe_layer_kernels_fp8},
    {[](const PackedFormat& f) { return is_fp8(f, 128); },
     "float8 weights in blocks of 128 x 128 with float8 activations", "blocks256-fp8-g128",
     "float8 rows, requantised after SwiGLU", 1, true, false, step_scaled_bytes,
     kernels::cuda::moe_layer_kernels_fp8_block},
    {[](const PackedFormat& f) {
       return f.weight == WeightType::kInt4 && f.activation == tensor::ActivationType::kBf16 &&
              f.group_k > 0 && f.group_k % 64 == 0 && !f.zero_points;
     },
     "4-bit weights in groups of 64 or 128 without zero points, with bfloat16 activations",
     "blocks256-int4", "bfloat16", 2, false, true, four_bit_bytes,
     kernels::cuda::moe_layer_kernels_int4},
    {[](const PackedFormat& f) { return f.weight == WeightType::kBf16; }, "bfloat16 weights",
     "blocks256-bf16", "bfloat16", 2, false, false, channel_scaled_bytes,
     kernels::cuda::moe_layer_kernels_bf16},
};

std::string why_not(const MoeLayerKernel& k, const FormatList& list, const Gpu& gpu,
                    const DeviceExperts& experts, const DeviceMoeShape& shape) {
  if (!list.takes(experts.format)) return format("scheme: takes {}", list.what);
  if (gpu.compute_major != k.needs.compute_major || gpu.compute_minor != k.needs.compute_minor)
    return format("isa: needs compute {}.{}, this GPU has {}.{}", k.needs.compute_major,
                  k.needs.compute_minor, gpu.compute_major, gpu.compute_minor);
  if (gpu.shared_bytes < k.needs.shared_bytes)
    return format("isa: needs {} KiB of shared memory a block, this GPU has {}",
                  k.needs.shared_bytes >> 10, gpu.shared_bytes >> 10);
  if (!experts.plain_silu) return "shape: computes SwiGLU without clamps and biases";
  if (const Status fits = k.supports(shape); !fits.ok()) return format("shape: {}", fits.message());
  return {};
}

int64_t bytes_of(const DeviceExperts& e, const FormatList& list) {
  const DeviceMatrix up = kernels::cuda::gate_up_matrix(e.shape.hidden, e.shape.intermediate,
                                                        list.value_bytes),
                     down{e.shape.hidden, e.shape.intermediate, list.value_bytes};
  return (list.matrix_bytes(up) + list.matrix_bytes(down)) * e.held * e.layers;
}

std::string remedy_of(const DeviceExperts& e, const Gpu& gpu) {
  const bool known = std::ranges::any_of(kLists, [&](const auto& l) { return l.takes(e.format); });
  if (!known)
    return format(
        "no CUDA kernel takes {}; convert the model, moestro quantize --scheme int8 or "
        "fp8, or run it on the CPU",
        tensor::packed_format_name(e.format));
  if (gpu.compute_major != 9 || gpu.compute_minor != 0)
    return "the CUDA kernels are for Hopper (compute 9.0); run it on the CPU";
  return "run it on the CPU";
}

class ExpertFinder final : public models::OpVisitor {
 public:
  void visit(const models::OpSite& site, kernels::ExpertMlpChoice& op) override {
    if (site.part != "experts") return;
    for (auto& [format, layers] : found)
      if (format == op.shape.format) return void(++layers);
    found.emplace_back(op.shape.format, 1);
  }
  void visit(const models::OpSite&, kernels::LinearChoice&) override {}
  void visit(const models::OpSite&, kernels::HeadLinearChoice&) override {}
  void visit(const models::OpSite&, kernels::GqaChoice&) override {}
  void visit(const models::OpSite&, kernels::MlaChoice&) override {}
  void visit(const models::OpSite&, kernels::SparseIndexChoice&) override {}
  void visit(const models::OpSite&, kernels::RowOpsChoice&) override {}
  void visit(const models::OpSite&, moe::DispatchChoice&) override {}
  std::vector<std::pair<PackedFormat, int32_t>> found;
};

}  // namespace

std::vector<DeviceExperts> device_experts(models::ModelSpec& spec, const checkpoint::ModelConfig& c,
                                          const Plan& plan) {
  ExpertFinder finder;
  spec.visit(finder);
  const RankLayout& ranks = plan.input.ranks;
  const RankShard& first = ranks.shards.front();
  std::vector<DeviceExperts> all;
  for (const auto& [format, layers] : finder.found) {
    DeviceExperts e{.format = format, .layers = layers};
    e.held = ranks.ranks() == 1 ? c.num_experts : static_cast<int32_t>(first.experts.size());
    e.plain_silu = c.swiglu_limit == 0;
    const bool crosses = ranks.dispatch.crosses_ranks();
    e.shape = {
        .max_tokens = plan.limits.max_tokens * (crosses ? ranks.request.data : 1),
        .experts = c.num_experts,
        .top_k = c.num_experts_per_tok,
        .hidden = c.hidden_size,
        .intermediate = ranks.ranks() == 1 ? c.moe_intermediate_size : first.expert_channels.count,
        .router = {.n_group = c.n_group, .topk_group = c.topk_group}};
    all.push_back(e);
  }
  return all;
}

bool DevicePlan::fits() const {
  return static_cast<double>(needed_bytes()) <= kUsable * static_cast<double>(memory_bytes);
}

DevicePlan plan_device(const Gpu& gpu, const DeviceExperts& experts, int64_t other_bytes) {
  DevicePlan plan{.gpu = gpu.name, .memory_bytes = gpu.memory_bytes, .other_bytes = other_bytes};
  for (int b = 0; b < kernels::kTokenBuckets; ++b) {
    BucketPlan bucket{
        .first = kernels::first_of_bucket(b), .last = -1, .kernel = {}, .candidates = {}};
    if (b > 0 && bucket.first > experts.shape.max_tokens) break;
    if (b + 1 < kernels::kTokenBuckets &&
        kernels::kTokenBucketEnds[static_cast<size_t>(b)] < experts.shape.max_tokens)
      bucket.last = kernels::kTokenBucketEnds[static_cast<size_t>(b)];
    DeviceMoeShape shape = experts.shape;
    if (bucket.last > 0) shape.max_tokens = bucket.last;
    for (const FormatList& list : kLists) {
      shape.value_bytes = list.value_bytes;
      shape.step_scales = list.step_scales;
      shape.int4 = list.int4;
      for (const MoeLayerKernel& k : list.kernels()) {
        std::string reason = why_not(k, list, gpu, experts, shape);
        if (reason.empty() && !bucket.kernel.empty())
          reason = format("order: after {}", bucket.kernel);
        if (reason.empty()) {
          bucket.kernel = k.name;
          plan.layout = list.layout;
          plan.activations = list.activations;
          plan.expert_bytes = bytes_of(experts, list);
          plan.workspace_bytes =
              std::max(plan.workspace_bytes, k.workspace_bytes(shape, gpu.multiprocessors));
          plan.tiles.push_back(format("{} rows a tile", kernels::cuda::moe_row_tile(shape)));
        }
        bucket.candidates.push_back({std::string(k.name), std::move(reason)});
      }
    }
    plan.buckets.push_back(std::move(bucket));
  }
  if (!plan.runs()) {
    plan.remedy = remedy_of(experts, gpu);
    return plan;
  }
  const double room = kUsable * static_cast<double>(gpu.memory_bytes) -
                      static_cast<double>(plan.workspace_bytes + other_bytes);
  const int64_t whole = plan.expert_bytes / std::max(experts.held, 1) * experts.shape.experts;
  if (room > 0) plan.least_ranks = static_cast<int32_t>(static_cast<double>(whole) / room) + 1;
  if (plan.least_ranks > experts.shape.experts) plan.least_ranks = 0;
  return plan;
}

json::object to_json(const DevicePlan& p) {
  json::array buckets;
  for (size_t i = 0; i < p.buckets.size(); ++i) {
    json::array rejected;
    for (const Candidate& c : p.buckets[i].candidates)
      if (!c.why_not.empty())
        rejected.push_back(json::object{
            {"kernel", c.kernel}, {"class", c.reason_class()}, {"why_not", c.why_not}});
    json::object bucket{{"tokens", tokens_text(p.buckets[i])}, {"kernel", p.buckets[i].kernel}};
    if (i < p.tiles.size()) bucket["tile"] = p.tiles[i];
    bucket["rejected"] = std::move(rejected);
    buckets.push_back(std::move(bucket));
  }
  return {{"gpu", p.gpu},
          {"memory_bytes", p.memory_bytes},
          {"layout", p.layout},
          {"activations", p.activations},
          {"buckets", std::move(buckets)},
          {"remedy", p.remedy},
          {"bytes", json::object{{"experts", p.expert_bytes},
                                 {"workspace", p.workspace_bytes},
                                 {"other", p.other_bytes}}},
          {"fits", p.runs() && p.fits()},
          {"least_ranks", p.least_ranks},
          {"runnable", false}};
}

}  // namespace moestro::plan
