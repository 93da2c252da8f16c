#include "kernels/expert_mlp.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/expectation_for_test.h"

namespace moestro::kernels {
namespace {

using platform::Gang;
using platform::Worker;
using tensor::PackedFormat;

struct Experts {
  std::vector<TestWeights> gate, up, down;
  std::vector<PackedForTest> packed_gate_up, packed_down;
  std::vector<tensor::PackedMatrix> gate_up_views, down_views;
  int32_t hidden, intermediate;

  Experts(PackedFormat f, int32_t experts, int32_t h, int32_t inter, bool bias, std::mt19937& rng)
      : hidden(h), intermediate(inter) {
    for (int32_t e = 0; e < experts; ++e) {
      gate.emplace_back(f, inter, h, rng);
      up.emplace_back(f, inter, h, rng);
      down.emplace_back(f, h, inter, rng);
      if (bias) {
        gate.back().bias = random_floats(static_cast<size_t>(inter), rng);
        up.back().bias = random_floats(static_cast<size_t>(inter), rng);
        down.back().bias = random_floats(static_cast<size_t>(h), rng);
      }
      packed_gate_up.emplace_back(gate.back(), up.back());
      packed_down.emplace_back(down.back());
      gate_up_views.push_back(packed_gate_up.back().view);
      down_views.push_back(packed_down.back().view);
    }
  }
};

struct Rows {
  std::vector<int32_t> offsets, token;
  int32_t total() const { return offsets.back(); }
};

// Groups random choices of `top_k` experts a token (duplicates allowed) by expert.
Rows route(int32_t tokens, int32_t experts, int32_t top_k, std::mt19937& rng) {
  std::vector<std::vector<int32_t>> rows_of(static_cast<size_t>(experts));
  for (int32_t t = 0; t < tokens; ++t)
    for (int32_t j = 0; j < top_k; ++j)
      rows_of[rng() % static_cast<uint32_t>(experts)].push_back(t);
  Rows rows{{0}, {}};
  for (const auto& r : rows_of) {
    rows.token.insert(rows.token.end(), r.begin(), r.end());
    rows.offsets.push_back(static_cast<int32_t>(rows.token.size()));
  }
  return rows;
}

// act(gate, up) and how far a kernel's may be off. The slope of g sigmoid(alpha g) is at most 1.1;
// its exp and division add a few units in the last place, and stay at their ends far out. Limits
// make errors smaller at most.
Expected gated(const GatedActivation& act, const Expected& gate, const Expected& up) {
  const double limit = act.limit, g = std::min(gate.value, limit),
               u = std::clamp(up.value, -limit, limit) + act.up_offset;
  const double s = g / (1 + std::exp(-act.alpha * g));
  const double away = 1.1 * gate.bound + 1e-6 * std::fabs(s) + std::fabs(g) * 1e-37;
  const double up_bound = up.bound + (act.up_offset != 0 ? 1e-7 * std::fabs(u) : 0);
  return {s * u, away * (std::fabs(u) + up_bound) + std::fabs(s) * up_bound + 1e-40};
}

Expected with_bias(Expected e, float bias) {
  e.value += bias;
  if (bias != 0) e.bound += 2e-7 * (std::fabs(bias) + std::fabs(e.value));
  return e;
}

// y = down(act(gate x) * up x) of one row by plain loops over the source weights. An intermediate
// value that lies within its own bound of a rounding boundary may fall on the other side: the bound
// of an output counts that step.
std::vector<Expected> expected_row(const Experts& ex, const GatedActivation& act, size_t e,
                                   const float* x) {
  const RoundedRow in = round_row(ex.gate[e].format, x, ex.hidden);
  std::vector<float> h;
  std::vector<double> error;
  for (int32_t i = 0; i < ex.intermediate; ++i) {
    const Expected v = gated(act, with_bias(expected_dot(ex.gate[e], i, in), ex.gate[e].bias_of(i)),
                             with_bias(expected_dot(ex.up[e], i, in), ex.up[e].bias_of(i)));
    h.push_back(static_cast<float>(v.value));
    error.push_back(v.bound + 1e-7 * std::fabs(v.value));
  }
  const RoundedRow hidden = round_row(ex.down[e].format, h.data(), ex.intermediate, error.data());
  std::vector<Expected> y;
  for (int32_t c = 0; c < ex.hidden; ++c)
    y.push_back(with_bias(expected_dot(ex.down[e], c, hidden), ex.down[e].bias_of(c)));
  return y;
}

struct MlpCase {
  PackedFormat format;
  const ExpertMlpKernel* kernel;
  friend void PrintTo(const MlpCase& c, std::ostream* out) {
    *out << c.kernel->name << " " << format_label(c.format);
  }
};

std::vector<MlpCase> mlp_cases() {
  std::vector<MlpCase> cases;
  for (const PackedFormat& f : test_formats())
    for (const ExpertMlpKernel& k : expert_mlp_kernels(f)) cases.push_back({f, &k});
  return cases;
}

class ExpertMlp : public testing::TestWithParam<MlpCase> {
 protected:
  GatedActivation activation_ = kSilu;
  void SetUp() override {
    if (!platform::detect_isa().contains(GetParam().kernel->needs))
      GTEST_SKIP() << "this processor lacks "
                   << platform::isa_names(GetParam().kernel->needs - platform::detect_isa());
    if (const auto reason = GetParam().kernel->why_not({GetParam().format, 64, 512, 8, 1024, 512});
        !reason.empty())
      GTEST_SKIP() << reason;
  }
  bool is_reference() const { return GetParam().kernel->name.ends_with("_ref"); }
  // y [rows, hidden + 3]; the caller gives what y holds before.
  void run(const Experts& ex, const Rows& rows, bool identity, const std::vector<float>& x,
           int64_t x_stride, int32_t tokens, int workers, bool accumulate, std::vector<float>& y) {
    const ExpertMlpShape shape{GetParam().format, tokens,
                               rows.total(),      static_cast<int32_t>(ex.gate.size()),
                               ex.hidden,         ex.intermediate};
    ASSERT_TRUE(GetParam().kernel->why_not(shape).empty());
    const int64_t bytes = GetParam().kernel->scratch_bytes(shape, workers);
    platform::Buffer scratch = bytes_for_test(bytes + 64);
    std::memset(scratch.data(), 0xff, static_cast<size_t>(bytes) + 64);
    const ExpertMlpArgs args{x.data(),
                             x_stride,
                             tokens,
                             rows.offsets,
                             identity ? nullptr : rows.token.data(),
                             ex.gate_up_views,
                             ex.down_views,
                             activation_,
                             y.data(),
                             ex.hidden + 3,
                             accumulate,
                             scratch.data()};
    Gang gang(workers, false);
    gang.run([&](Worker& w) { GetParam().kernel->run(args, w); });
    for (int64_t i = 0; i < 64; ++i)
      ASSERT_EQ(scratch.data()[bytes + i], std::byte{0xff}) << "wrote past its scratch";
  }
  void check(int32_t tokens, int32_t experts, int32_t top_k, int32_t hidden, int32_t intermediate,
             int workers, bool bias = false, bool accumulate = false, bool identity = false) {
    SCOPED_TRACE(testing::Message()
                 << tokens << " tokens " << experts << " experts hidden " << hidden
                 << " intermediate " << intermediate << " workers " << workers);
    std::mt19937 rng(static_cast<uint32_t>(tokens * 131 + hidden));
    const Experts ex(GetParam().format, experts, hidden, intermediate, bias, rng);
    Rows rows = route(tokens, experts, top_k, rng);
    if (identity) std::iota(rows.token.begin(), rows.token.end(), 0);
    const int64_t x_stride = hidden + 1, y_stride = hidden + 3;
    const std::vector<float> x = random_floats(static_cast<size_t>(x_stride * tokens) + 1, rng);
    std::vector<float> y(static_cast<size_t>(y_stride * rows.total()) + 1, 0.5f);
    run(ex, rows, identity, x, x_stride, tokens, workers, accumulate, y);
    size_t e = 0;
    for (int32_t r = 0; r < rows.total(); ++r) {
      while (rows.offsets[e + 1] <= r) ++e;
      const auto expected = expected_row(ex, activation_, e,
                                         x.data() + rows.token[static_cast<size_t>(r)] * x_stride);
      const float* out = y.data() + r * y_stride;
      for (int32_t c = 0; c < hidden; ++c) {
        const Expected v = with_bias(expected[static_cast<size_t>(c)], accumulate ? 0.5f : 0.0f);
        ASSERT_NEAR(out[c], v.value, v.bound) << "row " << r << " channel " << c;
      }
      for (int i = 0; i < 3; ++i) ASSERT_EQ(out[hidden + i], 0.5f) << "wrote past the row";
    }
  }
};

TEST_P(ExpertMlp, EqualsPlainLoopsOverTokenCounts) {
  for (const int32_t tokens : {0, 1, 2, 4, 5, 16, 33})
    if (!is_reference() || tokens < 3) check(tokens, 6, 3, 96, 48, 2);
}

TEST_P(ExpertMlp, ClampedSwiglu) {
  activation_ = {.alpha = 1.702f, .limit = 0.3f, .up_offset = 1};  // low: many values meet it
  check(3, 3, 2, 64, 40, 2, true);
  if (!is_reference()) check(20, 2, 2, 200, 140, 2, true);
}

TEST_P(ExpertMlp, OddShapes) {
  check(7, 3, 2, 70, 33, 1);
  check(1, 4, 4, 130, 17, 3);
  if (is_reference()) return;
  check(7, 3, 2, 33, 70, 2);
  check(20, 2, 2, 200, 140, 3);
}

TEST_P(ExpertMlp, ManyRowsOfOneExpertAndManyEmptyExperts) {
  check(2, 40, 2, 64, 32, 2);
  if (is_reference()) return;
  check(100, 1, 1, 64, 32, 2, false, false, true);  // dense MLP: identity rows, row_token null
  check(300, 1, 1, 64, 32, 3, false, false, true);
  for (const int workers : {1, 2, 3})
    check(60, 12, 3, 64, 32, workers);  // an expert's last task packs its rows
  for (const int workers : {1, 2}) check(80, 40, 3, 64, 32, workers);  // whole experts as tasks
}

TEST_P(ExpertMlp, BiasAccumulateAndWorkers) {
  for (const int workers : {1, 2, 3}) {
    check(1, 5, 3, 80, 40, workers, true, true);
    if (!is_reference()) check(20, 5, 3, 80, 40, workers, true, true);
  }
}

// The same token gives the same bits whatever runs beside it.
TEST_P(ExpertMlp, ResultsDoNotDependOnCompanyOrWorkers) {
  std::mt19937 rng(9);
  const int32_t hidden = 160, intermediate = 80, experts = 4, tokens = is_reference() ? 9 : 60;
  const Experts ex(GetParam().format, experts, hidden, intermediate, false, rng);
  const Rows rows = route(tokens, experts, 3, rng);
  const std::vector<float> x = random_floats(static_cast<size_t>(hidden * tokens), rng);
  const int64_t y_stride = hidden + 3;
  std::vector<float> all(static_cast<size_t>(y_stride * rows.total()) + 1);
  run(ex, rows, false, x, hidden, tokens, 1, false, all);
  for (const int workers : {1, 2})
    for (const int32_t token : {0, tokens / 3, tokens - 1}) {
      Rows own{{0}, {}};
      std::vector<int32_t> source;
      for (int32_t e = 0; e < experts; ++e) {
        for (int32_t r = rows.offsets[static_cast<size_t>(e)];
             r < rows.offsets[static_cast<size_t>(e) + 1]; ++r)
          if (rows.token[static_cast<size_t>(r)] == token) {
            own.token.push_back(0);
            source.push_back(r);
          }
        own.offsets.push_back(static_cast<int32_t>(own.token.size()));
      }
      const std::vector<float> one(x.begin() + token * hidden, x.begin() + (token + 1) * hidden);
      std::vector<float> y(static_cast<size_t>(y_stride * own.total()) + 1);
      run(ex, own, false, one, hidden, 1, workers, false, y);
      for (size_t i = 0; i < source.size(); ++i)
        ASSERT_EQ(std::memcmp(y.data() + static_cast<int64_t>(i) * y_stride,
                              all.data() + source[i] * y_stride, static_cast<size_t>(hidden) * 4),
                  0)
            << "token " << token << " row " << source[i];
    }
}

// An expert with an order of its hidden values sees tokens as if they came in that order, bit by
// bit.
TEST_P(ExpertMlp, TakesTokensInTheOrderOfItsColumns) {
  if (!tensor::may_reorder(GetParam().format)) return;
  std::mt19937 rng(16);
  const int32_t hidden = 256, intermediate = 128, experts = 5;
  Experts ex(GetParam().format, experts, hidden, intermediate, false, rng);
  for (const int32_t tokens : {1, 3, 60}) {
    if (is_reference() && tokens > 3) continue;
    const Rows rows = route(tokens, experts, 3, rng);
    const std::vector<float> x = random_floats(static_cast<size_t>(hidden * tokens), rng);
    std::vector<std::vector<int32_t>> orders;
    std::vector<float> moved;  // [rows, hidden], each in its expert's order
    for (int32_t e = 0; e < experts; ++e) {
      orders.push_back(random_order(hidden, rng));
      for (int32_t r = rows.offsets[static_cast<size_t>(e)];
           r < rows.offsets[static_cast<size_t>(e) + 1]; ++r) {
        const auto row =
            in_order(x.data() + rows.token[static_cast<size_t>(r)] * hidden, orders.back());
        moved.insert(moved.end(), row.begin(), row.end());
      }
    }
    std::vector<float> y(static_cast<size_t>((hidden + 3) * rows.total()) + 1), expected = y;
    run(ex, rows, true, moved, hidden, rows.total(), 1, false, expected);
    for (size_t e = 0; e < orders.size(); ++e) ex.gate_up_views[e].k_order = orders[e].data();
    for (const int workers : {1, 2}) {
      run(ex, rows, false, x, hidden, tokens, workers, false, y);
      ASSERT_EQ(y, expected) << tokens << " tokens, " << workers << " workers";
    }
    for (tensor::PackedMatrix& m : ex.gate_up_views) m.k_order = nullptr;
  }
}

TEST_P(ExpertMlp, ExtremeTokensStayInTheirOwnRows) {
  std::mt19937 rng(10);
  const int32_t hidden = 96, intermediate = 40, experts = 3, tokens = 24;
  const Experts ex(GetParam().format, experts, hidden, intermediate, false, rng);
  const Rows rows = route(tokens, experts, 2, rng);
  std::vector<float> x = random_floats(static_cast<size_t>(hidden * tokens), rng);
  std::fill_n(x.begin(), hidden, 0.0f);
  x[5 * 96 + 3] = std::numeric_limits<float>::quiet_NaN();
  x[6 * 96 + 95] = std::numeric_limits<float>::infinity();
  std::fill_n(x.begin() + 7 * 96, hidden, 1e3f);  // gate far outside the range of exp
  std::vector<float> y(static_cast<size_t>((hidden + 3) * rows.total()) + 1);
  run(ex, rows, false, x, hidden, tokens, 2, false, y);
  size_t e = 0;
  for (int32_t r = 0; r < rows.total(); ++r) {
    while (rows.offsets[e + 1] <= r) ++e;
    const int32_t token = rows.token[static_cast<size_t>(r)];
    const auto expected = expected_row(ex, activation_, e, x.data() + token * hidden);
    for (int32_t c = 0; c < hidden; ++c) {
      const float v = y[static_cast<size_t>(r * (hidden + 3) + c)];
      if (token == 5 || token == 6)
        ASSERT_FALSE(std::isfinite(v)) << token;
      else
        ASSERT_NEAR(v, expected[static_cast<size_t>(c)].value,
                    expected[static_cast<size_t>(c)].bound)
            << token;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, ExpertMlp, testing::ValuesIn(mlp_cases()), [](const auto& info) {
  return std::string(info.param.kernel->name) + "__" + format_label(info.param.format);
});

}  // namespace
}  // namespace moestro::kernels
