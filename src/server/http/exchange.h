// Exchange: the Responder of one request. Other threads leave bytes here under a mutex and wake the
// connection, which takes them on its strand and writes them. Knows no sockets.
#pragma once
#include <functional>
#include <mutex>
#include <string>

#include "server/http/http.h"

namespace moestro::server {

class Exchange final : public Responder {
 public:
  // wake: makes the connection look here again; called without locks held, on any thread.
  // max_output: bytes of a stream that may wait.
  Exchange(Handler& handler, Request head, bool keep_alive, int64_t max_output,
           std::function<void()> wake);

  void send(Response response) override;
  void start_stream(Response head) override;
  bool write(std::string_view bytes) override;
  void finish() override;
  void abort() override;
  bool disconnected() const override;
  void on_disconnect(std::function<void()> callback) override;

  // For the connection.
  struct Output {
    std::string bytes;
    bool finished = false, aborted = false;
  };
  Output take();
  void disconnect();
  void drop_callback();  // breaks the cycle Exchange → callback → owner of the Exchange
  bool aborted() const;
  bool keep_alive() const;
  int status() const;
  const Request& head() const { return head_; }

 private:
  void wake(std::unique_lock<std::mutex> lock);

  Handler& handler_;
  const Request head_;
  const size_t max_output_;
  const std::function<void()> wake_;
  mutable std::mutex mutex_;
  std::string out_, body_;  // head or whole response; stream bytes not framed yet
  bool keep_alive_;
  int status_ = 0;
  bool started_ = false, stream_ = false, chunked_ = false, finished_ = false, ended_ = false;
  bool aborted_ = false, disconnected_ = false, woken_ = false;
  std::function<void()> on_disconnect_;
};

}  // namespace moestro::server
