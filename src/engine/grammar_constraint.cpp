#include "engine/grammar_constraint.h"

#include <pthread.h>

#include <algorithm>

#include "base/log.h"

namespace moestro::engine {

GrammarConstraint::GrammarConstraint(std::shared_ptr<const text::CompiledGrammar> grammar,
                                     std::shared_ptr<const text::TokenTrie> trie,
                                     std::vector<int32_t> stop_ids, MaskWorkers& workers)
    : matcher_(std::move(grammar)),
      trie_(std::move(trie)),
      stop_ids_(std::move(stop_ids)),
      workers_(workers),
      none_((static_cast<size_t>(trie_->vocab_size()) + 31) / 32) {}

Result<std::shared_ptr<GrammarConstraint>> GrammarConstraint::create(
    std::shared_ptr<const text::CompiledGrammar> grammar,
    std::shared_ptr<const text::TokenTrie> trie, std::vector<int32_t> stop_ids,
    MaskWorkers& workers) {
  std::shared_ptr<GrammarConstraint> c(
      new GrammarConstraint(std::move(grammar), std::move(trie), std::move(stop_ids), workers));
  c->compute();
  if (c->matcher_.overflowed())
    return invalid_argument(
        "the grammar has too many ways to go on at its beginning; make it less ambiguous");
  if (std::all_of(c->mask_->begin(), c->mask_->end(), [](uint32_t word) { return word == 0; }))
    return invalid_argument("no token of the model can begin a text of this grammar");
  return c;
}

void GrammarConstraint::advance(int32_t token) noexcept {
  token_ = token;
  ready_.store(false, std::memory_order_relaxed);
  keep_ = shared_from_this();
  workers_.post(this);
}

std::span<const uint32_t> GrammarConstraint::mask() noexcept {
  ready_.wait(false, std::memory_order_acquire);
  return *mask_;
}

void GrammarConstraint::compute() {
  mask_ = &none_;
  bool alive = true;
  if (token_ >= 0) {
    const bool known = token_ < trie_->vocab_size() && !trie_->bytes(token_).empty();
    alive = known && matcher_.accept(trie_->bytes(token_));
  }
  if (alive) {
    if (matcher_.trim() || masks_.size() >= kMasksRemembered) masks_.clear();
    std::vector<uint32_t>& mask = masks_[matcher_.state()];
    if (mask.empty()) {
      mask.resize(none_.size());
      trie_->fill(matcher_, mask);
      if (matcher_.accepting())
        for (const int32_t id : stop_ids_)
          if (id >= 0 && id < trie_->vocab_size())
            mask[static_cast<size_t>(id) / 32] |= 1u << (static_cast<unsigned>(id) % 32);
    }
    mask_ = &mask;
  }
  ready_.store(true, std::memory_order_release);
  ready_.notify_all();
}

MaskWorkers::MaskWorkers(int threads) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this] {
      ::pthread_setname_np(::pthread_self(), "moestro-masks");
      run();
    });
  }
}

MaskWorkers::~MaskWorkers() {
  stop_ = true;
  ++posts_;
  posts_.notify_all();
  for (std::thread& t : threads_) t.join();
}

void MaskWorkers::post(GrammarConstraint* job) noexcept {
  job->next_ = jobs_.load(std::memory_order_relaxed);
  while (!jobs_.compare_exchange_weak(job->next_, job, std::memory_order_release,
                                      std::memory_order_relaxed)) {
  }
  posts_.fetch_add(1, std::memory_order_release);
  posts_.notify_one();
}

void MaskWorkers::run() {
  for (;;) {
    const uint32_t seen = posts_.load(std::memory_order_acquire);
    GrammarConstraint* taken = jobs_.exchange(nullptr, std::memory_order_acquire);
    if (!taken) {
      if (stop_) return;
      posts_.wait(seen, std::memory_order_acquire);
      continue;
    }
    GrammarConstraint* first = nullptr;  // in the order of posting
    while (taken) {
      GrammarConstraint* const next = taken->next_;
      taken->next_ = first;
      first = taken;
      taken = next;
    }
    while (first) {
      GrammarConstraint* const next = first->next_;
      const std::shared_ptr<GrammarConstraint> keep = std::move(first->keep_);
      try {
        keep->compute();
      } catch (const std::exception& e) {  // no memory: the request ends without a token to choose
        log_error("computing a token mask failed: {}", e.what());
        keep->mask_ = &keep->none_;
        keep->ready_.store(true, std::memory_order_release);
        keep->ready_.notify_all();
      }
      first = next;
    }
  }
}

}  // namespace moestro::engine
