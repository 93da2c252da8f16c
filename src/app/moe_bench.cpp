#include "app/moe_bench.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/format.h"
#include "base/strings.h"
#include "checkpoint/random_fill.h"
#include "kernels/pack.h"
#include "kernels/row_ops.h"
#include "moe/dispatch/local.h"
#include "plan/random_matrix.h"

namespace moestro::app {
namespace {

using kernels::ExpertMlpKernel;
using platform::Buffer;
using tensor::ActivationType;
using tensor::PackedFormat;
using tensor::PackedMatrix;
using tensor::WeightType;

constexpr int64_t kLeastBytes = int64_t{1} << 30;  // of all layers: far above any cache
constexpr int64_t kLayerCap = int64_t{2} << 30;
constexpr size_t kReadPass = 256u << 20;

constexpr moe::RouterSpec softmax_router(int32_t experts, int32_t top_k, bool renormalize) {
  return {.num_experts = experts, .top_k = top_k, .renormalize = renormalize};
}
constexpr moe::RouterSpec sigmoid_router(int32_t experts, int32_t top_k, int32_t groups,
                                         int32_t kept, float scaling) {
  return {.num_experts = experts,
          .top_k = top_k,
          .scoring = checkpoint::ScoringFunc::kSigmoid,
          .method = checkpoint::TopkMethod::kNoauxTc,
          .n_group = groups,
          .topk_group = kept,
          .renormalize = true,
          .scaling = scaling};
}
// Sizes from the published config.json files.
constexpr MoeBenchShape kShapes[] = {
    {"glm-5", 6144, 2048, sigmoid_router(256, 8, 1, 1, 2.5f)},
    {"deepseek-v3", 7168, 2048, sigmoid_router(256, 8, 8, 4, 2.5f)},
    {"qwen3-30b-a3b", 2048, 768, softmax_router(128, 8, true)},
    {"glm-4.5-air", 4096, 1408, sigmoid_router(128, 8, 1, 1, 1.0f)},
    {"mixtral-8x7b", 4096, 14336, softmax_router(8, 2, true)},
    {"gpt-oss-120b", 2880, 2880, softmax_router(128, 4, true)},
};

struct Scheme {
  std::string_view name;
  PackedFormat format;
};
constexpr PackedFormat int4(int32_t group, ActivationType activation) {
  return {WeightType::kInt4, activation, group, DType::kBF16};
}
constexpr Scheme kSchemes[] = {
    {"f32", PackedFormat::kF32},
    {"bf16", PackedFormat::kBf16},
    {"int8", PackedFormat::kInt8},
    {"int8-block", {WeightType::kInt8, ActivationType::kInt8, 128, DType::kF32, false, 128, false}},
    {"fp8", {WeightType::kFp8, ActivationType::kFp8}},
    {"fp8-block", {WeightType::kFp8, ActivationType::kFp8, 128, DType::kF32, false, 128, false}},
    {"int4-g32", int4(32, ActivationType::kBf16)},
    {"int4-g64", int4(64, ActivationType::kBf16)},
    {"int4-g128", int4(128, ActivationType::kBf16)},
    {"w4a8-g128", int4(128, ActivationType::kInt8)},
    {"mxfp4", {WeightType::kFp4, ActivationType::kBf16, 32, DType::kF8E8M0}},
    {"nvfp4", {WeightType::kFp4, ActivationType::kBf16, 16, DType::kF8E4M3}},
};

// Which experts a step of a layer hits: as many as differ.
int64_t distinct_experts(const moe::RouterSpec& router, const std::vector<float>& logits,
                         int32_t tokens) {
  std::vector<bool> hit(static_cast<size_t>(router.num_experts));
  std::vector<int32_t> ids(static_cast<size_t>(router.top_k));
  std::vector<float> weights(static_cast<size_t>(router.top_k));
  for (int32_t t = 0; t < tokens; ++t) {
    moe::route_token(router, logits.data() + int64_t{t} * router.num_experts, nullptr, ids.data(),
                     weights.data());
    for (const int32_t id : ids) hit[static_cast<size_t>(id)] = true;
  }
  return std::count(hit.begin(), hit.end(), true);
}

struct Buffers {
  Buffer x, out, workspace, scratch;
};

class RowTimer {
 public:
  RowTimer(const MoeBenchLayers& layers, const MoeBenchRun& run, platform::Gang& gang,
           std::vector<double>& read_samples)
      : layers_(layers), run_(run), gang_(gang), read_samples_(read_samples) {}

