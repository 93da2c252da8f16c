#include "config/checks.h"

#include "base/format.h"

namespace moestro::config {
namespace {

Status check_server(const Options& o) {
  if (o.log.enable_log_outputs && !o.log.enable_log_requests) {
    return invalid_argument("--enable-log-outputs needs --enable-log-requests");
  }
  if (o.server.fingerprint_mode == "custom" && !o.server.fingerprint_value) {
    return invalid_argument("--fingerprint-mode custom needs --fingerprint-value");
  }
  for (const std::string& key : o.server.api_keys) {
    if (key.empty()) return invalid_argument("--api-key: an empty key would let everybody in");
  }
  for (const std::string& name : o.server.served_model_names) {
    if (name.empty()) return invalid_argument("--served-model-name: an empty name");
  }
  return {};
}

Status check_scheduler(const Options& o) {
  const auto& s = o.scheduler;
  if (s.max_num_batched_tokens && s.max_num_seqs && *s.max_num_batched_tokens < *s.max_num_seqs) {
    return invalid_argument(
        format("--max-num-batched-tokens {} is less than --max-num-seqs {}: a step could not hold "
               "one token of each",
               *s.max_num_batched_tokens, *s.max_num_seqs));
  }
  if (o.model.max_model_len && *o.model.max_model_len == 0)
    return invalid_argument("--max-model-len must be at least 1, or auto");
  return {};
}

Status check_generate(const CommandLine& line) {
  const GenerateOptions& g = line.options.generate;
  if (g.top_p && *g.top_p <= 0) return invalid_argument("--top-p must be above 0");
  if (line.verb != Verb::kComplete) return {};
  if (g.prompt && line.is_given("--prompt-ids"))
    return invalid_argument("--prompt and --prompt-ids: give one of them");
  if (!g.prompt && g.prompt_ids.empty())
    return invalid_argument("needs --prompt TEXT or --prompt-ids 1,2,3");
  return {};
}

Status check_tools(const CommandLine& line) {
  const ToolOptions& t = line.options.tool;
  if (line.verb == Verb::kLogits && (!t.input || !t.output)) {
    return invalid_argument("needs --input FILE.json and --output FILE.safetensors");
  }
  if ((line.verb == Verb::kTokenize || line.verb == Verb::kRender) && !t.input)
    return invalid_argument("needs --input FILE, or - for stdin");
  if (line.is_given("--diff") && t.diff.size() != 2)
    return invalid_argument(
        format("--diff takes two command lines, each quoted as one word; {} given", t.diff.size()));
  if (line.options.moe.kernel_table.empty())
    return invalid_argument("--kernel-table: measure, none or a file");
  if (line.options.model.packed_cache.empty())
    return invalid_argument("--packed-cache: auto, none or a directory");
  if (line.verb == Verb::kPerplexity && !t.tokens)
    return invalid_argument("needs --tokens FILE.safetensors");
  return {};
}

}  // namespace

Status check_options(CommandLine& line) {
  Options& o = line.options;
  if (o.model.dtype == "float") o.model.dtype = "float32";
  if (o.model.dtype == "half") o.model.dtype = "float16";
  MOESTRO_TRY(check_server(o));
  MOESTRO_TRY(check_scheduler(o));
  MOESTRO_TRY(check_generate(line));
  return check_tools(line);
}

}  // namespace moestro::config
