// Panels of four-bit weights times bfloat16 activations with AVX2: integer arithmetic, which does
// twice what float32 does a cycle and needs no conversion of the weights. Included by
// gemm_*_avx2.cpp only.
//
// Activations are rounded to bfloat16 and then held as 16-bit integers with one power of two a run
// (run_of: 16, 32 or 64 values of k): exactly where they are within a factor of 128 of the run's
// largest, else to 2^-15 of it. Codes are unsigned, 0..31. vpmaddwd's sums of a run are exact in 32
// bits (28 * 32767 * 64 < 2^26); less the zero point's share and times its scales a run's sum is
// added to c in float32, run after run. Few rows take the codes apart in registers while they
// stream from memory; more rows share codes that are taken apart once a k-step. Same integers, same
// order of runs: a row's result does not depend on its company.
//
// Packed activations: int16, 128 of a row a k-step, [half][tile row] k, k + 2, k + 1, k + 3: what
// stands side by side when words are cut out of four bytes. Beside a row, a float a run each, in
// the order [k_step][run of 64][half]: sums, then scales.
//
// A Codes class says what a half's four codes a lane are as words, and:
//   kZero   what codes of zero are
//   kScale  weight = kScale * (code - zero)
#pragma once
#include <bit>

#include "kernels/cpu/group_scales_avx2.h"

namespace moestro::kernels::cpu::avx2 {

inline int32_t runs_of_step(const tensor::PackedFormat& f) { return 128 / run_of(f); }
// Floats beside a row.
inline int32_t sums_and_scales(const tensor::PackedFormat& f, int32_t k) {
  return 2 * ((k + 127) / 128) * runs_of_step(f);
}

}  // namespace moestro::kernels::cpu::avx2

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu::avx2 {

struct Words {
  __m256i even, odd;  // k and k + 2 of each lane, k + 1 and k + 3
};

struct Int4Codes {
  static constexpr float kZero = 8, kScale = 1;
  template <int half>
  static Words words(__m256i v) {
    const __m256i low = _mm256_set1_epi16(15);
    if constexpr (half == 0)
      return {_mm256_and_si256(v, low), _mm256_and_si256(_mm256_srli_epi16(v, 8), low)};
    else
      return {_mm256_and_si256(_mm256_srli_epi16(v, 4), low), _mm256_srli_epi16(v, 12)};
  }
};

// e2m1 by table to 2 * (weight + 8): 4 to 28.
struct Fp4Codes {
  static constexpr float kZero = 16, kScale = 0.5f;
  template <int half>
  static Words words(__m256i v) {
    const __m256i table =
        _mm256_setr_epi8(16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4,  //
                         16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4);
    const __m256i codes =
        _mm256_and_si256(half ? _mm256_srli_epi16(v, 4) : v, _mm256_set1_epi8(15));
    const __m256i values = _mm256_shuffle_epi8(table, codes);
    return {_mm256_and_si256(values, _mm256_set1_epi16(255)), _mm256_srli_epi16(values, 8)};
  }
};

// What one run of activations is multiplied by to become integers below 2^15, and its inverse. A
// run with an infinity or a NaN becomes zeros with the scale NaN; below 2^-100 all is about zero.
struct RunScale {
  float to_int = 0, scale = std::numeric_limits<float>::quiet_NaN();
  explicit RunScale(uint32_t largest) {
    if (largest >= 0x7f800000u) return;
    const int32_t exponent = std::max(static_cast<int32_t>(largest >> 23), 27) - 127;
    to_int = std::bit_cast<float>(static_cast<uint32_t>(127 + 14 - exponent) << 23);
    scale = std::bit_cast<float>(static_cast<uint32_t>(127 - 14 + exponent) << 23);
  }
};

// Eight values of a run to int16 in packed order; their sum.
inline int32_t quantise_16(const float* x, float to_int, std::byte* dst) {
  if (to_int == 0) {
    std::memset(dst, 0, 16);
    return 0;
  }
  const __m256i q = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_load_ps(x), _mm256_set1_ps(to_int)));
  const __m256i ordered = _mm256_shuffle_epi32(q, 0xd8);  // 0 2 1 3 of each four
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(dst), words);
  const __m128i pairs = _mm_madd_epi16(words, _mm_set1_epi16(1));
  const __m128i fours = _mm_add_epi32(pairs, _mm_shuffle_epi32(pairs, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(fours, _mm_shuffle_epi32(fours, 0xb1)));
}

