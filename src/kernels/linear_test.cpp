#include "kernels/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/matrix_for_test.h"

namespace moestro::kernels {
namespace {

using platform::Gang;
using platform::Worker;
using tensor::PackedFormat;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

// x as linear.h says a kernel sees it, and the scale of the row.
float rounded_row(PackedFormat format, const float* x, int32_t k, std::vector<double>& out) {
  out.assign(static_cast<size_t>(k), 0.0);
  if (format != PackedFormat::kInt8) {
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = format == PackedFormat::kBf16 ? to_float(to_bf16(x[i])) : x[i];
    return 1.0f;
  }
  float largest = 0;
  for (size_t i = 0; i < out.size(); ++i) largest = std::max(largest, std::fabs(x[i]));
  const float scale = largest / 127.0f;
  for (size_t i = 0; i < out.size() && scale > 0; ++i)
    out[i] = std::clamp(std::nearbyint(x[i] / scale), -127.0f, 127.0f);
  return scale;
}

// Asserts y[r, :] against plain loops over the source weights. int8: the same float; f32 and bf16:
// 1e-6 (bf16 4e-6) of the sum of absolute products, far below what a misplaced value would cause.
void expect_row(const TestWeights& w, const float* x, const float* y, float before) {
  std::vector<double> row;
  const float scale = rounded_row(w.format, x, w.k, row);
  for (int32_t c = 0; c < w.n; ++c) {
    double sum = 0, magnitude = 0;
    for (int32_t i = 0; i < w.k; ++i) {
      const double p =
          row[static_cast<size_t>(i)] *
          w.stored[static_cast<size_t>(c) * static_cast<size_t>(w.k) + static_cast<size_t>(i)];
      sum += p;
      magnitude += std::fabs(p);
    }
    if (w.format == PackedFormat::kInt8) {
      const float expected =
          before + (static_cast<float>(sum) * (scale * w.scale_of(c)) + w.bias_of(c));
      ASSERT_FLOAT_EQ(y[c], expected) << "channel " << c;
    } else {
      const double expected = sum + w.bias_of(c) + before;
      const double bound = (w.format == PackedFormat::kBf16 ? 4e-6 : 1e-6) *
                               (magnitude + std::fabs(before) + std::fabs(w.bias_of(c))) +
                           1e-30;
      ASSERT_NEAR(y[c], expected, bound) << "channel " << c;
    }
  }
}

struct LinearCase {
  PackedFormat format;
  const LinearKernel* kernel;
};

std::vector<LinearCase> linear_cases() {
  std::vector<LinearCase> cases;
  for (const PackedFormat f : {PackedFormat::kF32, PackedFormat::kBf16, PackedFormat::kInt8})
    for (const LinearKernel& k : linear_kernels(f)) cases.push_back({f, &k});
  return cases;
}

class Linear : public testing::TestWithParam<LinearCase> {
 protected:
  void SetUp() override {
    if (!platform::detect_isa().contains(GetParam().kernel->needs))
      GTEST_SKIP() << "this processor lacks "
                   << platform::isa_names(GetParam().kernel->needs - platform::detect_isa());
  }
  // Runs the kernel with guard bytes behind its scratch.
  void run(int workers, LinearArgs args, int32_t max_rows) {
    LinearShape shape{GetParam().format, max_rows, 0, args.outputs.front().weight->k};
    for (const LinearOutput& o : args.outputs) shape.total_n += o.weight->n;
    ASSERT_TRUE(GetParam().kernel->why_not(shape).empty());
    const int64_t bytes = GetParam().kernel->scratch_bytes(shape, workers);
    platform::Buffer scratch = bytes_for_test(bytes + 64);
    std::memset(scratch.data(), 0xff,
                static_cast<size_t>(bytes) + 64);  // whatever was there before, here NaNs
    args.scratch = scratch.data();
    Gang gang(workers, false);
    gang.run([&](Worker& w) { GetParam().kernel->run(args, w); });
    for (int64_t i = 0; i < 64; ++i)
      ASSERT_EQ(scratch.data()[bytes + i], std::byte{0xff}) << "wrote past its scratch";
  }
  void check(int32_t rows, int32_t k, std::vector<int32_t> ns, int workers, bool bias,
             bool accumulate) {
    SCOPED_TRACE(testing::Message() << "rows " << rows << " k " << k << " workers " << workers);
    std::mt19937 rng(static_cast<uint32_t>(rows * 7919 + k));
    const int64_t x_stride = k + 3;
    const std::vector<float> x = random_floats(static_cast<size_t>(rows * x_stride), rng);
    std::vector<TestWeights> weights;
    std::vector<PackedForTest> packed;
    std::vector<std::vector<float>> y;
    std::vector<LinearOutput> outputs;
    for (const int32_t n : ns) {
      weights.emplace_back(GetParam().format, n, k, rng);
      if (bias) weights.back().bias = random_floats(static_cast<size_t>(n), rng);
      packed.emplace_back(weights.back());
      y.emplace_back(static_cast<size_t>(rows) * static_cast<size_t>(n + 5) + 1, 0.25f);
    }
    for (size_t i = 0; i < ns.size(); ++i)
      outputs.push_back({&packed[i].view, y[i].data(), ns[i] + 5});
    LinearArgs args{x.data(), x_stride, rows, outputs, accumulate, nullptr};
    run(workers, args, rows);
    for (size_t o = 0; o < ns.size(); ++o)
      for (int32_t r = 0; r < rows; ++r) {
        const float* out = y[o].data() + r * (ns[o] + 5);
        expect_row(weights[o], x.data() + r * x_stride, out, accumulate ? 0.25f : 0.0f);
        for (int i = 0; i < 5; ++i) ASSERT_EQ(out[ns[o] + i], 0.25f) << "wrote past the row";
        if (HasFatalFailure()) return;
      }
  }
};

TEST_P(Linear, EqualsPlainLoopsOverShapes) {
  for (const int32_t rows : {0, 1, 2, 3, 4, 5, 16, 17, 33, 100})
    for (const auto& [k, ns] :
         {std::pair<int32_t, std::vector<int32_t>>{64, {32}}, {130, {47}}, {257, {33, 1, 64}}})
      check(rows, k, ns, 1, false, false);
}

TEST_P(Linear, LongSumsPassBlockBoundaries) {
  for (const int32_t rows : {1, 40}) check(rows, 2200, {96}, 2, false, false);
}

TEST_P(Linear, BiasAccumulateAndWorkers) {
  for (const int workers : {1, 2, 3}) {
    check(3, 100, {70, 20}, workers, true, false);
    check(19, 100, {70, 200}, workers, true, true);
  }
}

TEST_P(Linear, MoreRowsThanOneChunk) { check(300, 70, {40}, 2, false, false); }

// Results of 24 MiB and more are written past the caches where lines are whole: the last channels
// and rows are not.
TEST_P(Linear, ResultsLargerThanCaches) {
  if (GetParam().kernel->name.ends_with("_ref"))
    GTEST_SKIP() << "the reference has one way to store";
  std::mt19937 rng(11);
  const int32_t rows = 2100, n = 3008 - 16, k = 8;
  const TestWeights w(GetParam().format, n, k, rng);
  PackedForTest packed(w);
  const std::vector<float> x = random_floats(static_cast<size_t>(rows) * k, rng);
  const int64_t stride = 3008;
  platform::Buffer y = bytes_for_test(4 * stride * rows);
  const LinearOutput out{&packed.view, y.as<float>(), stride};
  run(2, {x.data(), k, rows, {&out, 1}, false, nullptr}, rows);
  for (const int32_t r : {0, 1, 255, 256, 1000, 2098, 2099}) {
    expect_row(w, x.data() + r * k, y.as<float>() + r * stride, 0.0f);
    for (int64_t i = n; i < stride; ++i) ASSERT_EQ(y.as<float>()[r * stride + i], 0.0f);
  }
}

// The same row gives the same bits alone, in company, at any place, with any number of workers.
TEST_P(Linear, ResultsDoNotDependOnCompanyOrWorkers) {
  std::mt19937 rng(5);
  const int32_t k = 1100, n = 50, rows = 77;
  const TestWeights w(GetParam().format, n, k, rng);
  PackedForTest packed(w);
  const std::vector<float> x = random_floats(static_cast<size_t>(rows) * k, rng);
  std::vector<float> all(static_cast<size_t>(rows) * n), one(n);
  const LinearOutput out_all{&packed.view, all.data(), n};
  run(1, {x.data(), k, rows, {&out_all, 1}, false, nullptr}, rows);
  for (const auto& [first, count, workers] :
       {std::tuple{0, 1, 1}, {5, 2, 2}, {31, 3, 1}, {32, 4, 3}, {40, 5, 2}, {60, 17, 1}}) {
    std::vector<float> part(static_cast<size_t>(count) * n);
    const LinearOutput out{&packed.view, part.data(), n};
    run(workers, {x.data() + first * k, k, count, {&out, 1}, false, nullptr}, rows);
    ASSERT_EQ(std::memcmp(part.data(), all.data() + first * n, part.size() * 4), 0)
        << first << " " << count;
  }
}

TEST_P(Linear, ExtremeRowsStayInTheirOwnRow) {
  std::mt19937 rng(6);
  const int32_t k = 192, n = 40, rows = 40;
  const TestWeights w(GetParam().format, n, k, rng);
  PackedForTest packed(w);
  std::vector<float> x = random_floats(static_cast<size_t>(rows) * k, rng);
  const auto fill = [&](int32_t r, float v) { std::fill_n(x.begin() + r * k, k, v); };
  fill(0, 0.0f);
  fill(1, 1.0f);  // saturation: every q is 127
  fill(2, -1.0f);
  fill(3, 1e-41f);  // denormal
  fill(4, 1e30f);   // large
  x[5 * k + 7] = kNan;
  x[20 * k + 190] = kInf;
  x[33 * k] = -kInf;
  fill(34, 1e-44f);  // absmax / 127 is zero
  std::vector<float> y(static_cast<size_t>(rows) * n);
  const LinearOutput out{&packed.view, y.data(), n};
  run(2, {x.data(), k, rows, {&out, 1}, false, nullptr}, rows);
  for (int32_t r = 0; r < rows; ++r) {
    SCOPED_TRACE(r);
    const float* row = y.data() + r * n;
    if (r == 5 || r == 20 || r == 33) {
      for (int32_t c = 0; c < n; ++c) EXPECT_FALSE(std::isfinite(row[c]));
    } else if (r == 3 || r == 34) {  // float units may flush denormals to zero
      for (int32_t c = 0; c < n; ++c) EXPECT_LE(std::fabs(row[c]), 1e-37f);
    } else {
      expect_row(w, x.data() + r * k, row, 0.0f);
    }
  }
}

// Weights of -128 and 127 against activations of -127 and 127: pairs that saturate 16-bit sums, and
// the largest int32 sum.
TEST_P(Linear, LargestProductsAreExact) {
  if (GetParam().format != PackedFormat::kInt8) return;
  std::mt19937 rng(7);
  const int32_t k = 4096, n = 34;
  TestWeights w(PackedFormat::kInt8, n, k, rng);
  for (size_t i = 0; i < w.q.size(); ++i) {
    const size_t channel = i / static_cast<size_t>(k);
    w.q[i] = channel == 0 ? -128 : channel == 1 ? 127 : rng() % 2 ? -128 : 127;
  }
  w.stored.assign(w.q.begin(), w.q.end());
  PackedForTest packed(w);
  for (const int32_t rows : {1, 6, 33}) {
    std::vector<float> x(static_cast<size_t>(rows) * k);
    for (float& v : x) v = rng() % 2 ? 3.0f : -3.0f;
    std::fill_n(x.begin(), k, 3.0f);
    std::vector<float> y(static_cast<size_t>(rows) * n);
    const LinearOutput out{&packed.view, y.data(), n};
    run(1, {x.data(), k, rows, {&out, 1}, false, nullptr}, rows);
    for (int32_t r = 0; r < rows; ++r) expect_row(w, x.data() + r * k, y.data() + r * n, 0.0f);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Linear, testing::ValuesIn(linear_cases()),
                         [](const auto& info) { return std::string(info.param.kernel->name); });

struct HeadLinearCase {
  PackedFormat format;
  const HeadLinearKernel* kernel;
};

std::vector<HeadLinearCase> head_linear_cases() {
  std::vector<HeadLinearCase> cases;
  for (const PackedFormat f : {PackedFormat::kF32, PackedFormat::kBf16})
    for (const HeadLinearKernel& k : head_linear_kernels(f)) cases.push_back({f, &k});
  return cases;
}

class HeadLinear : public testing::TestWithParam<HeadLinearCase> {};

TEST_P(HeadLinear, EveryHeadUsesItsOwnMatrix) {
  const auto& [format, kernel] = GetParam();
  if (!platform::detect_isa().contains(kernel->needs))
    GTEST_SKIP() << "this processor lacks "
                 << platform::isa_names(kernel->needs - platform::detect_isa());
  std::mt19937 rng(8);
  for (const auto& [heads, n, k] : {std::tuple{3, 40, 50}, {5, 128, 64}, {1, 17, 33}})
    for (const int32_t rows : {0, 1, 4, 5, 37, 70})
      for (const int workers : {1, 2, 3}) {
        SCOPED_TRACE(testing::Message()
                     << heads << " heads " << rows << " rows " << workers << " workers");
        std::vector<TestWeights> weights;
        std::vector<PackedForTest> packed;
        std::vector<tensor::PackedMatrix> views;
        for (int h = 0; h < heads; ++h) {
          weights.emplace_back(format, n, k, rng);
          packed.emplace_back(weights.back());
          views.push_back(packed.back().view);
        }
        const int64_t x_head = k + 1, x_row = x_head * heads + 2, y_head = n + 2,
                      y_row = y_head * heads + 1;
        const std::vector<float> x = random_floats(static_cast<size_t>(x_row * rows) + 1, rng);
        std::vector<float> y(static_cast<size_t>(y_row * rows) + 1, 7.0f);
        const HeadLinearShape shape{format, rows, heads, n, k};
        ASSERT_TRUE(kernel->why_not(shape).empty());
        platform::Buffer scratch = bytes_for_test(kernel->scratch_bytes(shape, workers));
        const HeadLinearArgs args{x.data(), x_row, x_head, y.data(),      y_row,
                                  y_head,   rows,  views,  scratch.data()};
        Gang gang(workers, false);
        gang.run([&](Worker& w) { kernel->run(args, w); });
        for (int32_t r = 0; r < rows; ++r)
          for (int h = 0; h < heads; ++h) {
            const float* out = y.data() + r * y_row + h * y_head;
            expect_row(weights[static_cast<size_t>(h)], x.data() + r * x_row + h * x_head, out,
                       0.0f);
            ASSERT_EQ(out[n], 7.0f);
            if (HasFatalFailure()) return;
          }
      }
}

INSTANTIATE_TEST_SUITE_P(Kernels, HeadLinear, testing::ValuesIn(head_linear_cases()),
                         [](const auto& info) { return std::string(info.param.kernel->name); });

}  // namespace
}  // namespace moestro::kernels
