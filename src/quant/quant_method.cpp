#include "quant/quant_method.h"

#include "base/format.h"
#include "quant/methods.h"

namespace moestro::quant {

std::span<const QuantMethod* const> quant_methods() {
  static const QuantMethod* const list[] = {&int8_w8a8(), &w16a16()};
  return list;
}

Result<const QuantMethod*> find_quant_method(const checkpoint::WeightSource& source,
                                             const checkpoint::QuantConfig& config,
                                             std::string_view module) {
  const checkpoint::QuantGroup* declared = config.match(module);
  for (const QuantMethod* method : quant_methods())
    if (method->stored_as(source, module, declared)) return method;

  std::string found, known;
  for (const char* suffix : {"weight", "weight_scale", "weight_scale_inv", "weight_packed",
                             "weight_zero_point", "qweight"})
    if (const checkpoint::TensorInfo* info = source.find(format("{}.{}", module, suffix)))
      found += format("{}{} {}", found.empty() ? "" : ", ", suffix, safetensors_name(info->dtype));
  for (const QuantMethod* method : quant_methods())
    known += format("{}{}", known.empty() ? "" : ", ", method->name());
  if (found.empty())
    return data_loss(
        format("the checkpoint has no weight for {}; expected {}.weight", module, module));
  return unsupported(format(
      "{} is stored as [{}]{}, which no known scheme reads; known: {}", module, found,
      declared ? format(" and declared {} ({})", declared->format, declared->name) : "", known));
}

}  // namespace moestro::quant
