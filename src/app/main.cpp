// The moestro program: finds the verb, parses its flags, runs it. Exit status: 0, 2 for a wrong
// command line or input, 1 for everything else that failed.
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "app/print.h"
#include "app/verbs.h"
#include "app/version.h"
#include "base/format.h"
#include "base/log.h"
#include "base/strings.h"
#include "config/command_line.h"
#include "config/help.h"

namespace moestro::app {
namespace {

using config::Verb;
using Words = std::vector<std::string>;

bool has(const Words& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

int fail(std::string_view where, const Status& status, bool as_json) {
  std::fprintf(stderr, "moestro%s%s: %s\n", where.empty() ? "" : " ", std::string(where).c_str(),
               status.message().c_str());
  if (as_json)
    print_json(json::object{{"error", json::object{{"code", code_name(status.code())},
                                                   {"message", status.message()}}}});
  return exit_status(status.code());
}

LogLevel log_level(std::string_view name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "warning") return LogLevel::kWarning;
  if (name == "error") return LogLevel::kError;
  return name == "off" ? LogLevel::kOff : LogLevel::kInfo;
}

struct VerbCode {
  Verb verb;
  Status (*run)(const config::CommandLine&);
  // A command that is watched by a person or lives long logs at info; the others, whose output is
  // the point, at warning.
  bool is_talkative;
};
constexpr VerbCode kVerbs[] = {
    {Verb::kServe, run_serve, true},
    {Verb::kChat, run_chat, false},
    {Verb::kComplete, run_complete, false},
    {Verb::kBenchLatency, run_bench_latency, true},
    {Verb::kBenchThroughput, run_bench_throughput, true},
    {Verb::kBenchMoe, run_bench_moe, true},
    {Verb::kExplain, run_explain, false},
    {Verb::kInspect, run_inspect, false},
    {Verb::kLogits, run_logits, false},
    {Verb::kPerplexity, run_perplexity, false},
    {Verb::kTokenize, run_tokenize, false},
    {Verb::kRender, run_render, false},
    {Verb::kQuantize, run_quantize, false},
    {Verb::kRepack, run_repack, false},
};

int run_verb(const VerbCode& code, const Words& args) {
  const std::string_view name = config::verb_name(code.verb);
  const bool as_json = has(args, "--json");
  Result<config::CommandLine> line = config::parse_command_line(code.verb, args);
  if (!line.ok()) return fail(name, line.status(), as_json);
  if (line->help) {
    const Result<std::string> text = config::verb_help(code.verb, *line->help);
    if (!text.ok()) return fail(name, text.status(), false);
    print(*text);
    return 0;
  }
  const bool asked_for_level = line->is_given("--log-level");
  set_log_level(asked_for_level || code.is_talkative ? log_level(line->options.log.level)
                                                     : LogLevel::kWarning);
  set_log_json(line->options.log.json);
  for (const std::string& note : line->notes) log_warning("{}", note);
  const Status status = code.run(*line);
  return status.ok() ? 0 : fail(name, status, as_json);
}

int help(const Words& args) {
  if (has(args, "--flags-markdown")) {
    print(config::flags_markdown());
    return 0;
  }
  std::string name;
  for (const std::string& arg : args) name += (name.empty() ? "" : " ") + arg;
  if (name.empty()) {
    print(config::program_help());
    return 0;
  }
  for (const VerbCode& code : kVerbs) {
    if (config::verb_name(code.verb) == name) return run_verb(code, {"--help"});
  }
  return fail("help", invalid_argument(format("no verb '{}'", name)), false);
}

int unknown_verb(const std::string& word) {
  if (const std::string_view reason = config::absent_verb_reason(word); !reason.empty()) {
    return fail("", unsupported(std::string(reason)), false);
  }
  std::vector<std::string_view> names{"version", "help"};
  for (const VerbCode& code : kVerbs) names.push_back(config::verb_name(code.verb));
  std::string message = format("no verb '{}'", word);
  if (const auto near = nearest(word, names))
    message += format("; did you mean {}?", *near);
  else
    message += "; moestro help lists them";
  return fail("", invalid_argument(std::move(message)), false);
}

int run(Words args) {
  if (args.empty()) return help({});
  std::string verb = args.front();
  args.erase(args.begin());
  if (verb == "help" || verb == "--help" || verb == "-h") return help(args);
  if (verb == "version" || verb == "--version" || verb == "-v") {
    const Status status = run_version(has(args, "--json"));
    return status.ok() ? 0 : fail("version", status, false);
  }
  if (verb == "bench" && !args.empty() && !args.front().starts_with('-')) {
    verb += " " + args.front();
    args.erase(args.begin());
  }
  for (const VerbCode& code : kVerbs) {
    if (config::verb_name(code.verb) == verb) return run_verb(code, args);
  }
  if (verb == "bench") {
    return fail("bench",
                invalid_argument("which one: bench latency, bench throughput or bench moe?"),
                false);
  }
  return unknown_verb(verb);
}

}  // namespace
}  // namespace moestro::app

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);  // a closed pipe or socket is an error of the write
  return moestro::app::run({argv + 1, argv + argc});
}
