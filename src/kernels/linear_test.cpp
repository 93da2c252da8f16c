#include "kernels/linear.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>

#include "kernels/expectation_for_test.h"

namespace moestro::kernels {
namespace {

using platform::Gang;
using platform::Worker;
using tensor::PackedFormat;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

// Asserts y against the expectation; where that is no number or beyond float32, so must y be.
void expect_near(float y, const Expected& expected, int32_t channel) {
  if (std::isnan(expected.value))
    ASSERT_TRUE(std::isnan(y)) << y << " channel " << channel;
  else if (std::fabs(expected.value) + expected.bound > 0.9 * FLT_MAX)
    ASSERT_FALSE(std::fabs(y) < 0.5f * FLT_MAX) << y << " channel " << channel;
  else
    ASSERT_NEAR(y, expected.value, expected.bound) << "channel " << channel;
}

// Asserts y[r, :] against plain loops over the source weights.
void expect_row(const TestWeights& w, const float* x, const float* y, float before) {
  const RoundedRow row = round_row(w.format, x, w.k);
  for (int32_t c = 0; c < w.n; ++c) {
    Expected e = expected_dot(w, c, row);
    const double added = std::fabs(before) + std::fabs(w.bias_of(c));
    e.value += double{w.bias_of(c)} + before;
    if (added > 0) e.bound += 2e-7 * (added + std::fabs(e.value));
    expect_near(y[c], e, c);
    if (testing::Test::HasFatalFailure()) return;
  }
}

// Formats x kernels, named after both where a kernel serves several formats.
template <class K>
struct KernelCase {
  PackedFormat format;
  const K* kernel;
  friend void PrintTo(const KernelCase& c, std::ostream* out) {
    *out << c.kernel->name << " " << format_label(c.format);
  }
};
template <class K>
std::string case_name(const testing::TestParamInfo<KernelCase<K>>& info) {
  return std::string(info.param.kernel->name) + "__" + format_label(info.param.format);
}
using LinearCase = KernelCase<LinearKernel>;

std::vector<LinearCase> linear_cases() {
  std::vector<LinearCase> cases;
  for (const PackedFormat& f : test_formats())
    for (const LinearKernel& k : linear_kernels(f)) cases.push_back({f, &k});
  return cases;
}

class Linear : public testing::TestWithParam<LinearCase> {
 protected:
  void SetUp() override {
    if (!platform::detect_isa().contains(GetParam().kernel->needs))
      GTEST_SKIP() << "this processor lacks "
                   << platform::isa_names(GetParam().kernel->needs - platform::detect_isa());
    if (const auto reason = GetParam().kernel->why_not({GetParam().format, 300, 4096, 4096});
        !reason.empty())
      GTEST_SKIP() << reason;
  }
  bool is_reference() const { return GetParam().kernel->name.ends_with("_ref"); }
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
  for (const int32_t rows : {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 33})
    for (const auto& [k, ns] :
         {std::pair<int32_t, std::vector<int32_t>>{64, {32}}, {130, {47}}, {257, {33, 1, 20}}})
      if (!is_reference() || rows < 4) check(rows, k, ns, 1, false, false);
}

TEST_P(Linear, LongSumsPassBlockBoundaries) {
  for (const int32_t rows : {1, 34})
    if (!is_reference() || rows < 4) check(rows, 1220, {40}, 2, false, false);
}

TEST_P(Linear, BiasAccumulateAndWorkers) {
  for (const int workers : {1, 2, 3}) {
    check(3, 100, {70, 20}, workers, true, false);
    if (!is_reference()) check(19, 100, {40, 90}, workers, true, true);
  }
}

TEST_P(Linear, MoreRowsThanOneChunk) {
  if (!is_reference()) check(300, 70, {20}, 2, false, false);
}

// Results of 24 MiB and more are written past the caches where lines are whole: the last channels
// and rows are not.
TEST_P(Linear, ResultsLargerThanCaches) {
  if (is_reference()) GTEST_SKIP() << "the reference has one way to store";
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
  const int32_t k = 840, n = 50, rows = is_reference() ? 8 : 77;
  const TestWeights w(GetParam().format, n, k, rng);
  PackedForTest packed(w);
  const std::vector<float> x = random_floats(static_cast<size_t>(rows) * k, rng);
  std::vector<float> all(static_cast<size_t>(rows) * n), one(n);
  const LinearOutput out_all{&packed.view, all.data(), n};
  run(1, {x.data(), k, rows, {&out_all, 1}, false, nullptr}, rows);
  for (const auto& [first, count, workers] :
       {std::tuple{0, 1, 1}, {5, 2, 2}, {31, 3, 1}, {32, 4, 3}, {40, 5, 2}, {60, 17, 1}}) {
    if (first + count > rows) continue;
    std::vector<float> part(static_cast<size_t>(count) * n);
    const LinearOutput out{&packed.view, part.data(), n};
    run(workers, {x.data() + first * k, k, count, {&out, 1}, false, nullptr}, rows);
    ASSERT_EQ(std::memcmp(part.data(), all.data() + first * n, part.size() * 4), 0)
        << first << " " << count;
  }
}

// With an order of k, x counts as if it came in that order; outputs of one call may differ in it.
TEST_P(Linear, TakesInputsInTheOrderOfItsColumns) {
  if (!tensor::may_reorder(GetParam().format)) return;
  std::mt19937 rng(15);
  const int32_t k = 384, n = 40;
  const std::vector<int32_t> order = random_order(k, rng), other = random_order(k, rng);
  const TestWeights w(GetParam().format, n, k, rng);
  const PackedForTest packed(w);
  std::array<tensor::PackedMatrix, 4> views;
  views.fill(packed.view);
  views[0].k_order = views[1].k_order = order.data();
  views[3].k_order = other.data();
  for (const auto& [rows, workers] : {std::pair{1, 1}, {3, 2}, {34, 2}}) {
    const std::vector<float> x = random_floats(static_cast<size_t>(rows) * k, rng);
    std::vector<std::vector<float>> y(4, std::vector<float>(static_cast<size_t>(rows) * n));
    std::vector<LinearOutput> outputs;
    for (size_t o = 0; o < 4; ++o) outputs.push_back({&views[o], y[o].data(), n});
    run(workers, {x.data(), k, rows, outputs, false, nullptr}, rows);
    for (size_t o = 0; o < 4; ++o)
      for (int32_t r = 0; r < rows; ++r) {
        const float* row = x.data() + r * k;
        const std::vector<float> moved = o < 2    ? in_order(row, order)
                                         : o == 3 ? in_order(row, other)
                                                  : std::vector<float>(row, row + k);
        expect_row(w, moved.data(), y[o].data() + r * n, 0.0f);
        if (HasFatalFailure()) return;
      }
    EXPECT_EQ(y[0], y[1]);
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

// The largest codes against the largest activations: pairs that saturate 16-bit sums, and the
// largest int32 sums.
TEST_P(Linear, LargestProducts) {
  std::mt19937 rng(7);
  const PackedFormat& f = GetParam().format;
  if (!tensor::has_channel_scales(f)) return;
  const int32_t k = 2048, n = 34;
  TestWeights w(f, n, k, rng);
  const bool nibbles = tensor::bits_of(f.weight) == 4;
  const uint8_t lowest = f.weight == tensor::WeightType::kFp4    ? 0xf
                         : f.weight == tensor::WeightType::kInt4 ? 0
                         : f.weight == tensor::WeightType::kInt8 ? 0x80
                                                                 : 0xfe;
  const uint8_t highest = f.weight == tensor::WeightType::kFp4 ? 7 : nibbles ? 0xf : 0x7f;
  const uint8_t largest = f.weight == tensor::WeightType::kFp8 ? 0x7e : highest;
  for (int32_t c = 0; c < n; ++c)
    for (int32_t i = 0; i < k; ++i)
      w.codes[w.at(c, i)] = c == 0 ? lowest : c == 1 ? largest : rng() % 2 ? lowest : largest;
  if (f.zero_points)
    for (uint8_t& z : w.zero_points) z = rng() % 2 ? 0 : 15;
  PackedForTest packed(w);
  for (const int32_t rows : {1, 6, 33}) {
    if (is_reference() && rows > 6) continue;
    std::vector<float> x(static_cast<size_t>(rows) * k);
    for (float& v : x) v = rng() % 2 ? 3.0f : -3.0f;
    std::fill_n(x.begin(), k, 3.0f);
    std::vector<float> y(static_cast<size_t>(rows) * n);
    const LinearOutput out{&packed.view, y.data(), n};
    run(1, {x.data(), k, rows, {&out, 1}, false, nullptr}, rows);
    for (int32_t r = 0; r < rows; ++r) expect_row(w, x.data() + r * k, y.data() + r * n, 0.0f);
  }
}

// Every code of the format, alone in its row of weights: subnormals, -0, and what is no number.
TEST_P(Linear, EveryCodeCountsAsItsValue) {
  std::mt19937 rng(12);
  const PackedFormat& f = GetParam().format;
  if (!tensor::has_channel_scales(f)) return;
  const int32_t k = 200, n = tensor::bits_of(f.weight) == 4 ? 16 : 256;
  TestWeights w(f, n, k, rng);
  const uint8_t zero = f.weight == tensor::WeightType::kInt4 ? 8 : 0;
  std::fill(w.zero_points.begin(), w.zero_points.end(), zero);
  for (int32_t c = 0; c < n; ++c)
    for (int32_t i = 0; i < k; ++i)
      w.codes[w.at(c, i)] = i == c % k ? static_cast<uint8_t>(c) : zero;
  PackedForTest packed(w);
  for (const int32_t rows : {1, 3, 9}) {
    std::vector<float> x = random_floats(static_cast<size_t>(rows) * k, rng);
    if (rows > 1) std::fill_n(x.begin() + k, k, 0.0f);
    std::vector<float> y(static_cast<size_t>(rows) * static_cast<size_t>(n));
    const LinearOutput out{&packed.view, y.data(), n};
    run(1, {x.data(), k, rows, {&out, 1}, false, nullptr}, rows);
    for (int32_t r = 0; r < rows; ++r) expect_row(w, x.data() + r * k, y.data() + r * n, 0.0f);
  }
}

// Zero, subnormal and huge scales of channels and groups; e8m0's and e4m3's NaN.
TEST_P(Linear, ExtremeScales) {
  std::mt19937 rng(13);
  const PackedFormat& f = GetParam().format;
  if (!tensor::has_channel_scales(f)) return;
  const int32_t k = 300, n = 40;
  TestWeights w(f, n, k, rng);
  constexpr float kScales[] = {0.0f, 1e-42f, 1e-37f, 1e-30f, 1.0f, 1e30f};
  for (size_t c = 0; c < w.scales.size(); ++c) w.scales[c] = kScales[c % 6];
  for (size_t i = 0; i < w.group_scale_bits.size(); ++i) {
    const size_t choice = i / static_cast<size_t>(w.groups()) % 6;  // one order in a channel
    uint32_t& bits = w.group_scale_bits[i];
    switch (f.group_scale) {
      case DType::kBF16:
        bits = to_bf16(kScales[choice]).bits;
        break;
      case DType::kF16:  // 2^-24 and the largest among them
        bits = std::array<uint32_t, 6>{0, 1, 0x3ff, 0x400, 0x3c00, 0x7bff}[choice];
        break;
      case DType::kF8E8M0:
        bits = std::array<uint32_t, 6>{0, 1, 20, 127, 240, 255}[choice];
        break;
      case DType::kF8E4M3:
        bits = std::array<uint32_t, 6>{0, 1, 7, 0x38, 0x7e, 0x7f}[choice];
        break;
      default:
        bits = std::bit_cast<uint32_t>(kScales[choice]);
    }
  }
  PackedForTest packed(w);
  for (const int32_t rows : {1, 2, 4, 11}) {
    const std::vector<float> x = random_floats(static_cast<size_t>(rows) * k, rng);
    std::vector<float> y(static_cast<size_t>(rows) * n);
    const LinearOutput out{&packed.view, y.data(), n};
    run(1, {x.data(), k, rows, {&out, 1}, false, nullptr}, rows);
    for (int32_t r = 0; r < rows; ++r) expect_row(w, x.data() + r * k, y.data() + r * n, 0.0f);
  }
}

// Weights of zero give exactly zero, whatever kernels multiply inside.
TEST_P(Linear, ZeroWeightsGiveZero) {
  std::mt19937 rng(14);
  const int32_t k = 500, n = 33;
  TestWeights w(GetParam().format, n, k, rng);
  std::fill(w.floats.begin(), w.floats.end(), 0.0f);
  const uint8_t zero = w.format.weight == tensor::WeightType::kInt4 ? 8 : 0;
  std::fill(w.codes.begin(), w.codes.end(), zero);
  std::fill(w.zero_points.begin(), w.zero_points.end(), zero);
  PackedForTest packed(w);
  for (const int32_t rows : {1, 4, 9}) {
    const std::vector<float> x = random_floats(static_cast<size_t>(rows) * k, rng, 30.0f);
    std::vector<float> y(static_cast<size_t>(rows) * n, 1.0f);
    const LinearOutput out{&packed.view, y.data(), n};
    run(1, {x.data(), k, rows, {&out, 1}, false, nullptr}, rows);
    for (const float v : y) ASSERT_EQ(v, 0.0f);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Linear, testing::ValuesIn(linear_cases()),
                         case_name<LinearKernel>);

using HeadLinearCase = KernelCase<HeadLinearKernel>;

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
    for (const auto& [rows, workers] :
         {std::pair{0, 1}, {1, 1}, {1, 2}, {4, 1}, {5, 3}, {37, 2}, {70, 3}}) {
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
          expect_row(weights[static_cast<size_t>(h)], x.data() + r * x_row + h * x_head, out, 0.0f);
          ASSERT_EQ(out[n], 7.0f);
          if (HasFatalFailure()) return;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Kernels, HeadLinear, testing::ValuesIn(head_linear_cases()),
                         case_name<HeadLinearKernel>);

}  // namespace
}  // namespace moestro::kernels
