// The state of an attention row (sums, running maximum, sum of exponentials), how two are merged
// and how one becomes output. Included inside a target region and namespace, after vec_*.h and
// vec_math.h; has no includes of its own. Not inlined where a worker's path may differ: the same
// code gives the same bits whether a tile was split or not.
#pragma once

// A row's running maximum and sum of exponentials lie behind its padded sums.
static float& state_max(float* row, int32_t value_width) { return row[value_width]; }
static float& state_sum(float* row, int32_t value_width) { return row[value_width + 1]; }

static void clear_state(float* state, int32_t rows, int32_t state_stride, int32_t value_width) {
  for (int32_t r = 0; r < rows; ++r) {
    float* row = state + r * int64_t{state_stride};
    for (int32_t i = 0; i < value_width; i += kLanes) store(row + i, zero());
    state_max(row, value_width) = -INFINITY;
    state_sum(row, value_width) = 0;
  }
}

// total = total (+) part, both states of one row.
[[gnu::noinline]] static void merge_row(float* total, const float* part, int32_t value_width) {
  const float before = total[value_width], other = part[value_width];
  if (other == -INFINITY) return;
  const float now = std::max(before, other), a = exp_one(before - now), b = exp_one(other - now);
  for (int32_t i = 0; i < value_width; i += kLanes)
    store(total + i, fma(load(total + i), set1(a), mul(load(part + i), set1(b))));
  total[value_width] = now;
  total[value_width + 1] = std::fma(total[value_width + 1], a, part[value_width + 1] * b);
}

// out = sums / sum of exponentials, the sink included.
[[gnu::noinline]] static void write_row(const AttentionCall& call, int32_t token, int32_t head,
                                        float* state, int32_t value_width) {
  float factor = 1, sum = state_sum(state, value_width);
  if (call.sinks) {
    const float now = std::max(state_max(state, value_width), call.sinks[head]);
    factor = exp_one(state_max(state, value_width) - now);
    sum = std::fma(sum, factor, exp_one(call.sinks[head] - now));
  }
  const Vec scaled = set1(sum > 0 ? factor / sum : 0.0f);
  float* out = call.out + (int64_t{token} * call.heads + head) * call.value_dim;
  for (int32_t i = 0; i < call.value_dim; i += kLanes)
    store_first(out + i, mul(load(state + i), scaled), std::min(kLanes, call.value_dim - i));
}
