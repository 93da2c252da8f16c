// int4_int16.h with AMX: tiles of the high bytes and of the low bytes of up to 16 rows, each times
// both channel tiles. Up to three rows with vpdpbusd, which gives the same sums.
#include "kernels/cpu/amx_panel.h"
#include "kernels/cpu/int4_int16.h"

MOESTRO_TARGET_AMX_BEGIN
namespace moestro::kernels::cpu {
namespace {

using Weights = avx512::Int4Bytes;
constexpr int32_t kTileRows = 16;

// Results: tiles 0 and 1 of the high bytes, 2 and 3 of the low; 4 and 5 activations, 6 and 7
// weights.
void configure(TileState& state, int32_t rows) {
  if (state.rows == 64 + rows) return;
  state.rows = 64 + rows;
  platform::TileConfig config;
  for (int tile = 0; tile < 6; ++tile) config.set(tile, rows);
  config.set(6, 16);
  config.set(7, 16);
  platform::load_tile_config(config);
}

// Adds 64 values of k of as many rows as are configured.
void multiply(const std::byte* w, const std::byte* a, NextWeights& next) {
  using namespace platform;
  next.step();
  load_tile<6>(w, 64);
  next.step();
  load_tile<4>(a, kInt16StepBytes);
  dot_s8u8<0, 4, 6>();
  next.step();
  load_tile<5>(a + 128, kInt16StepBytes);
  dot_s8u8<2, 5, 6>();
  next.step();
  load_tile<7>(w + 1024, 64);
  dot_s8u8<1, 4, 7>();
  dot_s8u8<3, 5, 7>();
}

// Up to 16 rows.
struct Rows {
  const std::byte* a;  // at the piece
  int64_t step_stride;
  const float* beside;
  int32_t rows, per_row;
  float* c;
};

// t[channel tile of the high bytes, of the low ones][16][16]: sums of a stretch that starts at k.
void count(avx512::Int16Stretch& stretch, const int32_t* t, const Rows& x, int32_t k,
           int32_t size) {
  stretch.start(k);
  const avx512::Int16Stretch now = stretch;  // stores to c do not touch this one
  for (int32_t r = 0; r < x.rows; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h)
      now.count(_mm512_load_si512(t + h * 256 + r * 16),
                _mm512_load_si512(t + 512 + h * 256 + r * 16), h,
                x.beside + r * x.per_row + k / size * 2, x.c + r * 32 + h * 16, k == 0);
}

// Values [begin, end) of k, decoded at w, times some rows. A stretch is counted while tiles do the
// next, before they are stored: loads would wait for stores just made 4 KiB further on.
void multiply_piece(const std::byte* w, const Rows& x, int32_t begin, int32_t end, int32_t size,
                    avx512::Int16Stretch& stretch, NextWeights& next) {
  alignas(64) int32_t t[4 * 256];
  for (int32_t k = begin; k < end; k += size) {
    amx::zero_results<true>();
    for (int32_t i = k; i < std::min(k + size, end); i += 64)
      multiply(w + (i - begin) / 64 * tensor::kKStepBytes,
               x.a + (i - begin) / 128 * x.step_stride + i % 128, next);
    if (k > begin) count(stretch, t, x, k - size, size);
    platform::store_tile<0>(t, 64);
    platform::store_tile<1>(t + 256, 64);
    platform::store_tile<2>(t + 512, 64);
    platform::store_tile<3>(t + 768, 64);
  }
  count(stretch, t, x, begin + (end - begin - 1) / size * size, size);
}

void panel(const PanelCall& call, TileState& state) {
  if (call.rows <= kInt16VectorRows) return int4_int16_vnni_panel(call, state);
  const tensor::PackedMatrix& m = *call.w;
  const int32_t k_steps = m.k_steps(), per_row = int16_values_per_row(m.format, m.k);
  constexpr int32_t kPiece = amx::kPieceSteps / Weights::kSub;  // k-steps
  avx512::Int16Stretch stretch(m, call.panel);
  NextWeights next(call,
                   int64_t{4} * ((call.rows + kTileRows - 1) / kTileRows) * ((m.k + 63) / 64));
  alignas(64) std::byte decoded[amx::kPieceSteps * tensor::kKStepBytes];
  for (int32_t s = 0; s < k_steps; s += kPiece) {
    Weights::decode(m, call.panel, s, std::min(kPiece, k_steps - s), decoded);
    const int32_t begin = s * 128, end = std::min(m.k, (s + kPiece) * 128);
    for (int32_t r = 0; r < call.rows; r += kTileRows) {
      const int32_t block = r / kBlockRows * kBlockRows,
                    in_block = std::min(kBlockRows, call.rows - block);
      const int64_t stride = int64_t{in_block} * kInt16StepBytes;
      const Rows x{call.a + int64_t{block} * k_steps * kInt16StepBytes + s * stride +
                       (r - block) * kInt16StepBytes,
                   stride,
                   call.row_scales + int64_t{r} * per_row,
                   std::min(kTileRows, call.rows - r),
                   per_row,
                   call.c + r * 32};
      configure(state, x.rows);
      multiply_piece(decoded, x, begin, end, int16_stretch(m.format), stretch, next);
    }
  }
  avx512::scale_channels(call);
}

}  // namespace

const TileOps kInt4Int16Amx = {tensor::WeightType::kInt4,
                               kInt16StepBytes,
                               int16_values_per_row,
                               avx512::pack_int16,
                               panel,
                               avx512::store,
                               avx512::gated,
                               amx::finish};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
