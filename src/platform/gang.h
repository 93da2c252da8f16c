// Gang: a fixed team of pinned threads that computes one step together (SPMD). The caller's thread
// is worker 0, so a gang of n starts n - 1 threads. Inside a step every worker runs the same code;
// ops split their work by worker index or by tickets and meet at barriers. Waiting spins, then
// yields, then sleeps on a futex: quick while a step runs, quiet while idle.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace moestro::platform {

class Gang;

// What a kernel sees of the gang. Passed by reference through layers to kernels; valid during one
// Gang::run.
class Worker {
 public:
  int index() const { return index_; }
  int count() const { return count_; }
  // All workers wait for all. Everything written before is visible after.
  void barrier();
  // This worker's part of [0, n): contiguous, sizes differ by at most one unit of `grain`.
  std::pair<int64_t, int64_t> share(int64_t n, int64_t grain = 1) const;
  // Tickets 0, 1, 2, …, each given to one worker; start_tickets() must be called by all workers at
  // the same place in the code, after a barrier that ends the previous use. Two counters alternate,
  // so one barrier between uses is enough.
  void start_tickets();
  int64_t take_ticket();

 private:
  friend class Gang;
  Worker(Gang* gang, int index, int count) : gang_(gang), index_(index), count_(count) {}
  Gang* gang_;
  int index_, count_;
  uint32_t ticket_round_ = 0;
};

class Gang {
 public:
  // pin: bind worker i to the i-th processor this process may use (worker 0 stays unbound: it is
  // the caller's thread).
  explicit Gang(int num_workers, bool pin = true);
  ~Gang();
  Gang(const Gang&) = delete;
  Gang& operator=(const Gang&) = delete;

  int num_workers() const { return num_workers_; }
  // Runs fn(worker) on every worker and returns when all are done. One caller at a time.
  void run(const std::function<void(Worker&)>& fn);

 private:
  friend class Worker;
  void thread_main(int index, int cpu);
  void barrier();

  const int num_workers_;
  std::vector<std::thread> threads_;
  const std::function<void(Worker&)>* job_ = nullptr;
  alignas(64) std::atomic<uint32_t> job_number_{0};
  alignas(64) std::atomic<uint32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> generation_{0};
  alignas(64) std::atomic<int64_t> tickets_[2];
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace moestro::platform
