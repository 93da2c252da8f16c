// The one packed weight layout of the CPU kernels, for decode and prefill and for every instruction
// set.
//
// A matrix [n, k] (n output channels) is cut into panels of 32 channels; a panel is a sequence of
// k-steps; a k-step is two tiles side by side, each 16 channels x 64 bytes of k, 1 KiB:
//
//     data[panel][k_step][tile 0..1][row 0..15][channel 0..15][4 bytes of consecutive k]
//
// 4 bytes hold 1 float32, 2 bfloat16 or 4 eight-bit values, so a k-step covers 16, 32 or 64 values
// of k. Four-bit codes: a k-step covers 128; value j < 64 of it is the low nibble of the byte where
// an eight-bit value j would be, value j >= 64 the high nibble of byte j - 64, so that a mask and a
// shift give two eight-bit k-steps. A row is what a 512-bit register, vpdpbusd / vdpbf16ps, or an
// AMX tile row wants; a panel is one sequential stream. n and k are padded with values that count
// as zero. The same bytes serve AVX2 as two halves of a row. Why: docs/design.md, "Kernels".
//
// gate_up matrices of an MLP interleave: tile 0 of panel p holds gate channels 16p..16p+15, tile 1
// the matching up channels, so both meet in one register lane and the activation needs no second
// pass; n is then 2 * intermediate.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/dtype.h"

namespace moestro::tensor {

enum class WeightType : uint8_t {
  kF32,
  kBf16,
  kInt8,
  kFp8,   // float8 e4m3fn
  kInt4,  // code u in 0..15 is u - 8, or u - zero point
  kFp4,   // float4 e2m1: magnitudes 0, 0.5, 1, 1.5, 2, 3, 4, 6
};
// What the kernel rounds activations to before it multiplies.
enum class ActivationType : uint8_t {
  kF32,
  kBf16,
  kInt8,  // q in [-127, 127], scale absmax / 127
  kFp8,   // e4m3 values, scale absmax / 448
};

constexpr int32_t bits_of(WeightType t) {
  return t == WeightType::kF32                             ? 32
         : t == WeightType::kBf16                          ? 16
         : t == WeightType::kInt4 || t == WeightType::kFp4 ? 4
                                                           : 8;
}

// weight[n, i] = scales[n] * group_scale[n, i / group_k] * (code - zero point); which of the
// factors exist follows from the fields. All of it is known from a checkpoint's header.
struct PackedFormat {
  WeightType weight = WeightType::kF32;
  ActivationType activation = ActivationType::kF32;
  int32_t group_k = 0;              // values of k that share a group scale; 0: no group scales
  DType group_scale = DType::kF32;  // kF32, kBF16, kF16, kF8E8M0, kF8E4M3
  bool zero_points = false;         // kInt4 with groups: a code per channel and group; else 8
  int32_t activation_group = 0;     // values of k that share an activation scale; 0: the whole row
  bool activation_pow2 = false;     // activation scales are rounded up to a power of two

  friend constexpr bool operator==(const PackedFormat&, const PackedFormat&) = default;

