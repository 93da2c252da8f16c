// moestro inspect: what a model directory holds, from headers only, whether this program can run it
// or not.
#include "checkpoint/inspect.h"

#include <algorithm>

#include "app/model_host.h"
#include "app/print.h"
#include "app/verbs.h"

namespace moestro::app {
namespace {

bool is_runnable(const json::object& inspection) {
  const json::value* type = json::find(inspection, "model_type");
  if (!type || !type->is_string()) return false;
  const auto families = models::model_families();
  return std::find(families.begin(), families.end(), json::view(type->get_string())) !=
         families.end();
}

}  // namespace

Status run_inspect(const config::CommandLine& line) {
  MOESTRO_ASSIGN(const auto files, open_files(line.options));
  json::object inspection = checkpoint::inspect_checkpoint(files, line.options.model.hf_overrides);
  const bool runnable = is_runnable(inspection);
  if (line.options.json) {
    inspection["runnable"] = runnable;
    print_json(inspection);
    return {};
  }
  print(checkpoint::inspection_text(inspection));
  if (!runnable)
    print("\nThis build has no implementation of the family: it can be inspected, not run.\n");
  return {};
}

}  // namespace moestro::app
