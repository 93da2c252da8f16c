// int8 with groups of weights, of activations or of both ("block int8") with AVX2: the int32 sum of
// a stretch of k that shares all scales is exact, then counts in float32, stretch after stretch.
#include "kernels/cpu/group_scales_avx2.h"
#include "kernels/cpu/int8_sums_avx2.h"

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu {
namespace {

void pack_row(const tensor::PackedFormat& format, const float* x, int32_t k, std::byte* dst,
              int64_t step_stride, float* scales) {
  const int32_t group = format.activation_group ? format.activation_group : k;
  for (int32_t begin = 0; begin < k; begin += group) {
    const int32_t end = std::min(k, begin + group);
    const avx2::RowScale scale(format, x + begin, end - begin);
    for (int32_t i = begin; i < end; i += 64, dst += step_stride)
      avx2::quantise_64(x + i, end - i, scale, dst);
    *scales++ = scale.scale;
  }
}

template <int R, int V>
void block(const std::byte* w, const std::byte* a, int64_t a_stride, int32_t steps,
           const avx2::RunEnd& end) {
  __m256i acc[R][V];
  avx2::int8_sums<R, V>(w, a, a_stride, steps, acc);
  __m256 sums[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sums[r][v] = _mm256_cvtepi32_ps(acc[r][v]);
  end.add<R, V, false>(sums);
}

// Steps from s on that share all scales, and are few enough to stay in L1 while the rows pass.
int32_t stretch_from(const tensor::PackedFormat& f, int32_t s, int32_t k_steps) {
  int32_t end = std::min(k_steps, s + 8);
  for (const int32_t group : {f.group_k, f.activation_group})
    if (group) end = std::min(end, (s * 64 / group + 1) * group / 64);
  return end - s;
}

void panel(const PanelCall& call, TileState&) {
  const tensor::PackedFormat& f = call.w->format;
  const int32_t k_steps = call.w->k_steps(),
                per_row = avx2::activation_scales_per_row(f, call.w->k);
  const std::byte* w = call.w->panel(call.panel);
  std::fill_n(call.c, call.rows * 32, 0.0f);
  avx2::StepScales scales(0);
  for (int32_t s = 0, steps; s < k_steps; s += steps) {
    steps = stretch_from(f, s, k_steps);
    if (f.group_k) scales.load(*call.w, call.panel, 0, s * 64);
    for (int32_t b = 0; b < call.rows; b += kBlockRows) {
      const int32_t in_block = std::min(kBlockRows, call.rows - b);
      const std::byte* a = call.a + (int64_t{b} * k_steps + int64_t{s} * in_block) * 64;
      for (int32_t r = 0; r < in_block; r += 4) {
        const float* x_scales = call.row_scales + int64_t{b + r} * per_row;
        avx2::int8_rows(in_block - r, w + s * tensor::kKStepBytes,
                        [&]<int R, int V>(const std::byte* tile, int32_t channel) {
                          avx2::RunEnd end(scales, 0, call.c + (b + r) * 32, channel);
                          if (f.activation_group)
                            end.set_row_scales(x_scales + s * 64 / f.activation_group, per_row);
                          block<R, V>(tile, a + r * 64, in_block * 64, steps, end);
                        });
      }
    }
  }
  avx2::scale_rows(call, f.activation_group ? nullptr : call.row_scales, per_row);
}

}  // namespace

const TileOps kInt8BlockAvx2 = {tensor::WeightType::kInt8,
                                64,
                                avx2::activation_scales_per_row,
                                pack_row,
                                panel,
                                avx2::store,
                                avx2::gated,
                                finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
