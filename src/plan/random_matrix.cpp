#include "plan/random_matrix.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "checkpoint/random_fill.h"
#include "tensor/numeric.h"

namespace moestro::plan {

using tensor::WeightType;

namespace {

constexpr float kFp8Deviation =
    112.0f;  // absmax scaling of normal weights: four deviations are 448

// Values that are made up; more repeat them, which costs a tenth. A prime, so that rows differ.
constexpr size_t kDistinctValues = 1'048'573;

// Repeats the first `period` bytes.
void repeat(std::span<std::byte> out, size_t period) {
  for (size_t at = period; at < out.size(); at += period)
    std::copy_n(out.begin(), std::min(period, out.size() - at),
                out.begin() + static_cast<std::ptrdiff_t>(at));
}

// float8 codes of normal values, as checkpoints hold them: uniform codes would be subnormal far
// more often, and kernels may treat subnormals apart.
void fill_normal_fp8(uint64_t key, std::span<std::byte> out) {
  constexpr size_t kDraws = 4096;
  std::vector<float> values(kDraws);
  checkpoint::fill_normal(key, std::as_writable_bytes(std::span(values)), DType::kF32, 0,
                          kFp8Deviation);
  std::vector<std::byte> codes(kDraws);
  for (size_t i = 0; i < kDraws; ++i) codes[i] = std::byte{to_e4m3(values[i])};
  std::vector<uint16_t> draws(out.size());
  checkpoint::fill_random_bytes(key + 1, std::as_writable_bytes(std::span(draws)));
  for (size_t i = 0; i < out.size(); ++i) out[i] = codes[draws[i] % kDraws];
}

}  // namespace

RandomMatrix::RandomMatrix(const tensor::PackedFormat& f, int32_t n, int32_t k, uint64_t key) {
  const DType dtype = kernels::source_dtype(f.weight);
  const int64_t row = (int64_t{k} * tensor::bits_of(f.weight) + 7) / 8;
  bytes.resize(static_cast<size_t>(row * n));
  const float deviation = 1.0f / std::sqrt(static_cast<float>(k));
  const size_t value_bytes = static_cast<size_t>(tensor::bits_of(f.weight) + 7) / 8;
  const size_t period = std::min(bytes.size(), kDistinctValues * value_bytes);
  const std::span<std::byte> distinct = std::span(bytes).first(period);
  if (!tensor::has_channel_scales(f))
    checkpoint::fill_normal(key, distinct, dtype, 0, deviation);
  else if (f.weight == WeightType::kFp8)
    fill_normal_fp8(key, distinct);
  else
    checkpoint::fill_random_bytes(key, distinct);
  repeat(bytes, period);
  // The deviation of the codes.
  const float spread = f.weight == WeightType::kInt8   ? 74.0f
                       : f.weight == WeightType::kInt4 ? 4.6f
                       : f.weight == WeightType::kFp4  ? 2.9f
                                                       : kFp8Deviation;
  const bool coarse = f.group_scale == DType::kF8E8M0 || f.group_scale == DType::kF8E4M3;
  const float size = deviation / spread;
  if (tensor::has_channel_scales(f))
    scales.assign(static_cast<size_t>(n), f.group_k == 0 || coarse ? size : 1.0f);
  const auto cells = static_cast<size_t>(int64_t{n} * tensor::groups_of(f, k));
  group_scales.resize(cells * static_cast<size_t>(tensor::group_scale_bytes(f)));
  if (f.group_scale == DType::kF8E8M0)
    std::ranges::fill(group_scales, std::byte{127});  // one
  else if (f.group_scale == DType::kF8E4M3)
    std::ranges::fill(group_scales, std::byte{0x38});  // one
  else
    checkpoint::fill_uniform(key + 1, group_scales, f.group_scale, 0.5f * size, 1.5f * size);
  if (f.zero_points) zero_points.assign(cells, 7);
  source = {.data = bytes.data(),
            .dtype = dtype,
            .n = n,
            .k = k,
            .row_bytes = row,
            .scales = scales.empty() ? nullptr : scales.data(),
            .group_scales = f.group_k == 0 ? nullptr : group_scales.data(),
            .zero_points = f.zero_points ? zero_points.data() : nullptr};
}

}  // namespace moestro::plan
