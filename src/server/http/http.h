// What crosses between the HTTP layer (http_server.cpp, I/O threads) and everything above it:
// Request, Response, Responder, Handler. Plain data and two interfaces; nothing here knows sockets
// or Asio.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/deadline.h"

namespace moestro::server {

struct Header {
  std::string name;  // lower case in requests
  std::string value;
};

struct Request {
  std::string method;  // as sent: "POST"
  std::string target;  // as sent: "/v1/models?x=1"
  std::string path;    // target without query, percent-decoded
  std::vector<Header> headers;
  std::string body;  // empty in admit()
  std::string peer;  // "127.0.0.1:40312", for the log
  std::string id;    // set by admit(): the client's X-Request-Id or one of ours
  bool http10 = false;
  bool admitted = false;  // went on to handle()
  Clock::time_point received{};

  std::string_view header(
      std::string_view lower_name) const {  // "" if absent; the first one of several
    for (const Header& h : headers) {
      if (h.name == lower_name) return h.value;
    }
    return {};
  }
};

struct Response {
  int status = 200;
  std::string content_type = "application/json";  // empty: no Content-Type
  std::string body;
  std::vector<Header> headers;
  bool close = false;  // the connection ends after it
};

// The way back of one request. Any thread; no call blocks. Exactly one of send() and start_stream()
// is called, at most once.
class Responder {
 public:
  virtual ~Responder() = default;
  virtual void send(Response response) = 0;
  virtual void start_stream(Response head) = 0;  // head.body is ignored
  // Queues bytes of a started stream; what gathers while the socket is slow leaves as one write.
  // false: the client is gone or was cut because it does not read, and there is no point in making
  // more.
  virtual bool write(std::string_view bytes) = 0;
  virtual void finish() = 0;  // the stream is complete
  virtual void
  abort() = 0;  // give up: the connection is closed, a started stream stays visibly incomplete
  virtual bool disconnected() const = 0;
  // Called once, on any thread, when the client goes away before the answer is written (at once if
  // it already has). Must not block.
  virtual void on_disconnect(std::function<void()> callback) = 0;
};

// Implemented by Api. Called on I/O threads: must not block.
class Handler {
 public:
  virtual ~Handler() = default;
  // The head is complete, the body (if any) not read yet. A response ends the request here. May set
  // head.id.
  virtual std::optional<Response> admit(Request& head) = 0;
  virtual void handle(Request request, std::shared_ptr<Responder> responder) = 0;
  // The answer to what is no valid request; `head` holds what was understood of it.
  virtual Response refuse(const Request& head, int status, std::string_view message) = 0;
  // Adds headers that every response to this request carries (request id, CORS). Called on the
  // thread that answers.
  virtual void decorate(const Request& head, Response& response) = 0;
  // The response was written, or given up (status 0: before there was one); for access log and
  // metrics.
  virtual void finished(const Request& head, int status, bool complete) = 0;
};

}  // namespace moestro::server
