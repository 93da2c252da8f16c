// Checks between flags, after each has been checked on its own. Called by command_line.cpp.
#pragma once
#include "base/status.h"
#include "config/command_line.h"

namespace moestro::config {

// May add to line.notes and fill options that another flag implies.
Status check_options(CommandLine& line);

}  // namespace moestro::config