  Status prepare();
  Result<std::vector<MoeBenchRow>> time();

 private:
  using Layers = std::vector<std::unique_ptr<moe::MoeLayer>>;
  float* x_of(int turn) const { return b_.x.as<float>() + turn * x_floats(); }
  int64_t x_floats() const { return int64_t{run_.tokens} * layers_.shape().hidden; }
  void forward(const moe::MoeLayer& layer, const float* x, int32_t tokens);
  double relative_error(const Layers& layers);
  MoeBenchRow summarise(size_t kernel) const;
  size_t fastest() const;
  int64_t bytes_of(int turn);

  const MoeBenchLayers& layers_;
  const MoeBenchRun& run_;
  // Different inputs, so that steps route differently: few tokens hit few experts.
  const int turns_ = run_.tokens < 32 ? 16 : 4;
  platform::Gang& gang_;
  std::vector<double>& read_samples_;
  Buffers b_;
  std::vector<Layers> of_kernel_;
  std::vector<double> peaks_;                 // of each kernel's unit
  std::vector<int64_t> bytes_;                // [turn]
  std::vector<std::vector<double>> seconds_;  // [kernel][iteration]
  std::vector<double> read_, step_bytes_;     // [iteration]
};

Status RowTimer::prepare() {
  const MoeBenchShape& s = layers_.shape();
  const kernels::ExpertMlpShape shape = expert_shape(s, layers_.format(), run_.tokens);
  int64_t scratch = run_.gate->scratch_bytes(gate_shape(s, run_.tokens), gang_.num_workers());
  const ExpertMlpKernel* reference = &kernels::expert_mlp_kernels(layers_.format()).back();
  scratch = std::max(scratch, reference->scratch_bytes(shape, gang_.num_workers()));
  for (const ExpertMlpKernel* kernel : run_.kernels) {
    scratch = std::max(scratch, kernel->scratch_bytes(shape, gang_.num_workers()));
    of_kernel_.push_back(layers_.with(*run_.gate, *kernel, run_.tokens));
    peaks_.push_back(platform::compute_ceiling(gang_, unit_of(*kernel, layers_.format())));
  }
  seconds_.resize(run_.kernels.size());
  const auto allocate = [](int64_t bytes) {
    return Buffer::allocate(static_cast<size_t>(std::max<int64_t>(bytes, 64)));
  };
  MOESTRO_ASSIGN(b_.x, allocate(turns_ * x_floats() * 4));
  MOESTRO_ASSIGN(b_.out, allocate(x_floats() * 4));
  MOESTRO_ASSIGN(b_.workspace,
                 allocate(moe::moe_workspace_floats(s.router, s.hidden, run_.tokens) * 4));
  MOESTRO_ASSIGN(b_.scratch, allocate(scratch));
  checkpoint::fill_normal(static_cast<uint64_t>(run_.tokens),
                          {b_.x.data(), static_cast<size_t>(turns_ * x_floats() * 4)}, DType::kF32,
                          0, 1);
  for (int turn = 0; turn < turns_ * layers_.num_layers(); ++turn) bytes_.push_back(bytes_of(turn));
  return {};
}

// Weight bytes that step `turn` needs: layer turn % layers, input turn % turns_.
int64_t RowTimer::bytes_of(int turn) {
  const moe::RouterSpec& router = layers_.shape().router;
  std::vector<float> logits(static_cast<size_t>(run_.tokens) *
                            static_cast<size_t>(router.num_experts));
  // The layer leaves the router's logits at the start of its workspace.
  forward(*of_kernel_.front()[static_cast<size_t>(turn % layers_.num_layers())],
          x_of(turn % turns_), run_.tokens);
  std::memcpy(logits.data(), b_.workspace.data(), logits.size() * 4);
  return layers_.gate_bytes() +
         layers_.expert_bytes() * distinct_experts(router, logits, run_.tokens);
}

void RowTimer::forward(const moe::MoeLayer& layer, const float* x, int32_t tokens) {
  const int32_t hidden = layers_.shape().hidden;
  gang_.run([&](platform::Worker& worker) {
    layer.forward(x, hidden, tokens, b_.out.as<float>(), hidden, b_.workspace.as<float>(),
                  *run_.ops, b_.scratch.data(), worker);
  });
}

// The first and the last token of a step against the same layer with the reference kernel.
double RowTimer::relative_error(const Layers& layers) {
  const auto hidden = static_cast<size_t>(layers_.shape().hidden);
  const Layers reference =
      layers_.with(*run_.gate, kernels::expert_mlp_kernels(layers_.format()).back(), run_.tokens);
  std::memset(b_.out.data(), 0, b_.out.size());
  forward(*layers.front(), x_of(0), run_.tokens);
  std::vector<float> got;
  std::vector<int32_t> samples{0};
  if (run_.tokens > 1) samples.push_back(run_.tokens - 1);
  for (const int32_t t : samples)
    got.insert(got.end(), b_.out.as<float>() + static_cast<size_t>(t) * hidden,
               b_.out.as<float>() + static_cast<size_t>(t + 1) * hidden);
  double difference = 0, size = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    std::memset(b_.out.data(), 0, hidden * 4);
    forward(*reference.front(), x_of(0) + static_cast<size_t>(samples[i]) * hidden, 1);
    for (size_t j = 0; j < hidden; ++j) {
      const double want = b_.out.as<float>()[j];
      difference += (got[i * hidden + j] - want) * (got[i * hidden + j] - want);
      size += want * want;
    }
  }
  return size > 0 ? std::sqrt(difference / size) : 0;
}

Result<std::vector<MoeBenchRow>> RowTimer::time() {
  const std::span<const std::byte> memory = layers_.memory();
  const size_t pass = std::min(kReadPass, memory.size() / 4096 * 4096);
  size_t at = 0;
  const double floor = static_cast<double>(bytes_.front());
  // Short steps are timed several together, so that a slip of the clock or of the host shows less.
  const int steps = static_cast<int>(std::clamp(2e8 / floor, 1.0, 8.0));
  int turn = 0;
  for (int64_t i = 0; i < run_.iterations; ++i) {
    const double read = platform::read_bandwidth(gang_, memory.data() + at, pass, 1);
    at = at + 2 * pass <= memory.size() ? at + pass : 0;
    read_.push_back(read);
    read_samples_.push_back(read);
    double bytes = 0;
    for (size_t k = 0; k < of_kernel_.size(); ++k) {
      bytes = 0;
      const double start = platform::seconds_now();
      for (int step = 0; step < steps; ++step) {
        const auto now = static_cast<size_t>(turn + step) % bytes_.size();
        const auto layer = now % static_cast<size_t>(layers_.num_layers());
        forward(*of_kernel_[k][layer], x_of(static_cast<int>(now) % turns_), run_.tokens);
        bytes += static_cast<double>(bytes_[now]);
      }
      seconds_[k].push_back((platform::seconds_now() - start) / steps);
    }
    step_bytes_.push_back(bytes / steps);
    turn += steps;
  }
  std::vector<MoeBenchRow> rows;
  for (size_t k = 0; k < of_kernel_.size(); ++k) {
    rows.push_back(summarise(k));
    rows.back().rel_error = relative_error(of_kernel_[k]);
  }
  return rows;
}

size_t RowTimer::fastest() const {
  const auto slower = [](const std::vector<double>& a, const std::vector<double>& b) {
    return median(a) < median(b);
  };
  return static_cast<size_t>(std::ranges::min_element(seconds_, slower) - seconds_.begin());
}

MoeBenchRow RowTimer::summarise(size_t kernel) const {
  const MoeBenchShape& s = layers_.shape();
  const double ops = 6.0 * s.hidden * s.intermediate * s.router.top_k * run_.tokens;
  const double peak = peaks_[kernel];
  std::vector<double> read_share, floor_ratio, over_best;
  const std::vector<double>& best = seconds_[fastest()];
  for (size_t i = 0; i < read_.size(); ++i) {
    const double t = seconds_[kernel][i], bytes_floor = step_bytes_[i] / read_[i];
    read_share.push_back(bytes_floor / t);
    over_best.push_back(t / best[i]);
    floor_ratio.push_back(t / std::max(bytes_floor, peak > 0 ? ops / peak : 0));
  }
  MoeBenchRow row;
  row.tokens = run_.tokens;
  row.kernel = run_.kernels[kernel]->name;
  row.unit = platform::unit_name(unit_of(*run_.kernels[kernel], layers_.format()));
  row.us = median(seconds_[kernel]) * 1e6;
  row.best_us = *std::ranges::min_element(seconds_[kernel]) * 1e6;
  row.weight_bytes = std::accumulate(step_bytes_.begin(), step_bytes_.end(), 0.0) /
                     static_cast<double>(step_bytes_.size());
  row.read_share = median(read_share);
  row.peak_share = peak > 0 ? ops / (row.us * 1e-6) / peak : 0;
  row.floor_ratio = median(floor_ratio);
  row.over_best = median(over_best);
  row.read_gbs = median(read_) / 1e9;
  return row;
}

}  // namespace

