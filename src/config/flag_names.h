// Finds the flag that a word of the command line means, for one verb: exact names first, then
// unique prefixes, then short names with a glued value. Used by command_line.cpp and help.cpp;
// built once a run.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "config/flags.h"

namespace moestro::config {

class FlagNames {
 public:
  explicit FlagNames(Verb verb);

  struct Match {
    const Flag* flag = nullptr;
    bool negated = false;    // the --no- form
    std::string_view glued;  // "2" of "-n2"; points into the argument of resolve()
  };
  // name: up to '=' or '.', underscores already dashes. Unknown: an error with the nearest name, or
  // with the verbs that have it.
  Result<Match> resolve(std::string_view name) const;
  Match exact(std::string_view name) const;  // flag null if there is none
  // Arguments without a name, in order; the model is the first.
  std::span<const Flag* const> positionals() const { return positionals_; }
  const Flag* positional() const { return positionals_.empty() ? nullptr : positionals_.front(); }

 private:
  struct Name {
    std::string text;
    const Flag* flag;
    bool negated;
  };
  Status unknown(std::string_view name) const;

  Verb verb_;
  std::vector<Name> names_;
  std::vector<const Flag*> positionals_;
};

}  // namespace moestro::config
