// Row ops: the reference against written-out formulas, every table against the reference.
#include <gtest/gtest.h>

#include "kernels/paged_batch_fixture.h"
#include "kernels/row_ops.h"

namespace moestro::kernels {
namespace {

using testing::gang_of;
using testing::noise;

std::vector<float> values(size_t n, uint64_t seed, float amplitude = 1, float shift = 0) {
  std::vector<float> out;
  for (size_t i = 0; i < n; ++i) out.push_back(amplitude * noise(seed, i) + shift);
  return out;
}

const RowOps& reference() { return row_ops().back(); }

TEST(RowOpsReference, NormRopeAndCombineAgreeWithTheFormulas) {
  const RowOps& ops = reference();
  gang_of(1).run([&](platform::Worker& self) {
    float x[] = {3, 4, 0, 0, 1, 1, 1, 1}, y[8];
    const float weight[] = {1, 2, 3, 4};
    ops.norm({x, 4, weight, nullptr, 0, y, 4, 2, 4}, self);
    EXPECT_FLOAT_EQ(y[0], 3 / 2.5f);
    EXPECT_FLOAT_EQ(y[1], 2 * 4 / 2.5f);
    EXPECT_FLOAT_EQ(y[7], 4);
    const float bias[] = {0.5f, 0, 0, 0};
    ops.norm({x, 4, weight, bias, 1.0f, y, 4, 2, 4},
             self);  // mean 1.75, variance (1.25² + 2.25² + 2 * 1.75²) / 4 = 3.1875
    EXPECT_FLOAT_EQ(y[0], 1.25f / std::sqrt(4.1875f) + 0.5f);
    EXPECT_FLOAT_EQ(y[7], 0);
    float r[] = {1, 2, 3, 4, 9};
    const float cos[] = {0, 0.5f}, sin[] = {1, 2};
    ops.rope({r, 5, 5, 1, 1, 4, cos, sin, true},
             self);  // (1, 2) -> (-2, 1); (3, 4) -> (1.5 - 8, 2 + 6)
    EXPECT_EQ(std::vector<float>(r, r + 5), (std::vector<float>{-2, 1, -6.5f, 8, 9}));
    float s[] = {1, 2, 3, 4, 9};
    ops.rope({s, 5, 5, 1, 1, 4, cos, sin, false},
             self);  // (1, 3) -> (-3, 1); (2, 4) -> (1 - 8, 2 + 4)
    EXPECT_EQ(std::vector<float>(s, s + 5), (std::vector<float>{-3, -7, 1, 6, 9}));
    const int32_t row_of[] = {1, -1, 0, 1};
    const float weights[] = {0.5f, 7, 2, 1};
    float out[] = {10, 10, 10, 10, 10, 10, 10, 10};
    ops.combine({x, 4, row_of, weights, 2, 2, 4, out, 4, true}, self);
    EXPECT_EQ(std::vector<float>(out, out + 8),
              (std::vector<float>{10.5f, 10.5f, 10.5f, 10.5f, 17, 19, 11, 11}));
  });
}

TEST(RowOpsReference, LogitsOpsHandleNanInfinityAndTies) {
  for (const RowOps& ops : row_ops()) {
    if (!platform::detect_isa().contains(ops.needs)) continue;
    const float nan = NAN, inf = INFINITY;
    const float ties[] = {1, 3, nan, 3, -inf};
    LogitsStats s = ops.logits_stats(ties, 5);
    EXPECT_EQ(s.argmax, 1);
    EXPECT_EQ(s.max, 3);
    EXPECT_NEAR(s.sum_exp, 2 + std::exp(-2.0), 1e-6);
    const float top[] = {1, inf, inf};
    s = ops.logits_stats(top, 3);
    EXPECT_EQ(s.argmax, 1);
    EXPECT_EQ(s.sum_exp, 2);
    const float none[] = {nan, -inf, nan, -inf};
    s = ops.logits_stats(none, 4);
    EXPECT_EQ(s.max, -inf);
    EXPECT_EQ(s.argmax, 1);
    EXPECT_EQ(s.sum_exp, 2);
    s = ops.logits_stats(none, 1);
    EXPECT_EQ(s.argmax, 0);
    int32_t indices[5];
    EXPECT_EQ(ops.gather_above(ties, 5, 1, indices, 2), 3);
    EXPECT_EQ(indices[0], 0);
    EXPECT_EQ(indices[1], 1);
    EXPECT_NEAR(ops.sum_exp(ties, 5, 3, 0.5f, 1), 2 + std::exp(-1.0), 1e-6);
    EXPECT_NEAR(ops.sum_exp(ties, 5, 3, 0.5f, -inf), 2 + std::exp(-1.0), 1e-6);
    alignas(64) std::byte scratch[top_k_scratch_bytes(5)];
    EXPECT_EQ(ops.top_k(ties, 5, 1, indices, scratch), 1);
    EXPECT_EQ(indices[0], 1);
    EXPECT_EQ(ops.top_k(ties, 5, 4, indices, scratch),
              4);  // NaN counts as -inf and has the lower index
    EXPECT_EQ(std::vector<int32_t>(indices, indices + 4), (std::vector<int32_t>{0, 1, 2, 3}));
    EXPECT_EQ(ops.top_k(ties, 5, 9, indices, scratch), 5);
    EXPECT_EQ(ops.top_k(ties, 5, 0, indices, scratch), 0);
  }
}

class RowOpsTable : public ::testing::TestWithParam<size_t> {
 protected:
  void SetUp() override { MOESTRO_SKIP_UNLESS_ISA(ops()); }
  const RowOps& ops() const { return row_ops()[GetParam()]; }
};

template <class Args>
void run_op(void (*op)(const Args&, platform::Worker&) noexcept, const Args& args, int workers) {
  gang_of(workers).run([&](platform::Worker& w) { op(args, w); });
}

TEST_P(RowOpsTable, NormAgreesWithTheReference) {
  for (int32_t width : {1, 7, 8, 16, 31, 128, 1000, 5120}) {
    const int32_t rows = 5;
    const int64_t stride = width + 3;
    const auto x = values(static_cast<size_t>(rows * stride), 1, 3, 0.5f),
               weight = values(static_cast<size_t>(width), 2),
               bias = values(static_cast<size_t>(width), 3);
    for (const float* b : {static_cast<const float*>(nullptr), bias.data()}) {
      std::vector<float> got = x, want = x;
      run_op(ops().norm,
             {got.data(), stride, weight.data(), b, 1e-5f, got.data(), stride, rows, width},
             3);  // in place
      run_op(reference().norm,
             {x.data(), stride, weight.data(), b, 1e-5f, want.data(), stride, rows, width}, 1);
      EXPECT_LE(testing::row_error(got, want, static_cast<int32_t>(stride)), 1e-6) << width;
      for (int64_t r = 0; r < rows; ++r)
        EXPECT_EQ(got[static_cast<size_t>(r * stride + width)],
                  x[static_cast<size_t>(r * stride + width)]);
    }
  }
}

TEST_P(RowOpsTable, RopeAgreesWithTheReference) {
  for (int32_t dim : {2, 8, 14, 16, 32, 64, 90, 128}) {
    for (bool interleaved : {false, true}) {
      const int32_t rows = 4, heads = 3;
      const int64_t head_stride = dim + 5, row_stride = heads * head_stride + 2;
      const auto x = values(static_cast<size_t>(rows * row_stride), 4),
                 cos = values(static_cast<size_t>(rows * dim / 2), 5),
                 sin = values(static_cast<size_t>(rows * dim / 2), 6);
      std::vector<float> got = x, want = x;
      run_op(ops().rope,
             {got.data(), row_stride, head_stride, rows, heads, dim, cos.data(), sin.data(),
              interleaved},
             2);
      run_op(reference().rope,
             {want.data(), row_stride, head_stride, rows, heads, dim, cos.data(), sin.data(),
              interleaved},
             1);
      for (size_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got[i], want[i], 3e-7) << dim << " " << interleaved << " " << i;
    }
  }
}

TEST_P(RowOpsTable, EmbeddingIsExact) {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (int32_t width : {1, 15, 64, 100}) {
      const int64_t size = dtype == DType::kF32 ? 4 : 2;
      std::vector<std::byte> table(static_cast<size_t>(9 * width * size + 1));
      for (int32_t i = 0; i < 9 * width; ++i) {
        const float v = noise(7, static_cast<uint64_t>(i)) *
                        (i % 5 == 0 ? 1e-6f : 1.0f);  // subnormal halves too
        const uint16_t bits = dtype == DType::kBF16 ? to_bf16(v).bits : to_f16(v).bits;
        std::memcpy(table.data() + 1 + i * size,
                    dtype == DType::kF32 ? static_cast<const void*>(&v) : &bits,
                    static_cast<size_t>(size));
      }
      const int32_t ids[] = {8, 0, 3, 3, 7};
      std::vector<float> got(static_cast<size_t>(5 * width)), want = got;
      run_op(ops().embedding, {table.data() + 1, dtype, ids, 5, width, got.data()},
             2);  // unaligned
      run_op(reference().embedding, {table.data() + 1, dtype, ids, 5, width, want.data()}, 1);
      EXPECT_TRUE(testing::same_bits(got, want));
      const auto at = static_cast<uint64_t>(8 * width);
      EXPECT_NEAR(got[0], noise(7, at) * (at % 5 == 0 ? 1e-6f : 1.0f), 1e-2);
    }
  }
}

TEST_P(RowOpsTable, StoreKvWritesTheTokensRowsAndNothingElse) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    for (int32_t width : {5, 16, 64}) {
      testing::PagedBatch batch({{1, 30, 5}, {2, 0, 3}, {3, 16, 1}}, 16),
          same({{1, 30, 5}, {2, 0, 3}, {3, 16, 1}}, 16);
      const tensor::PagedView view = batch.cache(1, width + 9, dtype, 2),
                              expected = same.cache(1, width + 9, dtype, 2);
      auto x = values(static_cast<size_t>(batch.tokens() * (width + 1)), 8);
      x[0] = NAN;
      x[1] = 1.00390625f;  // half way between two bf16: to even
      run_op(ops().store_kv, {&batch.step(), x.data(), width + 1, view, 4, width}, 3);
      run_op(reference().store_kv, {&same.step(), x.data(), width + 1, expected, 4, width}, 1);
      EXPECT_EQ(std::memcmp(view.data, expected.data, static_cast<size_t>(view.block_bytes * 8)), 0)
          << width;
      const std::byte* row = view.row(batch.step().block_of(5, 0, 16), 0);
      const float want = x[static_cast<size_t>(5 * (width + 1))];
      float stored;
      Bf16 half;
      std::memcpy(&stored, row + 16, 4);
      std::memcpy(&half, row + 8, 2);
      EXPECT_EQ(dtype == DType::kF32 ? stored : to_float(half),
                dtype == DType::kF32 ? want : to_float(to_bf16(want)));
    }
  }
}

