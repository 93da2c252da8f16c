#include "platform/gang.h"

#include <immintrin.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

namespace moestro::platform {
namespace {

// Spins this often before yielding (about 20-50 us), then yields, then sleeps. Inside a step
// partners are only microseconds away unless the host has taken a processor away, and then spinning
// would only hurt it.
constexpr int kSpins = 4000;
constexpr int kYields = 2000;

// Adds one to the word and wakes sleepers, with a system call only when there are any. Both sides
// are sequentially consistent: either the sleeper is counted before the look here, or the kernel's
// look at the word sees the new value.
void bump(std::atomic<uint32_t>& word, std::atomic<int>& sleepers) {
  word.fetch_add(1);
  if (sleepers.load() > 0)
    ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr,
              nullptr, 0);
}

void wait_for_change(std::atomic<uint32_t>& word, uint32_t seen, std::atomic<int>& sleepers) {
  for (int i = 0; i < kSpins; ++i) {
    if (word.load(std::memory_order_acquire) != seen) return;
    _mm_pause();
  }
  for (int i = 0; i < kYields; ++i) {
    if (word.load(std::memory_order_acquire) != seen) return;
    ::sched_yield();
  }
  sleepers.fetch_add(1);
  while (word.load() == seen)
    ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, seen, nullptr,
              nullptr, 0);
  sleepers.fetch_sub(1);
}

std::vector<int> usable_cpus() {
  std::vector<int> cpus;
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set)) cpus.push_back(i);
  return cpus;
}

}  // namespace

Gang::Gang(int num_workers, bool pin) : num_workers_(std::max(1, num_workers)) {
  tickets_[0] = tickets_[1] = 0;
  const std::vector<int> cpus = pin ? usable_cpus() : std::vector<int>{};
  for (int i = 1; i < num_workers_; ++i) {
    // More workers than processors: pinning would only make them fight.
    const int cpu =
        static_cast<size_t>(num_workers_) <= cpus.size() ? cpus[static_cast<size_t>(i)] : -1;
    threads_.emplace_back([this, i, cpu] { thread_main(i, cpu); });
  }
}

Gang::~Gang() {
  stop_ = true;
  bump(job_number_, sleepers_);
  for (std::thread& t : threads_) t.join();
}

void Gang::thread_main(int index, int cpu) {
  ::pthread_setname_np(::pthread_self(), "moestro-gang");
  if (cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    ::sched_setaffinity(0, sizeof set, &set);
  }
  for (uint32_t seen = 0;;) {
    wait_for_change(job_number_, seen, sleepers_);
    seen = job_number_.load(std::memory_order_acquire);
    if (stop_) return;
    Worker worker(this, index, num_workers_);
    (*job_)(worker);
    barrier();
  }
}

void Gang::run(const std::function<void(Worker&)>& fn) {
  Worker worker(this, 0, num_workers_);
  tickets_[0].store(0, std::memory_order_relaxed);
  tickets_[1].store(0, std::memory_order_relaxed);
  if (num_workers_ == 1) {
    fn(worker);
    return;
  }
  job_ = &fn;
  bump(job_number_, sleepers_);
  fn(worker);
  barrier();
}

void Gang::barrier() {
  if (num_workers_ == 1) return;
  const uint32_t generation = generation_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(num_workers_)) {
    arrived_.store(0, std::memory_order_relaxed);
    bump(generation_, sleepers_);
  } else {
    wait_for_change(generation_, generation, sleepers_);
  }
}

void Worker::barrier() { gang_->barrier(); }

std::pair<int64_t, int64_t> Worker::share(int64_t n, int64_t grain) const {
  const int64_t units = (n + grain - 1) / grain;
  const int64_t begin = units * index_ / count_, end = units * (index_ + 1) / count_;
  return {std::min(n, begin * grain), std::min(n, end * grain)};
}

void Worker::start_tickets() {
  // The counter that is not in use now was last taken from before the latest barrier: worker 0 may
  // reset it for the round after this one.
  ++ticket_round_;
  if (index_ == 0) gang_->tickets_[(ticket_round_ + 1) & 1].store(0, std::memory_order_relaxed);
}

int64_t Worker::take_ticket() {
  return gang_->tickets_[ticket_round_ & 1].fetch_add(1, std::memory_order_relaxed);
}

}  // namespace moestro::platform
