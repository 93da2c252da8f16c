// Four-bit integers and int8 with groups, times int8 activations, with AVX512-VNNI: vpdpbusd wants
// its weights unsigned, so they are the codes, or int8 plus 128, and the zero point times the
// activations' sum goes off at the end of each group. Sums of a group (or of all of k) are exact.
#include "kernels/cpu/groups_avx512.h"
#include "kernels/cpu/int8_vnni.h"
#include "kernels/cpu/next_weights.h"

MOESTRO_TARGET_AVX512_VNNI_BEGIN
namespace moestro::kernels::cpu {
namespace {

constexpr int32_t kPieceBytes = 16 << 10;  // of unsigned weights, in L1

// R rows x values [begin, end) of a piece (multiples of four): t[R, 32] = or += sums.
template <int R, int32_t sub>
void block(const std::byte* w, const std::byte* a, int64_t step_stride, int32_t begin, int32_t end,
           float* t, bool first) {
  __m512i acc[R][2];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h)
      acc[r][h] = first ? _mm512_setzero_si512() : _mm512_loadu_si512(t + r * 32 + h * 16);
  for (int32_t i = begin; i < end; i += 4) {
    const std::byte* from = w + i / 64 * tensor::kKStepBytes + i % 64 * 16;
    const __m512i w0 = _mm512_load_si512(from), w1 = _mm512_load_si512(from + 1024);
    const std::byte* x = a + i / (64 * sub) * step_stride + i % (64 * sub);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      int32_t four;
      std::memcpy(&four, x + r * 64 * sub, 4);
      const __m512i v = _mm512_set1_epi32(four);
      acc[r][0] = _mm512_dpbusd_epi32(acc[r][0], w0, v);
      acc[r][1] = _mm512_dpbusd_epi32(acc[r][1], w1, v);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) _mm512_storeu_si512(t + r * 32 + h * 16, acc[r][h]);
}

template <int32_t sub>
void some_rows(int32_t rows, const std::byte* w, const std::byte* a, int64_t step_stride,
               int32_t begin, int32_t end, float* t, bool first) {
  switch (rows) {
    case 1:
      return block<1, sub>(w, a, step_stride, begin, end, t, first);
    case 2:
      return block<2, sub>(w, a, step_stride, begin, end, t, first);
    case 3:
      return block<3, sub>(w, a, step_stride, begin, end, t, first);
    case 4:
      return block<4, sub>(w, a, step_stride, begin, end, t, first);
    case 5:
      return block<5, sub>(w, a, step_stride, begin, end, t, first);
    case 6:
      return block<6, sub>(w, a, step_stride, begin, end, t, first);
    case 7:
      return block<7, sub>(w, a, step_stride, begin, end, t, first);
    default:
      return block<8, sub>(w, a, step_stride, begin, end, t, first);
  }
}

// R rows x one k-step of codes: sums of its first 64 values of k and of the others. x: 128 bytes a
// row.
template <int R>
void int4_step(const std::byte* w, const std::byte* x, PanelLines& lines, __m512i (&acc)[2][R][2]) {
  const __m512i nibble = _mm512_set1_epi8(15);
  for (int i = 0; i < 16; ++i, w += 64)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      lines.line(2 * i + h);
      const __m512i codes = _mm512_load_si512(w + h * 1024);
      const __m512i low = _mm512_and_si512(codes, nibble),
                    high = _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        int32_t first, second;
        std::memcpy(&first, x + r * 128 + i * 4, 4);
        std::memcpy(&second, x + r * 128 + 64 + i * 4, 4);
        acc[0][r][h] = _mm512_dpbusd_epi32(acc[0][r][h], low, _mm512_set1_epi32(first));
        acc[1][r][h] = _mm512_dpbusd_epi32(acc[1][r][h], high, _mm512_set1_epi32(second));
      }
    }
}

template <int R>
void clear(__m512i (&acc)[2][R][2]) {
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half)
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) acc[half][r][0] = acc[half][r][1] = _mm512_setzero_si512();
}

// to[R, 32] = the sums of one half, or of both.
template <int R>
void put(const __m512i (&acc)[2][R][2], int half, bool both, float* to) {
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h)
      _mm512_storeu_si512(to + r * 32 + h * 16, both ? _mm512_add_epi32(acc[0][r][h], acc[1][r][h])
                                                : half == 0 ? acc[0][r][h]
                                                            : acc[1][r][h]);
}