TEST_P(RowOpsTable, CombineAgreesWithTheReference) {
  for (int32_t width : {1, 9, 16, 100, 513}) {
    const int32_t tokens = 5, top_k = 3;
    const int64_t stride = width + 2;
    const auto rows = values(static_cast<size_t>(8 * stride), 9), weights = values(15, 10),
               before = values(static_cast<size_t>(tokens * stride), 11);
    const int32_t row_of[15] = {0, 1, 2, 7, -1, 3, -1, -1, -1, 5, 5, 5, 6, 2, -1};
    for (bool accumulate : {false, true}) {
      std::vector<float> got = before, want = before;
      run_op(ops().combine,
             {rows.data(), stride, row_of, weights.data(), tokens, top_k, width, got.data(), stride,
              accumulate},
             2);
      run_op(reference().combine,
             {rows.data(), stride, row_of, weights.data(), tokens, top_k, width, want.data(),
              stride, accumulate},
             1);
      for (size_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got[i], want[i], 4e-7) << width << " " << i;
    }
  }
}

TEST_P(RowOpsTable, LogitsOpsAgreeWithTheReference) {
  for (int32_t n : {1, 2, 15, 16, 17, 100, 4099, 151936}) {
    auto row = values(static_cast<size_t>(n), 12, 15);
    if (n > 50)
      row[20] = NAN, row[30] = -INFINITY, row[40] = row[41] = 14.999f,
      row[static_cast<size_t>(n - 1)] = 14.999f;
    const LogitsStats got = ops().logits_stats(row.data(), n),
                      want = reference().logits_stats(row.data(), n);
    EXPECT_EQ(got.argmax, want.argmax);
    EXPECT_EQ(got.max, want.max);
    EXPECT_NEAR(got.sum_exp / want.sum_exp, 1, 1e-6);
    for (float threshold : {-INFINITY, -15.0f, 0.0f, 14.9f, 14.999f, 20.0f}) {
      const double mass = reference().sum_exp(row.data(), n, want.max, 1.3f, threshold);
      EXPECT_NEAR(ops().sum_exp(row.data(), n, want.max, 1.3f, threshold), mass, 1e-6 * mass)
          << threshold;
      for (int32_t capacity : {0, 3, n}) {
        std::vector<int32_t> a(static_cast<size_t>(n) + 1, -5), b = a;
        EXPECT_EQ(ops().gather_above(row.data(), n, threshold, a.data(), capacity),
                  reference().gather_above(row.data(), n, threshold, b.data(), capacity));
        EXPECT_EQ(a, b) << threshold << " " << capacity;
      }
    }
    for (int32_t k : {1, 2, 50, n - 1}) {
      for (float step : {0.0f, 2.0f, 1e-3f}) {  // rounding to a step makes ties
        std::vector<float> tied = row;
        if (step > 0)
          for (float& v : tied) v = std::nearbyint(v / step) * step;
        std::vector<int32_t> a(static_cast<size_t>(n) + 1, -5), b = a;
        std::vector<std::byte> scratch(static_cast<size_t>(top_k_scratch_bytes(n)) + 8);
        EXPECT_EQ(ops().top_k(tied.data(), n, k, a.data(), scratch.data()),
                  reference().top_k(tied.data(), n, k, b.data(), scratch.data()));
        EXPECT_EQ(a, b) << n << " " << k << " " << step;
      }
    }
  }
}

