#include "engine/engine.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "base/format.h"
#include "engine/core.h"

namespace moestro::engine {
namespace {

uint64_t random_seed() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

int64_t now_ns() { return std::chrono::nanoseconds(Clock::now().time_since_epoch()).count(); }

class ThreadedEngine final : public Engine {
 public:
  explicit ThreadedEngine(std::unique_ptr<Core> core)
      : core_(std::move(core)), seed_(random_seed()) {
    const auto most = static_cast<size_t>(std::min<int64_t>(max_in_flight(), 1 << 16));
    intake_.reserve(most);
    taken_.reserve(most);
    kv_pages_total_ = core_->kv().pool().num_blocks();
    thread_ = std::thread([this] { thread_main(); });
  }

  ~ThreadedEngine() override {
    {
      std::lock_guard lock(mutex_);
      stop_ = draining_ = true;
      wake();
    }
    thread_.join();
  }

  Result<RequestId> submit(Request request) override;
  void cancel(RequestId id) override;
  void reset_prefix_cache() override;
  void drain(Deadline deadline) override;
  EngineStats stats() const override;
  const EngineOptions& options() const override { return core_->options(); }

 private:
  int64_t max_in_flight() const { return int64_t{options().max_num_seqs} + options().max_waiting; }
  void wake() {  // with mutex_ held
    news_ = true;
    wake_.notify_one();
  }
  void thread_main() noexcept;
  bool drain_intake();
  void publish();

  std::unique_ptr<Core> core_;  // after construction: the engine thread's, but for its const checks
  const uint64_t seed_;

  // The intake queue. The engine thread takes the mutex only when there is news, or nothing else to
  // do.
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::vector<std::unique_ptr<Sequence>> intake_;
  std::vector<RequestId> cancels_;
  RequestId next_id_ = 1;
  bool stop_ = false, cancel_all_ = false, reset_prefixes_ = false;
  std::atomic<bool> news_{false}, draining_{false};

  // The engine thread's own.
  std::vector<std::unique_ptr<Sequence>> taken_;
  std::vector<RequestId> taken_cancels_;
  uint64_t ended_before_ = 0;

  // What stats() reads.
  std::atomic<int64_t> in_flight_{0}, last_progress_ns_{0};
  std::atomic<int32_t> running_{0};
  std::atomic<int64_t> kv_pages_total_{0}, kv_pages_used_{0};
  std::atomic<uint64_t> steps_{0};

  std::thread thread_;
};

Result<RequestId> ThreadedEngine::submit(Request request) {
  MOESTRO_TRY(core_->check(request));
  // Claims a place before the sequence is built, so that building (which allocates) needs no lock.
  RequestId id;
  {
    std::lock_guard lock(mutex_);
    if (draining_)
      return Status(Code::kUnavailable, "the server is shutting down and takes no new requests");
    if (in_flight_ >= max_in_flight())
      return Status(Code::kResourceExhausted,
                    format("{} requests are running or queued, the most that --max-num-seqs ({}) "
                           "and the queue ({}) allow; "
                           "try again later",
                           in_flight_.load(), options().max_num_seqs, options().max_waiting));
    if (in_flight_++ == 0) last_progress_ns_ = now_ns();
    id = next_id_++;
  }
  auto sequence = core_->make_sequence(id, std::move(request), seed_ + id);
  std::lock_guard lock(mutex_);
  intake_.push_back(std::move(sequence));
  wake();
  return id;
}

void ThreadedEngine::cancel(RequestId id) {
  std::lock_guard lock(mutex_);
  cancels_.push_back(id);
  wake();
}

void ThreadedEngine::reset_prefix_cache() {
  std::lock_guard lock(mutex_);
  reset_prefixes_ = true;
  wake();
}

void ThreadedEngine::drain(Deadline deadline) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  const auto idle = [this] { return in_flight_ == 0; };
  if (!deadline.infinite() && !idle_.wait_until(lock, deadline.at(), idle)) {
    cancel_all_ = true;
    wake();
  }
  idle_.wait(lock, idle);
}

EngineStats ThreadedEngine::stats() const {
  EngineStats stats;
  const int64_t in_flight = in_flight_;
  stats.running = running_;
  stats.waiting = static_cast<int32_t>(std::max<int64_t>(0, in_flight - stats.running));
  stats.kv_pages_total = kv_pages_total_;
  stats.kv_pages_used = kv_pages_used_;
  stats.steps = steps_;
  stats.draining = draining_;
  if (in_flight > 0)
    stats.seconds_since_progress = static_cast<double>(now_ns() - last_progress_ns_) * 1e-9;
  return stats;
}

void ThreadedEngine::thread_main() noexcept {
  ::pthread_setname_np(::pthread_self(), "moestro-engine");
  while (drain_intake()) {
    if (!core_->idle()) core_->step();
    publish();
  }
}

// Takes what other threads left; sleeps while there is nothing to do. False: stop, and everything
// has been cancelled.
bool ThreadedEngine::drain_intake() {
  if (!core_->idle() && !news_.load(std::memory_order_acquire)) return true;
  bool stop, cancel_all, reset_prefixes;
  {
    std::unique_lock lock(mutex_);
    if (core_->idle()) wake_.wait(lock, [this] { return news_.load(); });
    news_ = false;
    taken_.swap(intake_);
    taken_cancels_.swap(cancels_);
    stop = stop_;
    cancel_all = cancel_all_ || stop_;
    reset_prefixes = std::exchange(reset_prefixes_, false);
  }
  if (reset_prefixes) core_->reset_prefix_cache();
  for (auto& sequence : taken_) core_->add(std::move(sequence));
  for (const RequestId id : taken_cancels_) core_->cancel(id);
  taken_.clear();
  taken_cancels_.clear();
  if (cancel_all) core_->cancel_all();
  if (stop) publish();
  return !stop;
}

void ThreadedEngine::publish() {
  const BlockPool& pool = core_->kv().pool();
  running_ = core_->num_running();
  kv_pages_used_ = pool.num_blocks() - pool.num_free();
  steps_ = core_->num_steps();
  last_progress_ns_ = now_ns();
  const auto ended = static_cast<int64_t>(core_->num_ended() - ended_before_);
  ended_before_ += static_cast<uint64_t>(ended);
  if (ended > 0 && in_flight_.fetch_sub(ended) == ended) {
    std::lock_guard lock(mutex_);
    idle_.notify_all();
  }
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::create(EngineOptions options,
                                               std::unique_ptr<models::Model> model,
                                               platform::Gang& gang, MetricsRegistry& metrics) {
  MOESTRO_ASSIGN(auto core, Core::create(std::move(options), std::move(model), gang, metrics));
  return std::unique_ptr<Engine>(new ThreadedEngine(std::move(core)));
}

}  // namespace moestro::engine
