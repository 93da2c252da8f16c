// Made-up weights: every linear layer's real (dequantised) weight has a deviation of about
// 1/sqrt(width), so activations stay near one through any depth; norms are near one; scales follow
// from the spread of the random codes.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/format.h"
#include "checkpoint/module_matcher.h"
#include "checkpoint/module_shapes.h"
#include "checkpoint/random_fill.h"
#include "checkpoint/weight_source.h"
#include "tensor/numeric.h"

namespace moestro::checkpoint {
namespace {

constexpr uint64_t kMaxTensorBytes = uint64_t{1} << 46;

struct Freed {
  void operator()(std::byte* p) const { std::free(p); }
};

// Root mean square of codes that are all equally likely.
double fp8_rms() {
  static const double rms = [] {
    double sum = 0;
    int count = 0;
    for (int code = 0; code < 256; ++code)
      if ((code & 0x7f) != 0x7f) {
        const double v = e4m3_to_float(static_cast<uint8_t>(code));
        sum += v * v;
        ++count;
      }
    return std::sqrt(sum / count);
  }();
  return rms;
}
double int_rms(int num_bits) { return std::exp2(num_bits - 1) / std::sqrt(3.0); }
constexpr double kFp4Rms = 2.926;  // of 0, .5, 1, 1.5, 2, 3, 4, 6

double code_rms(const QuantArgs& w) {
  return w.is_float ? (w.num_bits == 4 ? kFp4Rms : fp8_rms()) : int_rms(w.num_bits);
}

// The tensors of a quantised module, by the group's format.
bool format_has(const QuantGroup& g, QuantMethodName method, std::string_view suffix) {
  const QuantArgs& w = *g.weights;
  const bool has_static_input = g.input_activations && !g.input_activations->dynamic;
  if (g.format == "gptq" || g.format == "gptq_v2" || g.format == "awq")
    return suffix == "qweight" || suffix == "qzeros" || suffix == "scales" ||
           (suffix == "g_idx" && g.format != "awq");
  if (g.format == "slimquant-int4-provider") return suffix == "qweight" || suffix == "scales";
  if (g.format == "pack-quantized")
    return suffix == "weight_packed" || suffix == "weight_scale" || suffix == "weight_shape" ||
           (suffix == "weight_zero_point" && !w.symmetric) ||
           (suffix == "weight_g_idx" && w.actorder);
  if (g.format == "nvfp4-pack-quantized")
    return suffix == "weight_packed" || suffix == "weight_scale" ||
           suffix == "weight_global_scale" ||
           (suffix == "input_global_scale" && g.input_activations);
  if (g.format == "nvfp4-modelopt")
    return suffix == "weight" || suffix == "weight_scale" || suffix == "weight_scale_2" ||
           suffix == "input_scale";
  if (g.format == "mxfp4-pack-quantized")
    return suffix == "weight_packed" || suffix == "weight_scale";
  if (suffix == "weight_zero_point") return !w.symmetric;
  const bool inverse = method == QuantMethodName::kFp8 && w.strategy == QuantStrategy::kBlock;
  return suffix == "weight" || suffix == (inverse ? "weight_scale_inv" : "weight_scale") ||
         (suffix == "input_scale" && has_static_input);
}

class DummyWeights final : public WeightSource {
 public:
  using WeightSource::get;
  using WeightSource::get_part;
  DummyWeights(const ModelConfig& config, const QuantConfig& quant, uint64_t seed)
      : config_(config), quant_(quant), seed_(seed) {
    config_.raw.clear();
    const std::string names[] = {"mlp.gate", "block_sparse_moe.gate", "mlp.router",
                                 "shared_expert_gate"};
    auto routers = EntryList::compile(names, EntryRule::kParts);
    CHECK(routers.ok(), routers.status().message());
    routers_ = std::move(routers).value();
  }

  bool has(std::string_view name) const override {
    if (has_plain_parameter(config_, name))
      return !is_mxfp4_expert(name) || name.ends_with("_bias");
    if (is_mxfp4_part(name)) return true;
    const auto [module, suffix] = split_name(name);
    const auto shape = linear_shape(config_, module);
    if (!shape) return false;
    if (suffix == "bias") return shape->bias;
    const QuantGroup* group = group_of(module);
    return group ? format_has(*group, quant_.method, suffix) : suffix == "weight";
  }
  const TensorInfo* find(std::string_view) const override { return nullptr; }
  std::vector<std::string> names() const override { return {}; }
  void drop(const TensorView&) const override {}
  uint64_t total_bytes() const override { return 0; }

