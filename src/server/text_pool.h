// TextPool: the threads that parse JSON, render templates, tokenize and detokenize, so that no I/O
// thread ever works for long on one request. Two lanes: requests (may take long) never hold all
// threads, so the events of running answers always find one. TaskQueue keeps one request's work in
// order. Any thread may post.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace moestro::server {

class TextPool {
 public:
  enum class Lane { kRequests, kEvents };
  using Task = std::function<void()>;

  explicit TextPool(int threads);  // at least 2 are made
  ~TextPool();                     // stop()
  void post(Lane lane, Task task);
  void stop();  // runs what is queued, then joins; later posts are dropped

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> requests_, events_;
  size_t max_requests_running_;
  size_t requests_running_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

class TaskQueue : public std::enable_shared_from_this<TaskQueue> {
 public:
  explicit TaskQueue(TextPool& pool) : pool_(pool) {}  // paused: tasks gather until resume()
  void post(TextPool::Task task);
  void resume();  // once

 private:
  void run();

  TextPool& pool_;
  std::mutex mutex_;
  std::deque<TextPool::Task> tasks_;
  bool paused_ = true, scheduled_ = false;
};

}  // namespace moestro::server
