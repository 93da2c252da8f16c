// Api: the routes of the server. Decides on the I/O thread what needs no body (unknown route, wrong
// method, key, draining), answers the small GETs there, and hands generations to the text pool.
// Made by server.cpp, one a server.
#pragma once
#include <atomic>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "config/options.h"
#include "server/generation.h"
#include "server/http/http.h"
#include "server/openai/prompt.h"
#include "server/server.h"
#include "server/text_pool.h"

namespace moestro::server {

class Api final : public Handler {
 public:
  Api(const config::ServerOptions& options, const config::LogOptions& log, const ServerModel& model,
      TextPool& pool, MetricsRegistry& metrics);

  void start_draining() { draining_ = true; }

  std::optional<Response> admit(Request& head) override;
  void handle(Request request, std::shared_ptr<Responder> responder) override;
  Response refuse(const Request& head, int status, std::string_view message) override;
  void decorate(const Request& head, Response& response) override;
  void finished(const Request& head, int status, bool complete) override;

 private:
  std::string_view route_path(const Request& head) const;  // without root_path
  Response unknown_route(std::string_view path) const;
  Response preflight(const Request& head, std::string_view allow) const;
  const std::string* allowed_origin(const Request& head, std::string& storage) const;
  Response models(std::string_view one) const;
  Response landing() const;

  const config::ServerOptions& options_;
  const config::LogOptions& log_;
  const ServerModel& model_;
  TextPool& pool_;
  MetricsRegistry& metrics_;
  const openai::PromptContext prompts_;
  const openai::Grammars grammars_;
  const GenerationContext generations_;
  std::atomic<bool> draining_{false};
  std::atomic<int64_t> load_{0};
};

}  // namespace moestro::server
