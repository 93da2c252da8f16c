// rope_parameters / rope_scaling and their top-level aliases of config.json. Used by the config
// reader only.
#pragma once
#include "base/json.h"
#include "base/status.h"
#include "checkpoint/model_config.h"
#include "checkpoint/model_family.h"

namespace moestro::checkpoint {

// config: the (text) config; head_dim: of grouped-query attention, for minimax's rotary_dim; 0 with
// MLA.
Result<RopeConfig> read_rope(const json::object& config, const ModelFamily& family,
                             int32_t head_dim, int64_t max_position);

}  // namespace moestro::checkpoint
