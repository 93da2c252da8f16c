#include "server/http/exchange.h"

#include <utility>

#include "base/log.h"
#include "server/http/wire.h"

namespace moestro::server {

Exchange::Exchange(Handler& handler, Request head, bool keep_alive, int64_t max_output,
                   std::function<void()> wake)
    : handler_(handler),
      head_(std::move(head)),
      max_output_(static_cast<size_t>(max_output)),
      wake_(std::move(wake)),
      keep_alive_(keep_alive) {}

void Exchange::wake(std::unique_lock<std::mutex> lock) {
  if (std::exchange(woken_, true)) return;
  lock.unlock();
  wake_();
}

void Exchange::send(Response response) {
  handler_.decorate(head_, response);
  std::unique_lock lock(mutex_);
  if (started_) return;
  started_ = finished_ = true;
  status_ = response.status;
  keep_alive_ = keep_alive_ && !response.close;
  out_ = wire::whole_response(response, {head_.http10, head_.method == "HEAD", keep_alive_});
  wake(std::move(lock));
}

void Exchange::start_stream(Response head) {
  handler_.decorate(head_, head);
  std::unique_lock lock(mutex_);
  if (started_) return;
  started_ = stream_ = true;
  status_ = head.status;
  chunked_ = !head_.http10;
  keep_alive_ = keep_alive_ && chunked_ && !head.close;
  out_ = wire::stream_head(head, {head_.http10, false, keep_alive_});
  wake(std::move(lock));
}

bool Exchange::write(std::string_view bytes) {
  std::unique_lock lock(mutex_);
  if (disconnected_ || aborted_ || finished_ || !stream_) return false;
  // A first large piece is fine; a pile that grows because nobody takes it is not.
  if (body_.empty() || body_.size() + bytes.size() <= max_output_) {
    body_.append(bytes);
    wake(std::move(lock));
    return true;
  }
  aborted_ = disconnected_ = true;
  woken_ = false;  // the connection was woken for bytes before and now waits for the socket: wake
                   // it again
  body_.clear();
  const auto callback = std::exchange(on_disconnect_, nullptr);
  wake(std::move(lock));
  log_warning("{} does not take the answer to {}: cut with {} bytes waiting", head_.peer,
              head_.path, max_output_);
  if (callback) callback();
  return false;
}

void Exchange::finish() {
  std::unique_lock lock(mutex_);
  finished_ = true;
  wake(std::move(lock));
}

void Exchange::abort() {
  std::unique_lock lock(mutex_);
  if (finished_) return;
  aborted_ = true;
  woken_ = false;
  wake(std::move(lock));
}

bool Exchange::disconnected() const {
  std::lock_guard lock(mutex_);
  return disconnected_;
}

void Exchange::on_disconnect(std::function<void()> callback) {
  {
    std::lock_guard lock(mutex_);
    if (!disconnected_) {
      on_disconnect_ = std::move(callback);
      return;
    }
  }
  callback();
}

Exchange::Output Exchange::take() {
  std::lock_guard lock(mutex_);
  woken_ = false;
  Output o;
  o.aborted = aborted_;
  o.bytes = std::exchange(out_, {});
  if (!body_.empty()) {
    wire::append_body(o.bytes, body_, chunked_);
    body_.clear();
  }
  if (finished_ && stream_ && chunked_ && !ended_) o.bytes += "0\r\n\r\n";
  ended_ = o.finished = finished_;
  return o;
}

void Exchange::disconnect() {
  std::function<void()> callback;
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(disconnected_, true)) return;
    callback = std::exchange(on_disconnect_, nullptr);
  }
  if (callback) callback();
}

void Exchange::drop_callback() {
  std::function<void()> callback;  // dies after the lock
  std::lock_guard lock(mutex_);
  std::swap(callback, on_disconnect_);
}

bool Exchange::aborted() const {
  std::lock_guard lock(mutex_);
  return aborted_;
}
bool Exchange::keep_alive() const {
  std::lock_guard lock(mutex_);
  return keep_alive_;
}
int Exchange::status() const {
  std::lock_guard lock(mutex_);
  return status_;
}

}  // namespace moestro::server
