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

Scheduler::Scheduler(const SchedulerLimits& limits) : limits_(limits) {
  const auto n = static_cast<size_t>(limits.max_running);
  decision_.chunks.reserve(n);
  given_.reserve(n);
  decodes_.reserve(n);
}

const Decision& Scheduler::schedule(Sequences running, Sequences waiting, int32_t free_pages) {
  decision_.chunks.clear();
  decision_.num_preempted = decision_.num_admitted = 0;
  given_.assign(running.size(), 0);
  alive_ = running.size();
  tokens_left_ = limits_.max_step_tokens;
  rows_left_ = limits_.max_logits_rows;
  pages_left_ = free_pages;

  schedule_decodes(running);
  schedule_prefills(running);
  for (const bool decodes : {true, false})
    for (size_t i = 0; i < alive_; ++i)
      if (given_[i] > 0 && running[i]->decoding() == decodes)
        decision_.chunks.push_back({running[i].get(), given_[i]});
  decision_.num_preempted = static_cast<int32_t>(running.size() - alive_);
  if (decision_.num_preempted == 0) admit(running, waiting);
  decision_.num_tokens = limits_.max_step_tokens - tokens_left_;
  decision_.num_logits_rows = limits_.max_logits_rows - rows_left_;
  return decision_;
}

int32_t Scheduler::new_pages(const Sequence& s, int32_t tokens) const {
  return std::max(0, pages_for(s.num_computed + tokens) - static_cast<int32_t>(s.pages.size()));
}

// The most tokens that the step's tokens and rows allow: all that remain, unless that takes chunks.
// Rows grow by one a token at most, so the row limit is a limit of tokens once prompt rows are
// wanted.
int32_t Scheduler::chunk_size(const Sequence& s) const {
  int32_t n = std::min(s.num_remaining(), tokens_left_);
  while (n > 0 && s.logits_rows(n) > rows_left_) n -= s.logits_rows(n) - rows_left_;
  n = std::max(n, 0);
  return limits_.chunked_prefill || n == s.num_remaining() ? n : 0;
}

void Scheduler::give(const Sequence& s, int32_t& given, int32_t tokens) {
  given = tokens;
  tokens_left_ -= tokens;
  rows_left_ -= s.logits_rows(tokens);
  pages_left_ -= new_pages(s, tokens);
}

// Preempts from the end until so many pages are free; false: running[i] itself had to go.
bool Scheduler::make_room(Sequences running, size_t i, int32_t pages) {
  while (pages_left_ < pages && alive_ > i) {
    const Sequence& victim = *running[--alive_];
    const int32_t given = given_[alive_];
    pages_left_ += static_cast<int32_t>(victim.pages.size()) + new_pages(victim, given);
    tokens_left_ += given;
    if (given > 0) rows_left_ += victim.logits_rows(given);
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
    if (chunk_size(*running[i]) == 1 && make_room(running, i, new_pages(*running[i], 1)))
      give(*running[i], given_[i], 1);
  }
}

void Scheduler::schedule_prefills(Sequences running) {
  for (size_t i = 0; i < alive_; ++i) {
    const Sequence& s = *running[i];
    if (s.decoding()) continue;
    int32_t n = chunk_size(s);
    if (n == 0) continue;
    if (limits_.chunked_prefill && new_pages(s, n) > pages_left_) {
      // What fits without throwing anybody out, or else one page more.
      const int32_t held =
          static_cast<int32_t>(s.pages.size()) * limits_.page_size - s.num_computed;
      const int32_t fits = held + pages_left_ * limits_.page_size;
      n = std::min(n, fits > 0 ? fits : limits_.page_size);
    }
    if (!make_room(running, i, new_pages(s, n))) continue;
    give(s, given_[i], std::min(n, chunk_size(s)));
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

void Scheduler::admit(Sequences running, Sequences waiting) {
  if (waiting.empty() || tokens_left_ == 0 || rows_left_ == 0) return;
  const int32_t slots = limits_.max_running - static_cast<int32_t>(running.size());
  int32_t reserved = reserved_pages(running);
  for (size_t i = 0; i < waiting.size() && decision_.num_admitted < slots; ++i) {
    const Sequence& s = *waiting[i];
    // The whole prompt must fit before it starts. The first in rank is not overtaken, or it might
    // wait for ever.
    const int32_t needed = pages_for(std::min(s.num_tokens() + kLookahead, s.max_tokens));
    if (needed + reserved > pages_left_) return;
    const int32_t n = chunk_size(s);
    if (n == 0) return;
    int32_t given = 0;
    give(s, given, n);
    reserved += needed - new_pages(s, n);
    decision_.chunks.push_back({waiting[i].get(), given});
    ++decision_.num_admitted;
  }
}

}  // namespace moestro::engine
