// The layer around its kernels: which rows experts see and how outputs are weighted, against plain
// loops in double.
#include "moe/moe_layer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "moe/dispatch/local.h"

namespace moestro::moe {
namespace {

constexpr int32_t kExperts = 5, kHidden = 24, kWide = 10, kTokens = 7;

struct Matrix {
  int32_t n, k;
  std::vector<float> values;
  platform::Buffer memory;
  Matrix(int32_t rows, int32_t width, std::mt19937& random) : n(rows), k(width) {
    std::normal_distribution<float> normal(0, 0.3f);
    for (int32_t i = 0; i < n * k; ++i) values.push_back(normal(random));
  }
  kernels::SourceMatrix source() const {
    return {.data = reinterpret_cast<const std::byte*>(values.data()),
            .dtype = DType::kF32,
            .n = n,
            .k = k,
            .row_bytes = int64_t{4} * k};
  }
  double dot(int32_t c, const std::vector<double>& x) const {
    double sum = 0;
    for (int32_t i = 0; i < k; ++i)
      sum += values[static_cast<size_t>(c * k + i)] * x[static_cast<size_t>(i)];
    return sum;
  }
};

platform::Buffer floats(int64_t n) {
  return platform::Buffer::allocate(static_cast<size_t>(std::max<int64_t>(4 * n, 64))).value();
}

class MoeLayerTest : public testing::Test {
 protected:
  MoeLayerTest() : gate_(kExperts, kHidden, random_) {
    for (int32_t e = 0; e < kExperts; ++e) {
      gates_.emplace_back(kWide, kHidden, random_);
      ups_.emplace_back(kWide, kHidden, random_);
      downs_.emplace_back(kHidden, kWide, random_);
    }
    std::normal_distribution<float> normal;
    for (int32_t i = 0; i < kTokens * kHidden; ++i) x_.push_back(normal(random_));
  }

  std::vector<float> run(const RouterSpec& router) {
    const tensor::PackedFormat f32 = tensor::PackedFormat::kF32;
    MoeSpec spec;
    spec.router = router;
    spec.hidden = kHidden;
    spec.intermediate = kWide;
    spec.gate_op = kernels::LinearChoice::of({f32, kTokens, kExperts, kHidden},
                                             kernels::linear_kernels(f32).back());
    spec.expert_op = kernels::ExpertMlpChoice::of(
        {f32, kTokens, kTokens * router.top_k, kExperts, kHidden, kWide},
        kernels::expert_mlp_kernels(f32).back());
    const auto dispatch = make_local_dispatch({kTokens, router.top_k, kExperts, kHidden}).value();
    const auto memory = [](int32_t n, int32_t k) {
      return floats(tensor::packed_bytes(tensor::PackedFormat::kF32, n, k) / 4);
    };
    platform::Buffer gate_memory = memory(kExperts, kHidden);
    std::vector<platform::Buffer> memories;
    std::vector<tensor::PackedMatrix> gate_up, down;
    for (size_t e = 0; e < kExperts; ++e) {
      memories.push_back(memory(2 * kWide + 32, kHidden));
      gate_up.push_back(
          kernels::pack_gate_up(f32, gates_[e].source(), ups_[e].source(), memories.back().data()));
      memories.push_back(memory(kHidden, kWide));
      down.push_back(kernels::pack_matrix(f32, downs_[e].source(), memories.back().data()));
    }
    const auto layer =
        MoeLayer::of_packed(spec, kernels::pack_matrix(f32, gate_.source(), gate_memory.data()),
                            nullptr, gate_up, down, *dispatch);
    platform::Gang gang(2, false);
    platform::Buffer workspace = floats(moe_workspace_floats(router, kHidden, kTokens));
    platform::Buffer scratch =
        floats(std::max(spec.gate_op.scratch_bytes(2), spec.expert_op.scratch_bytes(2)) / 4 + 16);
    std::vector<float> out(kTokens * kHidden, 0.5f);
    gang.run([&](platform::Worker& worker) {
      layer->forward(x_.data(), kHidden, kTokens, out.data(), kHidden, workspace.as<float>(),
                     kernels::row_ops().back(), scratch.data(), worker);
    });
    return out;
  }

  std::vector<double> token(int32_t t, double factor = 1) const {
    std::vector<double> x;
    for (int32_t i = 0; i < kHidden; ++i)
      x.push_back(factor * double{x_[static_cast<size_t>(t * kHidden + i)]});
    return x;
  }
  std::vector<double> expert(int32_t e, const std::vector<double>& x) const {
    const auto i = static_cast<size_t>(e);
    std::vector<double> h;
    for (int32_t c = 0; c < kWide; ++c) {
      const double g = gates_[i].dot(c, x);
      h.push_back(g / (1 + std::exp(-g)) * ups_[i].dot(c, x));
    }
    std::vector<double> y;
    for (int32_t c = 0; c < kHidden; ++c) y.push_back(downs_[i].dot(c, h));
    return y;
  }
  void route(const RouterSpec& router, int32_t t, int32_t* ids, float* weights) const {
    std::vector<float> logits;
    for (int32_t e = 0; e < kExperts; ++e)
      logits.push_back(static_cast<float>(gate_.dot(e, token(t))));
    route_token(router, logits.data(), nullptr, ids, weights);
  }

  std::mt19937 random_{3};
  Matrix gate_;
  std::vector<Matrix> gates_, ups_, downs_;
  std::vector<float> x_;  // [tokens, hidden]
};

TEST_F(MoeLayerTest, OutputsAreWeightedAndAddedToWhatIsThere) {
  const RouterSpec router{.num_experts = kExperts, .top_k = 3, .renormalize = true, .scaling = 2};
  const std::vector<float> out = run(router);
  for (int32_t t = 0; t < kTokens; ++t) {
    int32_t ids[3];
    float weights[3];
    route(router, t, ids, weights);
    std::vector<double> want(kHidden, 0.5);
    for (size_t j = 0; j < 3; ++j) {
      const std::vector<double> y = expert(ids[j], token(t));
      for (size_t i = 0; i < kHidden; ++i) want[i] += double{weights[j]} * y[i];
    }
    for (size_t i = 0; i < kHidden; ++i)
      ASSERT_NEAR(out[static_cast<size_t>(t * kHidden) + i], want[i], 1e-5) << t << " " << i;
  }
}

TEST_F(MoeLayerTest, WeightOnInputScalesWhatTheExpertSees) {
  RouterSpec router{.num_experts = kExperts,
                    .top_k = 1,
                    .scoring = checkpoint::ScoringFunc::kSigmoid,
                    .weight_on_input = true};
  const std::vector<float> out = run(router);
  router.weight_on_input = false;
  const std::vector<float> on_output = run(router);
  double difference = 0;
  for (int32_t t = 0; t < kTokens; ++t) {
    int32_t id;
    float weight;
    route(router, t, &id, &weight);
    const std::vector<double> y = expert(id, token(t, double{weight}));
    for (size_t i = 0; i < kHidden; ++i) {
      const auto at = static_cast<size_t>(t * kHidden) + i;
      ASSERT_NEAR(out[at], 0.5 + y[i], 1e-5) << t << " " << i;
      difference = std::max(difference, std::fabs(double{out[at]} - double{on_output[at]}));
    }
  }
  EXPECT_GT(difference, 0.01);  // the two are not the same thing
}

}  // namespace
}  // namespace moestro::moe
