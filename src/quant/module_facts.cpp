#include "quant/module_facts.h"

#include <algorithm>
#include <string>

namespace moestro::quant {
namespace {

constexpr std::array<std::string_view, kNumParts> kSuffixes = {"weight",
                                                               "weight_scale",
                                                               "weight_scale_inv",
                                                               "weight_scale_2",
                                                               "weight_zero_point",
                                                               "weight_packed",
                                                               "weight_global_scale",
                                                               "weight_g_idx",
                                                               "qweight",
                                                               "qzeros",
                                                               "scales",
                                                               "g_idx"};

}  // namespace

std::string_view part_suffix(Part part) { return kSuffixes[static_cast<size_t>(part)]; }

bool ModuleFacts::is_type(Part p, std::initializer_list<DType> types, bool otherwise) const {
  if (!has(p)) return false;
  const checkpoint::TensorInfo* t = info(p);
  return t ? std::find(types.begin(), types.end(), t->dtype) != types.end() : otherwise;
}

ModuleFacts module_facts(const checkpoint::WeightSource& source,
                         const checkpoint::QuantGroup* declared, std::string_view module, int32_t n,
                         int32_t k) {
  ModuleFacts facts{.source = source, .module = module, .declared = declared, .n = n, .k = k};
  std::string name(module);
  name += '.';
  for (size_t i = 0; i < kNumParts; ++i) {
    name.resize(module.size() + 1);
    name += kSuffixes[i];
    facts.infos[i] = source.find(name);
    facts.present[i] = facts.infos[i] != nullptr || source.has(name);
  }
  return facts;
}

ModuleFacts module_facts(const checkpoint::WeightSource& source,
                         const checkpoint::QuantConfig& config, std::string_view module, int32_t n,
                         int32_t k, DType compute) {
  ModuleFacts facts = module_facts(source, config.match(module), module, n, k);
  facts.pow2_scales = config.scale_fmt == "ue8m0";
  facts.actorder_in_floats = config.actorder_in_floats;
  facts.compute = compute;
  return facts;
}

}  // namespace moestro::quant
