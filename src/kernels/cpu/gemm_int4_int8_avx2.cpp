// Four-bit integer weights times int8 activations with AVX2: vpmaddubsw of the codes (0..15,
// unsigned) and the activations. Eight pair sums, 8 * 2 * 15 * 127 = 30480, fit 16 bits, so that
// widening to 32 is seldom. Sums of a run (16, 32 or 64 values of k) are exact and the zero point's
// share is subtracted exactly; formats without groups are exact over all of k.
//
// Packed activations: 128 bytes of a row a k-step. Beside a row: the scale, or one a group of
// activations; then the sums of its runs, in the order that they are added to c, or without groups
// the int32 sum of the whole row.
#include "kernels/cpu/group_scales_avx2.h"

namespace moestro::kernels::cpu {
namespace {

constexpr bool has_groups(const tensor::PackedFormat& f) { return f.group_k || f.activation_group; }

int32_t runs_of_step(const tensor::PackedFormat& f) { return 128 / avx2::run_of(f); }

int32_t floats_beside_row(const tensor::PackedFormat& f, int32_t k) {
  const int32_t sums = has_groups(f) ? (k + 127) / 128 * runs_of_step(f) : 1;
  return avx2::activation_scales_per_row(f, k) + sums;
}

}  // namespace
}  // namespace moestro::kernels::cpu

MOESTRO_TARGET_AVX2_BEGIN
namespace moestro::kernels::cpu {
namespace {

constexpr int32_t kStepBytes = 128;

int32_t sum_of(const std::byte* q, int32_t n) {
  int32_t sum = 0;
  for (int32_t i = 0; i < n; ++i) sum += static_cast<int8_t>(q[i]);
  return sum;
}

// The sums of the runs of a packed k-step.
void sum_runs(const tensor::PackedFormat& format, const std::byte* q, float* sums) {
  const int32_t run = avx2::run_of(format);
  for (int32_t begin = 0; begin < 64; begin += run)
    for (int32_t half = 0; half < 2; ++half)
      *sums++ = static_cast<float>(sum_of(q + half * 64 + begin, run));
}

void pack_row(const tensor::PackedFormat& format, const float* x, int32_t k, std::byte* dst,
              int64_t step_stride, float* beside) {
  const int32_t group = format.activation_group ? format.activation_group : k;
  if (k % 128 != 0) std::memset(dst + k / 128 * step_stride, 0, kStepBytes);
  for (int32_t begin = 0; begin < k; begin += group) {
    const int32_t end = std::min(k, begin + group);
    const avx2::RowScale scale(format, x + begin, end - begin);
    for (int32_t i = begin; i < end; i += 64)
      avx2::quantise_64(x + i, end - i, scale, dst + i / 128 * step_stride + i / 64 % 2 * 64);
    *beside++ = scale.scale;
  }
  int32_t whole = 0;
  for (int32_t i = 0; i < k; i += 128, dst += step_stride) {
    if (has_groups(format)) {
      sum_runs(format, dst, beside);
      beside += runs_of_step(format);
    } else {
      whole += sum_of(dst, kStepBytes);
    }
  }
  if (!has_groups(format)) std::memcpy(beside, &whole, 4);
}

// R rows x V vectors of channels (4: a k-step, 2: a tile) x the halves [first, first + H): int32
// sums of the tile's rows from `begin` on.
template <int R, int V, int first, int H>
void sum_run(const std::byte* w, const std::byte* a, int32_t begin, int32_t tile_rows,
             __m256i (&sums)[H][R][V]) {
  const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  for (auto& half : sums)
    for (auto& row : half)
      for (__m256i& sum : row) sum = _mm256_setzero_si256();
  for (int32_t eight = begin; eight < begin + tile_rows; eight += 8) {
    __m256i pairs[H][R][V];
    for (auto& half : pairs)
      for (auto& row : half)
        for (__m256i& pair : row) pair = _mm256_setzero_si256();
    const int32_t end = std::min(begin + tile_rows, eight + 8);
    for (int32_t i = eight; i < end; ++i) {
      if constexpr (first == 0) avx2::prefetch<V>(w, i);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const __m256i codes = avx2::load_bytes(w + v / 2 * 1024 + i * 64 + v % 2 * 32);
#pragma GCC unroll 2
        for (int h = 0; h < H; ++h) {
          const __m256i u = _mm256_and_si256(first + h ? _mm256_srli_epi16(codes, 4) : codes, low);
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) {
            int32_t four;
            std::memcpy(&four, a + r * kStepBytes + (first + h) * 64 + i * 4, 4);
            pairs[h][r][v] =
                _mm256_add_epi16(pairs[h][r][v], _mm256_maddubs_epi16(u, _mm256_set1_epi32(four)));
          }
        }
      }
    }
#pragma GCC unroll 2
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v)
          sums[h][r][v] = _mm256_add_epi32(sums[h][r][v], _mm256_madd_epi16(pairs[h][r][v], ones));
  }
}

class Panel {
 public:
  explicit Panel(const PanelCall& call)
      : call_(call),
        format_(call.w->format),
        groups_(has_groups(format_)),
        k_steps_(call.w->k_steps()),
        run_(avx2::run_of(format_)),
        runs_(runs_of_step(format_)),
        beside_(floats_beside_row(format_, call.w->k)),
        scales_beside_(avx2::activation_scales_per_row(format_, call.w->k)),
        scales_(8) {}