// One element's sum is exp itself.
TEST_P(RowOpsTable, ExpIsWithinTwoUlp) {
  double worst = 0;
  for (float x = -87; x < 88.5f; x += 0.00713f) {
    const double want = std::exp(static_cast<double>(x));
    const double got = ops().sum_exp(&x, 1, 0, 1, -INFINITY);
    worst = std::max(worst, std::fabs(got / want - 1));
  }
  EXPECT_LE(worst, 2e-7);
  const float zero = 0, low = -INFINITY, tiny = -104.5f, high = 89;
  EXPECT_EQ(ops().sum_exp(&zero, 1, 0, 1, -INFINITY), 1);
  EXPECT_EQ(ops().sum_exp(&low, 1, 0, 1, -INFINITY), 0);
  EXPECT_LE(ops().sum_exp(&tiny, 1, 0, 1, -INFINITY), 1e-44);
  EXPECT_GE(ops().sum_exp(&high, 1, 0, 1, -INFINITY), 3.4e38);
}

std::string table_name(const ::testing::TestParamInfo<size_t>& info) {
  return std::string(row_ops()[info.param].name);
}
INSTANTIATE_TEST_SUITE_P(Tables, RowOpsTable, ::testing::Range(size_t{0}, row_ops().size()),
                         table_name);

}  // namespace
}  // namespace moestro::kernels
