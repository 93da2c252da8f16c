#include "tensor/numeric.h"

#include <gtest/gtest.h>

#include <limits>

namespace moestro {
namespace {

TEST(Numeric, Bf16RoundsToNearestEven) {
  EXPECT_EQ(to_bf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f808000u)).bits, 0x3f80);  // tie, even stays
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f818000u)).bits, 0x3f82);  // tie, odd goes up
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f808001u)).bits, 0x3f81);
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::numeric_limits<float>::quiet_NaN()))));
  for (uint32_t u = 0; u < 0x7f80; ++u) {
    const Bf16 b{static_cast<uint16_t>(u)};
    EXPECT_EQ(to_bf16(to_float(b)).bits, b.bits);
  }
}

TEST(Numeric, F16RoundTripsEveryFiniteValue) {
  for (uint32_t u = 0; u < 0x10000; ++u) {
    if ((u >> 10 & 31) == 31) continue;
    const F16 h{static_cast<uint16_t>(u)};
    ASSERT_EQ(to_f16(to_float(h)).bits, h.bits) << u;
  }
  EXPECT_EQ(to_f16(65519.0f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(to_f16(std::ldexp(1.0f, -25)).bits, 0);  // tie to even
  EXPECT_EQ(to_f16(std::ldexp(1.5f, -25)).bits, 1);
}

TEST(Numeric, E4m3Values) {
  EXPECT_EQ(e4m3_to_float(0x7e), 448.0f);
  EXPECT_EQ(e4m3_to_float(0x01), std::ldexp(1.0f, -9));
  EXPECT_EQ(e4m3_to_float(0xb8), -1.0f);
  EXPECT_TRUE(std::isnan(e4m3_to_float(0xff)));
  EXPECT_EQ(e8m0_to_float(128), 2.0f);
}

}  // namespace
}  // namespace moestro
