#include <string>

#include "base/format.h"
#include "models/families.h"

namespace moestro::models {
namespace {

struct Family {
  std::string_view model_type;
  Result<std::unique_ptr<ModelSpec>> (*make)(const SpecRequest&);
};
constexpr Family kFamilies[] = {
    {"deepseek_v2", deepseek_v2},
    {"deepseek_v3", deepseek_v3},
    {"deepseek_v32", deepseek_v32},
    {"glm4_moe", glm4_moe},
    {"glm4_moe_lite", glm4_moe_lite},
    {"glm_moe_dsa", glm_moe_dsa},
    {"gpt_oss", gpt_oss},
    {"kimi_k2", deepseek_v3},
    {"llama", llama},
    {"minimax_m2", minimax_m2},
    {"mixtral", mixtral},
    {"olmoe", olmoe},
    {"qwen2_moe", qwen2_moe},
    {"qwen3", qwen3},
    {"qwen3_moe", qwen3_moe},
};

}  // namespace

std::vector<std::string_view> model_families() {
  std::vector<std::string_view> names;
  for (const Family& f : kFamilies) names.push_back(f.model_type);
  return names;
}

Result<std::unique_ptr<ModelSpec>> make_model_spec(const SpecRequest& request) {
  for (const Family& f : kFamilies)
    if (f.model_type == request.config.model_type) return f.make(request);
  std::string known;
  for (const Family& f : kFamilies)
    known += format("{}{}", known.empty() ? "" : ", ", f.model_type);
  return unsupported(format("model_type \"{}\" has no implementation yet; available: {}",
                            request.config.model_type, known));
}

Result<std::vector<quant::ListedWeight>> list_weights(const ModelSpec& spec,
                                                      const checkpoint::WeightSource& source) {
  const auto list = std::make_shared<quant::WeightList>();
  platform::Gang gang(1, false);
  MOESTRO_TRY(spec.load({.source = source, .store = list, .gang = gang, .progress = {}}).status());
  return list->weights();
}

}  // namespace moestro::models
