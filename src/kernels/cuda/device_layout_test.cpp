#include "kernels/cuda/device_layout.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>
#include <vector>

#include "kernels/cuda/lists.h"

namespace moestro::kernels::cuda {
namespace {

TEST(DeviceLayout, EveryByteHasItsOwnPlace) {
  const DeviceMatrix m{300, 200, 1};
  std::set<int64_t> places;
  for (int32_t row = 0; row < m.padded_n(); ++row)
    for (int32_t byte = 0; byte < m.k_steps() * kStepBytes; ++byte)
      places.insert(packed_offset(m, row, byte));
  EXPECT_EQ(static_cast<int64_t>(places.size()), m.bytes());
  EXPECT_EQ(*places.begin(), 0);
  EXPECT_EQ(*places.rbegin(), m.bytes() - 1);
}

TEST(DeviceLayout, RowPermutationsAreOneToOne) {
  std::set<int32_t> plain, sides;
  for (int32_t c = 0; c < 512; ++c) plain.insert(plain_row(c));
  for (int32_t c = 0; c < 256; ++c)
    for (int32_t side : {0, 1}) sides.insert(gate_up_row(c, side));
  EXPECT_EQ(plain.size(), 512u);
  EXPECT_EQ(*plain.rbegin(), 511);
  EXPECT_EQ(sides, plain);
}

TEST(DeviceLayout, FourBitValuesAndTheirScalesHaveTheirOwnPlaces) {
  const DeviceMatrix m{300, 200, 2};
  std::set<int64_t> bits, scales;
  for (int32_t row = 0; row < m.padded_n(); ++row)
    for (int32_t k = 0; k < m.k_steps() * kInt4StepValues; ++k) {
      const Int4Place at = int4_place(m, row, k);
      bits.insert(8 * at.word + at.bit);
      scales.insert(at.scale);
    }
  const int64_t values = int64_t{m.padded_n()} * m.k_steps() * kInt4StepValues;
  EXPECT_EQ(static_cast<int64_t>(bits.size()), values);
  EXPECT_EQ(static_cast<int64_t>(scales.size()), int64_t{m.padded_n()} * m.k_steps());
  for (const int64_t scale : scales) ASSERT_FALSE(bits.contains(8 * scale));
  EXPECT_LT(*scales.rbegin(), m.int4_bytes());
}

TEST(DeviceLayout, PackingFourBitsPlacesValuesAndPadsWithZeros) {
  const int32_t hidden = 200, inter = 72, group = 128, groups = 2;
  std::mt19937 rng(4);
  std::vector<int8_t> gate(hidden * inter), up(gate.size());
  for (auto* v : {&gate, &up})
    for (int8_t& x : *v) x = static_cast<int8_t>(static_cast<int>(rng() % 16) - 8);
  std::vector<uint16_t> gate_scales(inter * groups), up_scales(inter * groups);
  for (size_t i = 0; i < gate_scales.size(); ++i) {
    gate_scales[i] = static_cast<uint16_t>(0x3c00 + i);
    up_scales[i] = static_cast<uint16_t>(0x3d00 + i);
  }
  const DeviceMatrix m = gate_up_matrix(hidden, inter, 2);
  std::vector<std::byte> packed(static_cast<size_t>(m.int4_bytes()), std::byte{99});
  pack_gate_up_int4(m, inter, gate.data(), up.data(), gate_scales.data(), up_scales.data(), group,
                    packed.data());
  auto value = [&](int32_t row, int32_t k) {
    const Int4Place at = int4_place(m, row, k);
    uint32_t word;
    std::memcpy(&word, packed.data() + at.word, 4);
    return static_cast<int>(word >> at.bit & 15) - 8;
  };
  auto scale = [&](int32_t row, int32_t k) {
    uint16_t v;
    std::memcpy(&v, packed.data() + int4_place(m, row, k).scale, 2);
    return v;
  };
  for (int32_t c = 0; c < kBlockRows / 2; ++c)
    for (int32_t k = 0; k < m.k_steps() * kInt4StepValues; ++k) {
      const bool real = c < inter && k < hidden;
      const auto from = static_cast<size_t>(real ? c * hidden + k : 0);
      ASSERT_EQ(value(gate_up_row(c, 0), k), real ? gate[from] : 0) << c << " " << k;
      ASSERT_EQ(value(gate_up_row(c, 1), k), real ? up[from] : 0) << c << " " << k;
      if (!real) continue;
      ASSERT_EQ(scale(gate_up_row(c, 0), k),
                gate_scales[static_cast<size_t>(c * groups + k / group)]);
      ASSERT_EQ(scale(gate_up_row(c, 1), k),
                up_scales[static_cast<size_t>(c * groups + k / group)]);
    }
}

// The scale of a channel and step as the kernels find it, for every channel.
TEST(DeviceLayout, BlockScalesFollowTheirChannels) {
  const int32_t hidden = 300, inter = 200;
  std::vector<float> gate(2 * 3), up(2 * 3), down(3 * 2);
  for (size_t i = 0; i < 6; ++i) {
    gate[i] = static_cast<float>(i + 1);
    up[i] = static_cast<float>(i + 101);
    down[i] = static_cast<float>(i + 201);
  }
  const DeviceMatrix u = gate_up_matrix(hidden, inter, 1), d{hidden, inter, 1};
  std::vector<float> packed_up(static_cast<size_t>(u.step_scales()), -1.0f),
      packed_down(static_cast<size_t>(d.step_scales()), -1.0f);
  pack_gate_up_block_scales(u, inter, gate.data(), up.data(), packed_up.data());
  pack_plain_block_scales(d, down.data(), packed_down.data());
  auto at = [](const DeviceMatrix& m, const std::vector<float>& packed, int32_t row, int32_t k) {
    const int32_t step = row / kBlockRows * m.k_steps() + k / kStepBytes;
    return packed[static_cast<size_t>(step * kStepScales + 2 * (row / 128 % 2) + row / 8 % 2)];
  };
  for (int32_t c = 0; c < inter; ++c)
    for (int32_t k = 0; k < hidden; ++k) {
      const auto from = static_cast<size_t>(c / 128 * 3 + k / 128);
      ASSERT_EQ(at(u, packed_up, gate_up_row(c, 0), k), gate[from]);
      ASSERT_EQ(at(u, packed_up, gate_up_row(c, 1), k), up[from]);
      ASSERT_EQ(at(d, packed_down, plain_row(k), c),
                down[static_cast<size_t>(k / 128 * 2 + c / 128)]);
    }
}

TEST(DeviceLayout, PackingPlacesValuesAndScalesAndPadsWithZeros) {
  const int32_t hidden = 200, inter = 72;
  std::mt19937 rng(3);
  std::vector<int8_t> gate(hidden * inter), up(gate.size());
  for (auto* v : {&gate, &up})
    for (int8_t& x : *v) x = static_cast<int8_t>(static_cast<int>(rng() % 255) - 127);
  std::vector<float> gate_scales(inter, 2.0f), up_scales(inter, 3.0f);
  const DeviceMatrix m = gate_up_matrix(hidden, inter, 1);
  std::vector<int8_t> packed(static_cast<size_t>(m.bytes()), 99);
  std::vector<float> scales(static_cast<size_t>(m.padded_n()), 99.0f);
  pack_gate_up(m, inter, gate.data(), up.data(), gate_scales.data(), up_scales.data(),
               packed.data(), scales.data());
  auto at = [&](int32_t row, int32_t k) {
    return packed[static_cast<size_t>(packed_offset(m, row, k))];
  };
  for (int32_t c = 0; c < kBlockRows / 2; ++c) {
    for (int32_t k = 0; k < m.k_steps() * kStepBytes; ++k) {
      const bool real = c < inter && k < hidden;
      const auto from = static_cast<size_t>(real ? c * hidden + k : 0);
      ASSERT_EQ(at(gate_up_row(c, 0), k), real ? gate[from] : 0) << c << " " << k;
      ASSERT_EQ(at(gate_up_row(c, 1), k), real ? up[from] : 0) << c << " " << k;
    }
    EXPECT_EQ(scales[static_cast<size_t>(gate_up_row(c, 0))], c < inter ? 2.0f : 0.0f);
    EXPECT_EQ(scales[static_cast<size_t>(gate_up_row(c, 1))], c < inter ? 3.0f : 0.0f);
  }
}

TEST(MoeLayerKernels, SayWhatTheyNeedAndWhyNot) {
  for (const auto kernels :
       {moe_layer_kernels_int8(), moe_layer_kernels_fp8(), moe_layer_kernels_fp8_block(),
        moe_layer_kernels_bf16(), moe_layer_kernels_int4()}) {
    ASSERT_FALSE(kernels.empty());
    DeviceMoeShape s;
    s.max_tokens = 128;
    s.experts = 256;
    s.top_k = 8;
    s.hidden = 6144;
    s.intermediate = 2048;
    EXPECT_EQ(kernels[0].needs.compute_major, 9);
    EXPECT_TRUE(kernels[0].supports(s).ok());
    EXPECT_GT(kernels[0].workspace_bytes(s, 132), 128 * 8 * 6144 * 2);
#ifdef MOESTRO_CUDA
    EXPECT_NE(kernels[0].run, nullptr);
#else
    EXPECT_EQ(kernels[0].run, nullptr);  // a plan can name it, nothing can launch it
#endif
    s.experts = 1024;
    EXPECT_NE(kernels[0].supports(s).message().find("1024 experts"), std::string::npos);
    s.experts = 256;
    s.hidden = 6145;
    EXPECT_FALSE(kernels[0].supports(s).ok());
  }
}

// From few tokens to many: x resident, rows grouped, the prefill kernel; each with the memory it
// needs and no more.
TEST(MoeWorkspace, FollowsTheNumberOfTokens) {
  DeviceMoeShape s;
  s.experts = 256;
  s.top_k = 8;
  s.hidden = 6144;
  s.intermediate = 2048;
  s.max_tokens = 1;
  EXPECT_EQ(moe_row_tile(s), 8);
  EXPECT_LT(moe_workspace_bytes(s, 132), int64_t{8} << 20);
  s.max_tokens = 128;
  EXPECT_EQ(moe_row_tile(s), 16);
  s.max_tokens = 8192;
  EXPECT_EQ(moe_row_tile(s), 160);
  const int64_t rows = 8192 * 8 + 8 * 256;
  EXPECT_GT(moe_workspace_bytes(s, 132), rows * (6144 + 2 * 2048 + 2048 + 2 * 6144));
  EXPECT_LT(moe_workspace_bytes(s, 132), rows * (6144 + 2 * 2048 + 2048 + 2 * 6144) * 102 / 100);
  s.row_tile = 24;
  EXPECT_FALSE(check_moe_shape(s).ok());
}

}  // namespace
}  // namespace moestro::kernels::cuda
