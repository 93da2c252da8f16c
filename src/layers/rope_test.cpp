// Rotary frequencies of every kind against the published formulas, worked out here in another form.
#include "layers/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace moestro::layers {
namespace {

using checkpoint::RopeConfig;
using checkpoint::RopeType;

TEST(Rope, DefaultFrequenciesAreAGeometricSeries) {
  const Rope rope = Rope::make({.theta = 10000}, 64, 4096).value();
  ASSERT_EQ(rope.frequencies().size(), 32u);
  EXPECT_DOUBLE_EQ(rope.frequencies()[0], 1);
  EXPECT_NEAR(rope.frequencies()[16], 0.01, 1e-12);
  EXPECT_NEAR(rope.frequencies()[31], std::exp(-std::log(10000.0) * 31 / 32), 1e-12);
}

TEST(Rope, LinearDividesAll) {
  const Rope rope =
      Rope::make({.type = RopeType::kLinear, .theta = 10000, .factor = 4}, 8, 4096).value();
  EXPECT_DOUBLE_EQ(rope.frequencies()[0], 0.25);
}

TEST(Rope, YarnOfDeepseekV3) {
  // theta 10000, factor 40, original 4096, beta 32 and 1, dim 64: the ramp runs from index 10
  // to 23.
  const RopeConfig config{.type = RopeType::kYarn,
                          .theta = 10000,
                          .factor = 40,
                          .original_max_position = 4096,
                          .mscale = 1,
                          .mscale_all_dim = 1};
  const Rope rope = Rope::make(config, 64, 163840).value();
  const auto plain = [](int i) { return std::pow(10000.0, -2.0 * i / 64); };
  EXPECT_NEAR(rope.frequencies()[10], plain(10), 1e-15);
  EXPECT_NEAR(rope.frequencies()[23], plain(23) / 40, 1e-15);
  EXPECT_NEAR(rope.frequencies()[31], plain(31) / 40, 1e-15);
  const double ramp = 5.0 / 13;
  EXPECT_NEAR(rope.frequencies()[15], plain(15) * (1 - ramp + ramp / 40), 1e-15);
  EXPECT_DOUBLE_EQ(rope.attention_factor(), 1);
  EXPECT_NEAR(std::pow(yarn_mscale(40, 1), 2) / std::sqrt(192.0), 0.135234, 1e-6);
}

TEST(Rope, YarnWithoutMscaleScalesByLogOfFactor) {
  const RopeConfig config{.type = RopeType::kYarn,
                          .theta = 150000,
                          .factor = 32,
                          .original_max_position = 4096,
                          .truncate = false};
  EXPECT_NEAR(Rope::make(config, 64, 131072).value().attention_factor(), 1.34657, 1e-5);
}

TEST(Rope, Llama3BandsKeepShortAndDivideLongWavelengths) {
  const RopeConfig config{.type = RopeType::kLlama3,
                          .theta = 500000,
                          .factor = 8,
                          .original_max_position = 8192,
                          .low_freq_factor = 1,
                          .high_freq_factor = 4};
  const Rope rope = Rope::make(config, 128, 131072).value();
  EXPECT_DOUBLE_EQ(rope.frequencies()[0], 1);
  EXPECT_NEAR(rope.frequencies()[63], std::pow(500000.0, -126.0 / 128) / 8, 1e-15);
  for (size_t i = 1; i < 64; ++i) EXPECT_LT(rope.frequencies()[i], rope.frequencies()[i - 1]);
}

TEST(Rope, TableHoldsCosAndSinOfPositionTimesFrequency) {
  const Rope rope = Rope::make({.theta = 100000}, 4, 4096).value();
  const int32_t positions[] = {0, 4095};
  const kernels::StepInput step{.num_tokens = 2, .positions = positions};
  float cos[4], sin[4];
  platform::Gang gang(1);
  gang.run([&](platform::Worker& worker) { rope.fill(step, cos, sin, worker); });
  EXPECT_EQ(cos[0], 1);
  EXPECT_EQ(sin[1], 0);
  EXPECT_NEAR(cos[2], std::cos(4095.0), 1e-6);
  EXPECT_NEAR(sin[3], std::sin(4095.0 * std::pow(100000.0, -0.5)), 1e-6);
}

TEST(Rope, RefusesWhatItCannotDo) {
  EXPECT_EQ(Rope::make({}, 7, 4096).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(Rope::make({}, 0, 4096).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(Rope::make({.theta = 0.5}, 8, 4096).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(Rope::make({.type = RopeType::kDynamic}, 8, 4096).status().code(), Code::kUnsupported);
}

}  // namespace
}  // namespace moestro::layers
