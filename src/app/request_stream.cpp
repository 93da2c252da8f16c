#include "app/request_stream.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

namespace moestro::app {

struct RequestStream::Queue {
  std::mutex mutex;
  std::condition_variable filled;
  std::deque<engine::TokenEvent> events;
};

Result<std::unique_ptr<RequestStream>> RequestStream::submit(engine::Engine& engine,
                                                             engine::Request request) {
  auto queue = std::make_shared<Queue>();
  request.on_event = [queue](engine::TokenEvent&& event) {
    {
      const std::lock_guard lock(queue->mutex);
      queue->events.push_back(std::move(event));
    }
    queue->filled.notify_one();
  };
  auto stream = std::unique_ptr<RequestStream>(new RequestStream(engine, std::move(queue)));
  stream->finished_ = true;  // nothing to cancel until it is queued
  MOESTRO_ASSIGN(stream->id_, engine.submit(std::move(request)));
  stream->finished_ = false;
  return stream;
}

RequestStream::~RequestStream() { cancel(); }

std::optional<engine::TokenEvent> RequestStream::next_for(std::chrono::milliseconds timeout) {
  std::unique_lock lock(queue_->mutex);
  if (!queue_->filled.wait_for(lock, timeout, [this] { return !queue_->events.empty(); }))
    return std::nullopt;
  engine::TokenEvent event = std::move(queue_->events.front());
  queue_->events.pop_front();
  finished_ = event.finish != engine::FinishReason::kNone;
  return event;
}

engine::TokenEvent RequestStream::next() {
  while (true) {
    if (auto event = next_for(std::chrono::hours(1))) return std::move(*event);
  }
}

void RequestStream::cancel() {
  if (!finished_) engine_.cancel(id_);
}

std::string_view finish_name(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::kNone:
      return "none";
    case engine::FinishReason::kStop:
      return "stop";
    case engine::FinishReason::kLength:
      return "length";
    case engine::FinishReason::kCancelled:
      return "cancelled";
    case engine::FinishReason::kDeadline:
      return "deadline";
    case engine::FinishReason::kError:
      return "error";
  }
  return "none";
}

}  // namespace moestro::app
