// moestro inspect: what a model directory holds, from headers only, whether this program can run it
// or not.
#include "checkpoint/inspect.h"

#include <algorithm>

#include "app/model_host.h"
#include "app/print.h"
#include "app/verbs.h"
#include "base/format.h"

namespace moestro::app {
namespace {

bool has_family(const json::object& inspection) {
  const json::value* type = json::find(inspection, "model_type");
  if (!type || !type->is_string()) return false;
  const auto families = models::model_families();
  return std::find(families.begin(), families.end(), json::view(type->get_string())) !=
         families.end();
}

// Why not; empty where nothing that can be seen from headers speaks against it.
std::string_view not_runnable(const json::object& inspection) {
  if (!json::find(inspection, "model_type"))
    return "This cannot be run: config.json does not say what it is.";
  if (!has_family(inspection))
    return "This build has no implementation of the family: it can be inspected, not run.";
  if (!json::find(inspection, "weights")) return "This cannot be run: its weights cannot be read.";
  return {};
}

}  // namespace

Status run_inspect(const config::CommandLine& line) {
  MOESTRO_ASSIGN(const auto files, open_files(line.options));
  json::object inspection = checkpoint::inspect_checkpoint(files, line.options.model.hf_overrides);
  const std::string_view reason = not_runnable(inspection);
  if (line.options.json) {
    inspection["runnable"] = reason.empty();
    print_json(inspection);
    return {};
  }
  print(checkpoint::inspection_text(inspection));
  if (!reason.empty()) print(format("\n{}\n", reason));
  return {};
}

}  // namespace moestro::app
