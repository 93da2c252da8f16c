// A small metrics registry with Prometheus' text exposition. Counters and histograms are lock-free
// to update and may be touched from the step path; registration and exposition take a mutex. Names
// follow vLLM's ("vllm:…").
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moestro {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Counter {  // monotonic; exposed with "_total"
 public:
  void add(double v = 1) { value_.fetch_add(v, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }
  // For a count that is kept elsewhere: never falls.
  void raise_to(double v) {
    double seen = value();
    while (seen < v && !value_.compare_exchange_weak(seen, v, std::memory_order_relaxed)) {
    }
  }

 private:
  std::atomic<double> value_{0};
};

class Gauge {
 public:
  void set(double v) { value_.store(v, std::memory_order_relaxed); }
  void add(double v) { value_.fetch_add(v, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Histogram {
 public:
  explicit Histogram(std::vector<double> upper_bounds);  // ascending; +Inf is added
  void observe(double v);
  uint64_t count() const;
  double sum() const { return sum_.load(std::memory_order_relaxed); }
  const std::vector<double>& upper_bounds() const { return bounds_; }
  uint64_t bucket(size_t i) const {
    return buckets_[i].load(std::memory_order_relaxed);
  }  // not cumulative

 private:
  std::vector<double> bounds_;
  std::unique_ptr<std::atomic<uint64_t>[]> buckets_;
  std::atomic<double> sum_{0};
};

class MetricsRegistry {
 public:
  // The same name and labels give the same object; it lives as long as the registry.
  Counter& counter(std::string_view name, std::string_view help, Labels labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, Labels labels = {});
  Histogram& histogram(std::string_view name, std::string_view help,
                       std::vector<double> upper_bounds, Labels labels = {});
  // Called at the start of every expose(), one at a time: brings values up to date that are kept
  // elsewhere.
  void before_exposition(std::function<void()> collect);
  // Prometheus text format 0.0.4.
  std::string expose() const;

 private:
  template <class T>
  struct Series {
    Labels labels;
    std::unique_ptr<T> metric;
  };
  template <class T>
  struct Family {
    std::string name, help;
    std::vector<Series<T>> series;
  };
  template <class T, class Make>
  T& find_or_add(std::vector<Family<T>>& families, std::string_view name, std::string_view help,
                 Labels labels, Make make);

  mutable std::mutex mutex_, collect_mutex_;
  std::vector<std::function<void()>> collectors_;
  std::vector<Family<Counter>> counters_;
  std::vector<Family<Gauge>> gauges_;
  std::vector<Family<Histogram>> histograms_;
};

}  // namespace moestro
