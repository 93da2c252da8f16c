// Names of the output parsers, vLLM's, and which of them a model family needs. Used by server/ and
// app/ when flags are read.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace moestro::text::parsers {

// Empty is fine (none). Unknown: kInvalidArgument with the list.
Status check_tool_parser(std::string_view name);
Status check_reasoning_parser(std::string_view name);
bool is_harmony(std::string_view name);

// "auto" for a model_type of config.json and the source of its chat template (which tells
// apart generations of one architecture). Empty: no known format.
std::string tool_parser_of(std::string_view model_type, std::string_view chat_template);
std::string reasoning_parser_of(std::string_view model_type, std::string_view chat_template);

}  // namespace moestro::text::parsers
