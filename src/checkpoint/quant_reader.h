// The readers behind parse_quant_config: one function a quant_method. They fill groups, ignore and
// scale_fmt; the caller has set method and raw, and compiles the lists afterwards. One thread.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "checkpoint/quant_config.h"

namespace moestro::checkpoint {

Status read_compressed_tensors(const json::object& config, QuantConfig& q);
Status read_fp8(const json::object& config, QuantConfig& q);
Status read_mxfp4(const json::object& config, QuantConfig& q);
Status read_gptq(const json::object& config, QuantConfig& q);
Status read_awq(const json::object& config, QuantConfig& q);
Status read_modelopt(const json::object& config, QuantConfig& q);
Status read_slimquant_w4a8(const json::object& config, QuantConfig& q);
Status read_blockwise_int8(const json::object& config, QuantConfig& q);
Status read_ascend(const json::object& description, QuantConfig& q);

// A list of strings under key; absent: empty.
Result<std::vector<std::string>> string_list(const json::object& o, std::string_view key);

}  // namespace moestro::checkpoint