  Result<TensorView> get(std::string_view name, std::span<const int64_t> shape,
                         std::span<const DType> accepted) const override {
    return make(name, random_key(name, seed_), shape, accepted);
  }
  // Only the part is made.
  Result<TensorView> get_part(std::string_view name, int64_t i, std::span<const int64_t> shape,
                              std::span<const DType> accepted) const override {
    std::vector<int64_t> one{1};
    one.insert(one.end(), shape.begin(), shape.end());
    MOESTRO_ASSIGN(TensorView t,
                   make(name, random_key(format("{}[{}]", name, i), seed_), one, accepted));
    t.shape.erase(t.shape.begin());
    return t;
  }

 private:
  Result<TensorView> make(std::string_view name, uint64_t key, std::span<const int64_t> shape,
                          std::span<const DType> accepted) const {
    if (accepted.empty()) return internal_error(format("no type is accepted for tensor {}", name));
    TensorView view;
    view.dtype = accepted.front();
    uint64_t total_bits = static_cast<uint64_t>(bits(view.dtype));
    for (const int64_t d : shape) {
      view.shape.push_back(d < 0 ? 1 : d);
      if (__builtin_mul_overflow(total_bits, static_cast<uint64_t>(view.shape.back()),
                                 &total_bits) ||
          total_bits / 8 > kMaxTensorBytes)
        return invalid_argument(format("tensor {} is too large to make up", name));
    }
    const size_t size = static_cast<size_t>((total_bits + 7) / 8);
    std::shared_ptr<std::byte> memory(
        static_cast<std::byte*>(std::aligned_alloc(64, (size + 63) / 64 * 64 + 64)), Freed());
    if (!memory)
      return Status(Code::kResourceExhausted,
                    format("no memory for tensor {} of {} bytes", name, size));
    fill(name, key, view, {memory.get(), size});
    view.bytes = {memory.get(), size};
    view.owner = std::move(memory);
    return view;
  }
  struct Name {
    std::string_view module, suffix;
  };
  static Name split_name(std::string_view name) {
    const size_t dot = name.rfind('.');
    if (dot == std::string_view::npos) return {"", name};
    return {name.substr(0, dot), name.substr(dot + 1)};
  }

  // Null: the module is in plain floats. Routers are, whatever a list forgets to say.
  const QuantGroup* group_of(std::string_view module) const {
    return routers_.matches(module) ? nullptr : quant_.match(module);
  }

  bool is_mxfp4_expert(std::string_view name) const {
    return quant_.method == QuantMethodName::kMxfp4 &&
           name.find(".mlp.experts.") != std::string_view::npos;
  }
  bool is_mxfp4_part(std::string_view name) const {
    for (const std::string_view end : {"_blocks", "_scales"})
      if (name.ends_with(end) && is_mxfp4_expert(name))
        return has_plain_parameter(config_, name.substr(0, name.size() - end.size()));
    return false;
  }

  // The number of inputs that a row of the tensor's module sums over.
  int64_t width_of(std::string_view module, const TensorView& view) const {
    if (const auto shape = linear_shape(config_, module)) return shape->width;
    if (view.shape.size() == 3 && module.ends_with(".experts"))
      return view.shape[1];  // fused, [experts, in, out]
    return view.shape.empty() ? 1 : view.shape.back();
  }

  void fill(std::string_view name, uint64_t key, const TensorView& view,
            std::span<std::byte> out) const;
  void fill_scale(std::string_view suffix, std::string_view module, const TensorView& view,
                  uint64_t key, std::span<std::byte> out) const;
  bool fill_integers(std::string_view suffix, std::string_view module, const TensorView& view,
                     std::span<std::byte> out) const;

