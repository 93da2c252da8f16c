// The text side of a model: tokenizer, chat template, special tokens, and the sampling that its
// files recommend. Used by serve, chat, complete, tokenize and render on the main thread; the parts
// are immutable afterwards.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "base/status.h"
#include "checkpoint/model_config.h"
#include "checkpoint/model_files.h"
#include "config/options.h"
#include "engine/request.h"
#include "server/server.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace moestro::app {

struct ModelText {
  std::shared_ptr<const text::Tokenizer> tokenizer;  // null only from open_templates()
  std::shared_ptr<const text::ChatTemplate> chat_template,
      tool_template;            // null: the model has none
  std::string template_source;  // of both; tells formats apart
  std::optional<std::string> bos_token, eos_token, pad_token, unk_token;

  text::ChatTemplate::Input template_input() const;  // with the special tokens
};

// Only what renders conversations: no tokenizer, special tokens as tokenizer_config.json has them.
// flag: what errors call the template that the command line gives.
Result<ModelText> open_templates(const config::Options& options,
                                 const checkpoint::ModelFiles& files,
                                 std::string_view flag = "--chat-template");
// files: the model's; --tokenizer names others. No tokenizer.json: kNotFound.
Result<ModelText> open_text(const config::Options& options, const checkpoint::ModelFiles& files);

// generation_config.json as --generation-config and --override-generation-config leave it.
Result<server::SamplingDefaults> sampling_defaults(const config::Options& options,
                                                   const checkpoint::ModelConfig& config);

// Flags over those defaults over the API's (temperature 1, everything else off).
engine::SamplingParams sampling_params(const config::Options& options,
                                       const server::SamplingDefaults& defaults);

}  // namespace moestro::app
