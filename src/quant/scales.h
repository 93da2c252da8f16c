// Reading of scales, shared by all methods: every float type, every shape that means the same, and
// no value that is not a number. Pure functions, any thread.
#pragma once
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "quant/quant_method.h"

namespace moestro::quant {

inline constexpr std::initializer_list<DType> kFloatTypes = {DType::kF32, DType::kBF16,
                                                             DType::kF16};
// The same for scales that stay as they are stored; a made-up tensor has the first.
inline constexpr std::initializer_list<DType> kGroupScaleTypes = {DType::kBF16, DType::kF16,
                                                                  DType::kF32};
inline constexpr std::initializer_list<DType> kPow2Types = {DType::kU8, DType::kF8E8M0};

// Value i of float values of a type at p: kF32, kBF16, kF16, kF8E4M3, kF8E8M0 (kU8 counts as that).
float float_at(const std::byte* p, DType type, int64_t i);

// 32-bit word i of a tensor of packed codes.
uint32_t word_at(const checkpoint::TensorView& t, int64_t i);

// module.suffix
std::string tensor_name(std::string_view module, Part part);

// A scale tensor, every element finite: else kDataLoss naming tensor and element. The view joins
// m.tensors.
Result<checkpoint::TensorView> read_scale_tensor(const checkpoint::WeightSource& source,
                                                 const std::string& name,
                                                 std::span<const int64_t> shape,
                                                 std::initializer_list<DType> accepted,
                                                 LoadedMatrix& m);
inline Result<checkpoint::TensorView> read_scale_tensor(const checkpoint::WeightSource& source,
                                                        const std::string& name,
                                                        std::initializer_list<int64_t> shape,
                                                        std::initializer_list<DType> accepted,
                                                        LoadedMatrix& m) {
  return read_scale_tensor(source, name, std::span(shape.begin(), shape.size()), accepted, m);
}
// Scales [n, 1], [n], [1] or [] as m.scales [n], times factor.
Status read_channel_scales(const checkpoint::WeightSource& source, const std::string& name,
                           int32_t n, LoadedMatrix& m, float factor = 1.0f);
// One number: [1] or [].
Result<float> read_scalar(const checkpoint::WeightSource& source, const std::string& name,
                          LoadedMatrix& m);
// Group scales [n, groups] in their own type, in place.
Status read_group_scales(const checkpoint::WeightSource& source, const std::string& name, int32_t n,
                         int32_t groups, std::initializer_list<DType> accepted, LoadedMatrix& m);

// Makes m.group_scales [n, groups] in t's type from its elements: element(c, g) is an index.
template <class Element>
void gather_group_scales(const checkpoint::TensorView& t, int32_t n, int32_t groups,
                         Element element, LoadedMatrix& m) {
  const auto size = static_cast<size_t>(bits(t.dtype) / 8);
  m.group_scales.resize(static_cast<size_t>(n) * static_cast<size_t>(groups) * size);
  std::byte* out = m.group_scales.data();
  for (int32_t c = 0; c < n; ++c)
    for (int32_t g = 0; g < groups; ++g, out += size)
      std::memcpy(out, t.bytes.data() + static_cast<size_t>(element(c, g)) * size, size);
  m.source.group_scales = m.group_scales.data();
  m.stored.group_scale = t.dtype == DType::kU8 ? DType::kF8E8M0 : t.dtype;
}
template <class Zero>
void make_zero_points(int32_t n, int32_t groups, Zero zero, LoadedMatrix& m) {
  m.zero_points.resize(static_cast<size_t>(n) * static_cast<size_t>(groups));
  size_t at = 0;
  for (int32_t c = 0; c < n; ++c)
    for (int32_t g = 0; g < groups; ++g) m.zero_points[at++] = static_cast<uint8_t>(zero(c, g));
  m.source.zero_points = m.zero_points.data();
}

}  // namespace moestro::quant
