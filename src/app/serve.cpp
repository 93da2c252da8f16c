// moestro serve: engine and HTTP server until SIGINT or SIGTERM, then an orderly end.
#include <chrono>
#include <ctime>

#include "app/model_host.h"
#include "app/model_text.h"
#include "app/print.h"
#include "app/signals.h"
#include "app/verbs.h"
#include "app/version.h"
#include "base/format.h"
#include "base/log.h"
#include "config/help.h"
#include "plan/executed.h"
#include "server/server.h"
#include "text/parsers/parser_names.h"

namespace moestro::app {
namespace {

constexpr int kStatsIntervalMs = 10'000;

std::string fingerprint(const config::ServerOptions& options, const plan::Plan& plan) {
  if (options.fingerprint_mode == "none") return {};
  if (options.fingerprint_mode == "custom") return options.fingerprint_value.value_or("");
  if (options.fingerprint_mode == "hash") return format("moestro-{}-{}", kVersion, plan.id);
  return format("moestro-{}-tp1-{}", kVersion, plan.id);
}

// Names of flags, or what the model's family needs; gpt-oss has no other form of text.
Status choose_parsers(const config::ServerOptions& options, std::string_view model_type,
                      std::string_view template_source, server::ServerModel& model) {
  namespace parsers = text::parsers;
  const bool harmony = model_type == "gpt_oss";
  const std::string& reasoning = options.reasoning_parser;
  model.reasoning_parser = reasoning == "auto" || (reasoning.empty() && harmony)
                               ? parsers::reasoning_parser_of(model_type, template_source)
                               : reasoning;
  MOESTRO_TRY(parsers::check_reasoning_parser(model.reasoning_parser).with("--reasoning-parser"));
  const std::string asked = options.tool_call_parser.value_or("");
  if (!asked.empty() && asked != "auto") {
    model.tool_parser = asked;
  } else if (options.enable_auto_tool_choice || asked == "auto" || harmony) {
    model.tool_parser = parsers::tool_parser_of(model_type, template_source);
    if (model.tool_parser.empty() && asked == "auto")
      return invalid_argument(format(
          "--tool-call-parser auto: no format of tool calls is known for model type {}; name one",
          model_type));
    if (model.tool_parser.empty())
      log_warning(
          "--enable-auto-tool-choice: no format of tool calls is known for model type {}; "
          "answers stay text, name one with --tool-call-parser",
          model_type);
  }
  MOESTRO_TRY(parsers::check_tool_parser(model.tool_parser).with("--tool-call-parser"));
  if (!options.enable_auto_tool_choice && !harmony && !asked.empty())
    log_warning("--tool-call-parser has no effect without --enable-auto-tool-choice");
  if (!options.enable_auto_tool_choice && !harmony) model.tool_parser.clear();
  if (!model.tool_parser.empty()) log_info("tool calls: parser {}", model.tool_parser);
  if (!model.reasoning_parser.empty()) log_info("reasoning: parser {}", model.reasoning_parser);
  return {};
}

Result<server::ServerModel> server_model(const config::Options& options, ModelText text,
                                         ModelHost& host, json::array flags) {
  server::ServerModel model;
  model.names = options.server.served_model_names;
  if (model.names.empty()) model.names.push_back(host.planned().model.name);
  const std::string template_source = std::move(text.template_source);
  model.tokenizer = std::move(text.tokenizer);
  model.chat_template = std::move(text.chat_template);
  model.tool_template = std::move(text.tool_template);
  model.bos_token = std::move(text.bos_token);
  model.eos_token = std::move(text.eos_token);
  model.pad_token = std::move(text.pad_token);
  model.unk_token = std::move(text.unk_token);
  model.engine = host.shared_engine();
  model.max_model_len = host.engine().options().max_model_len;
  model.max_logprobs = static_cast<int32_t>(options.model.max_logprobs);
  MOESTRO_ASSIGN(model.defaults, sampling_defaults(options, host.config()));
  MOESTRO_TRY(choose_parsers(options.server, host.config().model_type, template_source, model));
  model.plan = [&plan = host.planned().plan, flags = std::move(flags)] {
    json::object o = plan::to_json_with_counts(plan);
    o["flags"] = flags;
    return json::value(std::move(o));
  };
  model.version = kVersion;
  model.fingerprint = fingerprint(options.server, host.planned().plan);
  model.created = static_cast<int64_t>(std::time(nullptr));
  return model;
}

std::string curl_command(const config::ServerOptions& options, const server::Server& server,
                         const server::ServerModel& model) {
  std::string command = "curl";
  std::string url = server.address();
  if (options.uds) {
    command += format(" --unix-socket {}", *options.uds);
    url = "http://localhost";
  }
  if (!options.api_keys.empty()) command += " -H \"Authorization: Bearer $KEY\"";
  const bool chat = model.chat_template != nullptr;
  const std::string body =
      chat ? format(R"({{"model": "{}", "messages": [{{"role": "user", "content": "Hello"}}]}})",
                    model.names.front())
           : format(R"({{"model": "{}", "prompt": "Hello", "max_tokens": 16}})",
                    model.names.front());
  return format("{} {}/v1/{} -H 'Content-Type: application/json' -d '{}'", command, url,
                chat ? "chat/completions" : "completions", body);
}

// Says it loudly (but not for ever) when something ran that the plan does not name.
class PlanWatch {
 public:
  explicit PlanWatch(const plan::Plan& plan) : plan_(plan) {}
  void look() {
    for (const std::string& text : plan::mismatches(plan_)) {
      if (said_ >= kMost) return;
      ++said_;
      log_error("PLAN AND EXECUTION DIFFER: {}; /v1/plan shows both; please report it", text);
    }
  }

