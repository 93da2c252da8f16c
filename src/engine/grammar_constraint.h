// GrammarConstraint: a TokenConstraint that follows a compiled grammar. Masks are computed on the
// threads of a MaskWorkers while the model computes, and remembered by state. Made on the text
// pool, which pays for the first mask.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "engine/token_constraint.h"
#include "text/grammar/matcher.h"
#include "text/grammar/token_trie.h"

namespace moestro::engine {

class MaskWorkers;

class GrammarConstraint final : public TokenConstraint,
                                public std::enable_shared_from_this<GrammarConstraint> {
 public:
  // stop_ids: the tokens that end the request; allowed where the grammar may end. workers must
  // outlive the constraint. kInvalidArgument: no token can begin the grammar.
  static Result<std::shared_ptr<GrammarConstraint>> create(
      std::shared_ptr<const text::CompiledGrammar> grammar,
      std::shared_ptr<const text::TokenTrie> trie, std::vector<int32_t> stop_ids,
      MaskWorkers& workers);

  void advance(int32_t token) noexcept override;
  std::span<const uint32_t> mask() noexcept override;

 private:
  friend class MaskWorkers;
  GrammarConstraint(std::shared_ptr<const text::CompiledGrammar> grammar,
                    std::shared_ptr<const text::TokenTrie> trie, std::vector<int32_t> stop_ids,
                    MaskWorkers& workers);
  void compute();  // on a worker: follows token_, then fills mask_

  static constexpr size_t kMasksRemembered = 64;

  text::GrammarMatcher matcher_;
  const std::shared_ptr<const text::TokenTrie> trie_;
  const std::vector<int32_t> stop_ids_;
  MaskWorkers& workers_;
  std::unordered_map<text::GrammarMatcher::State, std::vector<uint32_t>> masks_;  // by state
  const std::vector<uint32_t>* mask_ = nullptr;
  std::vector<uint32_t> none_;  // when the text has left the grammar or the budgets
  int32_t token_ = -1;
  std::atomic<bool> ready_{false};
  // While queued: the next job, and what keeps this one alive should its request end.
  GrammarConstraint* next_ = nullptr;
  std::shared_ptr<GrammarConstraint> keep_;
};

// Threads that compute masks. post() is called by the engine thread.
class MaskWorkers {
 public:
  explicit MaskWorkers(int threads = 1);
  ~MaskWorkers();
  void post(GrammarConstraint* job) noexcept;  // no lock, no memory

 private:
  void run();

  std::atomic<GrammarConstraint*> jobs_{nullptr};  // a stack
  std::atomic<uint32_t> posts_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace moestro::engine
