// Substitution: something is done otherwise than was asked for, by a flag, by the checkpoint or by
// a default that one may count on. Every one is printed, once, in one form; --strict makes it an
// error. Plain data.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace moestro::plan {

struct Substitution {
  std::string asked, got, because, cost;  // cost may be empty: none

  std::string text() const;  // "asked → got → because → cost"
  json::object to_json() const;
  bool operator==(const Substitution&) const = default;
};

// Of quant::ModuleSpec's form: "asked -> got, because why; cost: what". Other text becomes
// `because` whole, so that nothing is lost.
Substitution parse_substitution(std::string_view text);
// Appends it unless the list has it.
void add_substitution(std::vector<Substitution>& list, Substitution substitution);

}  // namespace moestro::plan
