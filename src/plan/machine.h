// Machine: what a plan must know of the computer it is for: this one, or one described in a JSON
// file (explain --hardware), so that a plan for a server can be made on a laptop. Examples:
// models/hardware/.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "platform/cpu_features.h"

namespace moestro::plan {

struct Gpu {
  std::string name;
  int32_t compute_major = 0, compute_minor = 0;
  int64_t memory_bytes = 0;
  int32_t shared_bytes = 0;  // that a block may opt in to
  int32_t multiprocessors = 0;
};

struct Machine {
  std::string name;  // "this machine", or the file's
  std::string cpu;
  platform::IsaSet isa;
  int cores = 1;  // processors that may compute
  int64_t memory_bytes = 0;
  std::vector<Gpu> gpus;   // of a described machine only
  int ranks = 1;           // such machines, over which the ranks are spread evenly
  bool described = false;  // by a file
};

Machine this_machine();
// Errors name file and key: kInvalidArgument, kNotFound.
Result<Machine> read_machine(const std::string& path);
Result<Machine> parse_machine(const json::value& description);

}  // namespace moestro::plan