const MoeBenchShape* find_moe_bench_shape(std::string_view name) {
  for (const MoeBenchShape& shape : kShapes)
    if (shape.name == name) return &shape;
  return nullptr;
}

Result<PackedFormat> moe_bench_format(std::string_view scheme) {
  std::string known;
  for (const Scheme& s : kSchemes) {
    if (s.name == scheme) return s.format;
    known += format("{}{}", known.empty() ? "" : ", ", s.name);
  }
  return invalid_argument(format("--scheme {}: not known; there are {}", scheme, known));
}

kernels::LinearShape gate_shape(const MoeBenchShape& shape, int32_t max_tokens) {
  return {PackedFormat::kF32, max_tokens, shape.router.num_experts, shape.hidden};
}

kernels::ExpertMlpShape expert_shape(const MoeBenchShape& shape, const PackedFormat& format,
                                     int32_t max_tokens) {
  return {.format = format,
          .max_tokens = max_tokens,
          .max_rows = max_tokens * shape.router.top_k,
          .experts = shape.router.num_experts,
          .hidden = shape.hidden,
          .intermediate = shape.intermediate};
}

Result<std::unique_ptr<MoeBenchLayers>> MoeBenchLayers::make(const MoeBenchShape& shape,
                                                             const PackedFormat& format,
                                                             int32_t max_tokens,
                                                             platform::Gang& gang) {
  auto layers = std::unique_ptr<MoeBenchLayers>(new MoeBenchLayers(shape, format));
  MoeBenchLayers& l = *layers;
  l.gate_bytes_ = tensor::packed_bytes(PackedFormat::kF32, shape.router.num_experts, shape.hidden);
  l.gate_up_bytes_ = tensor::packed_bytes(format, 2 * shape.intermediate, shape.hidden);
  l.down_bytes_ = tensor::packed_bytes(format, shape.hidden, shape.intermediate);
  const int64_t cap = std::max<int64_t>(1, kLayerCap / l.expert_bytes());
  l.num_distinct_ = static_cast<int32_t>(std::min<int64_t>(shape.router.num_experts, cap));
  const int64_t layer_bytes = l.gate_bytes_ + l.num_distinct_ * l.expert_bytes();
  l.num_layers_ = static_cast<int>((kLeastBytes + layer_bytes - 1) / layer_bytes);
  MOESTRO_ASSIGN(l.memory_, Buffer::allocate(static_cast<size_t>(layer_bytes * l.num_layers_)));
  MOESTRO_ASSIGN(l.dispatch_, moe::make_local_dispatch({.max_tokens = max_tokens,
                                                        .top_k = shape.router.top_k,
                                                        .experts = shape.router.num_experts,
                                                        .hidden = shape.hidden}));
  MOESTRO_TRY(l.fill(gang));
  return layers;
}

