// Deadline: an absolute point on the steady clock that travels with a request or a collective;
// infinite by default.
#pragma once
#include <chrono>

namespace moestro {

using Clock = std::chrono::steady_clock;

class Deadline {
 public:
  Deadline() = default;  // never
  static Deadline after(std::chrono::nanoseconds duration) {
    Deadline d;
    d.at_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(duration);
    return d;
  }
  bool infinite() const { return at_ == Clock::time_point::max(); }
  bool expired() const { return !infinite() && Clock::now() >= at_; }
  Clock::time_point at() const { return at_; }
  bool operator<(const Deadline& other) const { return at_ < other.at_; }

 private:
  Clock::time_point at_ = Clock::time_point::max();
};

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace moestro
