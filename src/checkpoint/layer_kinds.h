// Per-layer lists of config.json: which layers have experts, which attend to a window, which have
// an indexer of their own. Used by the config reader only.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include "checkpoint/key_reader.h"
#include "checkpoint/model_config.h"
#include "checkpoint/model_family.h"

namespace moestro::checkpoint {

inline constexpr int32_t kMaxLayers = 10000;  // bounds what a hostile config can make us allocate
inline constexpr std::array<std::string_view, 4> kLayerListKeys = {
    "layer_types", "mlp_layer_types", "indexer_types", "attn_type_list"};

// Fills moe_layer, attention_kinds, sliding_window, indexer_full of c, whose sizes have been read.
// Errors go to r.
void read_layer_kinds(KeyReader& r, const ModelFamily& family, ModelConfig& c);

}  // namespace moestro::checkpoint
