// The part of YAML that flag files use: mappings and sequences (indented or in brackets), plain and
// quoted scalars, comments. Anchors, tags, block scalars and several documents are refused by name.
// Used for --config only; pure functions.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace moestro::config {

struct YamlEntry {
  std::string key;
  json::value value;  // scalars typed: null, true, false, numbers, text
  std::string
      text;  // a scalar as written, without quotes ("4k", "0.90"); empty for lists and mappings
  int line = 0;
};

// The top level must be a mapping. Errors name the line.
Result<std::vector<YamlEntry>> parse_yaml(std::string_view text);

}  // namespace moestro::config
