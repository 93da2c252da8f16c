#include "base/metrics.h"

#include <algorithm>
#include <cmath>

#include "base/format.h"

namespace moestro {
namespace {

std::string number(double v) {
  if (std::isinf(v)) return v > 0 ? "+Inf" : "-Inf";
  if (v == std::floor(v) && std::fabs(v) < 1e15) return format("{}.0", static_cast<int64_t>(v));
  return python_repr(v);
}

std::string label_text(const Labels& labels, std::string_view extra_name = {},
                       std::string_view extra_value = {}) {
  std::string out;
  const auto add = [&](std::string_view name, std::string_view value) {
    out += out.empty() ? "{" : ",";
    out += name;
    out += "=\"";
    for (char c : value) {
      if (c == '\\' || c == '"') out += '\\';
      if (c == '\n')
        out += "\\n";
      else
        out += c;
    }
    out += '"';
  };
  for (const auto& [name, value] : labels) add(name, value);
  if (!extra_name.empty()) add(extra_name, extra_value);
  return out.empty() ? out : out + "}";
}

}  // namespace

Histogram::Histogram(std::vector<double> upper_bounds)
    : bounds_(std::move(upper_bounds)),
      buckets_(std::make_unique<std::atomic<uint64_t>[]>(bounds_.size() + 1)) {}

void Histogram::observe(double v) {
  const auto i = std::lower_bound(bounds_.begin(), bounds_.end(), v) - bounds_.begin();
  buckets_[static_cast<size_t>(i)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(v, std::memory_order_relaxed);
}

uint64_t Histogram::count() const {
  uint64_t total = 0;
  for (size_t i = 0; i <= bounds_.size(); ++i) total += bucket(i);
  return total;
}

template <class T, class Make>
T& MetricsRegistry::find_or_add(std::vector<Family<T>>& families, std::string_view name,
                                std::string_view help, Labels labels, Make make) {
  std::lock_guard lock(mutex_);
  auto family =
      std::find_if(families.begin(), families.end(), [&](const auto& f) { return f.name == name; });
  if (family == families.end()) {
    families.push_back({std::string(name), std::string(help), {}});
    family = families.end() - 1;
  }
  for (auto& s : family->series)
    if (s.labels == labels) return *s.metric;
  family->series.push_back({std::move(labels), make()});
  return *family->series.back().metric;
}

Counter& MetricsRegistry::counter(std::string_view name, std::string_view help, Labels labels) {
  return find_or_add(counters_, name, help, std::move(labels),
                     [] { return std::make_unique<Counter>(); });
}

Gauge& MetricsRegistry::gauge(std::string_view name, std::string_view help, Labels labels) {
  return find_or_add(gauges_, name, help, std::move(labels),
                     [] { return std::make_unique<Gauge>(); });
}

Histogram& MetricsRegistry::histogram(std::string_view name, std::string_view help,
                                      std::vector<double> upper_bounds, Labels labels) {
  return find_or_add(histograms_, name, help, std::move(labels),
                     [&] { return std::make_unique<Histogram>(std::move(upper_bounds)); });
}

void MetricsRegistry::before_exposition(std::function<void()> collect) {
  std::lock_guard lock(collect_mutex_);
  collectors_.push_back(std::move(collect));
}

std::string MetricsRegistry::expose() const {
  {
    std::lock_guard lock(collect_mutex_);
    for (const auto& collect : collectors_) collect();
  }
  std::lock_guard lock(mutex_);
  std::string out;
  for (const auto& f : counters_) {
    out += format("# HELP {}_total {}\n# TYPE {}_total counter\n", f.name, f.help, f.name);
    for (const auto& s : f.series)
      out += format("{}_total{} {}\n", f.name, label_text(s.labels), number(s.metric->value()));
  }
  for (const auto& f : gauges_) {
    out += format("# HELP {} {}\n# TYPE {} gauge\n", f.name, f.help, f.name);
    for (const auto& s : f.series)
      out += format("{}{} {}\n", f.name, label_text(s.labels), number(s.metric->value()));
  }
  for (const auto& f : histograms_) {
    out += format("# HELP {} {}\n# TYPE {} histogram\n", f.name, f.help, f.name);
    for (const auto& s : f.series) {
      uint64_t total = 0;
      const auto& bounds = s.metric->upper_bounds();
      for (size_t i = 0; i <= bounds.size(); ++i) {
        total += s.metric->bucket(i);
        const std::string le = i < bounds.size() ? number(bounds[i]) : "+Inf";
        out += format("{}_bucket{} {}\n", f.name, label_text(s.labels, "le", le), total);
      }
      out += format("{}_sum{} {}\n{}_count{} {}\n", f.name, label_text(s.labels),
                    number(s.metric->sum()), f.name, label_text(s.labels), total);
    }
  }
  return out;
}

}  // namespace moestro
