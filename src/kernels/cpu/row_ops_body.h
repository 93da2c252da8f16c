// Row operations in vectors. Included inside a target region and namespace, after vec_*.h,
// vec_math.h and select_body.h; has no includes of its own.
#pragma once

// Sums fn(i, n) over whole vectors and the tail in four lanes sets; the order depends on width
// alone.
template <class Fn>
static float sum_over(int32_t width, Fn fn) {
  Vec sums[4] = {zero(), zero(), zero(), zero()};
  int32_t i = 0;
  for (; i + 4 * kLanes <= width; i += 4 * kLanes) {
    for (int v = 0; v < 4; ++v) sums[v] = fn(i + v * kLanes, kLanes, sums[v]);
  }
  for (; i < width; i += kLanes) sums[0] = fn(i, std::min(kLanes, width - i), sums[0]);
  return sum_lanes(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

static Vec load_some(const float* p, int32_t n) { return n == kLanes ? load(p) : load_first(p, n); }
static void store_some(float* p, Vec v, int32_t n) {
  if (n == kLanes)
    store(p, v);
  else
    store_first(p, v, n);
}

static void norm_row(const NormArgs& args, const float* x, float* y) {
  const auto width = static_cast<float>(args.width);
  float mean = 0;
  if (args.bias)
    mean = sum_over(args.width,
                    [x](int32_t i, int32_t n, Vec sum) { return add(sum, load_some(x + i, n)); }) /
           width;
  const Vec shift = set1(mean);
  const float square = sum_over(args.width, [x, shift](int32_t i, int32_t n, Vec sum) {
    const Vec v = keep_lanes(sub(load_some(x + i, n), shift), 0, n, zero());
    return fma(v, v, sum);
  });
  const Vec factor = set1(1.0f / std::sqrt(square / width + args.eps));
  for (int32_t i = 0; i < args.width; i += kLanes) {
    const int32_t n = std::min(kLanes, args.width - i);
    const Vec scaled = mul(sub(load_some(x + i, n), shift), factor),
              weight = load_some(args.weight + i, n);
    store_some(y + i,
               args.bias ? fma(weight, scaled, load_some(args.bias + i, n)) : mul(weight, scaled),
               n);
  }
}

void norm(const NormArgs& args, platform::Worker& worker) noexcept {
  const auto [begin, end] = worker.share(args.rows);
  for (int64_t r = begin; r < end; ++r)
    norm_row(args, args.x + r * args.x_stride, args.y + r * args.y_stride);
}

static void rotate_interleaved(float* x, const float* cos, const float* sin, int32_t dim) {
  int32_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) {
    const Vec v = load(x + i);
    store(x + i,
          fma_sub_add(v, load_twice(cos + i / 2), mul(swap_pairs(v), load_twice(sin + i / 2))));
  }
  for (; i < dim; i += 2) {
    const float a = x[i], b = x[i + 1], c = cos[i / 2], s = sin[i / 2];
    x[i] = std::fma(a, c, -(b * s));
    x[i + 1] = std::fma(b, c, a * s);
  }
}

static void rotate_halves(float* x, const float* cos, const float* sin, int32_t dim) {
  const int32_t half = dim / 2;
  for (int32_t i = 0; i < half; i += kLanes) {
    const int32_t n = std::min(kLanes, half - i);
    const Vec a = load_some(x + i, n), b = load_some(x + half + i, n), c = load_some(cos + i, n),
              s = load_some(sin + i, n);
    store_some(x + i, sub(mul(a, c), mul(b, s)), n);
    store_some(x + half + i, fma(b, c, mul(a, s)), n);
  }
}

void rope(const RopeArgs& args, platform::Worker& worker) noexcept {
  const int64_t pairs = args.rope_dim / 2;
  const auto [begin, end] = worker.share(int64_t{args.rows} * args.heads);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t row = i / args.heads;
    float* x = args.x + row * args.row_stride + i % args.heads * args.head_stride;
    (args.interleaved ? rotate_interleaved : rotate_halves)(x, args.cos + row * pairs,
                                                            args.sin + row * pairs, args.rope_dim);
  }
}

void embedding(const EmbeddingArgs& args, platform::Worker& worker) noexcept {
  const int64_t size = args.dtype == DType::kF32 ? 4 : 2;
  const auto [begin, end] = worker.share(args.rows);
  for (int64_t r = begin; r < end; ++r) {
    const std::byte* row = args.table + args.ids[r] * size * args.width;
    float* out = args.out + r * args.width;
    if (args.dtype == DType::kF32) {
      std::memcpy(out, row, static_cast<size_t>(args.width) * 4);
      continue;
    }
    const bool bf16 = args.dtype == DType::kBF16;
    int32_t i = 0;
    for (; i + kLanes <= args.width; i += kLanes)
      store(out + i, bf16 ? load_bf16(row + 2 * i) : load_f16(row + 2 * i));
    if (i < args.width) {
      uint16_t rest[kLanes] = {};
      std::memcpy(rest, row + 2 * i, static_cast<size_t>(args.width - i) * 2);
      store_first(out + i, bf16 ? load_bf16(rest) : load_f16(rest), args.width - i);
    }
  }
}

static void store_bf16_row(const float* x, int32_t width, std::byte* row) {
  int32_t i = 0;
  for (; i + kLanes <= width; i += kLanes) store_bf16(row + 2 * i, load(x + i));
  if (i < width) {
    uint16_t rest[kLanes];
    store_bf16(rest, load_first(x + i, width - i));
    std::memcpy(row + 2 * i, rest, static_cast<size_t>(width - i) * 2);
  }
}

