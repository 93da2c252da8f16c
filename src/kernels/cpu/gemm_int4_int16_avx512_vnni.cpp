// int4_int16.h with vpdpbusd, straight from the registers: unsigned codes times signed bytes.
#include "kernels/cpu/int4_int16.h"
#include "kernels/cpu/next_weights.h"

MOESTRO_TARGET_AVX512_VNNI_BEGIN
namespace moestro::kernels::cpu {
namespace {

__m512i four_bytes(const std::byte* a) {
  int32_t v;
  std::memcpy(&v, a, 4);
  return _mm512_set1_epi32(v);
}

// Rows of a block of activations, step_stride from k-step to k-step.
struct Rows {
  const std::byte* a;
  int64_t step_stride;
  const float* beside;
  int32_t per_row;
  float* c;
};

// Sums of the first 64 values of a k-step, of the second, or of both.
template <int R, int begin, int end>
inline void count_rows(avx512::Int16Stretch& stretch, const __m512i (&acc)[R][2][2][2],
                       const Rows& rows, int32_t k, const float* beside) {
  stretch.start(k);
#pragma GCC unroll 3
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m512i(&sums)[2][2] = acc[r][h];
      __m512i high = sums[begin][0], low = sums[begin][1];
      if constexpr (end - begin == 2) {
        high = _mm512_add_epi32(high, sums[1][0]);
        low = _mm512_add_epi32(low, sums[1][1]);
      }
      stretch.count(high, low, h, beside + r * rows.per_row, rows.c + r * 32 + h * 16, k == 0);
    }
}

template <int R>
void some_rows(const PanelCall& call, const Rows& rows) {
  const tensor::PackedMatrix& m = *call.w;
  const std::byte *w = m.panel(call.panel), *x = rows.a;
  const __m512i nibble = _mm512_set1_epi8(15);
  const int32_t size = int16_stretch(m.format);
  avx512::Int16Stretch stretch(m, call.panel);
  PanelLines lines(call);
  for (int32_t k = 0; k < m.k; k += 128, w += tensor::kKStepBytes, x += rows.step_stride) {
    __m512i acc[R][2][2][2];  // [row][tile][first, second 64 values][high, low bytes]
#pragma GCC unroll 3
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h)
        acc[r][h][0][0] = acc[r][h][0][1] = acc[r][h][1][0] = acc[r][h][1][1] =
            _mm512_setzero_si512();
    lines.start_step(k / 128);
    for (int i = 0; i < 16; ++i)
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        lines.line(2 * i + h);
        const __m512i codes = _mm512_load_si512(w + h * 1024 + i * 64);
        const __m512i first = _mm512_and_si512(codes, nibble),
                      second = _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble);
#pragma GCC unroll 3
        for (int r = 0; r < R; ++r) {
          const std::byte* a = x + r * kInt16StepBytes + i * 4;
          acc[r][h][0][0] = _mm512_dpbusd_epi32(acc[r][h][0][0], first, four_bytes(a));
          acc[r][h][1][0] = _mm512_dpbusd_epi32(acc[r][h][1][0], second, four_bytes(a + 64));
          acc[r][h][0][1] = _mm512_dpbusd_epi32(acc[r][h][0][1], first, four_bytes(a + 128));
          acc[r][h][1][1] = _mm512_dpbusd_epi32(acc[r][h][1][1], second, four_bytes(a + 192));
        }
      }
    if (size == 128) {
      count_rows<R, 0, 2>(stretch, acc, rows, k, rows.beside + k / 64);
    } else {
      count_rows<R, 0, 1>(stretch, acc, rows, k, rows.beside + k / 32);
      if (k + 64 < m.k) count_rows<R, 1, 2>(stretch, acc, rows, k + 64, rows.beside + k / 32 + 2);
    }
  }
}

}  // namespace

void int4_int16_vnni_panel(const PanelCall& call, TileState&) {
  const int32_t k_steps = call.w->k_steps(),
                per_row = int16_values_per_row(call.w->format, call.w->k);
  for (int32_t b = 0; b < call.rows; b += kBlockRows) {
    const int32_t in_block = std::min(kBlockRows, call.rows - b);
    const std::byte* a = call.a + int64_t{b} * k_steps * kInt16StepBytes;
    for (int32_t r = 0; r < in_block; r += 3) {
      const Rows rows{a + r * kInt16StepBytes, int64_t{in_block} * kInt16StepBytes,
                      call.row_scales + int64_t{b + r} * per_row, per_row, call.c + (b + r) * 32};
      if (in_block - r == 1)
        some_rows<1>(call, rows);
      else if (in_block - r == 2)
        some_rows<2>(call, rows);
      else
        some_rows<3>(call, rows);
    }
  }
  avx512::scale_channels(call);
}

const TileOps kInt4Int16Avx512Vnni = {
    tensor::WeightType::kInt4, kInt16StepBytes, int16_values_per_row, avx512::pack_int16,
    int4_int16_vnni_panel,     avx512::store,   avx512::gated,        finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
