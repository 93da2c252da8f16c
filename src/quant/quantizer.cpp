#include "quant/quantizer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/format.h"
#include "tensor/numeric.h"

namespace moestro::quant {
namespace {

using checkpoint::OutputTensor;
using Parts = std::span<const std::span<std::byte>>;

constexpr float kTiny = 1e-8f;  // the largest magnitude of nothing but zeros counts as this

constexpr QuantizeScheme kSchemes[] = {
    {"int8", CodeKind::kInt8, 0, 1, true,
     "W8A8: int8 weights, a scale a row; int8 activations, a scale a token"},
    {"fp8", CodeKind::kFp8, 0, 1, false,
     "W8A8: float8 e4m3 weights, a scale a row; float8 activations, a scale a token"},
    {"fp8-block", CodeKind::kFp8, 128, 128, false,
     "W8A8: float8 e4m3 weights in blocks of 128x128; float8 activations in groups of 128"},
    {"int4-g32", CodeKind::kInt4, 32, 1, false,
     "W4A16: int4 weights, a scale for 32 inputs; 16-bit activations"},
    {"int4-g128", CodeKind::kInt4, 128, 1, false,
     "W4A16: int4 weights, a scale for 128 inputs; 16-bit activations"},
    {"int4-channel", CodeKind::kInt4, 0, 1, false,
     "W4A16: int4 weights, a scale a row; 16-bit activations"},
    {"w4a8-g128", CodeKind::kInt4, 128, 1, true,
     "W4A8: int4 weights, a scale for 128 inputs; int8 activations, a scale a token"},
    {"mxfp4", CodeKind::kMxfp4, 32, 1, false,
     "W4A16: float4 e2m1 weights, a power of two for 32 inputs; 16-bit activations"},
    {"nvfp4", CodeKind::kNvfp4, 16, 1, false,
     "W4A16: float4 e2m1 weights, a float8 scale for 16 inputs; 16-bit activations"},
};

template <class T>
void store(std::span<std::byte> out, int64_t index, T value) {
  std::memcpy(out.data() + index * static_cast<int64_t>(sizeof value), &value, sizeof value);
}

float largest_of(const float* x, int64_t count) {
  float m = 0;
  for (int64_t i = 0; i < count; ++i) m = std::max(m, std::fabs(x[i]));
  return m;
}

float rounded_bf16(float v) { return to_float(to_bf16(v)); }

int32_t int_code(float q, float low, float high) {
  return static_cast<int32_t>(std::clamp(std::nearbyint(q), low, high));
}

// Nearest e2m1, ties to the even mantissa; beyond 6 it stays there.
uint32_t e2m1_code(float v) {
  // Between codes c and c + 1; a tie goes to the even one of them.
  constexpr float kMiddle[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
  const float a = std::fabs(v);
  uint32_t code = 0;
  while (code < 7 && (a > kMiddle[code] || (a == kMiddle[code] && code % 2 == 1))) ++code;
  return code | (std::signbit(v) ? 8u : 0u);
}

// The scale of a group of int4 values with the least squared error among ranges from 1.05 down to
// 0.6 of the largest magnitude. Scales are bfloat16 on disk, so they are tried as such.
float least_squares_scale(const float* x, int32_t count) {
  const float top = std::max(largest_of(x, count), kTiny);
  float best = 0, least = 0;
  for (int step = 0; step < 19; ++step) {
    const float s = rounded_bf16(top * (1.05f - 0.025f * static_cast<float>(step)) / 7.5f);
    float error = 0;
    for (int32_t i = 0; i < count; ++i) {
      const float d = static_cast<float>(int_code(x[i] / s, -8, 7)) * s - x[i];
      error += d * d;
    }
    if (step == 0 || error < least) best = s, least = error;
  }
  return best;
}

// Codes of two bytes' worth and more: count values of `bits` low bits each from code(i), packed
// with the first in the lowest bits.
template <class Code>
void store_nibbles(std::byte* out, int32_t count, Code code) {
  for (int32_t i = 0; i < count; i += 2)
    out[i / 2] = static_cast<std::byte>(code(i) | (i + 1 < count ? code(i + 1) << 4 : 0u));
}

// [weight, weight_scale]
void int8_row(const float* row, int32_t k, int32_t c, Parts out) {
  const float s = rounded_bf16(std::max(largest_of(row, k), kTiny) / 127.5f);
  for (int32_t i = 0; i < k; ++i)
    store(out[0], int64_t{c} * k + i, static_cast<int8_t>(int_code(row[i] / s, -128, 127)));
  store(out[1], c, to_bf16(s).bits);
}

// [weight, weight_scale]; rows [begin, end) are whole blocks.
void fp8_rows(const QuantizeScheme& scheme, const float* w, int32_t n, int32_t k, int32_t begin,
              int32_t end, Parts out) {
  const int32_t depth = scheme.group_k ? scheme.group_k : k;
  const int32_t groups = (k + depth - 1) / depth;
  for (int32_t first = begin; first < end; first += scheme.group_n) {
    const int32_t last = std::min(first + scheme.group_n, n);
    for (int32_t g = 0; g < groups; ++g) {
      const int32_t from = g * depth, to = std::min(from + depth, k);
      float top = kTiny;
      for (int32_t c = first; c < last; ++c)
        top = std::max(top, largest_of(w + int64_t{c} * k + from, to - from));
      const float s = rounded_bf16(top / 448);
      for (int32_t c = first; c < last; ++c)
        for (int32_t i = from; i < to; ++i)
          store(out[0], int64_t{c} * k + i, to_e4m3(w[int64_t{c} * k + i] / s));
      store(out[1], int64_t{first / scheme.group_n} * groups + g, to_bf16(s).bits);
    }
  }
}

// [weight_packed, weight_scale, weight_shape]
void int4_row(const QuantizeScheme& scheme, const float* row, int32_t k, int32_t c, Parts out) {
  const int32_t group = scheme.group_k ? scheme.group_k : k, groups = k / group;
  const int64_t row_bytes = (int64_t{k} + 7) / 8 * 4;
  std::byte* packed = out[0].data() + c * row_bytes;
  std::memset(packed, 0, static_cast<size_t>(row_bytes));
  for (int32_t g = 0; g < groups; ++g) {
    const float* x = row + int64_t{g} * group;
    const float s = least_squares_scale(x, group);
    store_nibbles(packed + int64_t{g} * group / 2, group,
                  [&](int32_t i) { return static_cast<uint32_t>(int_code(x[i] / s, -8, 7) + 8); });
    store(out[1], int64_t{c} * groups + g, to_bf16(s).bits);
  }
}

// [weight_packed, weight_scale]: the group's largest magnitude, rounded to the power of two that
// e2m1's one mantissa bit calls for, becomes 4.
void mxfp4_row(const float* row, int32_t k, int32_t c, Parts out) {
  constexpr int32_t kGroup = 32;
  for (int32_t g = 0; g < k / kGroup; ++g) {
    const float* x = row + g * kGroup;
    const uint32_t bits = std::bit_cast<uint32_t>(largest_of(x, kGroup)) + (1u << 21);
    const int32_t exponent = std::clamp(static_cast<int32_t>(bits >> 23) - 2, 0, 254);
    const float s = e8m0_to_float(static_cast<uint8_t>(exponent));
    store_nibbles(out[0].data() + int64_t{c} * k / 2 + g * kGroup / 2, kGroup,
                  [&](int32_t i) { return e2m1_code(x[i] / s); });
    store(out[1], int64_t{c} * (k / kGroup) + g, static_cast<uint8_t>(exponent));
  }
}

// [weight_packed, weight_scale, weight_global_scale]; the last is a divisor.
void nvfp4_row(const float* row, int32_t k, int32_t c, float global, Parts out) {
  constexpr int32_t kGroup = 16;
  for (int32_t g = 0; g < k / kGroup; ++g) {
    const float* x = row + g * kGroup;
    uint8_t code = to_e4m3(largest_of(x, kGroup) / 6 * global);
    if (code == 0) code = 1;  // the smallest scale: dividing by zero helps nobody
    const float s = e4m3_to_float(code) / global;
    store_nibbles(out[0].data() + int64_t{c} * k / 2 + g * kGroup / 2, kGroup,
                  [&](int32_t i) { return e2m1_code(x[i] / s); });
    store(out[1], int64_t{c} * (k / kGroup) + g, code);
  }
}

json::object arguments(int num_bits, std::string_view type, std::string_view strategy,
                       bool dynamic) {
  return {{"num_bits", num_bits},
          {"type", type},
          {"symmetric", true},
          {"strategy", strategy},
          {"group_size", nullptr},
          {"block_structure", nullptr},
          {"dynamic", dynamic},
          {"actorder", nullptr},
          {"observer", dynamic ? json::value(nullptr) : json::value("minmax")},
          {"observer_kwargs", json::object()}};
}

json::object weight_arguments(const QuantizeScheme& s) {
  switch (s.codes) {
    case CodeKind::kInt8:
      return arguments(8, "int", "channel", false);
    case CodeKind::kFp8: {
      json::object a = arguments(8, "float", s.group_k ? "block" : "channel", false);
      if (s.group_k) a["block_structure"] = json::array{s.group_n, s.group_k};
      return a;
    }
    case CodeKind::kInt4: {
      json::object a = arguments(4, "int", s.group_k ? "group" : "channel", false);
      if (s.group_k) a["group_size"] = s.group_k;
      a["observer"] = "mse";
      return a;
    }
    case CodeKind::kMxfp4: {
      json::object a = arguments(4, "float", "group", false);
      a["group_size"] = s.group_k;
      a["scale_dtype"] = "torch.uint8";
      return a;
    }
    case CodeKind::kNvfp4:
      break;
  }
  json::object a = arguments(4, "float", "tensor_group", false);
  a["group_size"] = s.group_k;
  a["scale_dtype"] = "torch.float8_e4m3fn";
  return a;
}

json::value activation_arguments(const QuantizeScheme& s) {
  if (s.int8_activations) return arguments(8, "int", "token", true);
  if (s.codes != CodeKind::kFp8) return nullptr;
  json::object a = arguments(8, "float", s.group_k ? "group" : "token", true);
  if (s.group_k) a["group_size"] = s.group_k;
  return a;
}

std::string_view format_name(CodeKind codes) {
  switch (codes) {
    case CodeKind::kInt8:
      return "int-quantized";
    case CodeKind::kFp8:
      return "float-quantized";
    case CodeKind::kInt4:
      return "pack-quantized";
    case CodeKind::kMxfp4:
      return "mxfp4-pack-quantized";
    case CodeKind::kNvfp4:
      break;
  }
  return "nvfp4-pack-quantized";
}

bool is_four_bit(CodeKind codes) { return codes != CodeKind::kInt8 && codes != CodeKind::kFp8; }

}  // namespace

std::span<const QuantizeScheme> quantize_schemes() { return kSchemes; }

const QuantizeScheme* find_quantize_scheme(std::string_view name) {
  for (const QuantizeScheme& s : kSchemes)
    if (s.name == name) return &s;
  return nullptr;
}

std::vector<std::string> default_ignore(const QuantizeScheme& scheme) {
  std::vector<std::string> list = {"lm_head",
                                   R"(re:.*mlp\.gate$)",
                                   R"(re:.*block_sparse_moe\.gate$)",
                                   R"(re:.*mlp\.router$)",
                                   R"(re:.*shared_expert_gate$)",
                                   R"(re:.*indexer\.weights_proj$)",
                                   R"(re:.*eh_proj$)"};
  if (is_four_bit(scheme.codes)) list.emplace_back(R"(re:.*indexer\..*)");
  return list;
}

std::string why_not_quantized(const QuantizeScheme& scheme, int32_t, int32_t k) {
  if (!is_four_bit(scheme.codes)) return {};
  const int32_t step = scheme.group_k ? scheme.group_k : 8;
  if (k % step == 0) return {};
  return format("{} inputs are not a multiple of {}", k, step);
}

std::vector<OutputTensor> quantized_tensors(const QuantizeScheme& scheme, const std::string& module,
                                            int32_t n, int32_t k) {
  const auto blocks = [](int32_t size, int32_t block) { return (size + block - 1) / block; };
  const int32_t depth = scheme.group_k ? scheme.group_k : k;
  const std::vector<int64_t> scales = {blocks(n, scheme.group_n), blocks(k, depth)};
  const std::string weight = module + ".weight", scale = weight + "_scale",
                    packed = weight + "_packed";
  switch (scheme.codes) {
    case CodeKind::kInt8:
      return {{weight, DType::kI8, {n, k}}, {scale, DType::kBF16, scales}};
    case CodeKind::kFp8:
      return {{weight, DType::kF8E4M3, {n, k}}, {scale, DType::kBF16, scales}};
    case CodeKind::kInt4:
      return {{packed, DType::kI32, {n, blocks(k, 8)}},
              {scale, DType::kBF16, scales},
              {weight + "_shape", DType::kI64, {2}}};
    case CodeKind::kMxfp4:
      return {{packed, DType::kU8, {n, k / 2}}, {scale, DType::kU8, scales}};
    case CodeKind::kNvfp4:
      break;
  }
  return {{packed, DType::kU8, {n, k / 2}},
          {scale, DType::kF8E4M3, scales},
          {weight + "_global_scale", DType::kF32, {1}}};
}

void quantize_rows(const QuantizeScheme& scheme, const float* w, int32_t n, int32_t k,
                   int32_t begin, int32_t end, float largest, Parts tensors) {
  if (scheme.codes == CodeKind::kFp8) return fp8_rows(scheme, w, n, k, begin, end, tensors);
  const float global = 448 * 6 / std::max(largest, kTiny);
  for (int32_t c = begin; c < end; ++c) {
    const float* row = w + int64_t{c} * k;
    switch (scheme.codes) {
      case CodeKind::kInt8:
        int8_row(row, k, c, tensors);
        break;
      case CodeKind::kInt4:
        int4_row(scheme, row, k, c, tensors);
        break;
      case CodeKind::kMxfp4:
        mxfp4_row(row, k, c, tensors);
        break;
      default:
        nvfp4_row(row, k, c, global, tensors);
    }
  }
  if (begin != 0) return;
  if (scheme.codes == CodeKind::kInt4) {
    store(tensors[2], 0, int64_t{n});
    store(tensors[2], 1, int64_t{k});
  } else if (scheme.codes == CodeKind::kNvfp4) {
    store(tensors[2], 0, global);
  }
}

json::object quantization_config(const QuantizeScheme& scheme,
                                 const std::vector<std::string>& left) {
  const std::string_view format = format_name(scheme.codes);
  json::array ignore;
  for (const std::string& module : left) ignore.emplace_back(module);
  json::object group{{"format", format},
                     {"input_activations", activation_arguments(scheme)},
                     {"output_activations", nullptr},
                     {"targets", json::array{"Linear"}},
                     {"weights", weight_arguments(scheme)}};
  return {{"config_groups", json::object{{"group_0", std::move(group)}}},
          {"format", format},
          {"global_compression_ratio", nullptr},
          {"ignore", std::move(ignore)},
          {"kv_cache_scheme", nullptr},
          {"quant_method", "compressed-tensors"},
          {"quantization_status", "compressed"}};
}

}  // namespace moestro::quant
