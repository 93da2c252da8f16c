// float8 e4m3 weights with AVX2, times bfloat16 or e4m3 activations; both are multiplied as
// float32, where the products are exact.
//
// A sum is taken run after run (run_of: 16, 32 or 64 values of k): of the even k in order and of
// the odd k in order, then of both. Times its group's scales it is added to c. Few rows widen the
// weights in registers while they stream from memory; more rows share weights that are widened once
// a k-step, into 8 KiB of stack. Both do the same operations in the same order, so a row's result
// does not depend on its company.
//
// Packed activations: float32. Beside a row: for e4m3 its scale, or one a group.
#include "kernels/cpu/group_scales_avx2.h"

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu {
namespace {

constexpr int32_t kValues = 64;              // of a k-step
constexpr int32_t kStepBytes = kValues * 4;  // of a row's packed activations

// A constant that the compiler must take for a variable, so that it is made once, before a loop:
// g++ 12 otherwise builds it anew from an integer inside.
__m256i kept(uint32_t lanes) {
  __m256i v = _mm256_set1_epi32(static_cast<int>(lanes));
  asm volatile("" : "+x"(v));
  return v;
}

// Eight channels times four k, 32 bytes of a tile row, as bfloat16: bytes 0 and 2 of each lane, 1
// and 3.
struct Widened {
  __m256i even, odd;
};

// How they are widened; made once before a loop.
class Widen {
 public:
  Widen()
      : minus_16_(kept(0xf0f0f0f0)),
        largest_(kept(0xecececec)),  // 236
        bits_(kept(0x87f087f0)),
        exponent_(kept(0x3c003c00)),  // 120 << 7
        upper_half_(kept(0xffff0000)) {}

  Widened operator()(__m256i v) const {
    if (all_normal(v)) [[likely]]
      return {normal_top_bytes(_mm256_slli_epi16(v, 8)), normal_top_bytes(v)};
    return {any_bytes<0>(v), any_bytes<1>(v)};  // apart: a struct would be returned in memory
  }
  // Byte j as float32.
  template <int j>
  __m256 at(const Widened& w) const {
    const __m256i pairs = j % 2 ? w.odd : w.even;
    return _mm256_castsi256_ps(j / 2 ? _mm256_and_si256(pairs, upper_half_)
                                     : _mm256_slli_epi32(pairs, 16));
  }

 private:
  // Bytes j and j + 2 of each lane, any numbers, as bfloat16.
  template <int j>
  [[gnu::noinline, gnu::cold]] static __m256i any_bytes(__m256i v) {
    const __m256 low = avx2::e4m3_of_top_byte(avx2::top_byte<j>(v)),
                 high = avx2::e4m3_of_top_byte(avx2::top_byte<j + 2>(v));
    return _mm256_blend_epi16(_mm256_srli_epi32(_mm256_castps_si256(low), 16),
                              _mm256_castps_si256(high), 0xaa);
  }
  // Are all bytes normal numbers: not zero, subnormal or NaN? Twice the magnitude is then 16..252.
  bool all_normal(__m256i v) const {
    const __m256i from_16 = _mm256_add_epi8(_mm256_add_epi8(v, v), minus_16_);
    const __m256i others = _mm256_subs_epu8(from_16, largest_);
    return _mm256_testz_si256(others, others);
  }
  // The upper byte of each 16 bits, a normal number, as bfloat16.
  __m256i normal_top_bytes(__m256i v) const {
    return _mm256_add_epi16(_mm256_and_si256(_mm256_srai_epi16(v, 4), bits_), exponent_);
  }

  const __m256i minus_16_, largest_, bits_, exponent_, upper_half_;
};

// Rounds x to bfloat16.
void pack_bf16_row(const tensor::PackedFormat&, const float* x, int32_t k, std::byte* dst,
                   int64_t step_stride, float*) {
  float buffer[64];
  for (int32_t i = 0; i < k; i += 64, dst += step_stride) {
    const float* from = avx2::padded_64(x + i, k - i, buffer);
    for (int32_t l = 0; l < 64; l += 8)
      _mm256_storeu_ps(reinterpret_cast<float*>(dst) + l,
                       avx2::round_to_bf16(_mm256_loadu_ps(from + l)));
  }
}

// Quantises x to e4m3, kept as float32.
void pack_fp8_row(const tensor::PackedFormat& format, const float* x, int32_t k, std::byte* dst,
                  int64_t step_stride, float* scales) {
  const int32_t group = format.activation_group ? format.activation_group : k;
  float buffer[64];
  for (int32_t begin = 0; begin < k; begin += group) {
    const int32_t end = std::min(k, begin + group);
    const avx2::RowScale scale(format, x + begin, end - begin);
    *scales++ = scale.scale;
    const __m256 s = _mm256_set1_ps(scale.scale);
    for (int32_t i = begin; i < end; i += 64, dst += step_stride) {
      const float* from = avx2::padded_64(x + i, end - i, buffer);
      for (int32_t l = 0; l < 64; l += 8) {
        __m256 q = _mm256_setzero_ps();
        if (scale.divides) q = avx2::round_to_e4m3(_mm256_div_ps(_mm256_loadu_ps(from + l), s));
        _mm256_storeu_ps(reinterpret_cast<float*>(dst) + l, q);
      }
    }
  }
}

// Sums of even and of odd k.
template <int R, int V>
struct Sums {
  __m256 even[R][V], odd[R][V];
  Sums() {
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) even[r][v] = odd[r][v] = _mm256_setzero_ps();
  }
  void end(const avx2::RunEnd& run_end) {
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) even[r][v] = _mm256_add_ps(even[r][v], odd[r][v]);
    run_end.add<R, V, false>(even);
  }
};

