#include "text/jinja/filters.h"

#include <unordered_map>

namespace moestro::text::jinja {

FilterFunction find_filter(std::string_view name) {
  using namespace filters;
  static const std::unordered_map<std::string_view, FilterFunction> kFilters = {
      {"abs", abs},
      {"attr", attr},
      {"batch", batch},
      {"capitalize", capitalize},
      {"center", center},
      {"count", filters::length},
      {"d", default_value},
      {"default", default_value},
      {"dictsort", dictsort},
      {"e", escape},
      {"escape", escape},
      {"filesizeformat", filesizeformat},
      {"first", first},
      {"float", to_float},
      {"forceescape", force_escape},
      {"format", format_text},
      {"from_json", parse_json},
      {"groupby", groupby},
      {"indent", indent},
      {"int", to_int},
      {"items", items},
      {"join", filters::join},
      {"last", last},
      {"length", filters::length},
      {"list", list},
      {"lower", lower},
      {"map", map},
      {"max", max},
      {"min", min},
      {"reject", reject},
      {"rejectattr", rejectattr},
      {"replace", filters::replace},
      {"reverse", reverse},
      {"round", round},
      {"safe", safe},
      {"select", select},
      {"selectattr", selectattr},
      {"slice", filters::slice},
      {"sort", sort},
      {"string", string},
      {"sum", sum},
      {"title", title},
      {"tojson", to_json},
      {"trim", trim},
      {"truncate", truncate},
      {"unique", unique},
      {"upper", upper},
      {"urlencode", urlencode},
      {"wordcount", wordcount},
  };
  const auto it = kFilters.find(name);
  return it == kFilters.end() ? nullptr : it->second;
}

}  // namespace moestro::text::jinja
