#include "checkpoint/rope_reader.h"

#include <utility>

#include "base/format.h"
#include "checkpoint/key_reader.h"

namespace moestro::checkpoint {
namespace {

constexpr double kMaxFactor = 1e6, kMaxTheta = 1e15;
constexpr int64_t kMaxPosition = int64_t{1} << 40;

Result<RopeType> rope_type(std::string_view name) {
  if (name == "default") return RopeType::kDefault;
  if (name == "linear") return RopeType::kLinear;
  if (name == "yarn" || name == "deepseek_yarn") return RopeType::kYarn;
  if (name == "llama3") return RopeType::kLlama3;
  return unsupported(
      format("rope_type {} is not supported; supported are default, linear, yarn, llama3",
             json::quote(name, true)));
}

// The object that describes scaling, and the name of its key; null when the config has none.
std::pair<const json::object*, std::string_view> scaling_object(KeyReader& top) {
  for (const std::string_view key : {"rope_parameters", "rope_scaling"}) {
    const json::value* v = top.find(key);
    if (!v) continue;
    if (v->is_object()) return {&v->get_object(), key};
    top.fail(invalid_argument(format("{} must be an object, not {}", key, json::kind_name(*v))));
  }
  return {nullptr, ""};
}

void read_scaling(KeyReader& r, RopeConfig& rope, int64_t max_position) {
  auto type = rope_type(r.text(r.first_of({"rope_type", "type"}), "default"));
  if (!type.ok()) return r.fail(type.status());
  rope.type = *type;
  rope.original_max_position =
      r.integer("original_max_position_embeddings", max_position, 1, kMaxPosition);
  if (rope.type == RopeType::kDefault) return;
  const double stretched =
      static_cast<double>(max_position) / static_cast<double>(rope.original_max_position);
  if (rope.type != RopeType::kYarn && !r.has("factor"))
    r.fail(invalid_argument("factor is missing"));
  rope.factor = r.number("factor", stretched, 1e-3, kMaxFactor);
  rope.beta_fast = r.number("beta_fast", 32, 1e-6, kMaxFactor);
  rope.beta_slow = r.number("beta_slow", 1, 1e-6, kMaxFactor);
  rope.mscale = r.number("mscale", 0, 0, 1000);
  rope.mscale_all_dim = r.number("mscale_all_dim", 0, 0, 1000);
  rope.attention_factor = r.number("attention_factor", 0, 0, 1000);
  rope.truncate = r.boolean("truncate", true);
  if (rope.type != RopeType::kLlama3) return;
  rope.low_freq_factor = r.number("low_freq_factor", 1, 1e-6, kMaxFactor);
  rope.high_freq_factor = r.number("high_freq_factor", 4, 1e-6, kMaxFactor);
  if (rope.high_freq_factor <= rope.low_freq_factor)
    r.fail(invalid_argument(format("high_freq_factor {} must be more than low_freq_factor {}",
                                   rope.high_freq_factor, rope.low_freq_factor)));
}

}  // namespace

Result<RopeConfig> read_rope(const json::object& config, const ModelFamily& family,
                             int32_t head_dim, int64_t max_position) {
  RopeConfig rope;
  KeyReader top(config);
  rope.theta = top.number("rope_theta", family.rope_theta, 1.001, kMaxTheta);
  double partial = top.number("partial_rotary_factor", 0, 0, 1);
  if (partial == 0 && family.model_type == "minimax_m2" && top.has("rotary_dim"))
    partial = static_cast<double>(top.integer("rotary_dim", 0, 1, head_dim)) / head_dim;
  const auto [scaling, key] = scaling_object(top);
  MOESTRO_TRY(top.status());
  if (scaling) {
    for (const std::string_view kind : {"full_attention", "sliding_attention"})
      if (json::find(*scaling, kind))
        return unsupported(format(
            "{}.{}: rotary parameters that differ by layer kind are not supported", key, kind));
    KeyReader r(*scaling);
    rope.theta = r.number("rope_theta", rope.theta, 1.001, kMaxTheta);
    partial = r.number("partial_rotary_factor", partial, 0, 1);
    read_scaling(r, rope, max_position);
    MOESTRO_TRY(r.status().with(key));
  } else {
    rope.original_max_position = max_position;
  }
  rope.partial_rotary_factor = family.mla ? 1 : partial == 0 ? family.partial_rotary : partial;
  return rope;
}

}  // namespace moestro::checkpoint