std::byte* MoeBenchLayers::expert_at(int layer, int32_t distinct) const {
  const int64_t layer_bytes = gate_bytes_ + num_distinct_ * expert_bytes();
  return memory_.data() + layer * layer_bytes + gate_bytes_ + distinct * expert_bytes();
}

Status MoeBenchLayers::fill(platform::Gang& gang) {
  const auto count = static_cast<size_t>(num_layers_ * num_distinct_);
  gates_.resize(static_cast<size_t>(num_layers_));
  gate_up_.resize(count);
  down_.resize(count);
  gang.run([&](platform::Worker& worker) {
    worker.start_tickets();
    for (int64_t i; (i = worker.take_ticket()) < static_cast<int64_t>(count) + num_layers_;) {
      const auto key = static_cast<uint64_t>(i) * 8 + 1;
      if (i >= static_cast<int64_t>(count)) {
        const auto layer = static_cast<int>(i - static_cast<int64_t>(count));
        const plan::RandomMatrix gate(PackedFormat::kF32, shape_.router.num_experts, shape_.hidden,
                                      key);
        gates_[static_cast<size_t>(layer)] = kernels::pack_matrix(
            PackedFormat::kF32, gate.source, expert_at(layer, 0) - gate_bytes_);
        continue;
      }
      std::byte* at =
          expert_at(static_cast<int>(i / num_distinct_), static_cast<int32_t>(i % num_distinct_));
      const plan::RandomMatrix gate(format_, shape_.intermediate, shape_.hidden, key);
      const plan::RandomMatrix up(format_, shape_.intermediate, shape_.hidden, key + 2);
      const plan::RandomMatrix down(format_, shape_.hidden, shape_.intermediate, key + 4);
      gate_up_[static_cast<size_t>(i)] = kernels::pack_gate_up(format_, gate.source, up.source, at);
      down_[static_cast<size_t>(i)] =
          kernels::pack_matrix(format_, down.source, at + gate_up_bytes_);
    }
  });
  return {};
}

