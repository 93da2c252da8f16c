// An engine::Engine without a model, for the server's tests: answers each request with the tokens
// that a script returns, one by one, from a thread of its own. It keeps the contract that server/
// relies on: events in order, one last event, cancel at once, drain.
#pragma once
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"

namespace moestro::server {

class FakeEngine final : public engine::Engine {
 public:
  using Script = std::function<std::vector<int32_t>(const engine::Request&)>;

  explicit FakeEngine(Script script, int32_t max_model_len = 4096, int32_t max_waiting = 1024)
      : script_(std::move(script)) {
    options_.max_model_len = max_model_len;
    options_.max_waiting = max_waiting;
    options_.eos_token_ids = {256};  // "<|end|>" of the tests' tokenizer
    thread_ = std::thread([this] { loop(); });
  }
  ~FakeEngine() override {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  // What tests set.
  void set_token_delay(std::chrono::microseconds delay) { delay_ = delay; }
  void hold(bool on) {  // no token is made while held
    held_ = on;
    wake_.notify_all();
  }
  void set_stall_seconds(double s) { stall_ = s; }
  int32_t cancelled() const { return cancelled_; }
  int32_t finished() const { return finished_; }
  int32_t prefix_resets() const { return prefix_resets_; }
  engine::Request last_request() const {  // without callbacks
    std::lock_guard lock(mutex_);
    engine::Request r = last_;
    return r;
  }
  bool wait_idle(double seconds = 5) {
    std::unique_lock lock(mutex_);
    return idle_.wait_for(lock, std::chrono::duration<double>(seconds),
                          [this] { return running_.empty(); });
  }
  bool wait_running(size_t count, double seconds = 5) {
    std::unique_lock lock(mutex_);
    return idle_.wait_for(lock, std::chrono::duration<double>(seconds),
                          [&] { return running_.size() >= count; });
  }

  Result<engine::RequestId> submit(engine::Request request) override {
    std::lock_guard lock(mutex_);
    if (draining_) return Status(Code::kUnavailable, "the engine is draining");
    if (static_cast<int32_t>(running_.size()) >= options_.max_waiting) {
      return Status(Code::kResourceExhausted,
                    format("{} requests wait, the limit is {} (--max-waiting)", running_.size(),
                           options_.max_waiting));
    }
    last_ = request;
    last_.on_event = nullptr;
    const engine::RequestId id = next_id_++;
    Running r;
    r.tokens = script_(request);
    r.request = std::move(request);
    running_.emplace(id, std::move(r));
    wake_.notify_all();
    idle_.notify_all();
    return id;
  }
  void cancel(engine::RequestId id) override {
    std::lock_guard lock(mutex_);
    if (auto it = running_.find(id); it != running_.end()) it->second.cancelled = true;
    wake_.notify_all();
  }
  void reset_prefix_cache() override { ++prefix_resets_; }
  void drain(Deadline deadline) override {
    std::unique_lock lock(mutex_);
    draining_ = true;
    const auto empty = [this] { return running_.empty(); };
    if (deadline.infinite()) {
      idle_.wait(lock, empty);
    } else if (!idle_.wait_until(lock, deadline.at(), empty)) {
      for (auto& [id, r] : running_) r.cancelled = true;
      wake_.notify_all();
      idle_.wait(lock, empty);
    }
  }
  engine::EngineStats stats() const override {
    std::lock_guard lock(mutex_);
    engine::EngineStats s;
    s.running = static_cast<int32_t>(running_.size());
    s.seconds_since_progress = stall_;
    s.draining = draining_;
    return s;
  }
  const engine::EngineOptions& options() const override { return options_; }

 private:
  struct Running {
    engine::Request request;
    std::vector<int32_t> tokens;
    size_t next = 0;
    bool cancelled = false;
  };

  static engine::PositionLogprobs logprobs(int32_t token, int32_t k) {
    engine::PositionLogprobs p;
    p.entries.push_back({token, -0.5f, 1});
    for (int32_t i = 0; i < k; ++i)
      p.entries.push_back({i == 0 ? token : token + i, -0.5f - static_cast<float>(i), i + 1});
    return p;
  }
  static engine::TokenEvent next_event(Running& r) {
    engine::TokenEvent e;
    const engine::SamplingParams& s = r.request.sampling;
    e.num_prompt_tokens = static_cast<int32_t>(r.request.prompt.size());
    e.num_cached_tokens = e.num_prompt_tokens - 1;
    if (r.next == 0 && s.prompt_logprobs >= 0) {
      e.prompt_logprobs.emplace_back();
      for (size_t i = 1; i < r.request.prompt.size(); ++i)
        e.prompt_logprobs.push_back(logprobs(r.request.prompt[i], s.prompt_logprobs));
    }
    if (r.next < r.tokens.size()) {
      const int32_t token = r.tokens[r.next++];
      e.tokens.push_back(token);
      if (s.logprobs >= 0) e.logprobs.push_back(logprobs(token, s.logprobs));
      if (std::find(s.stop_token_ids.begin(), s.stop_token_ids.end(), token) !=
          s.stop_token_ids.end()) {
        e.stop_token = token;
        e.finish = engine::FinishReason::kStop;
      }
    }
    if (e.finish == engine::FinishReason::kNone) {
      if (r.next >= static_cast<size_t>(s.max_tokens)) {
        e.finish = engine::FinishReason::kLength;
      } else if (r.next >= r.tokens.size()) {
        e.finish = engine::FinishReason::kStop;
      }
    }
    return e;
  }
  void loop() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      bool progress = false;
      std::vector<engine::RequestId> ids;
      for (const auto& [id, r] : running_) ids.push_back(id);
      for (engine::RequestId id : ids) {
        Running& r = running_.at(id);
        if (held_ && !r.cancelled) continue;
        progress = true;
        engine::TokenEvent e;
        if (r.cancelled) {
          e.finish = engine::FinishReason::kCancelled;
          ++cancelled_;
        } else if (r.request.deadline.expired()) {
          e.finish = engine::FinishReason::kDeadline;
        } else {
          e = next_event(r);
        }
        const bool last = e.finish != engine::FinishReason::kNone;
        auto on_event = r.request.on_event;
        lock.unlock();
        on_event(std::move(e));
        on_event = nullptr;
        lock.lock();
        if (last) {
          ++finished_;
          Running gone = std::move(running_.at(id));
          running_.erase(id);
          lock.unlock();
          gone.request.on_event = nullptr;
          lock.lock();
        }
      }
      idle_.notify_all();
      if (progress) {
        const auto delay = delay_.load();
        lock.unlock();
        if (delay.count() > 0) std::this_thread::sleep_for(delay);
        lock.lock();
      } else {
        wake_.wait_for(lock, std::chrono::milliseconds(20));
      }
    }
    for (auto& [id, r] : running_) {
      engine::TokenEvent e;
      e.finish = engine::FinishReason::kCancelled;
      r.request.on_event(std::move(e));
    }
    running_.clear();
  }

  engine::EngineOptions options_;
  Script script_;
  mutable std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::map<engine::RequestId, Running> running_;
  engine::Request last_;
  engine::RequestId next_id_ = 1;
  bool stop_ = false, draining_ = false;
  std::atomic<bool> held_{false};
  std::atomic<double> stall_{0};
  std::atomic<int32_t> cancelled_{0}, finished_{0}, prefix_resets_{0};
  std::atomic<std::chrono::microseconds> delay_{std::chrono::microseconds(0)};
  std::thread thread_;
};

}  // namespace moestro::server
