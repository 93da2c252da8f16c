#include "plan/substitution.h"

#include <algorithm>

#include "base/format.h"

namespace moestro::plan {

std::string Substitution::text() const {
  return format("{} → {} → {} → {}", asked, got, because, cost.empty() ? "no cost" : cost);
}

json::object Substitution::to_json() const {
  return {{"asked", asked}, {"got", got}, {"because", because}, {"cost", cost}};
}

Substitution parse_substitution(std::string_view text) {
  constexpr std::string_view kArrow = " -> ", kBecause = ", because ", kCost = "; cost: ";
  Substitution s;
  const size_t arrow = text.find(kArrow);
  const size_t because = text.find(kBecause, arrow == std::string_view::npos ? 0 : arrow);
  if (arrow == std::string_view::npos || because == std::string_view::npos) {
    s.asked = "as stored";
    s.got = "otherwise";
    s.because = text;
    return s;
  }
  const size_t cost = text.find(kCost, because);
  const size_t got = arrow + kArrow.size(), why = because + kBecause.size();
  s.asked = text.substr(0, arrow);
  s.got = text.substr(got, because - got);
  s.because = text.substr(why, cost == std::string_view::npos ? cost : cost - why);
  if (cost != std::string_view::npos) s.cost = text.substr(cost + kCost.size());
  return s;
}

void add_substitution(std::vector<Substitution>& list, Substitution substitution) {
  if (std::find(list.begin(), list.end(), substitution) == list.end())
    list.push_back(std::move(substitution));
}

}  // namespace moestro::plan
