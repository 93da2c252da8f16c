// config.json, generation_config.json and the quantization config of any bytes: refused with a
// message, or a config whose lists and sizes fit each other; matching ends in bounded time; made-up
// weights answer for such a model.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/check.h"
#include "base/log.h"
#include "checkpoint/weight_source.h"

namespace {

using namespace moestro;
using namespace moestro::checkpoint;

constexpr std::string_view kModules[] = {"model.layers.0.mlp.experts.1.gate_proj",
                                         "model.layers.1.self_attn.kv_b_proj",
                                         "model.layers.0.mlp.gate", "lm_head", ""};

void check_config(const ModelConfig& c) {
  const auto layers = static_cast<size_t>(c.num_layers);
  CHECK(layers >= 1 && c.moe_layer.size() == layers && c.attention_kinds.size() == layers,
        "list lengths");
  CHECK(!c.uses_dsa() || (c.indexer_full.size() == layers && c.indexer_full[0]), "indexer list");
  CHECK(c.num_experts_per_tok <= c.num_experts && c.n_group >= 1, "experts");
  CHECK(c.rotary_dim > 0 && c.rotary_dim % 2 == 0, "rotary");
  CHECK(c.uses_mla() || c.num_heads % c.num_kv_heads == 0, "heads");
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  set_log_level(LogLevel::kOff);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Two files, apart at the first NUL: config.json and generation_config.json.
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const size_t cut = all.find('\0');
  const auto bytes = [](std::string_view s) {
    return std::span{reinterpret_cast<const std::byte*>(s.data()), s.size()};
  };
  std::vector<EmbeddedFile> list = {{"config.json", bytes(all.substr(0, cut))}};
  if (cut != std::string_view::npos)
    list.push_back({"generation_config.json", bytes(all.substr(cut + 1))});
  const auto files = embedded_model_files("fuzz", std::move(list));
  const auto config = read_model_config(*files, {});
  if (config.ok())
    check_config(*config);
  else
    CHECK(!config.status().message().empty(), "an error without a message");

  const auto parsed = json::parse(all.substr(0, cut));
  if (!parsed.ok() || !parsed->is_object()) return 0;
  const auto quant = read_quant_config(*files, parsed->get_object());
  if (!quant.ok()) return 0;
  for (const std::string_view module : kModules) {
    const QuantGroup* group = quant->match(module);
    CHECK(!group || group->weights.has_value(), "a match without weights");
    if (group) CHECK(!describe(*group).empty(), "description");
  }
  if (!config.ok()) return 0;
  const auto source = dummy_weights(*config, *quant, 1);
  for (const char* suffix :
       {".weight", ".weight_scale", ".qzeros", ".weight_g_idx", ".weight_shape"})
    for (const std::string_view module : kModules) {
      const std::string name = std::string(module) + suffix;
      (void)source->has(name);
      CHECK(source->get(name, {2, 3}, {DType::kI32}).ok(), "made-up tensor");
    }
  return 0;
}
