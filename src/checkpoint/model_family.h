// What config.json leaves unsaid: the defaults of each model family, as data. Used by the config
// reader only. Values: reference facts "config.json" and "routers".
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "checkpoint/model_config.h"

namespace moestro::checkpoint {

enum class Mixture : uint8_t {
  kNone,
  kPrefix,
  kStep,
  kAll
};  // which layers have experts: none, l >= dense prefix, every n-th, all
enum class QkNorm : uint8_t { kNever, kKeyOrNever, kKeyOrAlways, kAlways };

struct ModelFamily {
  std::string_view model_type;
  std::string_view architecture;
  bool mla = false, dsa = false;
  Mixture mixture = Mixture::kNone;
  bool experts_use_intermediate_size =
      false;                    // the expert width is intermediate_size, not moe_intermediate_size
  bool shared_experts = false;  // n_shared_experts
  ScoringFunc scoring = ScoringFunc::kSoftmax;
  TopkMethod topk = TopkMethod::kGreedy;
  bool scoring_keys = false;  // scoring_func and topk_method may be given
  bool norm_topk_prob = false;
  bool norm_key = false;             // norm_topk_prob may be given
  double routed_scaling_factor = 1;  // 0: the family has none and ignores the key
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  double partial_rotary = 1;
  QkNorm qk_norm = QkNorm::kNever;
  bool attention_bias = false;
};

std::span<const ModelFamily> model_families();
// By model_type first, then by architecture (several families may declare the same one: the first
// row wins).
const ModelFamily* find_family(std::string_view model_type, std::string_view architecture);
std::string known_model_types();  // "deepseek_v2, …"

}  // namespace moestro::checkpoint
