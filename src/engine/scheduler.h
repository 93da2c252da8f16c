// Scheduler: who computes how many tokens in the next step. A pure function of the sequences and
// the cache, which it only asks; the engine carries the decision out. Continuous batching with
// chunked prefill:
//  1. running sequences that decode get one token each;
//  2. running sequences with more to compute (prefill, or recompute after preemption) share the
//  rest in rank order, each at most long_prefill_tokens;
//  3. if pages run out, the lowest in rank is preempted (its pages are freed, it is computed again
//  later);
//  4. if nobody was preempted, waiting sequences are admitted in rank order while tokens, rows and
//  pages last. What the cache has of their beginning is not computed again. One whose next page is
//  just being computed for a better-ranked sequence waits for that, with its place kept; only such
//  a one is overtaken.
// Rank: lower priority value first, then earlier arrival. Decodes cannot starve a prefill: while
// one is under way they leave it 1/8 of the step, and those left out come first in the next step.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/kv_cache.h"
#include "engine/sequence.h"

namespace moestro::engine {

struct SchedulerLimits {
  int32_t max_step_tokens = 0;
  int32_t max_logits_rows = 0;  // of one step, >= max_running
  int32_t max_running = 0;      // <= max_step_tokens
  int32_t page_size = 0;
  int32_t num_pages = 0;            // of the cache
  int32_t long_prefill_tokens = 0;  // of one sequence in a step; 0: no such limit
  bool chunked_prefill = true;      // false: max_step_tokens holds any sequence
};

struct Chunk {
  Sequence* sequence = nullptr;
  int32_t num_tokens = 0;        // after those in the cache
  int32_t num_cached_pages = 0;  // pages of the cache that a newcomer takes over
};

struct Decision {
  std::vector<Chunk> chunks;      // decodes first, admitted ones last
  std::vector<int32_t> admitted;  // indices of `waiting`, ascending: they join `running`
  int32_t num_preempted = 0;      // the last so many of `running` lose their pages
  int32_t num_tokens = 0, num_logits_rows = 0;
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits);
  using Sequences = std::span<const std::unique_ptr<Sequence>>;
  // Both lists are in rank order. The decision is valid until the next call. Whenever there is a
  // sequence, at least one token is scheduled, provided that all pages together hold the longest
  // sequence.
  const Decision& schedule(Sequences running, Sequences waiting, const KvCache& kv);

 private:
  int32_t pages_for(int32_t tokens) const {
    return (tokens + limits_.page_size - 1) / limits_.page_size;
  }
  int32_t new_pages(const Sequence& s, int32_t tokens) const;
  int32_t chunk_size(const Sequence& s, int32_t first) const;
  void schedule_decodes(Sequences running);
  void schedule_prefills(Sequences running);
  bool make_room(Sequences running, size_t i, int32_t pages);
  int32_t drop_pages(const Sequence& victim);
  void give(const Sequence& s, int32_t& given, int32_t tokens);
  void admit(Sequences running, Sequences waiting);
  bool is_under_way(Sequences running, const Sequence& s, int32_t page_idx) const;
  int32_t reserved_pages(Sequences running) const;

  const SchedulerLimits limits_;
  Decision decision_;
  // State of one schedule() call.
  std::vector<int32_t> given_;     // tokens for running[i]
  std::vector<uint32_t> decodes_;  // indices of running sequences that decode
  std::vector<int32_t> dropped_;   // of each page: holders that are preempted; 0 between calls
  const KvCache* kv_ = nullptr;
  size_t alive_ = 0;  // running[alive_, ...) are preempted
  int32_t tokens_left_ = 0, rows_left_ = 0, pages_left_ = 0;
};

}  // namespace moestro::engine