void store_kv(const StoreKvArgs& args, platform::Worker& worker) noexcept {
  const StepInput& step = *args.step;
  const auto [begin, end] = worker.share(step.num_tokens);
  for (auto t = static_cast<int32_t>(begin); t < end; ++t) {
    const int32_t position = step.positions[t], page_size = args.kv.page_size;
    std::byte* row = args.kv.row(step.block_of(t, position, page_size), position % page_size);
    const float* x = args.x + t * args.x_stride;
    if (args.kv.dtype == DType::kF32)
      std::memcpy(row + 4 * int64_t{args.offset}, x, static_cast<size_t>(args.width) * 4);
    else
      store_bf16_row(x, args.width, row + 2 * int64_t{args.offset});
  }
}

// Columns [begin, end) of one token, in passes of four vectors.
static void combine_columns(const CombineArgs& args, int64_t token, int32_t begin, int32_t end) {
  float* out = args.out + token * args.out_stride;
  const int32_t* row_of = args.row_of + token * args.top_k;
  const float* weights = args.weights + token * args.top_k;
  for (int32_t column = begin; column < end; column += 4 * kLanes) {
    Vec sums[4];
    int32_t n[4];
    for (int v = 0; v < 4; ++v) {
      n[v] = std::clamp(end - column - v * kLanes, 0, kLanes);
      sums[v] = args.accumulate && n[v] > 0 ? load_some(out + column + v * kLanes, n[v]) : zero();
    }
    for (int32_t j = 0; j < args.top_k; ++j) {
      if (row_of[j] < 0) continue;
      const float* row = args.rows + row_of[j] * args.rows_stride + column;
      const Vec weight = set1(weights[j]);
      for (int v = 0; v < 4; ++v) {
        if (n[v] > 0) sums[v] = fma(weight, load_some(row + v * kLanes, n[v]), sums[v]);
      }
    }
    for (int v = 0; v < 4; ++v) {
      if (n[v] > 0) store_some(out + column + v * kLanes, sums[v], n[v]);
    }
  }
}

void combine(const CombineArgs& args, platform::Worker& worker) noexcept {
  constexpr int32_t kColumns = 512;  // of one unit: one token still feeds several workers
  const int64_t chunks = (args.width + kColumns - 1) / kColumns;
  const auto [begin, end] = worker.share(args.tokens * chunks);
  for (int64_t i = begin; i < end; ++i) {
    const auto first = static_cast<int32_t>(i % chunks) * kColumns;
    combine_columns(args, i / chunks, first, std::min(args.width, first + kColumns));
  }
}

// Lanes past n are NaN, which no comparison below lets through.
static Vec load_logits(const float* p, int32_t n) {
  return n >= kLanes ? load(p) : keep_lanes(load_first(p, n), 0, n, set1(NAN));
}

// Adds fn(logits at i) over the row: float32 sums of at most 16 vectors, then double.
template <class Fn>
static double sum_row(const float* row, int32_t n, Fn fn) {
  double sums[kDoubleSums] = {};
  for (int32_t begin = 0; begin < n; begin += 16 * kLanes) {
    Vec sum = zero();
    const int32_t end = std::min(n, begin + 16 * kLanes);
    for (int32_t i = begin; i < end; i += kLanes) sum = add(sum, fn(load_logits(row + i, n - i)));
    add_to_doubles(sum, sums);
  }
  double total = 0;
  for (double v : sums) total += v;
  return total;
}

LogitsStats logits_stats(const float* row, int32_t n) noexcept {
  Vec tops[4];
  for (Vec& v : tops) v = set1(-INFINITY);
  int32_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int v = 0; v < 4; ++v)
      tops[v] = max(load(row + i + v * kLanes), tops[v]);  // NaN: keeps tops
  }
  for (; i < n; i += kLanes) tops[0] = max(load_logits(row + i, n - i), tops[0]);
  const float top = max_lane(max(max(tops[0], tops[1]), max(tops[2], tops[3])));
  LogitsStats stats{top, 0, 0};
  for (i = 0; i < n; i += kLanes) {
    const uint32_t at = bits_at_least(load_logits(row + i, n - i), set1(top));
    if (at == 0) continue;
    stats.argmax = i + std::countr_zero(at);
    break;
  }
  stats.sum_exp = sum_row(row, n, [top](Vec v) {
    const Vec p = where_equal(v, set1(top), set1(1.0f), exp(sub(v, set1(top))));
    return where_equal(v, v, p, zero());
  });
  return stats;
}

double sum_exp(const float* row, int32_t n, float shift, float scale, float threshold) noexcept {
  return sum_row(row, n, [=](Vec v) {
    return where_at_least(v, set1(threshold), exp(mul(sub(v, set1(shift)), set1(scale))), zero());
  });
}

int32_t gather_above(const float* row, int32_t n, float threshold, int32_t* indices,
                     int32_t capacity) noexcept {
  int32_t count = 0;
  for (int32_t i = 0; i < n; i += kLanes) {
    for (uint32_t in = bits_at_least(load_logits(row + i, n - i), set1(threshold)); in != 0;
         in &= in - 1, ++count) {
      if (count < capacity) indices[count] = i + std::countr_zero(in);
    }
  }
  return count;
}

int32_t top_k(const float* row, int32_t n, int32_t k, int32_t* indices,
              std::byte* scratch) noexcept {
  k = std::clamp(k, 0, n);
  if (k == 0) return 0;
  auto* keys = reinterpret_cast<int32_t*>(scratch);
  scores_to_keys(row, n, keys);
  select_keys(keys, n, k, indices);
  return k;
}
