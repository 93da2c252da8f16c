#include "quant/fused_experts.h"

#include "base/format.h"
#include "base/strings.h"
#include "quant/scales.h"

namespace moestro::quant {

std::optional<FusedExpert> fused_expert(std::string_view module) {
  constexpr std::string_view kExperts = ".experts.";
  const size_t at = module.find(kExperts);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view rest = module.substr(at + kExperts.size());
  const size_t dot = rest.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const auto expert = parse_int(rest.substr(0, dot));
  const std::string_view part = rest.substr(dot + 1);
  if (!expert || *expert < 0) return std::nullopt;
  FusedExpert x;
  x.expert = *expert;
  x.tensor = module.substr(0, at + kExperts.size());
  if (part == "down_proj") {
    x.tensor += "down_proj";
  } else if (part == "gate_proj" || part == "up_proj") {
    x.tensor += "gate_up_proj";
    x.row_first = part == "up_proj" ? 1 : 0;
    x.row_step = 2;
  } else {
    return std::nullopt;
  }
  return x;
}

std::optional<FusedShape> fused_shape(const checkpoint::WeightSource& source,
                                      const std::string& experts) {
  const checkpoint::TensorInfo *gate_up = source.find(experts + "gate_up_proj"),
                               *down = source.find(experts + "down_proj");
  if (!gate_up || !down || gate_up->shape.size() != 3 || down->shape.size() != 3 ||
      gate_up->shape[0] != down->shape[0])
    return std::nullopt;
  for (const auto* t : {gate_up, down})
    for (const int64_t size : t->shape)
      if (size < 1 || size > INT32_MAX / 2) return std::nullopt;
  // Never both: a = 2d and a = d leave nothing.
  const int64_t a = gate_up->shape[1], b = gate_up->shape[2], c = down->shape[1],
                d = down->shape[2];
  if (a == 2 * d && b == c)
    return FusedShape{gate_up->shape[0], static_cast<int32_t>(c), static_cast<int32_t>(d), true};
  if (b == 2 * c && a == d)
    return FusedShape{gate_up->shape[0], static_cast<int32_t>(d), static_cast<int32_t>(c), false};
  return std::nullopt;
}

bool has_fused_bias(const checkpoint::WeightSource& source, std::string_view module) {
  const auto x = fused_expert(module);
  return x && source.has(x->tensor + "_bias");
}

Result<std::vector<float>> read_fused_bias(const checkpoint::WeightSource& source,
                                           const ModuleSpec& spec) {
  const auto x = fused_expert(spec.module);
  if (!x) return internal_error(format("{} is not one of fused experts", spec.module));
  MOESTRO_ASSIGN(const checkpoint::TensorView t,
                 source.get_part(x->tensor + "_bias", x->expert, {int64_t{spec.n} * x->row_step},
                                 kGroupScaleTypes));
  std::vector<float> bias(static_cast<size_t>(spec.n));
  for (int32_t c = 0; c < spec.n; ++c)
    bias[static_cast<size_t>(c)] =
        float_at(t.bytes.data(), t.dtype, int64_t{c} * x->row_step + x->row_first);
  return bias;
}

}  // namespace moestro::quant
