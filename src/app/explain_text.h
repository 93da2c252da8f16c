// What explain prints around the plan: the model, the machine, and the chain of decisions from the
// command line to the kernels as a story. Pure functions of the planned model.
#pragma once
#include <string>
#include <vector>

#include "app/model_host.h"
#include "config/command_line.h"
#include "plan/device.h"

namespace moestro::app {

struct ChainStep {
  std::string step;  // "flag", "config", "scheme", "method", "layout", "kernel", "dispatch"
  std::string text;
};
std::vector<ChainStep> decision_chain(const config::CommandLine& line, const PlannedModel& planned);

// The experts on each kind of GPU that the machine has; none, if it has no GPU or they no layer.
std::vector<plan::DevicePlan> device_plans(const PlannedModel& planned);
// The same in words, with what else is to say about GPUs; empty: the machine has none.
std::string devices_text(const PlannedModel& planned);
// Where the times come from that decide between kernels.
std::string times_text(const PlannedModel& planned);

// "label     text", continued below the text where it would pass 100 columns.
std::string labelled(std::string_view label, std::string_view text);

}  // namespace moestro::app
