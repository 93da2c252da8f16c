// Bodies of /v1/completions and /v1/chat/completions, any bytes: refused with a message, or a
// request whose values are in range and whose prompt has tokens.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/log.h"
#include "server/openai/prompt.h"
#include "server/openai/request.h"
#include "server/tokenizer_for_test.h"

namespace {

using namespace moestro;
using namespace moestro::server;
using namespace moestro::server::openai;

ServerModel make_model() {
  ServerModel m;
  m.names = {"tiny"};
  m.tokenizer = byte_tokenizer();
  auto compiled = text::ChatTemplate::compile(
      "{% for m in messages %}{{ m.role }}{{ m.content | trim }}{{ m.tool_calls | tojson if "
      "m.tool_calls "
      "}}{% endfor %}{{ tools | tojson if tools }}");
  CHECK(compiled.ok(), compiled.status().message());
  m.chat_template = std::move(*compiled);
  m.max_model_len = 256;
  return m;
}

void check_error(const ApiError& e) {
  CHECK(!e.message.empty() && e.status >= 400, "an error without a message");
  CHECK(json::parse(error_json(e)).ok(), "an error that is no JSON");
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  set_log_level(LogLevel::kOff);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ServerModel model = make_model();
  static const config::ServerOptions options;
  const auto body = json::parse({reinterpret_cast<const char*>(data), size});
  if (!body.ok() || !body->is_object()) return 0;
  const PromptContext prompts{.model = model, .options = options};
  CompletionRequest completion;
  if (const auto e = parse_completion_request(body->get_object(), {model, options}, completion)) {
    check_error(*e);
  } else {
    for (size_t i = 0; i < completion.prompts.size() && i < 4; ++i) {
      Prompt p;
      if (const auto bad = make_completion_prompt(completion, i, prompts, p))
        check_error(*bad);
      else
        CHECK(!p.ids.empty(), "an empty prompt");
    }
  }
  ChatRequest chat;
  if (const auto e = parse_chat_request(body->get_object(), {model, options}, chat)) {
    check_error(*e);
  } else {
    Prompt p;
    if (const auto bad =
            make_chat_prompt(chat, prompts, Deadline::after(std::chrono::seconds(2)), p))
      check_error(*bad);
    else
      CHECK(!p.ids.empty(), "an empty prompt");
  }
  return 0;
}