template <int R>
void int4_rows(const PanelCall& call, avx512::Stretch& stretch) {
  const tensor::PackedMatrix& m = *call.w;
  const bool groups = m.format.group_k > 0;
  const std::byte *w = m.panel(call.panel), *x = call.a;
  PanelLines lines(call);
  alignas(64) float t[2][R * 32];
  __m512i acc[2][R][2];
  clear(acc);
  for (int32_t k = 0; k < m.k; k += 128, w += tensor::kKStepBytes, x += R * 128) {
    lines.start_step(k / 128);
    int4_step<R>(w, x, lines, acc);
    if (!groups) continue;
    const int32_t limit = std::min(k + 128, m.k), end = stretch.end(k, limit);
    stretch.start(k);
    put(acc, 0, end == limit, t[0]);
    stretch.count<true>(t[0], 0, R, call.c, k == 0);
    if (end < limit) {
      stretch.start(end);
      put(acc, 1, false, t[1]);
      stretch.count<true>(t[1], 0, R, call.c, false);
    }
    clear(acc);
  }
  if (groups) return stretch.finish();
  put(acc, 0, true, call.c);
  stretch.finish_integers();
}

template <class Decoder>
void panel(const PanelCall& call, TileState&) {
  if constexpr (Decoder::kWeight == tensor::WeightType::kInt4)
    if (call.rows <= kInt4VectorRows && call.w->format.group_k % 64 == 0)
      return int4_int8_vnni_rows(call);
  constexpr int32_t sub = Decoder::kSub, per_step = 64 * sub,
                    piece_steps = kPieceBytes / (sub * tensor::kKStepBytes);
  const tensor::PackedMatrix& m = *call.w;
  const int32_t k_steps = m.k_steps();
  const bool groups = m.format.group_k || m.format.activation_group;
  avx512::Stretch stretch(call, true, Decoder::kZero);
  alignas(64) std::byte decoded[kPieceBytes];
  alignas(64) float t[8 * 32];
  for (int32_t s = 0; s < k_steps; s += piece_steps) {
    const int32_t steps = std::min(piece_steps, k_steps - s);
    Decoder::decode(m, call.panel, s, steps, decoded);
    // Activations past k are zero, so whole groups of four may be multiplied.
    const int32_t piece_k = s * per_step, end = std::min(piece_k + steps * per_step, m.k);
    for (int32_t k = piece_k, next; k < end; k = next) {
      next = stretch.end(k, end);
      stretch.start(k);
      for (int32_t b = 0; b < call.rows; b += kBlockRows) {
        const int32_t in_block = std::min(kBlockRows, call.rows - b);
        const std::byte* a = call.a + (int64_t{b} * k_steps + int64_t{s} * in_block) * per_step;
        for (int32_t r = 0; r < in_block; r += 8) {
          const int32_t rows = std::min(8, in_block - r);
          float* c = call.c + (b + r) * 32;
          some_rows<sub>(rows, decoded, a + r * per_step, in_block * per_step, k - piece_k,
                         next - piece_k, groups ? t : c, groups || k == 0);
          if (groups) stretch.count<true>(t, b + r, rows, c, k == 0);
        }
      }
    }
  }
  groups ? stretch.finish() : stretch.finish_integers();
}

constexpr TileOps ops(tensor::WeightType weight, int32_t step_bytes,
                      void (*panel)(const PanelCall&, TileState&)) {
  return {weight,
          step_bytes,
          avx512::group_values_per_row<avx512::Sums::kAll>,
          avx512::pack_groups<avx512::Packed::kBytes, avx512::Sums::kAll>,
          panel,
          avx512::store,
          avx512::gated,
          finish_nothing};
}

}  // namespace

void int4_int8_vnni_rows(const PanelCall& call) {
  avx512::Stretch stretch(call, true, avx512::Int4Bytes::kZero);
  switch (call.rows) {
    case 1:
      return int4_rows<1>(call, stretch);
    case 2:
      return int4_rows<2>(call, stretch);
    case 3:
      return int4_rows<3>(call, stretch);
    default:
      return int4_rows<4>(call, stretch);
  }
}

const TileOps kInt4Int8Avx512Vnni = ops(tensor::WeightType::kInt4, 128, panel<avx512::Int4Bytes>);
const TileOps kInt8BlockAvx512Vnni = ops(tensor::WeightType::kInt8, 64, panel<avx512::Int8Bytes>);

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