  static const PackedFormat kF32, kBf16, kInt8;
};
inline constexpr PackedFormat PackedFormat::kF32{};
inline constexpr PackedFormat PackedFormat::kBf16{WeightType::kBf16, ActivationType::kBf16};
inline constexpr PackedFormat PackedFormat::kInt8{WeightType::kInt8, ActivationType::kInt8};

inline constexpr int32_t kPanelChannels = 32;
inline constexpr int32_t kTileChannels = 16;
inline constexpr int64_t kKStepBytes = 2048;  // of one panel

constexpr int32_t values_per_step(WeightType t) { return 512 / bits_of(t); }
constexpr int32_t values_per_step(const PackedFormat& f) { return values_per_step(f.weight); }

// "panel32-int4-g128-zp"; how explain calls the layout.
std::string packed_format_name(const PackedFormat& f);
// "bf16", "int8 per token", "fp8 per token and 128 values"; how explain calls the activations.
std::string activation_name(const PackedFormat& f);

// Has it scales[n]: all but floats. (Formats with group scales only hold ones there.)
constexpr bool has_channel_scales(const PackedFormat& f) {
  return f.weight != WeightType::kF32 && f.weight != WeightType::kBf16;
}
constexpr bool has_compensation(const PackedFormat& f) {
  return f.weight == WeightType::kInt8 && f.group_k == 0;
}
// May its matrices have a k_order?
constexpr bool may_reorder(const PackedFormat& f) {
  return f.weight == WeightType::kInt4 && f.group_k > 0;
}
constexpr int32_t groups_of(const PackedFormat& f, int32_t k) {
  return f.group_k == 0 ? 0 : (k + f.group_k - 1) / f.group_k;
}
constexpr int32_t group_scale_bytes(const PackedFormat& f) {
  return f.group_scale == DType::kF32                                    ? 4
         : f.group_scale == DType::kBF16 || f.group_scale == DType::kF16 ? 2
                                                                         : 1;
}

// A borrowed view; whoever packed it owns the bytes. Every array starts 64-byte aligned.
struct PackedMatrix {
  PackedFormat format;
  int32_t n = 0, k = 0;             // logical sizes
  const std::byte* data = nullptr;  // as above
  const float* scales = nullptr;    // [padded n] in packed channel order, has_channel_scales
  const int32_t* compensation =
      nullptr;  // [padded n], has_compensation: 128 * sum of the channel's q, in packed channel
                // order (activations are stored as q + 128, unsigned)
  const std::byte* group_scales = nullptr;  // [panel][group][32] of format.group_scale
  const uint8_t* zero_points = nullptr;     // [panel][group][32], format.zero_points
  const float* bias = nullptr;              // [padded n] or null, in packed channel order
  // [k] or null: packed value i of k is input k_order[i], a permutation that makes groups runs
  // (int4 in groups only). Kernels take the values of x in this order.
  const int32_t* k_order = nullptr;

  int32_t num_panels() const { return (n + kPanelChannels - 1) / kPanelChannels; }
  int32_t padded_n() const { return num_panels() * kPanelChannels; }
  int32_t k_steps() const { return (k + values_per_step(format) - 1) / values_per_step(format); }
  int64_t panel_bytes() const { return k_steps() * kKStepBytes; }
  int32_t groups() const { return groups_of(format, k); }
  const std::byte* panel(int32_t p) const { return data + p * panel_bytes(); }
  // The 32 group scales, or zero points, of group g of panel p.
  const std::byte* panel_scales(int32_t p, int32_t g) const {
    return group_scales + (int64_t{p} * groups() + g) * kPanelChannels * group_scale_bytes(format);
  }
  const uint8_t* panel_zeros(int32_t p, int32_t g) const {
    return zero_points + (int64_t{p} * groups() + g) * kPanelChannels;
  }
};

// Where the arrays of a packed matrix lie; each is rounded up to 64 bytes.
struct PackedLayout {
  int64_t scales, compensation, group_scales, zero_points, end;  // offsets from data
};
constexpr PackedLayout packed_layout(const PackedFormat& f, int32_t n, int32_t k) {
  const int64_t panels = (n + kPanelChannels - 1) / kPanelChannels;
  const int64_t steps = (k + values_per_step(f) - 1) / values_per_step(f);
  const int64_t channels = panels * kPanelChannels, cells = channels * groups_of(f, k);
  const auto up = [](int64_t bytes) { return (bytes + 63) / 64 * 64; };
  PackedLayout l{};
  l.scales = panels * steps * kKStepBytes;
  l.compensation = l.scales + (has_channel_scales(f) ? channels * 4 : 0);
  l.group_scales = l.compensation + (has_compensation(f) ? channels * 4 : 0);
  l.zero_points = l.group_scales + up(cells * group_scale_bytes(f));
  l.end = l.zero_points + (f.zero_points ? up(cells) : 0);
  return l;
}
constexpr int64_t packed_bytes(const PackedFormat& f, int32_t n, int32_t k) {
  return packed_layout(f, n, k).end;
}

}  // namespace moestro::tensor