  void run() {
    std::fill_n(call_.c, call_.rows * 32, 0.0f);
    const std::byte* w = call_.w->panel(call_.panel);
    for (step_ = 0; step_ < k_steps_; ++step_, w += tensor::kKStepBytes) {
      if (format_.group_k)
        for (int32_t run = 0; run < runs_; ++run)
          scales_.load(*call_.w, call_.panel, run, k_of(run));
      for (int32_t block = 0; block < call_.rows; block += kBlockRows) {
        const int32_t in_block = std::min(kBlockRows, call_.rows - block);
        const std::byte* a =
            call_.a + (int64_t{block} * k_steps_ + int64_t{step_} * in_block) * kStepBytes;
        for (int32_t r = 0; r < in_block; r += 4)
          some_rows(in_block - r, w, a + r * kStepBytes, block + r);
      }
    }
    if (!groups_) finish_sums();
    avx2::scale_rows(call_, format_.activation_group ? nullptr : call_.row_scales, beside_);
  }

 private:
  // Where run `run` of this step begins in k.
  int32_t k_of(int32_t run) const { return step_ * 128 + run % 2 * 64 + run / 2 * run_; }

  void some_rows(int32_t n, const std::byte* w, const std::byte* a, int32_t row) {
    switch (n) {
      case 1:
        return rows<1>(w, a, row);
      case 2:
        return rows<2>(w, a, row);
      case 3:
        return rows<3>(w, a, row);
      default:
        return rows<4>(w, a, row);
    }
  }

  template <int R>
  void rows(const std::byte* w, const std::byte* a, int32_t row) {
    constexpr int V = R == 1 ? 4 : 2;
    for (int32_t channel = 0; channel < 32; channel += V * 8, w += 1024)
      for (int32_t run = 0; run < runs_; run += 2) {
        if constexpr (R <= 2) {
          one_run<R, V, 0, 2>(w, a, row, run, channel);
        } else {  // too few registers for both halves
          one_run<R, V, 0, 1>(w, a, row, run, channel);
          one_run<R, V, 1, 1>(w, a, row, run + 1, channel);
        }
      }
  }

  template <int R, int V, int first, int H>
  void one_run(const std::byte* w, const std::byte* a, int32_t row, int32_t run, int32_t channel) {
    __m256i sums[H][R][V];
    sum_run<R, V, first, H>(w, a, run / 2 * run_ / 4, run_ / 4, sums);
#pragma GCC unroll 2
    for (int h = 0; h < H; ++h)
      if (groups_)
        add(sums[h], run + h, row, channel);
      else
        add_exactly(sums[h], call_.c + row * 32 + channel);
  }

  // c += the sums of a run times its scales.
  template <int R, int V>
  void add(const __m256i (&sums)[R][V], int32_t run, int32_t row, int32_t channel) const {
    const float* beside = call_.row_scales + int64_t{row} * beside_;
    avx2::RunEnd end(scales_, run, call_.c + row * 32, channel);
    end.set_sums(beside + scales_beside_ + step_ * runs_ + run, beside_);
    if (format_.activation_group)
      end.set_row_scales(beside + k_of(run) / format_.activation_group, beside_);
    __m256 floats[R][V];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) floats[r][v] = _mm256_cvtepi32_ps(sums[r][v]);
    end.add<R, V, true>(floats);
  }

  // c, int32 until finish_sums, += the sums of a run.
  template <int R, int V>
  static void add_exactly(const __m256i (&sums)[R][V], float* c) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        auto* whole = reinterpret_cast<__m256i*>(c + r * 32 + v * 8);
        _mm256_store_si256(whole, _mm256_add_epi32(_mm256_load_si256(whole), sums[r][v]));
      }
  }

  void finish_sums() const {
    for (int32_t r = 0; r < call_.rows; ++r) {
      int32_t of_row;
      std::memcpy(&of_row, call_.row_scales + int64_t{r} * beside_ + scales_beside_, 4);
      for (int32_t i = 0; i < 32; i += 8) {
        float* c = call_.c + r * 32 + i;
        const __m256i sum = _mm256_sub_epi32(_mm256_load_si256(reinterpret_cast<__m256i*>(c)),
                                             _mm256_set1_epi32(8 * of_row));
        _mm256_store_ps(c, _mm256_cvtepi32_ps(sum));
      }
    }
  }

  const PanelCall& call_;
  const tensor::PackedFormat& format_;
  const bool groups_;
  const int32_t k_steps_, run_, runs_, beside_, scales_beside_;
  int32_t step_ = 0;
  avx2::StepScales scales_;
};

void panel(const PanelCall& call, TileState&) { Panel(call).run(); }

}  // namespace

const TileOps kInt4Int8Avx2 = {tensor::WeightType::kInt4,
                               kStepBytes,
                               floats_beside_row,
                               pack_row,
                               panel,
                               avx2::store,
                               avx2::gated,
                               finish_nothing};

}  // namespace moestro::kernels::cpu
MOESTRO_TARGET_END
