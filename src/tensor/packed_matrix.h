// The one packed weight layout of the CPU kernels, for decode and prefill and for every instruction
// set.
//
// A matrix [n, k] (n output channels) is cut into panels of 32 channels; a panel is a sequence of
// k-steps; a k-step is two tiles side by side, each 16 channels x 64 bytes of k, 1 KiB:
//
//     data[panel][k_step][tile 0..1][row 0..15][channel 0..15][4 bytes of consecutive k]
//
// 4 bytes hold 1 float32, 2 bfloat16 or 4 int8 values, so a k-step covers 16, 32 or 64 values of k.
// A row is what a 512-bit register, vpdpbusd / vdpbf16ps, or an AMX tile row wants; a panel is one
// sequential stream. n and k are padded with zeros. The same bytes serve AVX2 as two halves of a
// row. Why: docs/design.md, "Kernels".
//
// gate_up matrices of an MLP interleave: tile 0 of panel p holds gate channels 16p..16p+15, tile 1
// the matching up channels, so both meet in one register lane and the activation needs no second
// pass; n is then 2 * intermediate.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace moestro::tensor {

enum class PackedFormat : uint8_t { kF32, kBf16, kInt8 };

inline constexpr int32_t kPanelChannels = 32;
inline constexpr int32_t kTileChannels = 16;
inline constexpr int64_t kKStepBytes = 2048;  // of one panel

constexpr int32_t values_per_step(PackedFormat f) {
  return f == PackedFormat::kF32 ? 16 : f == PackedFormat::kBf16 ? 32 : 64;
}
constexpr std::string_view packed_format_name(PackedFormat f) {
  return f == PackedFormat::kF32    ? "panel32-f32"
         : f == PackedFormat::kBf16 ? "panel32-bf16"
                                    : "panel32-int8";
}

// A borrowed view; whoever packed it owns the bytes. data, scales and compensation are 64-byte
// aligned.
struct PackedMatrix {
  PackedFormat format = PackedFormat::kF32;
  int32_t n = 0, k = 0;             // logical sizes
  const std::byte* data = nullptr;  // as above
  const float* scales =
      nullptr;  // [padded n], int8 only: weight = q * scale, in packed channel order
  const int32_t* compensation =
      nullptr;  // [padded n], int8 only: 128 * sum of the channel's q, in packed channel order
                // (activations are stored as q + 128, unsigned)
  const float* bias = nullptr;  // [padded n] or null, in packed channel order

  int32_t num_panels() const { return (n + kPanelChannels - 1) / kPanelChannels; }
  int32_t padded_n() const { return num_panels() * kPanelChannels; }
  int32_t k_steps() const { return (k + values_per_step(format) - 1) / values_per_step(format); }
  int64_t panel_bytes() const { return k_steps() * kKStepBytes; }
  const std::byte* panel(int32_t p) const { return data + p * panel_bytes(); }
};

// Bytes of one packed matrix: the panels, then (int8) scales and compensation, each rounded up
// to 64.
constexpr int64_t packed_bytes(PackedFormat f, int32_t n, int32_t k) {
  const int64_t panels = (n + kPanelChannels - 1) / kPanelChannels;
  const int64_t steps = (k + values_per_step(f) - 1) / values_per_step(f);
  return panels * steps * kKStepBytes +
         (f == PackedFormat::kInt8 ? panels * kPanelChannels * 8 : 0);
}

}  // namespace moestro::tensor
