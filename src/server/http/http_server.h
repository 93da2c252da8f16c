// HttpServer: sockets, HTTP/1.0 and 1.1, time limits and size limits. Owns the I/O threads; each
// connection lives on one strand. Used by server.cpp only. Everything of Boost.Asio and Beast is
// inside http_server.cpp.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/metrics.h"
#include "base/status.h"
#include "server/http/http.h"

namespace moestro::server {

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 0;                    // 0: any free one
  std::optional<std::string> uds = {};  // a Unix socket instead
  int io_threads = 1;
  int64_t max_body_bytes = 32ll << 20;
  int64_t max_total_body_bytes =
      1ll << 30;  // of all requests in flight together; above: 503 with Retry-After
  int64_t max_header_bytes = 64ll << 10;
  int64_t max_header_count = 256;
  int64_t max_connections = 4096;
  int64_t max_output_bytes = 1ll << 20;  // of one stream that the client has not taken
  double read_timeout_s = 30, write_timeout_s = 60, keep_alive_timeout_s = 75;
};

class HttpServer {
 public:
  // The handler and the registry must outlive the server.
  static Result<std::unique_ptr<HttpServer>> listen(HttpOptions options, Handler& handler,
                                                    MetricsRegistry& metrics);
  ~HttpServer();  // stop()
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;
  const std::string& address() const;
  int64_t active_requests() const;  // from a complete head to the last byte of the answer
  void stop();                      // closes every connection, joins the threads

  class Impl;

 private:
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moestro::server
