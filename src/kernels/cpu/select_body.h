// The k largest of n scores without sorting: a radix search for the k-th key, then one pass that
// writes the indices. Included inside a target region and namespace, after vec_*.h; has no includes
// of its own.
#pragma once

// Scores to keys of the same order as signed integers, in place if keys is scores; -0 equals +0,
// NaN equals minus infinity. Room for kKeyPadding more keys must follow.
inline constexpr int32_t kKeyPadding = 16;
static void scores_to_keys(const float* scores, int32_t n, int32_t* keys) {
  for (int32_t i = 0; i < n; i += kLanes) {
    Vec v = i + kLanes <= n ? load(scores + i) : load_first(scores + i, n - i);
    v = add(where_at_least(v, v, v, set1(-INFINITY)), zero());
    store_ordered(keys + i, v);
  }
  for (int32_t i = n; i % kKeyPadding != 0; ++i) keys[i] = INT32_MIN;  // below every score's key
}

struct KeySearch {
  int64_t low;  // keys in [low, high) share the bits found so far
  int64_t high;
  int32_t wanted;  // how many of them are among the k largest
};

// Narrows the range by `bits` bits. True: every key of the new range is wanted.
static bool narrow(const int32_t* keys, int32_t n, int shift, int32_t buckets, KeySearch& search) {
  uint32_t counts[2][2048];
  std::memset(counts, 0, sizeof counts);
  for (int32_t i = 0; i < n; i += kLanes) {
    uint32_t in = bits_at_least(keys + i, static_cast<int32_t>(search.low));
    if (search.high <= INT32_MAX) in &= ~bits_at_least(keys + i, static_cast<int32_t>(search.high));
    if (in ==
        (1u << kLanes) - 1) {  // two tables: runs of equal keys do not wait for each other's store
      for (int32_t j = 0; j < kLanes; j += 2) {
        ++counts[0][(keys[i + j] - search.low) >> shift];
        ++counts[1][(keys[i + j + 1] - search.low) >> shift];
      }
      continue;
    }
    for (; in != 0; in &= in - 1)
      ++counts[0][(keys[i + std::countr_zero(in)] - search.low) >> shift];
  }
  int32_t bucket = buckets - 1;
  for (;; --bucket) {
    const auto count = static_cast<int32_t>(counts[0][bucket] + counts[1][bucket]);
    if (count >= search.wanted) {
      search.low += int64_t{bucket} << shift;
      search.high = search.low + (int64_t{1} << shift);
      return count == search.wanted;
    }
    search.wanted -= count;
  }
}

// Indices of the k largest keys, equal keys by lower index, ascending. 0 < k <= n.
static void select_keys(const int32_t* keys, int32_t n, int32_t k, int32_t* out) {
  KeySearch search{INT32_MIN, int64_t{INT32_MAX} + 1, k};
  // The padding holds INT32_MIN, which no score's key reaches: it is last in the lowest bucket and
  // never wanted.
  const bool all = narrow(keys, n, 21, 2048, search) || narrow(keys, n, 10, 2048, search) ||
                   narrow(keys, n, 0, 1024, search);
  const auto least = static_cast<int32_t>(search.low);
  int32_t ties = all ? INT32_MAX : search.wanted,
          written = 0;  // not all: search.low is the k-th key itself
  for (int32_t i = 0; written < k; i += kLanes) {
    for (uint32_t in = bits_at_least(keys + i, least); in != 0; in &= in - 1) {
      const int32_t index = i + std::countr_zero(in);
      if (!all && keys[index] == least && --ties < 0) continue;
      out[written++] = index;
    }
  }
}
