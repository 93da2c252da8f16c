// Results go to stdout, everything else to stderr. Used by the verbs, on the main thread.
#pragma once
#include <string>
#include <string_view>

#include "base/json.h"

namespace moestro::app {

// Writes and flushes; a closed pipe ends the process quietly (exit 0), as for any filter.
void print(std::string_view text);
// One line. The only thing a verb prints under --json.
void print_json(const json::object& result);
// A line on stderr whatever the log level: what was asked for beside the result (--stats).
void print_note(std::string_view text);
bool stderr_is_terminal();
bool stdin_is_terminal();

}  // namespace moestro::app
