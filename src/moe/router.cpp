#include "moe/router.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace moestro::moe {
namespace {

using checkpoint::ScoringFunc;
using checkpoint::TopkMethod;
constexpr float kLowest = -std::numeric_limits<float>::infinity();

// NaN would make comparisons inconsistent: it ranks with the excluded.
float rankable(float v) { return v == v ? v : kLowest; }

// The k largest of choice[0, n), lower index first among equals. Insertion into a sorted list: k is
// small (<= 16 in practice).
void select_top(const float* choice, int32_t n, int32_t k, int32_t* ids) {
  std::array<float, kMaxExperts> best;
  int32_t held = 0;
  for (int32_t i = 0; i < n; ++i) {
    const float v = choice[i];
    if (held == k && !(v > best[static_cast<size_t>(k - 1)])) continue;
    int32_t at = held < k ? held++ : k - 1;
    for (; at > 0 && v > best[static_cast<size_t>(at - 1)]; --at) {
      best[static_cast<size_t>(at)] = best[static_cast<size_t>(at - 1)];
      ids[at] = ids[at - 1];
    }
    best[static_cast<size_t>(at)] = v;
    ids[at] = i;
  }
}

void softmax(const float* logits, int32_t n, float* out) {
  float max = kLowest;
  for (int32_t i = 0; i < n; ++i) max = std::max(max, logits[i]);
  double sum = 0;
  for (int32_t i = 0; i < n; ++i) sum += out[i] = std::exp(logits[i] - max);
  for (int32_t i = 0; i < n; ++i) out[i] = static_cast<float>(out[i] / sum);
}

// Leaves only the topk_group best groups; the rest becomes -inf. noaux_tc: a group counts its two
// best, else its best.
void limit_groups(const RouterSpec& spec, float* choice) {
  if (spec.n_group <= 1 || spec.topk_group >= spec.n_group) return;
  DCHECK(spec.num_experts % spec.n_group == 0 && spec.num_experts > 0, "config.json is checked");
  const int32_t size = std::max(1, spec.num_experts / spec.n_group);
  std::array<float, kMaxExperts> score;
  std::array<int32_t, kMaxExperts> kept;
  for (int32_t g = 0; g < spec.n_group; ++g) {
    float first = kLowest, second = kLowest;
    for (int32_t i = g * size; i < (g + 1) * size; ++i) {
      if (choice[i] > first) {
        second = first;
        first = choice[i];
      } else if (choice[i] > second) {
        second = choice[i];
      }
    }
    score[static_cast<size_t>(g)] =
        spec.method == TopkMethod::kNoauxTc && size > 1 ? first + second : first;
  }
  select_top(score.data(), spec.n_group, spec.topk_group, kept.data());
  std::array<bool, kMaxExperts> keep{};
  for (int32_t i = 0; i < spec.topk_group; ++i)
    keep[static_cast<size_t>(kept[static_cast<size_t>(i)])] = true;
  for (int32_t i = 0; i < spec.num_experts; ++i)
    if (!keep[static_cast<size_t>(i / size)]) choice[i] = kLowest;
}

}  // namespace

RouterSpec RouterSpec::from(const checkpoint::ModelConfig& c) {
  RouterSpec spec;
  spec.num_experts = c.num_experts;
  spec.top_k = c.num_experts_per_tok;
  spec.scoring = c.scoring;
  spec.method = c.topk_method;
  spec.n_group = c.topk_method == TopkMethod::kGreedy ? 1 : c.n_group;
  spec.topk_group = c.topk_group;
  spec.renormalize = c.norm_topk_prob;
  spec.scaling = static_cast<float>(c.routed_scaling_factor);
  spec.weight_on_input = c.router_weight_on_input;
  return spec;
}

void route_token(const RouterSpec& spec, const float* logits, const float* bias, int32_t* ids,
                 float* weights) {
  const int32_t n = spec.num_experts, k = spec.top_k;
  std::array<float, kMaxExperts> score, choice;
  if (spec.softmax_after_topk) {
    std::copy_n(logits, n, score.data());
  } else if (spec.scoring == ScoringFunc::kSigmoid) {
    for (int32_t i = 0; i < n; ++i)
      score[static_cast<size_t>(i)] = 1.0f / (1.0f + std::exp(-logits[i]));
  } else {
    softmax(logits, n, score.data());
  }
  for (int32_t i = 0; i < n; ++i)
    choice[static_cast<size_t>(i)] =
        rankable(score[static_cast<size_t>(i)] + (bias ? bias[i] : 0.0f));
  if (spec.method != TopkMethod::kGreedy) limit_groups(spec, choice.data());
  select_top(choice.data(), n, k, ids);
  for (int32_t j = 0; j < k; ++j) weights[j] = score[static_cast<size_t>(ids[j])];

  if (spec.softmax_after_topk) softmax(weights, k, weights);
  float factor = spec.scaling;
  if (spec.renormalize) {
    float sum = 0;
    for (int32_t j = 0; j < k; ++j) sum += weights[j];
    factor /= sum + 1e-20f;
  }
  for (int32_t j = 0; j < k; ++j) weights[j] *= factor;
}

}  // namespace moestro::moe
