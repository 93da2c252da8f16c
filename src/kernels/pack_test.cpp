#include "kernels/pack.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/matrix_for_test.h"

namespace moestro::kernels {
namespace {

using tensor::PackedFormat;
using tensor::PackedMatrix;

// Byte offset of value [channel, i], written out from the comment in packed_matrix.h.
int64_t offset_of(PackedFormat format, int32_t k, int32_t channel, int32_t i) {
  const int64_t value_bytes = format == PackedFormat::kF32    ? 4
                              : format == PackedFormat::kBf16 ? 2
                                                              : 1;
  const int64_t per_step = 64 / value_bytes, steps = (k + per_step - 1) / per_step;
  const int64_t panel = channel / 32, tile = channel / 16 % 2, lane = channel % 16;
  const int64_t step = i / per_step, byte = i % per_step * value_bytes, row = byte / 4;
  return panel * steps * 2048 + step * 2048 + tile * 1024 + row * 64 + lane * 4 + byte % 4;
}

class Pack : public testing::TestWithParam<PackedFormat> {};

TEST_P(Pack, EveryValueIsWhereTheLayoutSaysAndPaddingIsZero) {
  std::mt19937 rng(1);
  for (const auto& [n, k] : {std::pair{1, 1}, {32, 64}, {33, 65}, {47, 130}, {96, 200}, {16, 15}}) {
    const TestWeights w(GetParam(), n, k, rng);
    PackedForTest packed(w);
    const PackedMatrix& m = packed.view;
    EXPECT_EQ(m.n, n);
    EXPECT_EQ(m.k, k);
    std::vector<std::byte> expected(static_cast<size_t>(m.num_panels() * m.panel_bytes()));
    for (int32_t c = 0; c < n; ++c)
      for (int32_t i = 0; i < k; ++i) {
        const float v = w.stored[static_cast<size_t>(c * k + i)];
        std::byte* at = expected.data() + offset_of(w.format, k, c, i);
        if (w.format == PackedFormat::kF32) std::memcpy(at, &v, 4);
        if (w.format == PackedFormat::kBf16) {
          const uint16_t bits = to_bf16(v).bits;
          std::memcpy(at, &bits, 2);
        }
        if (w.format == PackedFormat::kInt8) *at = static_cast<std::byte>(static_cast<int8_t>(v));
      }
    EXPECT_EQ(std::memcmp(expected.data(), m.data, expected.size()), 0) << n << " x " << k;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Pack,
                         testing::Values(PackedFormat::kF32, PackedFormat::kBf16,
                                         PackedFormat::kInt8),
                         [](const auto& info) { return format_label(info.param); });

TEST(PackInt8, ScalesAndCompensationFollowChannels) {
  std::mt19937 rng(2);
  const TestWeights w(PackedFormat::kInt8, 40, 70, rng);
  PackedForTest packed(w);
  for (int32_t c = 0; c < packed.view.padded_n(); ++c) {
    int32_t sum = 0;
    for (int32_t i = 0; c < 40 && i < 70; ++i) sum += w.q[static_cast<size_t>(c * 70 + i)];
    EXPECT_EQ(packed.view.compensation[c], 128 * sum);
    EXPECT_EQ(packed.view.scales[c], c < 40 ? w.scales[static_cast<size_t>(c)] : 0.0f);
  }
}

TEST(PackGateUp, TilesAlternateAndEachSideIsPadded) {
  std::mt19937 rng(3);
  const int32_t intermediate = 24, hidden = 70;
  const TestWeights gate(PackedFormat::kInt8, intermediate, hidden, rng),
      up(PackedFormat::kInt8, intermediate, hidden, rng);
  PackedForTest packed(gate, up);
  EXPECT_EQ(packed.view.n, 48);
  EXPECT_EQ(packed.view.num_panels(), 2);
  for (int32_t c = 0; c < 32; ++c)
    for (int32_t i = 0; i < hidden; ++i) {
      const int32_t at = c / 16 * 32 + c % 16;
      const auto value = [&](int32_t channel) {
        return static_cast<int8_t>(
            packed.view.data[offset_of(PackedFormat::kInt8, hidden, channel, i)]);
      };
      const size_t source = static_cast<size_t>(c * hidden + i);
      ASSERT_EQ(value(at), c < intermediate ? gate.q[source] : 0) << c << " " << i;
      ASSERT_EQ(value(at + 16), c < intermediate ? up.q[source] : 0) << c << " " << i;
      if (c < intermediate) {
        EXPECT_EQ(packed.view.scales[at + 16], up.scales[static_cast<size_t>(c)]);
      }
    }
}

TEST(PackConversions, EverySourceTypeIsConvertedAndRowsMayBeUnaligned) {
  const float values[] = {1.0f, -2.5f, 0.33325195f, 1024.0f, -0.0078125f};  // exact in float16
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for (const PackedFormat format : {PackedFormat::kF32, PackedFormat::kBf16}) {
      std::vector<std::byte> bytes(64);
      std::byte* at = bytes.data() + 1;
      const int64_t width = bits(dtype) / 8;
      for (int i = 0; i < 5; ++i) {
        const uint16_t half =
            dtype == DType::kBF16 ? to_bf16(values[i]).bits : to_f16(values[i]).bits;
        const void* from = dtype == DType::kF32 ? static_cast<const void*>(&values[i]) : &half;
        std::memcpy(at + i * width, from, static_cast<size_t>(width));
      }
      SourceMatrix source;
      source.data = at;
      source.dtype = dtype;
      source.n = 1;
      source.k = 5;
      source.row_bytes = width * 5;
      platform::Buffer memory = bytes_for_test(tensor::packed_bytes(format, 1, 5));
      const PackedMatrix m = pack_matrix(format, source, memory.data());
      for (int i = 0; i < 5; ++i) {
        const float in = dtype == DType::kBF16 ? to_float(to_bf16(values[i])) : values[i];
        const std::byte* p = m.data + offset_of(format, 5, 0, i);
        float out;
        if (format == PackedFormat::kF32) {
          std::memcpy(&out, p, 4);
          EXPECT_EQ(out, in);
        } else {
          Bf16 b;
          std::memcpy(&b.bits, p, 2);
          EXPECT_EQ(to_float(b), to_float(to_bf16(in)));
        }
      }
    }
}

}  // namespace
}  // namespace moestro::kernels
