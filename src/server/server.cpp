#include "server/server.h"

#include <algorithm>
#include <thread>

#include "base/format.h"
#include "base/log.h"
#include "server/api.h"
#include "server/http/http_server.h"
#include "server/text_pool.h"

namespace moestro::server {
namespace {

constexpr auto kFlushTime =
    std::chrono::seconds(3);  // for answers that are complete and not written yet

HttpOptions http_options(const config::ServerOptions& o) {
  HttpOptions h;
  h.host = o.host;
  h.port = static_cast<uint16_t>(o.port);
  h.uds = o.uds;
  h.io_threads = static_cast<int>(o.io_threads);
  h.max_body_bytes = o.max_body_bytes;
  h.max_total_body_bytes = std::max<int64_t>(h.max_total_body_bytes, 4 * o.max_body_bytes);
  h.max_header_bytes = o.max_header_bytes;
  h.max_header_count = o.max_header_count;
  h.max_connections = o.max_connections;
  h.read_timeout_s = o.read_timeout_s;
  h.write_timeout_s = o.write_timeout_s;
  h.keep_alive_timeout_s = o.keep_alive_timeout_s;
  return h;
}

Status check(const config::ServerOptions& o, const ServerModel& m) {
  if (o.port < 0 || o.port > 65535)
    return invalid_argument(format("--port {} is not from 0 to 65535", o.port));
  if (m.names.empty()) return invalid_argument("the served model has no name");
  if (!m.tokenizer) return invalid_argument("the served model has no tokenizer");
  if (!m.engine) return invalid_argument("the served model has no engine");
  if (m.max_model_len < 2)
    return invalid_argument(
        format("a context of {} tokens holds no prompt and answer", m.max_model_len));
  return {};
}

}  // namespace

class Server::Impl {
 public:
  Impl(config::ServerOptions options, ServerModel model, MetricsRegistry& metrics,
       config::LogOptions log)
      : options_(std::move(options)),
        log_(std::move(log)),
        model_(std::move(model)),
        pool_(static_cast<int>(options_.text_threads)),
        api_(options_, log_, model_, pool_, metrics) {}

  Status listen(MetricsRegistry& metrics) {
    MOESTRO_ASSIGN(http_, HttpServer::listen(http_options(options_), api_, metrics));
    return {};
  }
  void shutdown(Deadline deadline) {
    if (done_ || !http_) return;
    done_ = true;
    api_.start_draining();
    model_.engine->drain(deadline);
    const Deadline flush = Deadline::after(kFlushTime);
    while (http_->active_requests() > 0 && !flush.expired())
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    if (const int64_t left = http_->active_requests(); left > 0)
      log_warning("{} answers were cut: their clients do not take them", left);
    http_->stop();
    pool_.stop();
  }
  const HttpServer& http() const { return *http_; }

 private:
  const config::ServerOptions options_;
  const config::LogOptions log_;
  const ServerModel model_;
  TextPool pool_;
  Api api_;
  std::unique_ptr<HttpServer> http_;  // last: it calls the others
  bool done_ = false;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() { shutdown(Deadline::after(std::chrono::nanoseconds(0))); }

Result<std::unique_ptr<Server>> Server::start(config::ServerOptions options, ServerModel model,
                                              MetricsRegistry& metrics, config::LogOptions log) {
  MOESTRO_TRY(check(options, model));
  auto impl = std::make_unique<Impl>(std::move(options), std::move(model), metrics, std::move(log));
  MOESTRO_TRY(impl->listen(metrics));
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}
uint16_t Server::port() const { return impl_->http().port(); }
const std::string& Server::address() const { return impl_->http().address(); }
void Server::shutdown(Deadline deadline) { impl_->shutdown(deadline); }

}  // namespace moestro::server
