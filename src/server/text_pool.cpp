#include "server/text_pool.h"

#include <algorithm>
#include <exception>

#include "base/log.h"

namespace moestro::server {
namespace {

void run_guarded(const TextPool::Task& task) {
  try {
    task();
  } catch (const std::exception&
               e) {  // tasks answer their own failures; this is the last line of defence
    log_error("a task of the text pool threw: {}", e.what());
  }
}

}  // namespace

TextPool::TextPool(int threads) {
  const size_t count = static_cast<size_t>(std::max(threads, 2));
  max_requests_running_ = count - 1;
  for (size_t i = 0; i < count; ++i) threads_.emplace_back([this] { run(); });
}

TextPool::~TextPool() { stop(); }

void TextPool::post(Lane lane, Task task) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    (lane == Lane::kEvents ? events_ : requests_).push_back(std::move(task));
  }
  wake_.notify_one();
}

void TextPool::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& t : threads_) {
    if (t.joinable()) t.join();
  }
}

void TextPool::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const bool request_allowed = !requests_.empty() && requests_running_ < max_requests_running_;
    if (!events_.empty()) {
      Task task = std::move(events_.front());
      events_.pop_front();
      lock.unlock();
      run_guarded(task);
      task = nullptr;  // captures die outside the lock
      lock.lock();
    } else if (request_allowed) {
      Task task = std::move(requests_.front());
      requests_.pop_front();
      ++requests_running_;
      lock.unlock();
      run_guarded(task);
      task = nullptr;
      lock.lock();
      --requests_running_;
      if (!requests_.empty()) wake_.notify_one();
    } else if (stopping_ && requests_.empty()) {
      wake_.notify_all();
      return;
    } else {
      wake_.wait(lock);
    }
  }
}

void TaskQueue::post(TextPool::Task task) {
  {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    if (paused_ || scheduled_) return;
    scheduled_ = true;
  }
  pool_.post(TextPool::Lane::kEvents, [self = shared_from_this()] { self->run(); });
}

void TaskQueue::resume() {
  {
    std::lock_guard lock(mutex_);
    paused_ = false;
    if (tasks_.empty() || scheduled_) return;
    scheduled_ = true;
  }
  pool_.post(TextPool::Lane::kEvents, [self = shared_from_this()] { self->run(); });
}

void TaskQueue::run() {
  for (int turn = 0; turn < 64; ++turn) {  // then others get their turn
    TextPool::Task task;
    {
      std::lock_guard lock(mutex_);
      if (tasks_.empty()) {
        scheduled_ = false;
        return;
      }
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    run_guarded(task);
  }
  pool_.post(TextPool::Lane::kEvents, [self = shared_from_this()] { self->run(); });
}

}  // namespace moestro::server
