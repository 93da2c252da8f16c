#include "kernels/pack.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/digest.h"
#include "kernels/matrix_for_test.h"

namespace moestro::kernels {
namespace {

using tensor::PackedFormat;
using tensor::PackedMatrix;
using tensor::WeightType;

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

// Bytes that are the same everywhere.
std::vector<std::byte> counted_bytes(size_t count, uint32_t seed) {
  std::vector<std::byte> bytes(count);
  for (std::byte& b : bytes) {
    seed = seed * 1664525 + 1013904223;
    b = static_cast<std::byte>(seed >> 24);
  }
  return bytes;
}

struct CountedMatrix {
  std::vector<std::byte> codes, group_scales;
  std::vector<float> scales;
  std::vector<uint8_t> zero_points;
  SourceMatrix source;

  CountedMatrix(const PackedFormat& f, int32_t n, int32_t k, uint32_t seed) {
    const int64_t row = (int64_t{k} * tensor::bits_of(f.weight) + 7) / 8;
    codes = counted_bytes(static_cast<size_t>(n * row), seed);
    if (!tensor::has_channel_scales(f))  // no NaN, whose bits are not promised
      for (size_t i = 1; i < codes.size(); i += 2) codes[i] &= std::byte{0x3f};
    const auto cells = static_cast<size_t>(n * tensor::groups_of(f, k));
    group_scales = counted_bytes(cells * static_cast<size_t>(tensor::group_scale_bytes(f)), ~seed);
    for (int32_t c = 0; c < n; ++c) scales.push_back(static_cast<float>(c) + 0.5f);
    zero_points.assign(cells, 3);
    source = {.data = codes.data(),
              .dtype = source_dtype(f.weight),
              .n = n,
              .k = k,
              .row_bytes = row,
              .scales = scales.data(),
              .group_scales = group_scales.data(),
              .zero_points = zero_points.data()};
  }
};

SourceMatrix rows_of(const SourceMatrix& m, const PackedFormat& f, int32_t first, int32_t count) {
  SourceMatrix band = m;
  const int64_t cells = int64_t{first} * tensor::groups_of(f, m.k);
  band.n = count;
  band.data += first * m.row_bytes;
  band.scales += first;
  band.group_scales += cells * tensor::group_scale_bytes(f);
  band.zero_points += cells;
  return band;
}

TEST_P(Pack, BandsMakeTheSameBytes) {
  const PackedFormat f = GetParam();
  const int32_t n = 70, k = 150;
  const CountedMatrix gate(f, n, k, 1), up(f, n, k, 2);
  const auto same = [&](int32_t packed_n, auto whole, auto band) {
    const auto bytes = tensor::packed_bytes(f, packed_n, k);
    platform::Buffer a = bytes_for_test(bytes), b = bytes_for_test(bytes);
    whole(a.data());
    std::memset(b.data(), 0, static_cast<size_t>(bytes));
    const PackedMatrix m = packed_view(f, packed_n, k, b.data());
    for (const int32_t first : {32, 64, 0}) band(m, first, std::min(32, n - first), b.data());
    EXPECT_EQ(std::memcmp(a.data(), b.data(), static_cast<size_t>(bytes)), 0);
  };
  same(
      n, [&](std::byte* dst) { pack_matrix(f, gate.source, dst); },
      [&](const PackedMatrix& m, int32_t first, int32_t count, std::byte* dst) {
        pack_channels(m, rows_of(gate.source, f, first, count), first, dst);
      });
  same(
      2 * n, [&](std::byte* dst) { pack_gate_up(f, gate.source, up.source, dst); },
      [&](const PackedMatrix& m, int32_t first, int32_t count, std::byte* dst) {
        pack_gate_up_channels(m, rows_of(gate.source, f, first, count),
                              rows_of(up.source, f, first, count), first, dst);
      });
}

// Packed weights are kept in files. Where this fails, packing makes other bytes than before: raise
// kPackingVersion, so that no older file is taken, and put the new digest here.
TEST(PackVersion, BytesAreThoseOfTheVersion) {
  ASSERT_EQ(kPackingVersion, 1u);
  std::string digests;
  for (const WeightType type : {WeightType::kF32, WeightType::kBf16, WeightType::kInt8,
                                WeightType::kFp8, WeightType::kInt4, WeightType::kFp4}) {
    PackedFormat f{.weight = type};
    if (tensor::bits_of(type) == 4)
      f.group_k = 32, f.group_scale = DType::kBF16, f.zero_points = type == WeightType::kInt4;
    const CountedMatrix m(f, 70, 150, 1);
    const auto bytes = tensor::packed_bytes(f, 70, 150);
    platform::Buffer memory = bytes_for_test(bytes);
    pack_matrix(f, m.source, memory.data());
    digests += hex(digest_of({memory.data(), static_cast<size_t>(bytes)})) + " ";
  }
  EXPECT_EQ(digests,
            "c15eabf1f6bf6997 83dca994f8b867e3 2e291da2ce2ac90f 1a38ef3cad581495 5857be973d6fb061 "
            "3778e657fff93282 ");
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
