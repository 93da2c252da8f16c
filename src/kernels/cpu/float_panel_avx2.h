// Panels of eight- and four-bit weights times floating-point activations, given how to widen the
// weights (widen_avx2.h). Included by gemm_*_avx2.cpp only.
//
// A sum is taken run after run (run_of: 16, 32 or 64 values of k), in order inside one; after each
// the sum, less the zero point's share, is added to c times its group's scale. Few rows widen in
// registers while the weights stream from memory; more rows share weights that are widened once a
// k-step, into 8 or 16 KiB of stack. Both do the same operations in the same order, so a row's
// result does not depend on its company.
//
// Packed activations: float32, 64 or (two halves) 128 of a row a k-step. Beside a row: sums of runs
// where codes are unsigned, [k_step][run of 64][half]; for fp8 the scales.
#pragma once
#include "kernels/cpu/widen_avx2.h"

namespace moestro::kernels::cpu::avx2 {

inline int32_t runs_of_step(const tensor::PackedFormat& f) {
  return tensor::values_per_step(f) / run_of(f);
}
// Floats beside a row, unsigned codes: a sum a run.
inline int32_t sums_per_row(const tensor::PackedFormat& f, int32_t k) {
  return (k + tensor::values_per_step(f) - 1) / tensor::values_per_step(f) * runs_of_step(f);
}

}  // namespace moestro::kernels::cpu::avx2

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu::avx2 {

// Sums of the runs of one k-step in the order that they are added to c.
template <class Widen>
inline void sum_runs(const float* x, int32_t run, float* sums) {
  for (int32_t r = 0; r < 64 / run; ++r)
    for (int half = 0; half < Widen::kHalves; ++half) {
      float sum = 0;  // in order, as the products are: weights of zero then cancel exactly
      for (int32_t i = 0; i < run; ++i) sum += x[half * 64 + r * run + i];
      *sums++ = sum;
    }
}

// Rounds x to bfloat16.
template <class Widen>
inline void pack_bf16_row(const tensor::PackedFormat& format, const float* x, int32_t k,
                          std::byte* dst, int64_t step_stride, float* beside) {
  constexpr int32_t kValues = 64 * Widen::kHalves;
  const __m256 scale = _mm256_setr_ps(
      Widen::byte_scale(0), Widen::byte_scale(1), Widen::byte_scale(2), Widen::byte_scale(3),
      Widen::byte_scale(0), Widen::byte_scale(1), Widen::byte_scale(2), Widen::byte_scale(3));
  const int32_t runs = runs_of_step(format), run = run_of(format);
  alignas(32) float rounded[kValues];
  float buffer[64];
  for (int32_t i = 0; i < k; i += kValues, dst += step_stride, beside += runs) {
    for (int32_t j = 0; j < kValues; j += 64) {
      const float* from = padded_64(x + i + j, std::max(k - i - j, 0), buffer);
      for (int32_t l = 0; l < 64; l += 8) {
        const __m256 v = round_to_bf16(_mm256_loadu_ps(from + l));
        _mm256_store_ps(rounded + j + l, v);
        _mm256_storeu_ps(reinterpret_cast<float*>(dst) + j + l, _mm256_mul_ps(v, scale));
      }
    }
    if constexpr (Widen::kZero != 0) sum_runs<Widen>(rounded, run, beside);
  }
}

// Quantises x to e4m3, kept as float32.
inline void pack_fp8_row(const tensor::PackedFormat& format, const float* x, int32_t k,
                         std::byte* dst, int64_t step_stride, float* scales) {
  const int32_t group = format.activation_group ? format.activation_group : k;
  float buffer[64];
  for (int32_t begin = 0; begin < k; begin += group) {
    const int32_t end = std::min(k, begin + group);
    const RowScale scale(format, x + begin, end - begin);
    *scales++ = scale.scale;
    const __m256 s = _mm256_set1_ps(scale.scale);
    for (int32_t i = begin; i < end; i += 64, dst += step_stride) {
      const float* from = padded_64(x + i, end - i, buffer);
      for (int32_t l = 0; l < 64; l += 8) {
        __m256 q = _mm256_setzero_ps();
        if (scale.divides) q = round_to_e4m3(_mm256_div_ps(_mm256_loadu_ps(from + l), s));
        _mm256_storeu_ps(reinterpret_cast<float*>(dst) + l, q);
      }
    }
  }
}

template <class Widen>
class FloatPanel {
 public:
  static constexpr int32_t kValues = 64 * Widen::kHalves;  // of a k-step
  static constexpr int32_t kStepBytes = kValues * 4;       // of a row's packed activations

  static void run(const PanelCall& call, TileState&) { FloatPanel(call).run(); }

 private:
  explicit FloatPanel(const PanelCall& call)
      : call_(call),
        format_(call.w->format),
        k_steps_(call.w->k_steps()),
        run_(run_of(format_)),
        runs_(runs_of_step(format_)),
        beside_(Widen::kZero != 0 ? sums_per_row(format_, call.w->k)
                : format_.activation == tensor::ActivationType::kFp8
                    ? activation_scales_per_row(format_, call.w->k)
                    : 0) {
    if (!format_.zero_points)
      std::fill_n(&scales_.zero[0][0], StepScales::kMaxRuns * 32, Widen::kZero);
  }

  void run() {
    std::fill_n(call_.c, call_.rows * 32, 0.0f);
    const std::byte* w = call_.w->panel(call_.panel);
    for (int32_t s = 0; s < k_steps_; ++s, w += tensor::kKStepBytes) {
      load_scales(s);
      if (call_.rows <= 4)
        few_rows(s, w);
      else
        many_rows(s, w);
    }
    finish();
  }

  void load_scales(int32_t s) {
    step_ = s;
    if (!format_.group_k) return;
    for (int32_t run = 0; run < runs_; ++run) scales_.load(*call_.w, call_.panel, run, k_of(run));
  }
  // Where run `run` of this step begins in k.
  int32_t k_of(int32_t run) const {
    return step_ * kValues + run % Widen::kHalves * 64 + run / Widen::kHalves * run_;
  }

  // c += the sum of a run times its scales.
  void add(__m256 sum, int32_t run, int32_t row, int32_t channel) {
    float* c = call_.c + row * 32 + channel;
    if constexpr (Widen::kZero != 0) {
      const __m256 share = _mm256_set1_ps(call_.row_scales[row * beside_ + step_ * runs_ + run]);
      sum = _mm256_fnmadd_ps(_mm256_load_ps(scales_.zero[run] + channel), share, sum);
    }
    const __m256 before = _mm256_load_ps(c);
    if (!format_.group_k && !format_.activation_group) {
      _mm256_store_ps(c, _mm256_add_ps(before, sum));
      return;
    }
    __m256 scale =
        format_.group_k ? _mm256_load_ps(scales_.scale[run] + channel) : _mm256_set1_ps(1.0f);
    if (format_.activation_group) {
      const int32_t group = k_of(run) / format_.activation_group;
      scale = _mm256_mul_ps(scale, _mm256_set1_ps(call_.row_scales[row * beside_ + group]));
    }
    _mm256_store_ps(c, _mm256_fmadd_ps(sum, scale, before));
  }

  const float* x_of(int32_t row, int32_t s) const {
    const int32_t block = row / kBlockRows * kBlockRows;
    const int64_t in_block = std::min(kBlockRows, call_.rows - block);
    return reinterpret_cast<const float*>(call_.a) +
           (int64_t{block} * k_steps_ + s * in_block + (row - block)) * kValues;
  }

  // R rows x V vectors of channels (4: a k-step, 2: a tile) x H halves, one run of each half.
  template <int R, int V, int H>
  void stream_run(const std::byte* w, const float* x, int32_t run, int32_t channel) {
    __m256 acc[H][R][V];
    for (auto& half : acc)
      for (auto& row : half)
        for (__m256& a : row) a = _mm256_setzero_ps();
    const int32_t first_half = run % Widen::kHalves, begin = run / Widen::kHalves * run_ / 4,
                  end = begin + run_ / 4;
    for (int32_t i = begin; i < end; ++i) {
      if (first_half == 0) prefetch<V>(w, i);
#pragma GCC unroll 2
      for (int h = 0; h < H; ++h)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          __m256 f[4];
          Widen::four(w + v / 2 * 1024 + i * 64 + v % 2 * 32, first_half + h, f);
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) {
            const float* from = x + r * kValues + (first_half + h) * 64 + i * 4;
#pragma GCC unroll 4
            for (int j = 0; j < 4; ++j)
              acc[h][r][v] = _mm256_fmadd_ps(_mm256_broadcast_ss(from + j), f[j], acc[h][r][v]);
          }
        }
    }
#pragma GCC unroll 2
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) add(acc[h][r][v], run + h, r, channel + v * 8);
  }

  template <int R>
  void stream(const std::byte* w, const float* x) {
    constexpr int V = R == 1 ? 4 : 2, H = R <= 2 ? Widen::kHalves : 1;
    for (int32_t channel = 0; channel < 32; channel += V * 8)
      for (int32_t run = 0; run < runs_; run += H)
        stream_run<R, V, H>(w + channel * 64, x, run, channel);
  }

  void few_rows(int32_t s, const std::byte* w) {
    const float* x = x_of(0, s);
    switch (call_.rows) {
      case 1:
        return stream<1>(w, x);
      case 2:
        return stream<2>(w, x);
      case 3:
        return stream<3>(w, x);
      default:
        return stream<4>(w, x);
    }
  }

  // The k-step's weights as floats [k][32].
  void widen_step(const std::byte* w) {
    for (int half = 0; half < Widen::kHalves; ++half)
      for (int i = 0; i < 16; ++i)
        for (int v = 0; v < 4; ++v) {
          __m256 f[4];
          Widen::four(w + v / 2 * 1024 + i * 64 + v % 2 * 32, half, f);
          for (int j = 0; j < 4; ++j)
            _mm256_store_ps(widened_[half * 64 + i * 4 + j] + v * 8, f[j]);
        }
  }

  template <int R>
  void widened_rows(const float* x, int32_t row) {
    for (int32_t channel = 0; channel < 32; channel += 16)
      for (int32_t run = 0; run < runs_; ++run) {
        __m256 acc[R][2];
        for (auto& a : acc) a[0] = a[1] = _mm256_setzero_ps();
        const int32_t begin = run % Widen::kHalves * 64 + run / Widen::kHalves * run_;
        for (int32_t i = begin; i < begin + run_; ++i) {
          const __m256 w0 = _mm256_load_ps(widened_[i] + channel),
                       w1 = _mm256_load_ps(widened_[i] + channel + 8);
#pragma GCC unroll 6
          for (int r = 0; r < R; ++r) {
            const __m256 xi = _mm256_broadcast_ss(x + r * kValues + i);
            acc[r][0] = _mm256_fmadd_ps(xi, w0, acc[r][0]);
            acc[r][1] = _mm256_fmadd_ps(xi, w1, acc[r][1]);
          }
        }
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) {
          add(acc[r][0], run, row + r, channel);
          add(acc[r][1], run, row + r, channel + 8);
        }
      }
  }

  void many_rows(int32_t s, const std::byte* w) {
    widen_step(w);
    for (int32_t block = 0; block < call_.rows; block += kBlockRows) {
      const int32_t end = std::min(call_.rows, block + kBlockRows);
      for (int32_t row = block; row < end; row += 6) some_rows(x_of(row, s), row, end - row);
    }
  }

  void some_rows(const float* x, int32_t row, int32_t n) {
    switch (n) {
      case 1:
        return widened_rows<1>(x, row);
      case 2:
        return widened_rows<2>(x, row);
      case 3:
        return widened_rows<3>(x, row);
      case 4:
        return widened_rows<4>(x, row);
      case 5:
        return widened_rows<5>(x, row);
      default:
        return widened_rows<6>(x, row);
    }
  }

  // The channels' scales, and the rows' where they have one.
  void finish() {
    const bool row_scale =
        format_.activation == tensor::ActivationType::kFp8 && !format_.activation_group;
    for (int32_t r = 0; r < call_.rows; ++r)
      for (int32_t i = 0; i < 32; i += 8) {
        __m256 scale = _mm256_load_ps(call_.w->scales + call_.panel * 32 + i);
        if (row_scale) scale = _mm256_mul_ps(scale, _mm256_set1_ps(call_.row_scales[r]));
        float* c = call_.c + r * 32 + i;
        _mm256_store_ps(c, _mm256_mul_ps(_mm256_load_ps(c), scale));
      }
  }

  const PanelCall& call_;
  const tensor::PackedFormat& format_;
  const int32_t k_steps_, run_, runs_, beside_;
  int32_t step_ = 0;
  StepScales scales_;
  alignas(64) float widened_[kValues][32];
};

}  // namespace moestro::kernels::cpu::avx2
MOESTRO_TARGET_END
