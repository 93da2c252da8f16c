// GrammarMatcher: how far a text has come in a grammar, byte by byte. All derivations run at once;
// what they can be in is a state, numbered and remembered with its transitions, so bytes that were
// seen before cost one look-up. One object an answer, used by one thread at a time.
#pragma once
#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/grammar/grammar.h"

namespace moestro::text {

class GrammarMatcher {
 public:
  using State = int32_t;
  static constexpr State kDead = -1;
  // Budgets, so that no grammar takes more than about a second and 200 MB for one token. What
  // would exceed them counts as refused; overflowed() tells.
  static constexpr size_t kMaxPositions = 10'000;     // of derivations in one state
  static constexpr size_t kMaxStates = 65'536;        // tried between two calls of trim()
  static constexpr size_t kMaxTotal = 8'000'000;      // positions of all states
  static constexpr size_t kMaxWork = 8'000'000;       // positions visited between two trims
  static constexpr size_t kRememberedStates = 8'192;  // beyond, trim() forgets

  explicit GrammarMatcher(std::shared_ptr<const CompiledGrammar> grammar);

  State state() const { return current_; }
  void set_state(State state) { current_ = state; }  // one that step() gave
  State step(State state, uint8_t byte) {
    const State next = states_[static_cast<size_t>(state)].next[byte];
    return next != kUnknown ? next : find_step(state, byte);
  }
  // False, and nothing changes, if the grammar does not allow the text here.
  bool accept(std::string_view bytes);
  bool accepting(State state) const { return states_[static_cast<size_t>(state)].accepting; }
  bool accepting() const { return accepting(current_); }
  // Nothing may follow.
  bool complete() const { return states_[static_cast<size_t>(current_)].positions.empty(); }
  // Between tokens: renews the budgets. Forgets states, if there are many, and keeps the current
  // one; the others' numbers become invalid, which true says.
  bool trim();
  bool overflowed() const { return overflowed_; }
  size_t num_states() const { return states_.size(); }

 private:
  static constexpr State kUnknown = -2;
  // In a rule's state, with the states to return to: an index into frames_, 0: none.
  struct Position {
    uint32_t state, stack;
    bool operator==(const Position&) const = default;
    auto operator<=>(const Position&) const = default;
  };
  struct Entry {
    std::vector<Position> positions;  // that read bytes; sorted
    bool accepting = false;
    std::vector<State> next;  // [256]
  };
  struct Frame {
    uint32_t state, below;
  };

  State find_step(State state, uint8_t byte);
  State intern(std::vector<Position> seeds);  // closes them over empty edges, calls and returns
  uint32_t push(uint32_t state, uint32_t below);

  const std::shared_ptr<const CompiledGrammar> grammar_;
  std::vector<Entry> states_;
  std::unordered_multimap<uint64_t, State> by_hash_;
  std::vector<Frame> frames_;
  std::unordered_map<uint64_t, uint32_t> frame_ids_;
  std::unordered_map<uint64_t, bool> visited_;  // of one closure
  size_t total_ = 0, work_ = 0;
  State current_ = 0;
  bool overflowed_ = false;
};

}  // namespace moestro::text
