// Command line (and --config file) -> Options. Called by app/ once at start; pure but for reading
// the config file. The rules are those of vLLM's parser where it has them: dashes and underscores,
// unique prefixes, --no- forms, dotted JSON keys, human integers, files below the command line.
// docs/flags.md describes them for users.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "config/flags.h"
#include "config/options.h"

namespace moestro::config {

struct Setting {
  const Flag* flag = nullptr;
  json::value value;
  bool from_file = false;
};

struct CommandLine {
  Verb verb = Verb::kServe;
  Options options;
  std::vector<Setting> given;      // one entry a flag, the last value
  std::vector<std::string> notes;  // for the log: repeated, deprecated, without effect
  // explain only: what the other verbs refuse, in their words; the value is planned with where the
  // flag has a field, else left at its default.
  std::vector<std::string> refusals;
  std::optional<std::string> help;  // --help was given: "", "all", a group or a part of a name;
                                    // nothing else is checked then

  bool is_given(std::string_view name) const;  // by long name
};

// args: what follows the verb. An error is kInvalidArgument and one line that names flag, value and
// remedy.
Result<CommandLine> parse_command_line(Verb verb, std::span<const std::string> args);

}  // namespace moestro::config
