#include "base/format.h"
#include "server/limits.h"
#include "server/openai/request.h"

namespace moestro::server::openai {
namespace {

bool parse_ids(const json::array& list, int32_t vocab, std::vector<int32_t>& ids) {
  ids.reserve(list.size());
  for (const json::value& v : list) {
    const std::optional<int64_t> id = v.is_number() ? as_integer(v) : std::nullopt;
    if (!id || *id < 0 || *id >= vocab) return false;
    ids.push_back(static_cast<int32_t>(*id));
  }
  return true;
}

void parse_prompts(Fields& f, int32_t vocab, CompletionRequest& out) {
  const json::value* prompt = f.any("prompt");
  if (!prompt)
    return f.fail("prompt",
                  "prompt is required: a string, an array of strings, an array of token ids, or an "
                  "array of such arrays");
  const auto bad_ids = [&] {
    f.fail("prompt", format("prompt: token ids must be integers from 0 to {}", vocab - 1));
  };
  if (prompt->is_string()) {
    out.prompts.emplace_back(std::string(json::view(prompt->get_string())));
    return;
  }
  const json::array* list = prompt->if_array();
  if (!list)
    return f.fail("prompt",
                  format("prompt must be a string or an array, got {}", json::kind_name(*prompt)));
  if (list->empty()) return f.fail("prompt", "prompt is an empty array");
  if (list->front().is_number()) {
    std::vector<int32_t> ids;
    if (!parse_ids(*list, vocab, ids)) return bad_ids();
    out.prompts.emplace_back(std::move(ids));
    return;
  }
  if (list->size() > kMaxSequences)
    return f.fail("prompt", format("{} prompts in one request, the limit is {}", list->size(),
                                   kMaxSequences));
  for (const json::value& v : *list) {
    if (v.is_string()) {
      out.prompts.emplace_back(std::string(json::view(v.get_string())));
    } else if (const json::array* inner = v.if_array()) {
      std::vector<int32_t> ids;
      if (!parse_ids(*inner, vocab, ids)) return bad_ids();
      out.prompts.emplace_back(std::move(ids));
    } else {
      return f.fail("prompt", format("prompt must hold strings or arrays of token ids, found {}",
                                     json::kind_name(v)));
    }
  }
}

}  // namespace

std::optional<ApiError> parse_completion_request(const json::object& body, const ParseContext& c,
                                                 CompletionRequest& out) {
  Fields f(body);
  const int32_t vocab = c.model.tokenizer->vocab_size();
  parse_shared_fields(f, c, out);
  parse_prompts(f, vocab, out);
  out.add_special_tokens = f.boolean("add_special_tokens").value_or(true);
  // 0 with echo scores the prompt and generates nothing.
  out.max_tokens = f.integer("max_tokens", out.echo ? 0 : 1, std::numeric_limits<int32_t>::max());
  const int64_t max_logprobs = c.model.max_logprobs < 0 ? vocab : c.model.max_logprobs;
  if (const auto k = f.integer("logprobs", 0, max_logprobs)) {
    out.sampling.logprobs = static_cast<int32_t>(*k);
    if (out.echo && out.sampling.prompt_logprobs < 0)
      out.sampling.prompt_logprobs = out.sampling.logprobs;
  }
  if (const auto best_of = f.integer("best_of", 1, kMaxChoices); best_of && *best_of != out.n) {
    f.fail(not_supported(
        "best_of",
        format("best_of is not supported beyond n: send best_of {} or leave it out", out.n)));
  }
  f.refuse("suffix", "the model does not fill in the middle", "");
  if (out.prompts.size() * static_cast<size_t>(out.n) > kMaxSequences) {
    f.fail("n", format("{} prompts times n = {} are more than {} sequences", out.prompts.size(),
                       out.n, kMaxSequences));
  }
  out.unknown_fields = f.unknown();
  return f.error();
}

}  // namespace moestro::server::openai