template <int R, int V, int j>
void multiply(__m256 weights, int v, const float* x, __m256 (&acc)[R][V]) {
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
    acc[r][v] = _mm256_fmadd_ps(_mm256_broadcast_ss(x + r * kValues + j), weights, acc[r][v]);
}

// R rows x V vectors of channels (2: a tile, 1: half a tile): the run that begins at the tile's row
// `begin`.
template <int R, int V>
void stream_run(const std::byte* w, const float* x, int32_t begin, int32_t tile_rows, bool fetch,
                const avx2::RunEnd& end) {
  const Widen widen;
  Sums<R, V> sums;
  for (int32_t i = begin; i < begin + tile_rows; ++i) {
    if (fetch) avx2::prefetch<V>(w, i);
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const Widened w4 = widen(avx2::load_bytes(w + i * 64 + v * 32));
      multiply<R, V, 0>(widen.at<0>(w4), v, x + i * 4, sums.even);
      multiply<R, V, 1>(widen.at<1>(w4), v, x + i * 4, sums.odd);
      multiply<R, V, 2>(widen.at<2>(w4), v, x + i * 4, sums.even);
      multiply<R, V, 3>(widen.at<3>(w4), v, x + i * 4, sums.odd);
    }
  }
  sums.end(end);
}

// w: widened weights of every second k from the run's first or second and the first of 16 channels
// on.
template <int R>
void every_second(const float* w, const float* x, int32_t run, __m256 (&acc)[R][2]) {
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

class Panel {
 public:
  explicit Panel(const PanelCall& call)
      : call_(call),
        format_(call.w->format),
        k_steps_(call.w->k_steps()),
        run_(avx2::run_of(format_)),
        beside_(format_.activation == tensor::ActivationType::kFp8
                    ? avx2::activation_scales_per_row(format_, call.w->k)
                    : 0),
        scales_(0) {}

  void run() {
    std::fill_n(call_.c, call_.rows * 32, 0.0f);
    const std::byte* w = call_.w->panel(call_.panel);
    for (step_ = 0; step_ < k_steps_; ++step_, w += tensor::kKStepBytes) {
      if (format_.group_k)
        for (int32_t run = 0; run < kValues / run_; ++run)
          scales_.load(*call_.w, call_.panel, run, step_ * kValues + run * run_);
      if (call_.rows <= 4)
        few_rows(w);
      else
        many_rows(w);
    }
    const bool row_scales =
        format_.activation == tensor::ActivationType::kFp8 && !format_.activation_group;
    avx2::scale_rows(call_, row_scales ? call_.row_scales : nullptr, beside_);
  }

 private:
  avx2::RunEnd end_of(int32_t run, int32_t row, int32_t channel) const {
    avx2::RunEnd end(scales_, run, call_.c + row * 32, channel);
    if (format_.activation_group)
      end.set_row_scales(
          call_.row_scales + int64_t{row} * beside_ + step_ * kValues / format_.activation_group,
          beside_);
    return end;
  }

  const float* x_of(int32_t row) const {
    const int32_t block = row / kBlockRows * kBlockRows;
    const int64_t in_block = std::min(kBlockRows, call_.rows - block);
    return reinterpret_cast<const float*>(call_.a) +
           (int64_t{block} * k_steps_ + step_ * in_block + (row - block)) * kValues;
  }

  template <int R>
  void stream(const std::byte* w) const {
    constexpr int V = R <= 2 ? 2 : 1;  // the sums fit the registers
    const float* x = x_of(0);
    for (int32_t channel = 0; channel < 32; channel += V * 8) {
      const std::byte* from = w + channel / 16 * 1024 + channel % 16 * 4;
      for (int32_t run = 0; run < kValues / run_; ++run)
        stream_run<R, V>(from, x, run * run_ / 4, run_ / 4, channel % 16 == 0,
                         end_of(run, 0, channel));
    }
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

  // The k-step's weights as floats [k][32].
  void widen_step(const std::byte* w) {
    const Widen widen;
    for (int i = 0; i < 16; ++i)
      for (int v = 0; v < 4; ++v) {
        const Widened w4 = widen(avx2::load_bytes(w + v / 2 * 1024 + i * 64 + v % 2 * 32));
        float* to = widened_[i * 4] + v * 8;
        _mm256_store_ps(to, widen.at<0>(w4));
        _mm256_store_ps(to + 32, widen.at<1>(w4));
        _mm256_store_ps(to + 64, widen.at<2>(w4));
        _mm256_store_ps(to + 96, widen.at<3>(w4));
      }
  }

  template <int R>
  void widened_rows(int32_t row) const {
    const float* x = x_of(row);
    for (int32_t channel = 0; channel < 32; channel += 16)
      for (int32_t run = 0; run < kValues / run_; ++run) {
        Sums<R, 2> sums;
        const float *w = widened_[run * run_] + channel, *from = x + run * run_;
        every_second<R>(w, from, run_, sums.even);
        every_second<R>(w + 32, from + 1, run_, sums.odd);
        sums.end(end_of(run, row, channel));
      }
  }

  void many_rows(const std::byte* w) {
    widen_step(w);
    avx2::rows_by_six(call_.rows, [&]<int R>(int32_t row) { widened_rows<R>(row); });
  }

  const PanelCall& call_;
  const tensor::PackedFormat& format_;
  const int32_t k_steps_, run_, beside_;
  int32_t step_ = 0;
  avx2::StepScales scales_;
  alignas(64) float widened_[kValues][32];
};

void panel(const PanelCall& call, TileState&) { Panel(call).run(); }

}  // namespace

const TileOps kFp8Avx2 = {tensor::WeightType::kFp8,
                          kStepBytes,
                          avx2::activation_scales_per_row,
                          pack_fp8_row,
                          panel,
                          avx2::store,
                          avx2::gated,
                          finish_nothing};

const TileOps kFp8Bf16Avx2 = {tensor::WeightType::kFp8,
                              kStepBytes,
                              no_row_scales,
                              pack_bf16_row,
                              panel,
                              avx2::store,
                              avx2::gated,
                              finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
