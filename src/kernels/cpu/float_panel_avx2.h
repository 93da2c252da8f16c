// Panels of eight- and four-bit weights times floating-point activations, given how to widen the
// weights (widen_avx2.h). Included by gemm_*_avx2.cpp only.
//
// A sum is taken run after run (run_of: 16, 32 or 64 values of k): of the even k in order and of
// the odd k in order, as two chains of additions keep the units busy, then of both. Less the zero
// point's share and times its group's scale it is added to c. Few rows widen in
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
      float even = 0, odd = 0;  // in the order of the products: weights of zero cancel exactly
      for (int32_t i = 0; i < run; i += 2) {
        even += x[half * 64 + r * run + i];
        odd += x[half * 64 + r * run + i + 1];
      }
      *sums++ = even + odd;
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
  static constexpr int kHalves = Widen::kHalves;
  static constexpr int32_t kValues = 64 * kHalves;    // of a k-step
  static constexpr int32_t kStepBytes = kValues * 4;  // of a row's packed activations

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
                    : 0),
        scales_(Widen::kZero) {}

  void run() {
    std::fill_n(call_.c, call_.rows * 32, 0.0f);
    const std::byte* w = call_.w->panel(call_.panel);
    for (step_ = 0; step_ < k_steps_; ++step_, w += tensor::kKStepBytes) {
      if (format_.group_k)
        for (int32_t run = 0; run < runs_; ++run)
          scales_.load(*call_.w, call_.panel, run, k_of(run));
      if (call_.rows <= 4)
        few_rows(w);
      else
        many_rows(w);
    }
    finish();
  }

  // Where run `run` of this step begins in k.
  int32_t k_of(int32_t run) const {
    return step_ * kValues + run % kHalves * 64 + run / kHalves * run_;
  }
  RunEnd end_of(int32_t run, int32_t row, int32_t channel) const {
    const float* beside = call_.row_scales + int64_t{row} * beside_;
    RunEnd end(scales_, run, call_.c + row * 32, channel);
    if constexpr (Widen::kZero != 0) end.set_sums(beside + step_ * runs_ + run, beside_);
    if (format_.activation_group)
      end.set_row_scales(beside + k_of(run) / format_.activation_group, beside_);
    return end;
  }

  const float* x_of(int32_t row) const {
    const int32_t block = row / kBlockRows * kBlockRows;
    const int64_t in_block = std::min(kBlockRows, call_.rows - block);
    return reinterpret_cast<const float*>(call_.a) +
           (int64_t{block} * k_steps_ + step_ * in_block + (row - block)) * kValues;
  }

  // Sums of even and of odd k.
  template <int R, int V>
  struct Sums {
    __m256 even[R][V], odd[R][V];
    Sums() {
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) even[r][v] = odd[r][v] = _mm256_setzero_ps();
    }
    void end(const RunEnd& run_end) {
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) even[r][v] = _mm256_add_ps(even[r][v], odd[r][v]);
      run_end.template add<R, V, Widen::kZero != 0>(even);
    }
  };

  template <int R, int V, int j>
  static void multiply(const typename Widen::Prepared& prepared, int v, const float* x,
                       __m256 (&acc)[R][V]) {
    const __m256 w = Widen::template widen<j>(prepared);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
      acc[r][v] = _mm256_fmadd_ps(_mm256_broadcast_ss(x + r * kValues + j), w, acc[r][v]);
  }

  // R rows x V vectors of channels (4: a k-step, 2: a tile, 1: half a tile): the run of one half
  // that begins at the tile's row `begin`. x: the rows' first value of that half of the k-step.
  template <int R, int V, int half>
  static void stream_run(const std::byte* w, const float* x, int32_t begin, int32_t tile_rows,
                         bool fetch, const RunEnd& end) {
    Sums<R, V> sums;
    for (int32_t i = begin; i < begin + tile_rows; ++i) {
      if (half == 0 && fetch) prefetch<V>(w, i);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const auto prepared =
            Widen::template prepare<half>(load_bytes(w + v / 2 * 1024 + i * 64 + v % 2 * 32));
        multiply<R, V, 0>(prepared, v, x + i * 4, sums.even);
        multiply<R, V, 1>(prepared, v, x + i * 4, sums.odd);
        multiply<R, V, 2>(prepared, v, x + i * 4, sums.even);
        multiply<R, V, 3>(prepared, v, x + i * 4, sums.odd);
      }
    }
    sums.end(end);
  }

  template <int R>
  void stream(const std::byte* w) {
    constexpr int V = R == 1 ? Widen::kVectors : R == 2 ? 2 : 1;  // the sums fit the registers
    const float* x = x_of(0);
    for (int32_t channel = 0; channel < 32; channel += V * 8) {
      const std::byte* from = w + channel / 16 * 1024 + channel % 16 * 4;
      const bool fetch = channel % 16 == 0;
      for (int32_t run = 0; run < runs_; run += kHalves) {
        const int32_t begin = run / kHalves * run_ / 4, tile_rows = run_ / 4;
        stream_run<R, V, 0>(from, x, begin, tile_rows, fetch, end_of(run, 0, channel));
        if constexpr (kHalves == 2)
          stream_run<R, V, 1>(from, x + 64, begin, tile_rows, fetch, end_of(run + 1, 0, channel));
      }
    }
  }

  void few_rows(const std::byte* w) {
    switch (call_.rows) {
      case 1:
        return stream<1>(w);
      case 2:
        return stream<2>(w);
      case 3:
        return stream<3>(w);
      default:
        return stream<4>(w);
    }
  }

  // The k-step's weights as floats [k][32].
  void widen_step(const std::byte* w) {
    for (int i = 0; i < 16; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const __m256i bytes = load_bytes(w + v / 2 * 1024 + i * 64 + v % 2 * 32);
        widen_into<0>(bytes, widened_[i * 4] + v * 8);
        if constexpr (kHalves == 2) widen_into<1>(bytes, widened_[64 + i * 4] + v * 8);
      }
  }
  template <int half>
  static void widen_into(__m256i bytes, float* to) {
    const auto prepared = Widen::template prepare<half>(bytes);
    _mm256_store_ps(to, Widen::template widen<0>(prepared));
    _mm256_store_ps(to + 32, Widen::template widen<1>(prepared));
    _mm256_store_ps(to + 64, Widen::template widen<2>(prepared));
    _mm256_store_ps(to + 96, Widen::template widen<3>(prepared));
  }

  // w: widened weights from the run's k and the first of 16 channels on.
  template <int R>
  static void widened_run(const float* w, const float* x, int32_t run, const RunEnd& end) {
    Sums<R, 2> sums;
    every_second<R>(w, x, run, sums.even);
    every_second<R>(w + 32, x + 1, run, sums.odd);
    sums.end(end);
  }
  template <int R>
  static void every_second(const float* w, const float* x, int32_t run, __m256 (&acc)[R][2]) {
    for (int32_t i = 0; i < run; i += 2, w += 64, x += 2) {
      const __m256 w0 = _mm256_load_ps(w), w1 = _mm256_load_ps(w + 8);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const __m256 xi = _mm256_broadcast_ss(x + r * kValues);
        acc[r][0] = _mm256_fmadd_ps(xi, w0, acc[r][0]);
        acc[r][1] = _mm256_fmadd_ps(xi, w1, acc[r][1]);
      }
    }
  }

  template <int R>
  void widened_rows(int32_t row) {
    const float* x = x_of(row);
    for (int32_t channel = 0; channel < 32; channel += 16)
      for (int32_t run = 0; run < runs_; ++run) {
        const int32_t i = run % kHalves * 64 + run / kHalves * run_;
        widened_run<R>(widened_[i] + channel, x + i, run_, end_of(run, row, channel));
      }
  }

  void many_rows(const std::byte* w) {
    widen_step(w);
    for (int32_t block = 0; block < call_.rows; block += kBlockRows) {
      const int32_t end = std::min(call_.rows, block + kBlockRows);
      for (int32_t row = block; row < end; row += 6) some_rows(row, end - row);
    }
  }

  void some_rows(int32_t row, int32_t n) {
    switch (n) {
      case 1:
        return widened_rows<1>(row);
      case 2:
        return widened_rows<2>(row);
      case 3:
        return widened_rows<3>(row);
      case 4:
        return widened_rows<4>(row);
      case 5:
        return widened_rows<5>(row);
      default:
        return widened_rows<6>(row);
    }
  }

  void finish() const {
    const bool row_scale =
        format_.activation == tensor::ActivationType::kFp8 && !format_.activation_group;
    scale_rows(call_, row_scale ? call_.row_scales : nullptr, beside_);
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
