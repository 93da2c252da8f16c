// explain --diff: two command lines, planned; what differs between the plans, and why. Main thread.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "app/model_host.h"
#include "base/json.h"
#include "base/status.h"
#include "config/command_line.h"

namespace moestro::app {

// A command line as it stands in a script: words, with single quotes, double quotes and backslashes
// as in a shell; no other expansion. "moestro serve", "vllm serve" and the like at the front are
// dropped, so that lines can be pasted. An open quote: kInvalidArgument.
Result<std::vector<std::string>> split_command(std::string_view text);

// What two plans differ in.
struct Difference {
  std::string what, a, b, why;  // why: the reason that the other side gives; may be empty
};
std::vector<Difference> differences(const PlannedModel& a, const PlannedModel& b);

Status explain_difference(const std::string& a, const std::string& b, bool as_json);

// explain's whole answer, for one command line.
json::object explanation_json(const config::CommandLine& line, const PlannedModel& planned);
std::string explanation_text(const config::CommandLine& line, const PlannedModel& planned);

}  // namespace moestro::app
