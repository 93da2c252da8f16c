// int8 with AVX512-VNNI: unsigned activations (q + 128) times signed weights, exact in int32; the
// compensation takes 128 times the channel's sum of weights away.
#include "kernels/cpu/int8_vnni.h"
#include "kernels/cpu/next_weights.h"
#include "kernels/cpu/rows_avx512.h"

MOESTRO_TARGET_AVX512_VNNI_BEGIN
namespace moestro::kernels::cpu {
namespace {

constexpr int32_t kBlockSteps = 12;  // 24 KiB of weights stay in L1 while the rows pass

__m512i four_bytes(const std::byte* a) {
  int32_t v;
  std::memcpy(&v, a, 4);
  return _mm512_set1_epi32(v);
}

// R rows x both tiles; up to four rows keep two chains a result (even and odd k groups), as
// vpdpbusd takes 5 cycles.
template <int R>
void block(const std::byte* w, const std::byte* a, int64_t a_stride, int32_t steps, float* c,
           bool first, PanelLines& lines) {
  constexpr int kChains = R <= 4 ? 2 : 1;
  __m512i acc[R][2][kChains];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int t = 0; t < 2 * kChains; ++t) acc[r][t / kChains][t % kChains] = _mm512_setzero_si512();
  for (int32_t s = 0; s < steps; ++s, w += tensor::kKStepBytes, a += a_stride) {
    if constexpr (R <= 4) lines.start_step(s);
#pragma GCC unroll 8
    for (int i = 0; i < 16; ++i) {
      if constexpr (R <= 4) {  // the weights come from memory
        lines.line(2 * i);
        lines.line(2 * i + 1);
      }
      const __m512i b0 = _mm512_load_si512(w + i * 64), b1 = _mm512_load_si512(w + 1024 + i * 64);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const __m512i x = four_bytes(a + r * 64 + i * 4);
        acc[r][0][i % kChains] = _mm512_dpbusd_epi32(acc[r][0][i % kChains], x, b0);
        acc[r][1][i % kChains] = _mm512_dpbusd_epi32(acc[r][1][i % kChains], x, b1);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int t = 0; t < 2; ++t) {
      __m512i sum = acc[r][t][0];
      if constexpr (kChains == 2) sum = _mm512_add_epi32(sum, acc[r][t][1]);
      float* p = c + r * 32 + t * 16;
      _mm512_storeu_si512(p, first ? sum : _mm512_add_epi32(_mm512_loadu_si512(p), sum));
    }
}

void some_rows(int32_t n, const std::byte* w, const std::byte* a, int64_t a_stride, int32_t steps,
               float* c, bool first, PanelLines& lines) {
  switch (n) {
    case 1:
      return block<1>(w, a, a_stride, steps, c, first, lines);
    case 2:
      return block<2>(w, a, a_stride, steps, c, first, lines);
    case 3:
      return block<3>(w, a, a_stride, steps, c, first, lines);
    case 4:
      return block<4>(w, a, a_stride, steps, c, first, lines);
    case 5:
      return block<5>(w, a, a_stride, steps, c, first, lines);
    case 6:
      return block<6>(w, a, a_stride, steps, c, first, lines);
    case 7:
      return block<7>(w, a, a_stride, steps, c, first, lines);
    default:
      return block<8>(w, a, a_stride, steps, c, first, lines);
  }
}

}  // namespace

void int8_vnni_panel(const PanelCall& call, TileState&) {
  const int32_t k_steps = call.w->k_steps();
  const int32_t block_steps = call.rows <= 4 ? k_steps : kBlockSteps;
  const std::byte* w = call.w->panel(call.panel);
  PanelLines lines(call);
  for (int32_t s = 0; s < k_steps; s += block_steps) {
    const int32_t steps = std::min(block_steps, k_steps - s);
    for (int32_t b = 0; b < call.rows; b += kBlockRows) {
      const int32_t in_block = std::min(kBlockRows, call.rows - b);
      const std::byte* a = call.a + (int64_t{b} * k_steps + int64_t{s} * in_block) * 64;
      for (int32_t r = 0; r < in_block; r += 8)
        some_rows(std::min(8, in_block - r), w + s * tensor::kKStepBytes, a + r * 64, in_block * 64,
                  steps, call.c + (b + r) * 32, s == 0, lines);
    }
  }
  avx512::scale_int8_sums(call);
}

const TileOps kInt8Avx512Vnni = {tensor::WeightType::kInt8,
                                 64,
                                 one_row_scale,
                                 avx512::pack_int8,
                                 int8_vnni_panel,
                                 avx512::store,
                                 avx512::gated,
                                 finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
