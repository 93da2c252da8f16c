#include "app/model_text.h"

#include <fstream>
#include <sstream>

#include "base/format.h"
#include "base/json.h"

namespace moestro::app {
namespace {

Result<std::string> read_optional(const checkpoint::ModelFiles& files, std::string_view name) {
  if (!files.contains(name)) return std::string();
  MOESTRO_ASSIGN(const auto file, files.open(name));
  return std::string(file->text());
}

// --chat-template: a file, or the template itself, which no file name looks like.
Result<std::string> read_template_flag(const std::string& value, std::string_view flag) {
  if (value.find("{{") != std::string::npos || value.find("{%") != std::string::npos ||
      value.find('\n') != std::string::npos) {
    return value;
  }
  std::ifstream file(value);
  if (!file)
    return invalid_argument(format("{}: '{}' is neither a file nor a template", flag, value));
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Result<std::shared_ptr<const text::ChatTemplate>> compile(std::string_view source,
                                                          std::string_view what) {
  Result<std::unique_ptr<text::ChatTemplate>> compiled = text::ChatTemplate::compile(source);
  if (!compiled.ok()) return compiled.status().with(what);
  return std::shared_ptr<const text::ChatTemplate>(std::move(compiled).value());
}

std::optional<std::string> content(const std::optional<text::NamedToken>& token) {
  return token ? std::optional(token->content) : std::nullopt;
}

template <class T>
Status read_default(const json::object& o, std::string_view key, std::optional<T>& out) {
  const json::value* value = json::find(o, key);
  if (!value) return {};
  if (!value->is_number())
    return invalid_argument(
        format("generation config: '{}' is {}, not a number", key, json::kind_name(*value)));
  out = value->to_number<T>();
  return {};
}

}  // namespace

text::ChatTemplate::Input ModelText::template_input() const {
  text::ChatTemplate::Input input;
  input.bos_token = bos_token;
  input.eos_token = eos_token;
  input.pad_token = pad_token;
  input.unk_token = unk_token;
  return input;
}

Result<ModelText> open_templates(const config::Options& options,
                                 const checkpoint::ModelFiles& files, std::string_view flag) {
  MOESTRO_ASSIGN(const std::string config, read_optional(files, "tokenizer_config.json"));
  MOESTRO_ASSIGN(std::string jinja, read_optional(files, "chat_template.jinja"));
  Result<text::ChatTemplateFiles> found = text::chat_template_files(config, std::move(jinja));
  if (!found.ok())
    return found.status().with(format("tokenizer_config.json of {}", files.location()));
  ModelText text;
  text.bos_token = found->bos_token;
  text.eos_token = found->eos_token;
  text.pad_token = found->pad_token;
  text.unk_token = found->unk_token;
  if (options.server.chat_template) {
    MOESTRO_ASSIGN(text.template_source, read_template_flag(*options.server.chat_template, flag));
    MOESTRO_ASSIGN(text.chat_template, compile(text.template_source, flag));
    return text;
  }
  text.template_source = found->source + found->tool_source;
  if (!found->source.empty()) {
    MOESTRO_ASSIGN(text.chat_template,
                   compile(found->source, "chat template of " + files.location()));
  }
  if (!found->tool_source.empty()) {
    MOESTRO_ASSIGN(text.tool_template,
                   compile(found->tool_source, "tool template of " + files.location()));
  }
  return text;
}

Result<ModelText> open_text(const config::Options& options, const checkpoint::ModelFiles& files) {
  std::unique_ptr<checkpoint::ModelFiles> other;
  const checkpoint::ModelFiles* from = &files;
  if (options.model.tokenizer) {
    MOESTRO_ASSIGN(other, checkpoint::open_directory(*options.model.tokenizer));
    from = other.get();
  }
  if (!from->contains("tokenizer.json")) {
    return not_found(format("{} has no tokenizer.json; --tokenizer names a directory that has one",
                            from->location()));
  }
  MOESTRO_ASSIGN(ModelText text, open_templates(options, *from));
  MOESTRO_ASSIGN(const auto tokenizer_json, from->open("tokenizer.json"));
  MOESTRO_ASSIGN(const std::string tokenizer_config, read_optional(*from, "tokenizer_config.json"));
  Result<std::unique_ptr<text::Tokenizer>> tokenizer =
      text::Tokenizer::load(tokenizer_json->text(), tokenizer_config);
  if (!tokenizer.ok()) return tokenizer.status().with("tokenizer of " + from->location());
  text.tokenizer = std::move(tokenizer).value();
  text.bos_token = content(text.tokenizer->bos());
  text.eos_token = content(text.tokenizer->eos());
  text.pad_token = content(text.tokenizer->pad());
  text.unk_token = content(text.tokenizer->unk());
  return text;
}

Result<server::SamplingDefaults> sampling_defaults(const config::Options& options,
                                                   const checkpoint::ModelConfig& config) {
  json::object merged;
  if (options.model.generation_config == "auto") {
    merged = config.generation;
  } else if (options.model.generation_config != "vllm") {
    MOESTRO_ASSIGN(const json::value file,
                   json::parse_file(options.model.generation_config + "/generation_config.json"));
    if (!file.is_object())
      return invalid_argument("--generation-config: generation_config.json is not an object");
    merged = file.get_object();
  }
  for (const auto& entry : options.model.override_generation_config)
    merged[entry.key()] = entry.value();
  server::SamplingDefaults defaults;
  MOESTRO_TRY(read_default(merged, "temperature", defaults.temperature));
  MOESTRO_TRY(read_default(merged, "top_p", defaults.top_p));
  MOESTRO_TRY(read_default(merged, "min_p", defaults.min_p));
  MOESTRO_TRY(read_default(merged, "top_k", defaults.top_k));
  MOESTRO_TRY(read_default(merged, "repetition_penalty", defaults.repetition_penalty));
  MOESTRO_TRY(read_default(merged, "max_new_tokens", defaults.max_tokens));
  return defaults;
}

engine::SamplingParams sampling_params(const config::Options& options,
                                       const server::SamplingDefaults& defaults) {
  const config::GenerateOptions& g = options.generate;
  engine::SamplingParams p;
  p.temperature = g.temperature ? *g.temperature : defaults.temperature.value_or(p.temperature);
  p.top_p = g.top_p ? *g.top_p : defaults.top_p.value_or(p.top_p);
  p.min_p = g.min_p ? *g.min_p : defaults.min_p.value_or(p.min_p);
  p.top_k = g.top_k ? static_cast<int32_t>(std::max<int64_t>(*g.top_k, 0))
                    : defaults.top_k.value_or(p.top_k);
  p.repetition_penalty = g.repetition_penalty
                             ? *g.repetition_penalty
                             : defaults.repetition_penalty.value_or(p.repetition_penalty);
  p.presence_penalty = g.presence_penalty.value_or(p.presence_penalty);
  p.frequency_penalty = g.frequency_penalty.value_or(p.frequency_penalty);
  p.ignore_eos = g.ignore_eos;
  return p;
}

}  // namespace moestro::app
