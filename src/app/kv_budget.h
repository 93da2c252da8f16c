// How much memory the KV cache gets and how long a sequence may be: from the flags, the memory of
// the machine and what the weights need. A pure function, called while planning.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "base/status.h"
#include "plan/substitution.h"

namespace moestro::app {

struct MemoryFacts {
  int64_t total = 0;      // of the machine or the cgroup
  int64_t available = 0;  // of it, not in use now
};
MemoryFacts read_memory_facts();

inline constexpr int64_t kDefaultKvBytes = 4ll << 30;

struct KvRequest {
  int64_t page_size = 64;                // tokens
  int64_t page_bytes = 0;                // one page, all layers
  int64_t model_context = 0;             // what config.json allows
  std::optional<int64_t> max_model_len;  // --max-model-len; -1: the most that fits
  int64_t max_num_seqs = 1;
  std::optional<int64_t> kv_bytes, num_pages;  // --kv-cache-memory-bytes, --num-gpu-blocks-override
  double utilization = 0.92;                   // --gpu-memory-utilization
  int64_t resident_bytes = 0;                  // weights and step memory, about to be taken
  MemoryFacts memory;
};

struct KvSizes {
  int64_t kv_bytes = 0;
  int64_t max_model_len = 0;
  std::optional<plan::Substitution> substitution;  // a length that the user may have counted on
};

// Without a size among the flags: what max_num_seqs sequences of full length need, at most
// kDefaultKvBytes and half of the memory that stays free; one sequence of full length always gets
// its pages if memory allows. If it does not and the length was not asked for, the length gives way
// (a substitution).
Result<KvSizes> size_kv_cache(const KvRequest& request);

}  // namespace moestro::app
