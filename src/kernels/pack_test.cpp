#include "kernels/pack.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/matrix_for_test.h"

namespace moestro::kernels {
namespace {

using tensor::PackedFormat;
using tensor::PackedMatrix;

// Byte offset of value [channel, i], written out from the comment in packed_matrix.h.
int64_t offset_of(const PackedFormat& format, int32_t k, int32_t channel, int32_t i) {
  const bool nibbles = tensor::bits_of(format.weight) == 4;
  const int64_t value_bytes = nibbles ? 1 : tensor::bits_of(format.weight) / 8;
  const int64_t per_step = nibbles ? 128 : 64 / value_bytes, steps = (k + per_step - 1) / per_step;
  const int64_t panel = channel / 32, tile = channel / 16 % 2, lane = channel % 16;
  const int64_t step = i / per_step, byte = i % per_step % 64 * value_bytes, row = byte / 4;
  return panel * steps * 2048 + step * 2048 + tile * 1024 + row * 64 + lane * 4 + byte % 4;
}

class Pack : public testing::TestWithParam<PackedFormat> {};

TEST_P(Pack, EveryValueIsWhereTheLayoutSaysAndPaddingIsZero) {
  std::mt19937 rng(1);
  const bool nibbles = tensor::bits_of(GetParam().weight) == 4;
  for (const auto& [n, k] : {std::pair{1, 1}, {32, 64}, {33, 65}, {47, 130}, {96, 200}, {16, 15}}) {
    const TestWeights w(GetParam(), n, k, rng);
    PackedForTest packed(w);
    const PackedMatrix& m = packed.view;
    EXPECT_EQ(m.n, n);
    EXPECT_EQ(m.k, k);
    std::vector<std::byte> expected(static_cast<size_t>(m.num_panels() * m.panel_bytes()));
    if (nibbles) {  // the channels' rest of k holds the code of zero; int4 codes count from 8
      const int32_t padded_k = m.k_steps() * 128;
      for (int32_t c = 0; c < n; ++c)
        for (int32_t i = 0; i < padded_k; ++i) {
          const uint32_t code = i < k                                          ? w.codes[w.at(c, i)]
                                : w.format.weight == tensor::WeightType::kInt4 ? 8
                                                                               : 0;
          expected[static_cast<size_t>(offset_of(w.format, k, c, i))] |=
              static_cast<std::byte>(i % 128 < 64 ? code : code << 4);
        }
    }
    for (int32_t c = 0; c < n && !nibbles; ++c)
      for (int32_t i = 0; i < k; ++i) {
        std::byte* at = expected.data() + offset_of(w.format, k, c, i);
        if (w.format.weight == tensor::WeightType::kF32) {
          std::memcpy(at, &w.floats[w.at(c, i)], 4);
        } else if (w.format.weight == tensor::WeightType::kBf16) {
          const uint16_t bits = to_bf16(w.floats[w.at(c, i)]).bits;
          std::memcpy(at, &bits, 2);
        } else {
          *at = std::byte{w.codes[w.at(c, i)]};
        }
      }
    EXPECT_EQ(std::memcmp(expected.data(), m.data, expected.size()), 0) << n << " x " << k;
  }
}

TEST_P(Pack, ScalesAndZeroPointsFollowChannels) {
  std::mt19937 rng(4);
  const int32_t n = 40, k = 300;
  const TestWeights w(GetParam(), n, k, rng);
  PackedForTest packed(w);
  const PackedMatrix& m = packed.view;
  ASSERT_EQ(m.scales != nullptr, tensor::has_channel_scales(w.format));
  ASSERT_EQ(m.group_scales != nullptr, w.format.group_k != 0);
  ASSERT_EQ(m.zero_points != nullptr, w.format.zero_points);
  const int32_t width = tensor::group_scale_bytes(w.format);
  for (int32_t c = 0; c < m.padded_n(); ++c) {
    if (m.scales) {
      EXPECT_EQ(m.scales[c], c < n ? w.scale_of(c) : 0.0f);
    }
    for (int32_t g = 0; g < w.groups(); ++g) {
      uint32_t bits = 0;
      std::memcpy(&bits, m.panel_scales(c / 32, g) + c % 32 * width, static_cast<size_t>(width));
      ASSERT_EQ(bits, c < n ? w.group_scale_bits[w.cell(c, g)] : 0u) << c << " " << g;
      if (m.zero_points && c < n) {
        ASSERT_EQ(m.panel_zeros(c / 32, g)[c % 32], w.zero_points[w.cell(c, g)]) << c << " " << g;
      }
    }
  }
}

TEST_P(Pack, GateAndUpAlternateByTiles) {
  std::mt19937 rng(5);
  const int32_t intermediate = 24, hidden = 140;
  const TestWeights gate(GetParam(), intermediate, hidden, rng),
      up(GetParam(), intermediate, hidden, rng);
  const PackedForTest both(gate, up), gate_alone(gate), up_alone(up);
  const PackedMatrix& m = both.view;
  EXPECT_EQ(m.n, 2 * intermediate);
  for (int32_t c = 0; c < intermediate; ++c)
    for (int32_t i = 0; i < hidden; ++i) {
      const int32_t at = c / 16 * 32 + c % 16;
      const auto from = [&](const PackedMatrix& w, int32_t channel) {
        return w.data[offset_of(w.format, hidden, channel, i)];
      };
      ASSERT_EQ(from(m, at), from(gate_alone.view, c)) << c << " " << i;
      ASSERT_EQ(from(m, at + 16), from(up_alone.view, c)) << c << " " << i;
    }
  const int32_t width = tensor::group_scale_bytes(m.format);
  for (int32_t c = 0; c < intermediate; ++c)
    for (int32_t g = 0; g < m.groups(); ++g) {
      const auto cells = static_cast<size_t>(width);
      const std::byte* scales = m.panel_scales(c / 16, g) + c % 16 * width;
      ASSERT_EQ(std::memcmp(scales, &gate.group_scale_bits[gate.cell(c, g)], cells), 0);
      ASSERT_EQ(std::memcmp(scales + 16 * width, &up.group_scale_bits[up.cell(c, g)], cells), 0);
    }
}

INSTANTIATE_TEST_SUITE_P(Formats, Pack, testing::ValuesIn(test_formats()),
                         [](const auto& info) { return format_label(info.param); });

TEST(PackInt8, ScalesAndCompensationFollowChannels) {
  std::mt19937 rng(2);
  const TestWeights w(PackedFormat::kInt8, 40, 70, rng);
  PackedForTest packed(w);
  for (int32_t c = 0; c < packed.view.padded_n(); ++c) {
    int32_t sum = 0;
    for (int32_t i = 0; c < 40 && i < 70; ++i) sum += static_cast<int8_t>(w.codes[w.at(c, i)]);
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
      ASSERT_EQ(value(at), c < intermediate ? gate.stored_at(c, i) : 0) << c << " " << i;
      ASSERT_EQ(value(at + 16), c < intermediate ? up.stored_at(c, i) : 0) << c << " " << i;
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
