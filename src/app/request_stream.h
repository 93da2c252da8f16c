// One request as a queue of events: submitted from here, read by the caller's thread while the
// engine's thread fills it.
#pragma once
#include <chrono>
#include <memory>
#include <optional>
#include <string_view>

#include "engine/engine.h"

namespace moestro::app {

class RequestStream {
 public:
  // on_event is set here.
  static Result<std::unique_ptr<RequestStream>> submit(engine::Engine& engine,
                                                       engine::Request request);
  ~RequestStream();  // cancels what still runs

  engine::TokenEvent next();  // waits
  std::optional<engine::TokenEvent> next_for(std::chrono::milliseconds timeout);
  void cancel();

 private:
  struct Queue;
  RequestStream(engine::Engine& engine, std::shared_ptr<Queue> queue)
      : engine_(engine), queue_(std::move(queue)) {}

  engine::Engine& engine_;
  std::shared_ptr<Queue> queue_;  // shared with the callback
  engine::RequestId id_ = 0;
  bool finished_ = false;
};

std::string_view finish_name(engine::FinishReason reason);  // "stop", "length", …

}  // namespace moestro::app
