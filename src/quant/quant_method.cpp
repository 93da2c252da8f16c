#include "quant/quant_method.h"

#include "base/format.h"
#include "quant/methods.h"

namespace moestro::quant {

kernels::SourceMatrix LoadedMatrix::rows(int32_t begin, int32_t end,
                                         std::vector<std::byte>& made) const {
  kernels::SourceMatrix part = source;
  part.n = end - begin;
  const int64_t cells = int64_t{begin} * tensor::groups_of(stored, source.k);
  if (part.scales) part.scales += begin;
  if (part.group_scales) part.group_scales += cells * tensor::group_scale_bytes(stored);
  if (part.zero_points) part.zero_points += cells;
  if (!make_rows) {
    part.data += begin * source.row_bytes;
    return part;
  }
  made.resize(static_cast<size_t>(part.n * source.row_bytes));
  make_rows(begin, end, made.data());
  part.data = made.data();
  return part;
}

ModuleFacts facts_of(const checkpoint::WeightSource& source, const ModuleSpec& spec) {
  return module_facts(source, spec.declared, spec.module, spec.n, spec.k);
}

std::span<const QuantMethod* const> quant_methods() {
  static const QuantMethod* const list[] = {
      &mxfp4(),      &nvfp4(),     &pack_quantized(), &gptq(),     &awq(),   &slimquant_w4a8(),
      &int8_block(), &fp8_block(), &int8_w8a8(),      &fp8_w8a8(), &w16a16()};
  return list;
}

Result<const QuantMethod*> find_quant_method(const ModuleFacts& facts) {
  for (const QuantMethod* method : quant_methods())
    if (method->stored_as(facts)) return method;

  std::string found, known;
  for (size_t i = 0; i < kNumParts; ++i) {
    if (!facts.present[i]) continue;
    found += format("{}{}", found.empty() ? "" : ", ", part_suffix(static_cast<Part>(i)));
    if (facts.infos[i]) found += format(" {}", safetensors_name(facts.infos[i]->dtype));
  }
  for (const QuantMethod* method : quant_methods())
    known += format("{}{}", known.empty() ? "" : ", ", method->name());
  if (found.empty())
    return data_loss(format("the checkpoint has no weight for {}; expected {}.weight", facts.module,
                            facts.module));
  return unsupported(format(
      "{} is stored as [{}]{}, which no known scheme reads; known: {}", facts.module, found,
      facts.declared ? format(" and declared {} ({})", facts.declared->format, facts.declared->name)
                     : "",
      known));
}

}  // namespace moestro::quant