  ModelConfig config_;
  QuantConfig quant_;
  uint64_t seed_;
  EntryList routers_;
};

template <class T>
void store(std::span<std::byte> out, size_t index, T value) {
  if ((index + 1) * sizeof(T) <= out.size())
    std::memcpy(out.data() + index * sizeof(T), &value, sizeof value);
}

template <class T, class F>
void store_all(std::span<std::byte> out, F value) {
  for (size_t i = 0; i < out.size() / sizeof(T); ++i) store(out, i, static_cast<T>(value(i)));
}

void store_index(DType dtype, std::span<std::byte> out, auto value) {
  if (dtype == DType::kI64)
    store_all<int64_t>(out, value);
  else
    store_all<int32_t>(out, value);
}

// Tensors whose values mean something: shapes, group indices, zero points. False: not one of them.
bool DummyWeights::fill_integers(std::string_view suffix, std::string_view module,
                                 const TensorView& view, std::span<std::byte> out) const {
  const QuantGroup* group = group_of(module);
  const auto shape = linear_shape(config_, module);
  if (suffix == "weight_shape") {
    const LinearShape s = shape.value_or(LinearShape{});
    store_index(view.dtype, out, [&](size_t i) { return i == 0 ? s.rows : s.width; });
    return true;
  }
  if (suffix == "g_idx" || suffix == "weight_g_idx") {
    const int64_t size = group && group->weights->group_size > 0 ? group->weights->group_size
                         : shape ? std::max<int64_t>(shape->width, 1)
                                 : 1;
    store_index(view.dtype, out, [&](size_t i) { return static_cast<int64_t>(i) / size; });
    return true;
  }
  if (suffix == "weight_zero_point" || suffix == "input_zero_point" || suffix == "qzeros") {
    // Packed zero points are stored with an offset of half the range (GPTQ: less one); plain ones
    // are zero.
    const bool packed = view.dtype == DType::kI32 || view.dtype == DType::kU32;
    const bool byte_codes = group && group->weights->num_bits == 8;
    const uint8_t code = byte_codes ? (group->format == "gptq" ? 0x7f : 0x80)
                                    : (group && group->format == "gptq" ? 0x77 : 0x88);
    std::fill(out.begin(), out.end(), packed ? std::byte{code} : std::byte{0});
    return true;
  }
  return false;
}

void DummyWeights::fill_scale(std::string_view suffix, std::string_view module,
                              const TensorView& view, uint64_t key,
                              std::span<std::byte> out) const {
  const QuantGroup* group = group_of(module);
  QuantArgs args = group ? *group->weights : QuantArgs();
  if (suffix.ends_with("_scales")) args.is_float = true, args.num_bits = 4;  // gpt_oss
  int64_t width = width_of(module, view);
  if (suffix == "gate_up_proj_scales") width = config_.hidden_size;
  if (suffix == "down_proj_scales") width = config_.moe_intermediate_size;
  const double deviation =
      1 / (code_rms(args) * std::sqrt(static_cast<double>(std::max<int64_t>(width, 1))));
  double value = deviation;
  if (suffix == "weight_global_scale")
    value = 1 / deviation;  // a divisor
  else if (suffix == "input_scale")
    value = 6.0 / (args.is_float ? (args.num_bits == 4 ? 2688 : 448) : 127);
  else if (suffix == "input_global_scale")
    value = 2688.0 / 6;  // 448 * 6 over the largest input
  else if (group && group->format == "slimquant-int4")
    value /= 16;
  switch (view.dtype) {
    case DType::kF8E4M3:  // nvfp4: the global scale carries the size
      std::fill(out.begin(), out.end(), std::byte{0x38});
      break;
    case DType::kU8:
    case DType::kF8E8M0:
      std::fill(out.begin(), out.end(),
                static_cast<std::byte>(std::clamp(127 + std::lround(std::log2(value)), 0L, 254L)));
      break;
    default:
      fill_uniform(key, out, view.dtype, static_cast<float>(value * 0.8),
                   static_cast<float>(value * 1.2));
  }
}

void DummyWeights::fill(std::string_view name, uint64_t key, const TensorView& view,
                        std::span<std::byte> out) const {
  const auto [module, suffix] = split_name(name);
  if (fill_integers(suffix, module, view, out)) return;
  if (suffix.find("scale") != std::string_view::npos)
    return fill_scale(suffix, module, view, key, out);
  if (view.dtype == DType::kF8E4M3 || view.dtype == DType::kF8E5M2)
    return fill_random_fp8(key, out, view.dtype);
  if (!is_plain_float(view.dtype)) return fill_random_bytes(key, out);
  if (suffix == "e_score_correction_bias") return fill_normal(key, out, view.dtype, 0, 0.01f);
  if (suffix.ends_with("bias")) return fill_normal(key, out, view.dtype, 0, 0.02f);
  if (suffix == "sinks") return fill_normal(key, out, view.dtype, 0, 1);
  if (view.shape.size() < 2) return fill_normal(key, out, view.dtype, 1, 0.02f);  // norms
  const auto width = static_cast<float>(std::max<int64_t>(width_of(module, view), 1));
  fill_normal(key, out, view.dtype, 0, 1 / std::sqrt(width));
}

}  // namespace

std::unique_ptr<WeightSource> dummy_weights(const ModelConfig& config, const QuantConfig& quant,
                                            uint64_t seed) {
  return std::make_unique<DummyWeights>(config, quant, seed);
}

}  // namespace moestro::checkpoint
