// Texts made from the flag table: --help in its forms, docs/flags.md, and the configuration that is
// in effect. Called by app/.
#pragma once
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/status.h"
#include "config/command_line.h"

namespace moestro::config {

// What `moestro --help` prints: the verbs.
std::string program_help();
// topic "": the flags most people need and the list of groups; "all": every flag; a group's name:
// its flags with all that is known of them; any other word: the flags whose names contain it.
// Neither: an error that lists the groups.
Result<std::string> verb_help(Verb verb, std::string_view topic);
// docs/flags.md, whole.
std::string flags_markdown();

// Every honoured flag of the verb: {"max-num-seqs": {"value": 32, "asked": true}, …}; secrets are
// masked.
json::object configuration(const CommandLine& line);
// The flags that were given, one a line, for the log: "--max-num-seqs 32 (config file)".
std::string asked_text(const CommandLine& line);
// The same as a list.
json::array asked_flags(const CommandLine& line);

}  // namespace moestro::config
