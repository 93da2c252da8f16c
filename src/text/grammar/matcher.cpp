#include "text/grammar/matcher.h"

#include <algorithm>

namespace moestro::text {
namespace {

constexpr uint64_t pack(uint32_t a, uint32_t b) { return uint64_t{a} << 32 | b; }

}  // namespace

GrammarMatcher::GrammarMatcher(std::shared_ptr<const CompiledGrammar> grammar)
    : grammar_(std::move(grammar)), frames_{{0, 0}} {
  current_ = intern({{grammar_->rule(grammar_->root()).start, 0}});
}

uint32_t GrammarMatcher::push(uint32_t state, uint32_t below) {
  const auto [at, fresh] =
      frame_ids_.try_emplace(pack(state, below), static_cast<uint32_t>(frames_.size()));
  if (fresh) frames_.push_back({state, below});
  return at->second;
}

GrammarMatcher::State GrammarMatcher::intern(std::vector<Position> work) {
  using Edge = CompiledGrammar::Edge;
  Entry entry;
  visited_.clear();
  const auto visit = [&](uint32_t state, uint32_t stack) {
    if (visited_.size() > kMaxPositions) return;
    if (visited_.try_emplace(pack(state, stack), true).second) work.push_back({state, stack});
  };
  for (const Position& p : work) visited_.emplace(pack(p.state, p.stack), true);
  while (!work.empty()) {
    const Position p = work.back();
    work.pop_back();
    const uint32_t final = grammar_->rule(grammar_->rule_of(p.state)).final;
    if (p.state == final) {
      if (p.stack == 0) {
        entry.accepting = true;
      } else {
        visit(frames_[p.stack].state, frames_[p.stack].below);
      }
    }
    if (grammar_->reads_bytes(p.state)) entry.positions.push_back(p);
    for (const Edge* e = grammar_->begin(p.state); e != grammar_->end(p.state); ++e) {
      if (e->kind == Edge::Kind::kEmpty) visit(e->target, p.stack);
      if (e->kind != Edge::Kind::kCall) continue;
      // A call at the end of its rule returns to where that rule does.
      const bool tail = e->target == final && grammar_->begin(final) == grammar_->end(final);
      visit(grammar_->rule(e->rule).start, tail ? p.stack : push(e->target, p.stack));
    }
  }
  work_ += visited_.size();
  if (visited_.size() > kMaxPositions || states_.size() >= kMaxStates || work_ > kMaxWork ||
      total_ + entry.positions.size() > kMaxTotal) {
    overflowed_ = true;
    return kDead;
  }
  if (entry.positions.empty() && !entry.accepting) return kDead;
  std::sort(entry.positions.begin(), entry.positions.end());
  uint64_t hash = entry.accepting ? 1 : 0;
  for (const Position& p : entry.positions)
    hash = (hash ^ pack(p.state, p.stack)) * 0x9e3779b97f4a7c15ull + (hash >> 29);
  const auto [from, to] = by_hash_.equal_range(hash);
  for (auto at = from; at != to; ++at) {
    const Entry& known = states_[static_cast<size_t>(at->second)];
    if (known.accepting == entry.accepting && known.positions == entry.positions) return at->second;
  }
  const auto id = static_cast<State>(states_.size());
  entry.next.assign(256, kUnknown);
  total_ += entry.positions.size();
  states_.push_back(std::move(entry));
  by_hash_.emplace(hash, id);
  return id;
}

GrammarMatcher::State GrammarMatcher::find_step(State state, uint8_t byte) {
  using Edge = CompiledGrammar::Edge;
  std::vector<Position> seeds;
  for (const Position& p : states_[static_cast<size_t>(state)].positions)
    for (const Edge* e = grammar_->begin(p.state); e != grammar_->end(p.state); ++e)
      if (e->kind == Edge::Kind::kByte && e->low <= byte && byte <= e->high)
        seeds.push_back({e->target, p.stack});
  std::sort(seeds.begin(), seeds.end());
  seeds.erase(std::unique(seeds.begin(), seeds.end()), seeds.end());
  const State next = seeds.empty() ? kDead : intern(std::move(seeds));
  states_[static_cast<size_t>(state)].next[byte] = next;
  return next;
}

bool GrammarMatcher::accept(std::string_view bytes) {
  State s = current_;
  for (const char c : bytes) {
    s = step(s, static_cast<uint8_t>(c));
    if (s == kDead) return false;
  }
  current_ = s;
  return true;
}

bool GrammarMatcher::trim() {
  work_ = 0;
  overflowed_ = false;
  if (states_.size() <= kRememberedStates && frames_.size() <= 64 * kRememberedStates &&
      total_ <= kMaxTotal / 8)
    return false;
  // Frames stay: the current state's positions point to them. They grow with the text, not with
  // the states tried, once the paths that were only tried are gone.
  Entry kept = std::move(states_[static_cast<size_t>(current_)]);
  std::vector<Frame> old = std::move(frames_);
  frames_ = {{0, 0}};
  frame_ids_.clear();
  for (Position& p : kept.positions) {
    std::vector<uint32_t> states;
    for (uint32_t f = p.stack; f != 0; f = old[f].below) states.push_back(old[f].state);
    p.stack = 0;
    for (auto s = states.rbegin(); s != states.rend(); ++s) p.stack = push(*s, p.stack);
  }
  std::sort(kept.positions.begin(), kept.positions.end());
  kept.next.assign(256, kUnknown);
  states_.clear();
  by_hash_.clear();
  total_ = kept.positions.size();
  states_.push_back(std::move(kept));
  current_ = 0;
  return true;
}

}  // namespace moestro::text
