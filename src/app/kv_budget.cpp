#include "app/kv_budget.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <string_view>

#include "base/format.h"
#include "base/strings.h"
#include "platform/cpu_features.h"

namespace moestro::app {
namespace {

std::optional<int64_t> read_number(const char* path) {
  std::ifstream file(path);
  std::string word;
  if (!(file >> word)) return std::nullopt;
  return parse_int(word);
}

// The sum of the named lines of a "key value" file.
int64_t sum_lines(const char* path, std::initializer_list<std::string_view> keys) {
  std::ifstream file(path);
  int64_t sum = 0, value = 0;
  std::string rest;
  for (std::string key; file >> key >> value; std::getline(file, rest)) {
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) sum += value;
  }
  return sum;
}

std::string size_text(int64_t bytes) {
  return human_bytes(static_cast<uint64_t>(std::max<int64_t>(bytes, 0)));
}

int64_t pages_for(const KvRequest& r, int64_t tokens) {
  return (tokens + r.page_size - 1) / r.page_size;
}

// Nothing is left beside weights and step memory.
Status no_room(const KvRequest& r, int64_t limit) {
  return {Code::kResourceExhausted,
          format("weights and step memory need {}, and {} of memory may be used ({} free, "
                 "--gpu-memory-utilization {} of {}); use a smaller model or free memory",
                 size_text(r.resident_bytes), size_text(limit), size_text(r.memory.available),
                 r.utilization, size_text(r.memory.total))};
}

Status too_small(const KvRequest& r, int64_t length, int64_t bytes, std::string_view remedy) {
  return {Code::kResourceExhausted,
          format("one sequence of {} tokens needs {} of KV cache, and {} is there; {}", length,
                 size_text(pages_for(r, length) * r.page_bytes), size_text(bytes), remedy)};
}

}  // namespace

MemoryFacts read_memory_facts() {
  MemoryFacts facts;
  facts.total = static_cast<int64_t>(platform::read_cpu_info().memory_bytes);
  facts.available = sum_lines("/proc/meminfo", {"MemAvailable:"}) * 1024;
  if (facts.available == 0) {  // no /proc here: free pages without the page cache, a lower bound
    struct sysinfo info {};
    if (::sysinfo(&info) == 0)
      facts.available = static_cast<int64_t>((info.freeram + info.bufferram) * info.mem_unit);
  }
  const auto cap = read_number("/sys/fs/cgroup/memory.max");
  const auto used = read_number("/sys/fs/cgroup/memory.current");
  if (cap && used) {
    // Cached file pages count as used there, but give way.
    const int64_t cached =
        sum_lines("/sys/fs/cgroup/memory.stat", {"active_file", "inactive_file"});
    const int64_t free = *cap - *used + cached;
    facts.available = std::min(facts.available, std::clamp<int64_t>(free, 0, *cap));
  }
  return facts;
}

Result<KvSizes> size_kv_cache(const KvRequest& r) {
  CHECK(r.page_size > 0, "page size");
  const bool automatic = r.max_model_len && *r.max_model_len < 0;
  const bool asked = r.max_model_len && *r.max_model_len > 0;
  KvSizes sizes{.kv_bytes = 0,
                .max_model_len = asked ? *r.max_model_len : r.model_context,
                .substitution = {}};
  if (r.page_bytes <= 0) {  // no layer keeps anything; pages are counted only
    sizes.kv_bytes = pages_for(r, sizes.max_model_len) * r.max_num_seqs;
    return sizes;
  }
  // What one sequence needs is `one`; what may be taken at most is `limit`.
  const int64_t one = pages_for(r, sizes.max_model_len) * r.page_bytes;
  const double share = r.utilization * static_cast<double>(r.memory.total);
  const int64_t usable = std::min(r.memory.available, static_cast<int64_t>(share));
  const int64_t limit = std::max<int64_t>(usable - r.resident_bytes, 0);
  const bool fixed = r.kv_bytes || r.num_pages;
  if (limit == 0) return no_room(r, usable);
  int64_t budget = 0;
  if (r.kv_bytes) {
    budget = *r.kv_bytes;
  } else if (r.num_pages) {
    budget = *r.num_pages * r.page_bytes;
  } else {
    const int64_t most = std::min(kDefaultKvBytes, limit / 2);
    budget = one > most / std::max<int64_t>(r.max_num_seqs, 1) ? most : one * r.max_num_seqs;
    if (!automatic && budget < one) budget = std::min(one, asked ? limit : limit / 2);
  }
  sizes.kv_bytes = budget;
  if (budget >= one) return sizes;

  const int64_t fitting = budget / r.page_bytes * r.page_size;
  if (asked) {
    return too_small(r, sizes.max_model_len, budget,
                     fixed ? "raise --kv-cache-memory-bytes or lower --max-model-len"
                           : "lower --max-model-len, or free memory");
  }
  if (fitting < 2)
    return too_small(r, r.page_size, budget, "raise --kv-cache-memory-bytes, or free memory");
  if (!automatic) {
    sizes.substitution = plan::Substitution{
        format("sequences of the model's {} tokens", r.model_context), format("{} tokens", fitting),
        format("the KV cache has {}; --max-model-len says which length is wanted, "
               "--kv-cache-memory-bytes gives more",
               size_text(budget)),
        "longer requests are refused"};
  }
  sizes.max_model_len = fitting;
  return sizes;
}

}  // namespace moestro::app