template <class Codes>
inline void pack_int16_row(const tensor::PackedFormat& format, const float* x, int32_t k,
                           std::byte* dst, int64_t step_stride, float* beside) {
  const int32_t run = run_of(format), runs = runs_of_step(format);
  float* scales = beside + sums_and_scales(format, k) / 2;
  alignas(32) float rounded[128];
  float buffer[64];
  for (int32_t i = 0; i < k; i += 128, dst += step_stride, beside += runs, scales += runs) {
    for (int32_t half = 0; half < 128; half += 64) {
      const float* from = padded_64(x + i + half, std::max(k - i - half, 0), buffer);
      for (int32_t j = 0; j < 64; j += 8)
        _mm256_store_ps(rounded + half + j, round_to_bf16(_mm256_loadu_ps(from + j)));
    }
    for (int32_t r = 0; r < runs; ++r) {
      const int32_t begin = r % 2 * 64 + r / 2 * run;
      const RunScale scale(largest_bits(rounded + begin, run));
      int32_t sum = 0;
      for (int32_t j = begin; j < begin + run; j += 8)
        sum += quantise_16(rounded + j, scale.to_int, dst + 2 * j);
      beside[r] = static_cast<float>(sum);
      scales[r] = scale.scale * Codes::kScale;
    }
  }
}

template <class Codes>
class Int16Panel {
 public:
  static constexpr int32_t kStepBytes = 256;  // of a row's packed activations

  static void run(const PanelCall& call, TileState&) { Int16Panel(call).run(); }

 private:
  explicit Int16Panel(const PanelCall& call)
      : call_(call),
        k_steps_(call.w->k_steps()),
        run_(run_of(call.w->format)),
        runs_(runs_of_step(call.w->format)),
        beside_(sums_and_scales(call.w->format, call.w->k)),
        scales_(Codes::kZero) {}

  void run() {
    std::fill_n(call_.c, call_.rows * 32, 0.0f);
    const std::byte* w = call_.w->panel(call_.panel);
    for (step_ = 0; step_ < k_steps_; ++step_, w += tensor::kKStepBytes) {
      if (call_.w->format.group_k)
        for (int32_t run = 0; run < runs_; ++run)
          scales_.load(*call_.w, call_.panel, run, step_ * 128 + value_of(run));
      if (call_.rows <= 4)
        few_rows(w);
      else
        many_rows(w);
    }
    scale_rows(call_, nullptr, 0);
  }

  // Where run `run` begins in a k-step.
  int32_t value_of(int32_t run) const { return run % 2 * 64 + run / 2 * run_; }

  RunEnd end_of(int32_t run, int32_t row, int32_t channel) const {
    const float* sums = call_.row_scales + int64_t{row} * beside_ + step_ * runs_ + run;
    RunEnd end(scales_, run, call_.c + row * 32, channel);
    end.set_sums(sums, beside_);
    end.set_row_scales(sums + beside_ / 2, beside_);
    return end;
  }

  const std::byte* x_of(int32_t row) const {
    const int32_t block = row / kBlockRows * kBlockRows;
    const int64_t in_block = std::min(kBlockRows, call_.rows - block);
    return call_.a + (int64_t{block} * k_steps_ + step_ * in_block + (row - block)) * kStepBytes;
  }

