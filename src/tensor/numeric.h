// Storage-only float types and their scalar conversions; the truth that vector code is tested
// against. Pure functions.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

namespace moestro {

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

inline float to_float(Bf16 v) { return std::bit_cast<float>(static_cast<uint32_t>(v.bits) << 16); }

// Round to nearest even; NaN stays NaN.
inline Bf16 to_bf16(float v) {
  const uint32_t u = std::bit_cast<uint32_t>(v);
  if (v != v) return {static_cast<uint16_t>(u >> 16 | 0x40)};
  return {static_cast<uint16_t>((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}

inline float to_float(F16 v) {
  const uint32_t sign = static_cast<uint32_t>(v.bits & 0x8000) << 16, exponent = v.bits >> 10 & 31,
                 mantissa = v.bits & 0x3ff;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | mantissa << 13);
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

// Round to nearest even; overflow gives infinity.
inline F16 to_f16(float v) {
  const uint32_t u = std::bit_cast<uint32_t>(v);
  const auto sign = static_cast<uint16_t>(u >> 16 & 0x8000);
  const float a = std::fabs(v);
  if (v != v) return {static_cast<uint16_t>(sign | 0x7e00)};
  if (a >= 65520.0f) return {static_cast<uint16_t>(sign | 0x7c00)};
  if (a < 6.103515625e-05f) {  // subnormal: a multiple of 2^-24
    return {static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(std::ldexp(a, 24))))};
  }
  const uint32_t m = std::bit_cast<uint32_t>(a);
  return {static_cast<uint16_t>(
      sign | static_cast<uint16_t>((m - 0x38000000 + 0xfff + (m >> 13 & 1)) >> 13))};
}

// float8 e4m3fn: bias 7, no infinities, 0x7f and 0xff are NaN.
inline float e4m3_to_float(uint8_t v) {
  const int exponent = v >> 3 & 15, mantissa = v & 7;
  if ((v & 0x7f) == 0x7f) return std::bit_cast<float>(0x7fc00000u);
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return v & 0x80 ? -magnitude : magnitude;
}

// Round to nearest even; beyond 448 it stays there (saturating, as activations are quantised); NaN
// gives 0x7f.
inline uint8_t to_e4m3(float v) {
  const auto sign = static_cast<uint8_t>(std::bit_cast<uint32_t>(v) >> 24 & 0x80);
  const float a = std::fabs(v);
  if (v != v) return static_cast<uint8_t>(sign | 0x7f);
  if (a >= 448.0f) return static_cast<uint8_t>(sign | 0x7e);
  if (a < 0.015625f)  // below 2^-6: a multiple of 2^-9
    return static_cast<uint8_t>(sign | static_cast<uint8_t>(std::nearbyint(std::ldexp(a, 9))));
  const uint32_t m = std::bit_cast<uint32_t>(a);
  return static_cast<uint8_t>(
      sign | static_cast<uint8_t>((m - (120u << 23) + 0x7ffff + (m >> 20 & 1)) >> 20));
}

// float4 e2m1, sign in bit 3.
inline float e2m1_to_float(uint8_t v) {
  constexpr float kMagnitudes[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  return v & 8 ? -kMagnitudes[v & 7] : kMagnitudes[v & 7];
}

inline float e8m0_to_float(uint8_t v) {
  return v == 255 ? std::bit_cast<float>(0x7fc00000u) : std::ldexp(1.0f, v - 127);
}

}  // namespace moestro
