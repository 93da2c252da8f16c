// Row operations, one value at a time.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/ref/attention_ref.h"
#include "tensor/numeric.h"

namespace moestro::kernels::ref {

void norm(const NormArgs& args, platform::Worker& worker) noexcept {
  const auto [begin, end] = worker.share(args.rows);
  const auto width = static_cast<double>(args.width);
  for (int64_t r = begin; r < end; ++r) {
    const float* x = args.x + r * args.x_stride;
    float* y = args.y + r * args.y_stride;
    double mean = 0, square = 0;
    if (args.bias) {
      for (int32_t i = 0; i < args.width; ++i) mean += static_cast<double>(x[i]);
      mean /= width;
    }
    for (int32_t i = 0; i < args.width; ++i)
      square += (static_cast<double>(x[i]) - mean) * (static_cast<double>(x[i]) - mean);
    const double factor = 1 / std::sqrt(square / width + static_cast<double>(args.eps));
    for (int32_t i = 0; i < args.width; ++i) {
      const double v =
          static_cast<double>(args.weight[i]) * ((static_cast<double>(x[i]) - mean) * factor);
      y[i] = static_cast<float>(v + (args.bias ? static_cast<double>(args.bias[i]) : 0.0));
    }
  }
}

void rope(const RopeArgs& args, platform::Worker& worker) noexcept {
  const auto [begin, end] = worker.share(int64_t{args.rows} * args.heads);
  const int32_t pairs = args.rope_dim / 2;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t r = unit / args.heads, h = unit % args.heads;
    float* x = args.x + r * args.row_stride + h * args.head_stride;
    for (int32_t i = 0; i < pairs; ++i) {
      float& first = x[args.interleaved ? 2 * i : i];
      float& second = x[args.interleaved ? 2 * i + 1 : i + pairs];
      const auto a = static_cast<double>(first), b = static_cast<double>(second);
      const auto c = static_cast<double>(args.cos[r * pairs + i]),
                 s = static_cast<double>(args.sin[r * pairs + i]);
      first = static_cast<float>(a * c - b * s);
      second = static_cast<float>(b * c + a * s);
    }
  }
}

void embedding(const EmbeddingArgs& args, platform::Worker& worker) noexcept {
  const auto [begin, end] = worker.share(args.rows);
  const int64_t size = args.dtype == DType::kF32 ? 4 : 2;
  for (int64_t r = begin; r < end; ++r) {
    const std::byte* row = args.table + args.ids[r] * size * args.width;
    float* out = args.out + r * args.width;
    for (int32_t i = 0; i < args.width; ++i) {
      if (args.dtype == DType::kF32) {
        std::memcpy(out + i, row + 4 * static_cast<int64_t>(i), 4);
      } else {
        uint16_t bits;
        std::memcpy(&bits, row + 2 * static_cast<int64_t>(i), 2);
        out[i] = args.dtype == DType::kBF16 ? to_float(Bf16{bits}) : to_float(F16{bits});
      }
    }
  }
}

void store_kv(const StoreKvArgs& args, platform::Worker& worker) noexcept {
  const StepInput& step = *args.step;
  const auto [begin, end] = worker.share(step.num_tokens);
  for (auto t = static_cast<int32_t>(begin); t < end; ++t) {
    const int32_t position = step.positions[t];
    std::byte* row =
        args.kv.row(step.block_of(t, position, args.kv.page_size), position % args.kv.page_size);
    const float* x = args.x + t * args.x_stride;
    for (int32_t i = 0; i < args.width; ++i) {
      const int64_t at = args.offset + i;
      if (args.kv.dtype == DType::kF32) {
        std::memcpy(row + 4 * at, x + i, 4);
      } else {
        const Bf16 v = to_bf16(x[i]);
        std::memcpy(row + 2 * at, &v, 2);
      }
    }
  }
}

void combine(const CombineArgs& args, platform::Worker& worker) noexcept {
  const auto [begin, end] = worker.share(args.tokens);
  for (int64_t t = begin; t < end; ++t) {
    float* out = args.out + t * args.out_stride;
    for (int32_t i = 0; i < args.width; ++i) {
      double sum = args.accumulate ? static_cast<double>(out[i]) : 0.0;
      for (int32_t j = 0; j < args.top_k; ++j) {
        const int32_t row = args.row_of[t * args.top_k + j];
        if (row >= 0)
          sum += static_cast<double>(args.weights[t * args.top_k + j]) *
                 static_cast<double>(args.rows[row * args.rows_stride + i]);
      }
      out[i] = static_cast<float>(sum);
    }
  }
}

LogitsStats logits_stats(const float* row, int32_t n) noexcept {
  LogitsStats stats{-INFINITY, 0, 0};
  for (int32_t i = 0; i < n; ++i) {
    if (row[i] > stats.max) stats = {row[i], 0, i};
  }
  for (int32_t i = 0; i < n; ++i) {
    if (row[i] == stats.max)
      stats.sum_exp += 1;
    else if (row[i] == row[i])
      stats.sum_exp += std::exp(static_cast<double>(row[i]) - static_cast<double>(stats.max));
  }
  if (stats.max == -INFINITY) {  // the loop above found nothing larger: the first that is not NaN
    const float* first = std::find(row, row + n, -INFINITY);
    stats.argmax = first == row + n ? 0 : static_cast<int32_t>(first - row);
  }
  return stats;
}

double sum_exp(const float* row, int32_t n, float shift, float scale, float threshold) noexcept {
  double sum = 0;
  for (int32_t i = 0; i < n; ++i) {
    if (row[i] >= threshold)
      sum += std::exp((static_cast<double>(row[i]) - static_cast<double>(shift)) *
                      static_cast<double>(scale));
  }
  return sum;
}

int32_t gather_above(const float* row, int32_t n, float threshold, int32_t* indices,
                     int32_t capacity) noexcept {
  int32_t count = 0;
  for (int32_t i = 0; i < n; ++i) {
    if (!(row[i] >= threshold)) continue;
    if (count < capacity) indices[count] = i;
    ++count;
  }
  return count;
}

}  // namespace moestro::kernels::ref
