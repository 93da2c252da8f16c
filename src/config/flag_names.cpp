#include "config/flag_names.h"

#include <algorithm>

#include "base/format.h"
#include "base/strings.h"

namespace moestro::config {

FlagNames::FlagNames(Verb verb) : verb_(verb) {
  for (const FlagGroup& group : flag_groups()) {
    for (const Flag& flag : group.flags) {
      if (!verbs_of(group, flag).contains(verb)) continue;
      if (flag.positional()) {
        positionals_.push_back(&flag);
        continue;
      }
      for (const std::string_view name : names_of(flag)) {
        if (!exact(name).flag) names_.push_back({std::string(name), &flag, false});
      }
      if (std::string off = negated_name(flag); !off.empty())
        names_.push_back({std::move(off), &flag, true});
    }
  }
}

FlagNames::Match FlagNames::exact(std::string_view name) const {
  for (const Name& candidate : names_) {
    if (candidate.text == name) return {candidate.flag, candidate.negated, {}};
  }
  return {};
}

Result<FlagNames::Match> FlagNames::resolve(std::string_view name) const {
  if (Match match = exact(name); match.flag) return match;

  // One-letter short names take a glued value (-n2); longer ones (-tp) do not. "--" alone is no
  // prefix of anything.
  const bool is_long = name.starts_with("--");
  if (!is_long && name.size() > 2) {
    if (Match match = exact(name.substr(0, 2)); match.flag) {
      match.glued = name.substr(2);
      return match;
    }
  }
  std::vector<const Name*> candidates;
  for (const Name& candidate : names_) {
    // Removed flags must be written out: otherwise they would make prefixes of living ones
    // ambiguous.
    if (candidate.flag->state == State::kRemoved || !candidate.text.starts_with(name)) continue;
    if (is_long == candidate.text.starts_with("--")) candidates.push_back(&candidate);
  }
  const bool same = std::all_of(candidates.begin(), candidates.end(), [&](const Name* c) {
    return c->flag == candidates.front()->flag && c->negated == candidates.front()->negated;
  });
  if (candidates.empty()) return unknown(name);
  if (same) return Match{candidates.front()->flag, candidates.front()->negated, {}};
  std::string list;
  for (const Name* candidate : candidates) list += (list.empty() ? "" : ", ") + candidate->text;
  return invalid_argument(format("{} could be any of {}", name, list));
}

Status FlagNames::unknown(std::string_view name) const {
  std::string verbs;
  for (const FlagGroup& group : flag_groups()) {
    for (const Flag& flag : group.flags) {
      const std::vector<std::string_view> names = names_of(flag);
      if (std::find(names.begin(), names.end(), name) == names.end() && negated_name(flag) != name)
        continue;
      for (const Verb verb : built_verbs()) {
        if (verbs_of(group, flag).contains(verb))
          verbs += (verbs.empty() ? "" : ", ") + std::string(verb_name(verb));
      }
    }
  }
  if (!verbs.empty())
    return invalid_argument(
        format("{} is not a flag of {}, but of {}", name, verb_name(verb_), verbs));
  std::vector<std::string_view> candidates;
  for (const Name& candidate : names_) {
    if (candidate.flag->state == State::kHonoured) candidates.push_back(candidate.text);
  }
  std::string message = format("unknown flag {}", name);
  if (const auto near = nearest(name, candidates))
    message += format("; did you mean {}?", *near);
  else
    message += format("; moestro {} --help=all lists them all", verb_name(verb_));
  return invalid_argument(std::move(message));
}

}  // namespace moestro::config