 private:
  static constexpr int kMost = 20;
  const plan::Plan& plan_;
  int said_ = 0;
};

// A line now and then while there is work.
class StatsLog {
 public:
  StatsLog(ModelHost& host, bool wanted) : host_(host), wanted_(wanted) {
    const Labels labels{{"model_name", host.planned().engine.model_name}, {"engine", "0"}};
    prompt_ = &host.metrics().counter("vllm:prompt_tokens", "Prompt tokens processed.", labels);
    asked_ = &host.metrics().counter("vllm:prefix_cache_queries",
                                     "Tokens looked for in the prefix cache.", labels);
    found_ = &host.metrics().counter("vllm:prefix_cache_hits", "Tokens found in the prefix cache.",
                                     labels);
    generated_ = &host.metrics().counter("vllm:generation_tokens", "Tokens generated.", labels);
  }
  void write() {
    const double seconds = seconds_since(last_);
    last_ = Clock::now();
    const double prompt = prompt_->value() - std::exchange(last_prompt_, prompt_->value());
    const double generated =
        generated_->value() - std::exchange(last_generated_, generated_->value());
    const engine::EngineStats stats = host_.engine().stats();
    if (!wanted_ || (prompt == 0 && generated == 0 && stats.running == 0)) return;
    const double used = stats.kv_pages_total > 0
                            ? 100.0 * static_cast<double>(stats.kv_pages_used) /
                                  static_cast<double>(stats.kv_pages_total)
                            : 0;
    log_info(
        "{:.1f} prompt and {:.1f} output tokens a second; {} running, {} waiting, KV cache {:.1f} "
        "% used, {:.1f} % of prompts found in it",
        prompt / seconds, generated / seconds, stats.running, stats.waiting, used,
        asked_->value() > 0 ? 100 * found_->value() / asked_->value() : 0.0);
  }

 private:
  ModelHost& host_;
  const bool wanted_;
  Counter *prompt_ = nullptr, *generated_ = nullptr, *asked_ = nullptr, *found_ = nullptr;
  double last_prompt_ = 0, last_generated_ = 0;
  Clock::time_point last_ = Clock::now();
};

}  // namespace

Status run_serve(const config::CommandLine& line) {
  const config::Options& options = line.options;
  StopSignals signals;
  MOESTRO_ASSIGN(const auto files, open_files(options));
  MOESTRO_ASSIGN(ModelText text, open_text(options, *files));  // before the weights: it may fail
  const HostNeeds needs{.sampleable_vocab = text.tokenizer->vocab_size()};
  MOESTRO_ASSIGN(const auto host, ModelHost::start(options, needs));
  MOESTRO_ASSIGN(const server::ServerModel model,
                 server_model(options, std::move(text), *host, config::asked_flags(line)));
  MOESTRO_ASSIGN(const auto server,
                 server::Server::start(options.server, model, host->metrics(), options.log));
  log_info("ready: {}", server->address());
  log_info("try: {}", curl_command(options.server, *server, model));
  if (options.json) {
    print_json(json::object{{"ready", true},
                            {"address", server->address()},
                            {"port", server->port()},
                            {"model", model.names.front()}});
  }
  StatsLog stats(*host, !options.log.disable_log_stats);
  PlanWatch watch(host->planned().plan);
  while (!signals.wait(kStatsIntervalMs)) {
    stats.write();
    watch.look();
  }

  const int64_t seconds =
      options.scheduler.shutdown_timeout_s.value_or(config::kDefaultDrainSeconds);
  const engine::EngineStats busy = host->engine().stats();
  log_info("stopping: {} requests have {} s to finish; a second signal stops at once",
           busy.running + busy.waiting, seconds);
  server->shutdown(Deadline::after(std::chrono::seconds(seconds)));
  watch.look();
  log_info("stopped");
  return {};
}

}  // namespace moestro::app
