// moestro explain: the plan of a command line, from config.json and headers only, for this machine
// or a described one; or what differs between two command lines.
#include "app/explain_diff.h"
#include "app/explain_text.h"
#include "app/model_host.h"
#include "app/print.h"
#include "app/verbs.h"
#include "base/format.h"
#include "base/strings.h"
#include "config/help.h"

namespace moestro::app {
namespace {

json::object machine_json(const plan::Machine& m) {
  json::array gpus;
  for (const plan::Gpu& g : m.gpus) gpus.push_back(json::value(g.name));
  return {{"name", m.name},   {"cpu", m.cpu}, {"isa", platform::isa_names(m.isa)},
          {"cores", m.cores}, {"gpus", gpus}, {"described", m.described}};
}

}  // namespace

json::object explanation_json(const config::CommandLine& line, const PlannedModel& planned) {
  json::array chain, gpus;
  for (const ChainStep& s : decision_chain(line, planned))
    chain.push_back(json::object{{"step", s.step}, {"text", s.text}});
  for (const plan::DevicePlan& p : device_plans(planned)) gpus.push_back(plan::to_json(p));
  json::array refused;
  for (const std::string& text : line.refusals) refused.push_back(json::value(text));
  json::object result{{"model", planned.model.name},
                      {"location", planned.model.files->location()},
                      {"config_only", planned.model.config_only},
                      {"machine", machine_json(planned.machine)},
                      {"chain", std::move(chain)},
                      {"times", times_text(planned)},
                      {"packed_cache", packed_text(planned.packed)},
                      {"gpus", std::move(gpus)},
                      {"refused", std::move(refused)}};
  for (auto& entry : plan::to_json(planned.plan)) result[entry.key()] = std::move(entry.value());
  result["kv_cache_bytes"] = planned.engine.kv_cache_bytes;
  result["max_num_seqs"] = planned.engine.max_num_seqs;
  result["needed_bytes"] = planned.needed_bytes;
  result["available_bytes"] = planned.memory.available;
  result["obstacle"] =
      planned.obstacle.empty() ? json::value(nullptr) : json::value(planned.obstacle);
  result["configuration"] = config::configuration(line);
  return result;
}

std::string explanation_text(const config::CommandLine& line, const PlannedModel& planned) {
  const plan::Machine& m = planned.machine;
  std::string out;
  out += labelled("model", format("{} ({}){}", planned.model.name, planned.model.files->location(),
                                  planned.model.config_only
                                      ? "; config.json only, no weights here: tensors are taken to "
                                        "be as it describes them"
                                      : ""));
  out += labelled("machine", format("{}: {}, {} processor{}, {}", m.name, m.cpu, m.cores,
                                    m.cores == 1 ? "" : "s", platform::isa_names(m.isa)));
  const int32_t ranks = planned.plan.input.ranks.ranks();
  out += labelled("memory", format("{}{} needed, {} available {}", ranks > 1 ? "a rank: " : "",
                                   human_bytes(static_cast<uint64_t>(planned.needed_bytes)),
                                   human_bytes(static_cast<uint64_t>(planned.memory.available)),
                                   m.described ? "there" : "here"));
  out += labelled("packed", packed_text(planned.packed));
  if (!planned.obstacle.empty()) out += labelled("obstacle", "cannot run: " + planned.obstacle);
  for (const std::string& text : line.refusals) out += labelled("refused", "by serve: " + text);
  for (const plan::Substitution& s : planned.plan.substitutions)
    out += labelled("instead", s.text());
  out += "\nHow the command line becomes kernels\n";
  for (const ChainStep& s : decision_chain(line, planned)) out += labelled(s.step, s.text);
  out += labelled("times", times_text(planned));
  out += "\n" + plan::to_text(planned.plan) + devices_text(planned);
  const std::string summary = plan_summary(planned);
  out += "\n" + summary.substr(summary.find("KV cache")) + "\n";
  return out;
}

Status run_explain(const config::CommandLine& line) {
  const auto& diff = line.options.tool.diff;
  if (!diff.empty()) return explain_difference(diff[0], diff[1], line.options.json);
  if (line.options.moe.strict && !line.refusals.empty())
    return unsupported(format("--strict: {}", line.refusals.front()));
  MOESTRO_ASSIGN(const PlannedModel planned, plan_model(line.options, {.plan_only = true}));
  if (line.options.json)
    print_json(explanation_json(line, planned));
  else
    print(explanation_text(line, planned));
  return {};
}

}  // namespace moestro::app
