// Server: the HTTP front end with the OpenAI API over one Engine. Made by app/ (serve), which owns
// the process's signals; start() returns once the socket listens. Threads of its own: I/O (sockets)
// and the text pool (JSON, templates, tokenizing, detokenizing).
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/json.h"
#include "base/metrics.h"
#include "base/status.h"
#include "config/options.h"
#include "engine/engine.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace moestro::server {

// What a request that leaves a field out gets: the model's generation_config.json (with overrides);
// absent: the API's own default.
struct SamplingDefaults {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int32_t> top_k;
  std::optional<int32_t> max_tokens;  // "max_new_tokens": upper bound of every answer, also where a
                                      // request asks for more
};

// The model as the API shows it.
struct ServerModel {
  std::vector<std::string> names;  // at least one; all are accepted, the first is reported
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate>
      chat_template;  // null: /v1/chat/completions answers 400 and says why
  std::shared_ptr<const text::ChatTemplate>
      tool_template;  // requests with tools; null: chat_template
  std::optional<std::string> bos_token, eos_token, pad_token,
      unk_token;  // as the templates see them
  std::shared_ptr<engine::Engine> engine;
  int32_t max_model_len = 0;  // tokens, prompt and answer
  int32_t max_logprobs = 20;  // -1: no limit
  SamplingDefaults defaults;
  // Names of output parsers (text/parsers/parser_names.h); empty: that kind of output is not
  // parsed. Calls are only looked for in answers to requests with tools.
  std::string tool_parser, reasoning_parser;
  std::function<json::value()> plan;  // GET /v1/plan; any thread
  std::string version;                // GET /version, "0.1.0"
  std::string fingerprint;            // system_fingerprint of answers; empty: none
  int64_t created = 0;                // Unix seconds
  double stall_seconds =
      30;  // /health turns red when no step ended for so long while there is work
};

class Server {
 public:
  // Listens on options.host:port (or options.uds). kUnavailable if the address is taken;
  // kInvalidArgument for a bad address or model. The registry must outlive the server.
  static Result<std::unique_ptr<Server>> start(config::ServerOptions options, ServerModel model,
                                               MetricsRegistry& metrics,
                                               config::LogOptions log = {});
  // shutdown(Deadline::after(0)).
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  uint16_t port() const;  // the bound one; 0 on a Unix socket
  const std::string& address()
      const;  // "http://127.0.0.1:8000" or "unix:/run/moestro.sock", for the log
  // New requests get 503 from now on; running ones finish (the engine drains until the deadline,
  // then cancels the rest), their answers are written, connections close, threads end. Blocks; a
  // second call returns at once. Not from a server or engine thread.
  void shutdown(Deadline deadline);

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moestro::server
