// moestro complete: one prompt, its continuation streamed to stdout, or one line of JSON.
#include <limits>

#include "app/model_host.h"
#include "app/model_text.h"
#include "app/print.h"
#include "app/request_stream.h"
#include "app/verbs.h"
#include "base/format.h"
#include "engine/text_stream.h"

namespace moestro::app {
namespace {

constexpr int64_t kDefaultMaxTokens = 256;

struct Completion {
  std::vector<int32_t> ids;
  std::string text;
  engine::FinishReason finish = engine::FinishReason::kNone;
  double seconds_to_first = 0, seconds = 0;
};

// text: null for a model without a tokenizer; then only ids come out.
Result<Completion> complete(engine::Engine& engine, const ModelText* text, engine::Request request,
                            const std::vector<std::string>& stop, bool stream) {
  Completion result;
  std::optional<engine::TextStream> decoder;
  if (text) decoder.emplace(*text->tokenizer, engine::TextStreamOptions{.stop = stop});
  const Clock::time_point start = Clock::now();
  MOESTRO_ASSIGN(const auto events, RequestStream::submit(engine, std::move(request)));
  while (result.finish == engine::FinishReason::kNone) {
    const engine::TokenEvent event = events->next();
    if (!event.tokens.empty() && result.ids.empty()) result.seconds_to_first = seconds_since(start);
    result.ids.insert(result.ids.end(), event.tokens.begin(), event.tokens.end());
    result.finish = event.finish;
    if (event.finish == engine::FinishReason::kError) return event.error;
    if (!decoder) continue;
    const engine::TextDelta delta = decoder->push(event);
    result.text += delta.text;
    if (stream && !delta.text.empty()) print(delta.text);
    if (delta.finish != engine::FinishReason::kNone)
      result.finish = delta.finish;  // a stop string; the rest is cancelled
  }
  result.seconds = seconds_since(start);
  return result;
}

Result<std::vector<int32_t>> prompt_ids(const config::GenerateOptions& options,
                                        const ModelText* text) {
  std::vector<int32_t> ids;
  if (options.prompt) return text->tokenizer->encode(*options.prompt, true);
  for (const int64_t id : options.prompt_ids) {
    if (id < 0 || id > std::numeric_limits<int32_t>::max())
      return invalid_argument(format("--prompt-ids: {} is no token id", id));
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

void print_result(const Completion& result, bool as_json, bool stats, size_t num_prompt_tokens) {
  if (as_json) {
    json::array ids;
    for (const int32_t id : result.ids) ids.push_back(json::value(id));
    print_json(json::object{{"ids", std::move(ids)},
                            {"text", result.text},
                            {"finish_reason", finish_name(result.finish)}});
  } else if (result.text.empty() && !result.ids.empty()) {
    std::string ids;
    for (const int32_t id : result.ids) ids += format("{}{}", ids.empty() ? "" : ",", id);
    print(ids + "\n");
  } else {
    print("\n");
  }
  if (!stats) return;
  const double decode = result.seconds - result.seconds_to_first;
  const auto tokens = static_cast<double>(result.ids.size());
  print_note(format("{} prompt tokens, first token after {:.3f} s; {} tokens, {:.1f} a second",
                    num_prompt_tokens, result.seconds_to_first, result.ids.size(),
                    decode > 0 ? (tokens - 1) / decode : 0.0));
}

}  // namespace

Status run_complete(const config::CommandLine& line) {
  const config::Options& options = line.options;
  MOESTRO_ASSIGN(const auto files, open_files(options));
  std::optional<ModelText> text;
  Result<ModelText> opened = open_text(options, *files);
  const bool needs_text = options.generate.prompt || !options.generate.stop.empty();
  if (opened.ok()) {
    text = std::move(opened).value();
  } else if (needs_text || opened.status().code() != Code::kNotFound) {
    return opened.status();
  }
  const HostNeeds needs{.num_seqs = 1,
                        .sampleable_vocab = text ? text->tokenizer->vocab_size() : 0};
  MOESTRO_ASSIGN(const auto host, ModelHost::start(options, needs));

  engine::Request request;
  request.client_id = "complete";
  MOESTRO_ASSIGN(request.prompt, prompt_ids(options.generate, text ? &*text : nullptr));
  MOESTRO_ASSIGN(const server::SamplingDefaults defaults,
                 sampling_defaults(options, host->config()));
  request.sampling = sampling_params(options, defaults);
  if (line.is_given("--seed")) request.sampling.seed = static_cast<uint64_t>(options.model.seed);
  request.sampling.max_tokens =
      static_cast<int32_t>(options.generate.max_tokens.value_or(kDefaultMaxTokens));
  const size_t num_prompt_tokens = request.prompt.size();
  MOESTRO_ASSIGN(const Completion result,
                 complete(host->engine(), text ? &*text : nullptr, std::move(request),
                          options.generate.stop, !options.json));
  print_result(result, options.json, options.generate.stats, num_prompt_tokens);
  return {};
}

}  // namespace moestro::app
