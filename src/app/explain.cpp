// moestro explain: the plan of a command line, from headers only.
#include "app/model_host.h"
#include "app/print.h"
#include "app/verbs.h"
#include "base/format.h"
#include "base/strings.h"
#include "config/help.h"

namespace moestro::app {

Status run_explain(const config::CommandLine& line) {
  MOESTRO_ASSIGN(const PlannedModel planned, plan_model(line.options, {.plan_only = true}));
  if (line.options.json) {
    json::array substitutions;
    for (const std::string& text : planned.substitutions)
      substitutions.push_back(json::value(text));
    json::object result{{"model", planned.model.name},
                        {"location", planned.model.files->location()}};
    for (auto& entry : plan::to_json(planned.plan)) result[entry.key()] = std::move(entry.value());
    result["kv_cache_bytes"] = planned.engine.kv_cache_bytes;
    result["max_num_seqs"] = planned.engine.max_num_seqs;
    result["needed_bytes"] = planned.needed_bytes;
    result["available_bytes"] = planned.memory.available;
    result["obstacle"] =
        planned.obstacle.empty() ? json::value(nullptr) : json::value(planned.obstacle);
    result["substitutions"] = std::move(substitutions);
    result["configuration"] = config::configuration(line);
    print_json(result);
    return {};
  }
  print(plan_summary(planned) + "\n");
  print(format("memory    {} needed, {} available here\n",
               human_bytes(static_cast<uint64_t>(planned.needed_bytes)),
               human_bytes(static_cast<uint64_t>(planned.memory.available))));
  if (!planned.obstacle.empty()) print(format("here      cannot run: {}\n", planned.obstacle));
  for (const std::string& text : planned.substitutions) print(format("note      {}\n", text));
  print("\n" + plan::to_text(planned.plan, true));
  const std::string asked = config::asked_text(line);
  print(format("\nAsked for:\n{}\n", asked.empty() ? std::string("nothing; all defaults") : asked));
  return {};
}

}  // namespace moestro::app
