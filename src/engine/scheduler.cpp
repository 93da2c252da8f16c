#include "engine/scheduler.h"

#include <algorithm>

#include "base/check.h"

namespace moestro::engine {
namespace {

// While a prefill is under way, decodes leave it one part in so many of a step.
constexpr int32_t kPrefillPart = 8;
// Admission keeps pages for what running sequences will need within so many tokens; without it a
// newcomer would often be thrown out a moment later.
constexpr int32_t kLookahead = 16;

}  // namespace

Scheduler::Scheduler(const SchedulerLimits& limits)
    : limits_(limits), dropped_(static_cast<size_t>(limits.num_pages)) {
  const auto n = static_cast<size_t>(limits.max_running);
  decision_.chunks.reserve(n);
  decision_.admitted.reserve(n);
  given_.reserve(n);
  decodes_.reserve(n);
}

const Decision& Scheduler::schedule(Sequences running, Sequences waiting, const KvCache& kv) {
  decision_.chunks.clear();
  decision_.admitted.clear();
  kv_ = &kv;
  given_.assign(running.size(), 0);
  alive_ = running.size();
  tokens_left_ = limits_.max_step_tokens;
  rows_left_ = limits_.max_logits_rows;
  pages_left_ = kv.pool().num_free();

  schedule_decodes(running);
  schedule_prefills(running);
  for (const bool decodes : {true, false})
    for (size_t i = 0; i < alive_; ++i)
      if (given_[i] > 0 && running[i]->decoding() == decodes)
        decision_.chunks.push_back({running[i].get(), given_[i], 0});
  decision_.num_preempted = static_cast<int32_t>(running.size() - alive_);
  for (size_t i = alive_; i < running.size(); ++i)
    for (const int32_t page : running[i]->pages) dropped_[static_cast<size_t>(page)] = 0;
  if (decision_.num_preempted == 0) admit(running, waiting);
  decision_.num_tokens = limits_.max_step_tokens - tokens_left_;
  decision_.num_logits_rows = limits_.max_logits_rows - rows_left_;
  return decision_;
}

int32_t Scheduler::new_pages(const Sequence& s, int32_t tokens) const {
  return std::max(0, pages_for(s.num_computed + tokens) - static_cast<int32_t>(s.pages.size()));
}

// The most tokens from `first` that the step's tokens and rows allow: all that remain, unless that
// takes chunks.
// Rows grow by one a token at most, so the row limit is a limit of tokens once prompt rows are
// wanted.
int32_t Scheduler::chunk_size(const Sequence& s, int32_t first) const {
  const int32_t remaining = s.num_tokens() - first;
  int32_t n = std::min(remaining, tokens_left_);
  if (limits_.long_prefill_tokens > 0) n = std::min(n, limits_.long_prefill_tokens);
  while (n > 0 && s.logits_rows(first, n) > rows_left_) n -= s.logits_rows(first, n) - rows_left_;
  n = std::max(n, 0);
  return limits_.chunked_prefill || n == remaining ? n : 0;
}

void Scheduler::give(const Sequence& s, int32_t& given, int32_t tokens) {
  given = tokens;
  tokens_left_ -= tokens;
  rows_left_ -= s.logits_rows(s.num_computed, tokens);
  pages_left_ -= new_pages(s, tokens);
}

// Pages that become free when the victim gives up its own: not those that others share.
int32_t Scheduler::drop_pages(const Sequence& victim) {
  int32_t freed = 0;
  for (const int32_t page : victim.pages)
    if (++dropped_[static_cast<size_t>(page)] == kv_->pool().references(page)) ++freed;
  return freed;
}

// Preempts from the end until so many pages are free; false: running[i] itself had to go.
bool Scheduler::make_room(Sequences running, size_t i, int32_t pages) {
  while (pages_left_ < pages && alive_ > i) {
    const Sequence& victim = *running[--alive_];
    const int32_t given = given_[alive_];
    pages_left_ += drop_pages(victim) + new_pages(victim, given);
    tokens_left_ += given;
    if (given > 0) rows_left_ += victim.logits_rows(victim.num_computed, given);
    given_[alive_] = 0;
  }
  return alive_ > i;
}

void Scheduler::schedule_decodes(Sequences running) {
  decodes_.clear();
  for (uint32_t i = 0; i < running.size(); ++i)
    if (running[i]->decoding()) decodes_.push_back(i);
  if (limits_.chunked_prefill && decodes_.size() < running.size()) {
    const auto most = static_cast<size_t>(
        std::max(1, limits_.max_step_tokens - std::max(1, limits_.max_step_tokens / kPrefillPart)));
    if (decodes_.size() > most) {
      const auto waited_longer = [&](uint32_t a, uint32_t b) {
        return running[a]->last_step != running[b]->last_step
                   ? running[a]->last_step < running[b]->last_step
                   : a < b;
      };
      std::nth_element(decodes_.begin(), decodes_.begin() + static_cast<std::ptrdiff_t>(most),
                       decodes_.end(), waited_longer);
      decodes_.resize(most);
      std::sort(decodes_.begin(), decodes_.end());
    }
  }
  for (const uint32_t i : decodes_) {
    if (i >= alive_) break;
    if (chunk_size(*running[i], running[i]->num_computed) == 1 &&
        make_room(running, i, new_pages(*running[i], 1)))
      give(*running[i], given_[i], 1);
  }
}

void Scheduler::schedule_prefills(Sequences running) {
  for (size_t i = 0; i < alive_; ++i) {
    const Sequence& s = *running[i];
    if (s.decoding()) continue;
    int32_t n = chunk_size(s, s.num_computed);
    if (n == 0) continue;
    if (limits_.chunked_prefill && new_pages(s, n) > pages_left_) {
      // What fits without throwing anybody out, or else one page more.
      const int32_t held =
          static_cast<int32_t>(s.pages.size()) * limits_.page_size - s.num_computed;
      const int32_t fits = held + pages_left_ * limits_.page_size;
      n = std::min(n, fits > 0 ? fits : limits_.page_size);
    }
    if (!make_room(running, i, new_pages(s, n))) continue;
    give(s, given_[i], std::min(n, chunk_size(s, s.num_computed)));
  }
}

// Pages that running sequences are sure to need soon: the rest of prompts, and the next tokens of
// all.
int32_t Scheduler::reserved_pages(Sequences running) const {
  int32_t pages = 0;
  for (size_t i = 0; i < running.size(); ++i) {
    const Sequence& s = *running[i];
    const int32_t soon = std::min(s.num_tokens() + kLookahead, s.max_tokens);
    const int32_t held = static_cast<int32_t>(s.pages.size()) + new_pages(s, given_[i]);
    pages += std::max(0, pages_for(soon) - held);
  }
  return pages;
}

// Whether a running or just admitted sequence before s in rank computes page page_idx of s. Keys
// decide, as a wrong guess would only delay s.
bool Scheduler::is_under_way(Sequences running, const Sequence& s, int32_t page_idx) const {
  if (page_idx >= std::min(s.prefix.size(), s.max_cached() / limits_.page_size)) return false;
  const auto computes = [&](const Sequence& other, int32_t num_computed) {
    return other.publishes && other.before(s) && page_idx < other.prefix.size() &&
           other.prefix.key(page_idx) == s.prefix.key(page_idx) &&
           num_computed < (page_idx + 1) * limits_.page_size;
  };
  for (const auto& other : running)
    if (computes(*other, other->num_computed)) return true;
  const size_t num_admitted = decision_.admitted.size();
  for (size_t i = decision_.chunks.size() - num_admitted; i < decision_.chunks.size(); ++i) {
    const Chunk& chunk = decision_.chunks[i];
    if (computes(*chunk.sequence, chunk.num_cached_pages * limits_.page_size)) return true;
  }
  return false;
}

void Scheduler::admit(Sequences running, Sequences waiting) {
  if (waiting.empty() || tokens_left_ == 0 || rows_left_ == 0) return;
  size_t slots = static_cast<size_t>(limits_.max_running) - running.size();
  int32_t reserved = reserved_pages(running);
  for (size_t i = 0; i < waiting.size() && slots > 0; ++i, --slots) {
    const Sequence& s = *waiting[i];
    const PrefixHit hit = kv_->find_prefix(s.prefix, s.tokens, s.max_cached());
    // The whole prompt must fit before it starts. The first in rank is not overtaken, or it might
    // wait for ever. Free pages that it takes over are no longer free.
    const int32_t needed =
        pages_for(std::min(s.num_tokens() + kLookahead, s.max_tokens)) - hit.num_pages;
    if (needed + hit.num_free + reserved > pages_left_) return;
    if (is_under_way(running, s, hit.num_pages)) {
      reserved += needed + hit.num_free;
      continue;
    }
    const int32_t cached = hit.num_pages * limits_.page_size;
    const int32_t n = chunk_size(s, cached);
    if (n == 0) return;
    const int32_t taken = pages_for(cached + n) - hit.num_pages;
    tokens_left_ -= n;
    rows_left_ -= s.logits_rows(cached, n);
    pages_left_ -= hit.num_free + taken;
    reserved += needed - taken;
    decision_.chunks.push_back({waiting[i].get(), n, hit.num_pages});
    decision_.admitted.push_back(static_cast<int32_t>(i));
  }
}

}  // namespace moestro::engine