std::vector<std::unique_ptr<moe::MoeLayer>> MoeBenchLayers::with(const kernels::LinearKernel& gate,
                                                                 const ExpertMlpKernel& experts,
                                                                 int32_t max_tokens) const {
  moe::MoeSpec spec;
  spec.router = shape_.router;
  spec.hidden = shape_.hidden;
  spec.intermediate = shape_.intermediate;
  spec.gate_op = kernels::LinearChoice::of(gate_shape(shape_, max_tokens), gate);
  spec.expert_op = kernels::ExpertMlpChoice::of(expert_shape(shape_, format_, max_tokens), experts);
  std::vector<std::unique_ptr<moe::MoeLayer>> result;
  for (int layer = 0; layer < num_layers_; ++layer) {
    std::vector<PackedMatrix> gate_up, down;
    for (int32_t e = 0; e < shape_.router.num_experts; ++e) {
      const auto i = static_cast<size_t>(layer * num_distinct_ + e % num_distinct_);
      gate_up.push_back(gate_up_[i]);
      down.push_back(down_[i]);
    }
    result.push_back(moe::MoeLayer::of_packed(spec, gates_[static_cast<size_t>(layer)], nullptr,
                                              std::move(gate_up), std::move(down), *dispatch_));
  }
  return result;
}

Result<std::vector<MoeBenchRow>> run_moe_bench(const MoeBenchLayers& layers, const MoeBenchRun& run,
                                               platform::Gang& gang,
                                               std::vector<double>& read_samples) {
  RowTimer timer(layers, run, gang, read_samples);
  MOESTRO_TRY(timer.prepare());
  return timer.time();
}

platform::Unit unit_of(const ExpertMlpKernel& kernel, const PackedFormat& format) {
  using platform::Unit;
  // Four-bit weights times bfloat16 may be multiplied as bytes too.
  const bool int8 = format.activation == ActivationType::kInt8 ||
                    kernel.needs.contains(platform::Isa::kAvx512Vnni);
  if (kernel.needs.contains(platform::Isa::kAmxInt8)) return Unit::kAmxInt8;
  if (kernel.needs.contains(platform::Isa::kAmxBf16)) return Unit::kAmxBf16;
  if (kernel.needs.contains(platform::Isa::kAvx512)) return int8 ? Unit::kVnni512 : Unit::kFma512;
  return int8 ? Unit::kInt8Avx2 : Unit::kFmaAvx2;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace moestro::app
