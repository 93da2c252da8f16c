// Fields that both generation endpoints have: sampling, stopping, streaming, and what is refused.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/format.h"
#include "base/strings.h"
#include "server/limits.h"
#include "server/openai/request.h"

namespace moestro::server::openai {
namespace {

constexpr double kAnyNumber = std::numeric_limits<double>::max();

void parse_sampling(Fields& f, const ParseContext& c, GenerateRequest& out) {
  const SamplingDefaults& d = c.model.defaults;
  engine::SamplingParams& s = out.sampling;
  s.temperature = f.number("temperature", 0, kAnyNumber).value_or(d.temperature.value_or(1.0));
  s.top_p = f.number("top_p", 0, 1).value_or(d.top_p.value_or(1.0));
  if (s.top_p <= 0) f.fail("top_p", "top_p must be above 0 and at most 1, got 0");
  s.min_p = f.number("min_p", 0, 1).value_or(d.min_p.value_or(0.0));
  // -1 and 0 both mean "all tokens" in the APIs around.
  s.top_k = static_cast<int32_t>(std::max<int64_t>(
      0,
      f.integer("top_k", -1, std::numeric_limits<int32_t>::max()).value_or(d.top_k.value_or(0))));
  s.presence_penalty = f.number("presence_penalty", -2, 2).value_or(0);
  s.frequency_penalty = f.number("frequency_penalty", -2, 2).value_or(0);
  s.repetition_penalty =
      f.number("repetition_penalty", 0, kAnyNumber).value_or(d.repetition_penalty.value_or(1.0));
  if (s.repetition_penalty <= 0)
    f.fail("repetition_penalty", "repetition_penalty must be above 0, got 0");
  if (const auto seed = f.integer("seed", std::numeric_limits<int64_t>::min(),
                                  std::numeric_limits<int64_t>::max())) {
    s.seed = static_cast<uint64_t>(*seed);
  }
  s.ignore_eos = f.boolean("ignore_eos").value_or(false);
  s.min_tokens =
      static_cast<int32_t>(f.integer("min_tokens", 0, c.model.max_model_len).value_or(0));
  out.n = static_cast<int32_t>(f.integer("n", 1, kMaxChoices).value_or(1));
}

void parse_token_list(Fields& f, std::string_view name, int32_t vocab, size_t max,
                      std::vector<int32_t>& out) {
  const json::array* list = f.array(name);
  if (!list) return;
  if (list->size() > max)
    return f.fail(name, format("{} has {} entries, the limit is {}", name, list->size(), max));
  for (const json::value& v : *list) {
    const std::optional<int64_t> id = v.is_number() ? as_integer(v) : std::nullopt;
    if (!id || *id < 0 || *id >= vocab)
      return f.fail(name, format("{} must hold token ids from 0 to {}", name, vocab - 1));
    out.push_back(static_cast<int32_t>(*id));
  }
}

void parse_logit_bias(Fields& f, int32_t vocab, engine::SamplingParams& s) {
  const json::object* bias = f.object("logit_bias");
  if (!bias) return;
  if (bias->size() > kMaxLogitBias) {
    return f.fail("logit_bias", format("logit_bias has {} entries, the limit is {}", bias->size(),
                                       kMaxLogitBias));
  }
  for (const auto& [key, v] : *bias) {
    const std::optional<int64_t> id = parse_int({key.data(), key.size()});
    if (!id || *id < 0 || *id >= vocab)
      return f.fail("logit_bias",
                    format("logit_bias: keys must be token ids from 0 to {}", vocab - 1));
    if (!v.is_number()) return f.fail("logit_bias", "logit_bias: values must be numbers");
    const double b = v.to_number<double>();
    if (!(b >= -100 && b <= 100))
      return f.fail("logit_bias", "logit_bias: values must be from -100 to 100");
    s.logit_bias.emplace_back(static_cast<int32_t>(*id), static_cast<float>(b));
  }
}

void parse_stop(Fields& f, GenerateRequest& out) {
  const json::value* stop = f.any("stop");
  if (!stop) return;
  const auto add = [&](const json::value& v) {
    if (!v.is_string())
      return f.fail("stop", format("stop must be a string or an array of strings, found {}",
                                   json::kind_name(v)));
    const std::string_view text = json::view(v.get_string());
    if (text.empty()) return f.fail("stop", "stop must not contain an empty string");
    if (text.size() > kMaxStopBytes)
      return f.fail("stop", format("a stop string has {} bytes, the limit is {}", text.size(),
                                   kMaxStopBytes));
    out.stop.emplace_back(text);
  };
  if (const json::array* list = stop->if_array()) {
    if (list->size() > kMaxStopStrings)
      return f.fail("stop",
                    format("stop has {} strings, the limit is {}", list->size(), kMaxStopStrings));
    for (const json::value& v : *list) add(v);
  } else {
    add(*stop);
  }
}

void parse_stream(Fields& f, const ParseContext& c, GenerateRequest& out) {
  out.stream = f.boolean("stream").value_or(false);
  if (const json::object* o = f.object("stream_options")) {
    if (!out.stream) f.fail("stream_options", "stream_options is only allowed when stream is true");
    Fields sub(*o, "stream_options");
    out.include_usage = sub.boolean("include_usage").value_or(false);
    out.continuous_usage =
        sub.boolean("continuous_usage_stats").value_or(false) && out.include_usage;
    sub.accept("include_obfuscation");  // padding against traffic analysis: none is sent, which a
                                        // client may always get
    if (sub.error()) f.fail(*sub.error());
  }
  if (c.options.enable_force_include_usage) out.include_usage = true;
}

void refuse_what_is_not_done(Fields& f) {
  constexpr std::string_view kBeams = "this server samples, it has no beam search";
  f.refuse("use_beam_search", kBeams, false);
  f.refuse("length_penalty", kBeams, 1);
  f.refuse("early_stopping", kBeams, false);
  f.refuse("bad_words", "use logit_bias with -100", json::array());
  f.refuse("logits_processors", "no code of a request is run");
  f.refuse("prompt_embeds", "prompts are text or token ids");
  f.refuse("mm_processor_kwargs", "this server reads text only");
  f.refuse("kv_transfer_params", "there is no KV transfer");
  f.refuse("ec_transfer_params", "there is no encoder");
  f.refuse("vllm_xargs", "there are no extensions to pass them to");
  f.refuse("repetition_detection", "no such stop condition");
  f.refuse("thinking_token_budget", "reasoning has no budget of its own");
  f.refuse("store", "answers are not kept", false);
  if (const auto tier = f.string("service_tier"); tier && *tier != "auto" && *tier != "default") {
    f.fail(not_supported("service_tier",
                         "service_tier: there is one tier; leave it out or send \"auto\""));
  }
  // Labels of the caller's own, of no effect on an answer.
  for (const char* name : {"user", "metadata", "safety_identifier", "prompt_cache_key",
                           "prompt_cache_retention", "spaces_between_special_tokens"}) {
    f.accept(name);
  }
}

}  // namespace

void parse_shared_fields(Fields& f, const ParseContext& c, GenerateRequest& out) {
  const int32_t vocab = c.model.tokenizer->vocab_size();
  out.model = f.string("model").value_or("");
  out.request_id = f.string("request_id").value_or("");
  parse_sampling(f, c, out);
  parse_token_list(f, "stop_token_ids", vocab, kMaxStopTokenIds, out.sampling.stop_token_ids);
  parse_token_list(f, "allowed_token_ids", vocab, static_cast<size_t>(vocab),
                   out.sampling.allowed_token_ids);
  parse_logit_bias(f, vocab, out.sampling);
  parse_stop(f, out);
  parse_stream(f, c, out);
  out.include_stop_in_output = f.boolean("include_stop_str_in_output").value_or(false);
  out.skip_special_tokens = f.boolean("skip_special_tokens").value_or(true);
  out.echo = f.boolean("echo").value_or(false);
  out.return_token_ids = f.boolean("return_token_ids").value_or(false);
  out.tokens_as_ids =
      f.boolean("return_tokens_as_token_ids").value_or(c.options.return_tokens_as_token_ids);
  out.truncate_prompt_tokens = f.integer("truncate_prompt_tokens", -1, c.model.max_model_len);
  if (out.truncate_prompt_tokens == 0)
    f.fail("truncate_prompt_tokens", "truncate_prompt_tokens must be -1 or at least 1, got 0");
  out.priority = static_cast<int32_t>(f.integer("priority", std::numeric_limits<int32_t>::min(),
                                                std::numeric_limits<int32_t>::max())
                                          .value_or(0));
  if (const auto salt = f.string("cache_salt")) {
    if (salt->empty() || salt->size() > engine::kMaxCacheSaltBytes)
      f.fail("cache_salt", format("cache_salt has {} bytes; it must have 1 to {}", salt->size(),
                                  engine::kMaxCacheSaltBytes));
    out.cache_salt = *salt;
  }
  const int64_t max_logprobs = c.model.max_logprobs < 0 ? vocab : c.model.max_logprobs;
  if (const auto k =
          f.integer("prompt_logprobs", c.model.max_logprobs < 0 ? -1 : 0, max_logprobs)) {
    out.sampling.prompt_logprobs = static_cast<int32_t>(*k < 0 ? vocab : *k);
    out.return_prompt_logprobs = true;
    if (out.stream)
      f.fail("prompt_logprobs", "prompt_logprobs are not available when stream is true");
  }
  parse_output_constraint(f, out.constraint);
  if (out.constraint.kind != OutputConstraint::Kind::kNone) refuse_other_ends(f, out);
  refuse_what_is_not_done(f);
}

void refuse_other_ends(Fields& f, const GenerateRequest& out) {
  if (out.sampling.ignore_eos)
    f.fail("ignore_eos", "ignore_eos cannot be combined with a bound answer: its grammar ends it");
  if (out.sampling.min_tokens > 0)
    f.fail("min_tokens", "min_tokens cannot be combined with a bound answer: its grammar ends it");
}

}  // namespace moestro::server::openai