  template <int R, int V>
  struct Sums {
    __m256i of[R][V];
    Sums() {
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) of[r][v] = _mm256_setzero_si256();
    }
    void add(int r, int v, __m256i w, __m256i x) {
      of[r][v] = _mm256_add_epi32(of[r][v], _mm256_madd_epi16(w, x));
    }
    void end(const RunEnd& run_end) const {
      __m256 floats[R][V];
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) floats[r][v] = _mm256_cvtepi32_ps(of[r][v]);
      run_end.add<R, V, true>(floats);
    }
  };

  static __m256i pair_of(const std::byte* x) {
    int32_t pair;
    std::memcpy(&pair, x, 4);
    return _mm256_set1_epi32(pair);
  }

  template <int R, int V, int half>
  static void multiply(const __m256i (&bytes)[V], const std::byte* x, Sums<R, V>& sums) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const Words w = Codes::template words<half>(bytes[v]);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        sums.add(r, v, w.even, pair_of(x + r * kStepBytes));
        sums.add(r, v, w.odd, pair_of(x + r * kStepBytes + 4));
      }
    }
  }

  // R rows of a tile: a run of both halves, which begins at the tile's row `begin`.
  template <int R>
  void stream_run(const std::byte* w, const std::byte* x, int32_t run, int32_t channel) const {
    constexpr int V = 2;
    Sums<R, V> low, high;
    const int32_t begin = run / 2 * run_ / 4, end = begin + run_ / 4;
    for (int32_t i = begin; i < end; ++i) {
      prefetch<V>(w, i);
      const __m256i bytes[V] = {load_bytes(w + i * 64), load_bytes(w + i * 64 + 32)};
      multiply<R, V, 0>(bytes, x + i * 8, low);
      if constexpr (R <= 2) multiply<R, V, 1>(bytes, x + 128 + i * 8, high);
    }
    if constexpr (R > 2)  // too few registers for both
      for (int32_t i = begin; i < end; ++i) {
        const __m256i bytes[V] = {load_bytes(w + i * 64), load_bytes(w + i * 64 + 32)};
        multiply<R, V, 1>(bytes, x + 128 + i * 8, high);
      }
    low.end(end_of(run, 0, channel));
    high.end(end_of(run + 1, 0, channel));
  }

  template <int R>
  void stream(const std::byte* w) const {
    const std::byte* x = x_of(0);
    for (int32_t channel = 0; channel < 32; channel += 16, w += 1024)
      for (int32_t run = 0; run < runs_; run += 2) stream_run<R>(w, x, run, channel);
  }

  void few_rows(const std::byte* w) const {
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

  // The k-step's codes as words [half][tile row][even, odd][channel][2].
  void spread_step(const std::byte* w) {
    for (int i = 0; i < 16; ++i)
      for (int v = 0; v < 4; ++v) {
        const __m256i bytes = load_bytes(w + v / 2 * 1024 + i * 64 + v % 2 * 32);
        store_words(Codes::template words<0>(bytes), words_[2 * i] + v * 16);
        store_words(Codes::template words<1>(bytes), words_[32 + 2 * i] + v * 16);
      }
  }
  static void store_words(const Words& words, int16_t* to) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), words.even);
    _mm256_store_si256(reinterpret_cast<__m256i*>(to + 64), words.odd);
  }

  // w: words from the run's first k and the first of 16 channels on.
  template <int R>
  static void spread_run(const int16_t* w, const std::byte* x, int32_t run, const RunEnd& end) {
    Sums<R, 2> sums;
    for (int32_t pair = 0; pair < run / 2; ++pair, w += 64, x += 4) {
      const auto* from = reinterpret_cast<const __m256i*>(w);
      const __m256i w0 = _mm256_load_si256(from), w1 = _mm256_load_si256(from + 1);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const __m256i xr = pair_of(x + r * kStepBytes);
        sums.add(r, 0, w0, xr);
        sums.add(r, 1, w1, xr);
      }
    }
    sums.end(end);
  }

  template <int R>
  void spread_rows(int32_t row) const {
    const std::byte* x = x_of(row);
    for (int32_t channel = 0; channel < 32; channel += 16)
      for (int32_t run = 0; run < runs_; ++run) {
        const int32_t value = value_of(run);
        spread_run<R>(words_[value / 2] + channel * 2, x + value * 2, run_,
                      end_of(run, row, channel));
      }
  }

  void many_rows(const std::byte* w) {
    spread_step(w);
    rows_by_six(call_.rows, [&]<int R>(int32_t row) { spread_rows<R>(row); });
  }

  const PanelCall& call_;
  const int32_t k_steps_, run_, runs_, beside_;
  int32_t step_ = 0;
  StepScales scales_;
  alignas(64) int16_t words_[64][64];
};

}  // namespace moestro::kernels::cpu::avx2
MOESTRO_TARGET_END
