// Grammar: a context-free language over bytes, built from nodes and compiled to a network of states
// whose edges are byte ranges and calls of rules. What JSON schemas, regular expressions and EBNF
// become (grammar_sources.h), and what GrammarMatcher runs. Building: one thread; a compiled
// grammar is immutable.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace moestro::text {

// Ranges of Unicode code points, both ends included.
using CodePoints = std::vector<std::pair<uint32_t, uint32_t>>;
CodePoints normalized(CodePoints ranges);  // sorted, disjoint, no surrogates
CodePoints complement(const CodePoints& ranges);

class CompiledGrammar {
 public:
  struct Edge {
    enum class Kind : uint8_t { kByte, kEmpty, kCall };
    Kind kind;
    uint8_t low, high;  // kByte
    uint32_t target;
    uint32_t rule;  // kCall
  };
  struct Rule {
    uint32_t start, final;
  };
  const Edge* begin(uint32_t state) const { return edges_.data() + first_[state]; }
  const Edge* end(uint32_t state) const { return edges_.data() + first_[state + 1]; }
  const Rule& rule(uint32_t index) const { return rules_[index]; }
  uint32_t rule_of(uint32_t state) const { return rule_of_[state]; }
  bool reads_bytes(uint32_t state) const { return reads_bytes_[state]; }
  uint32_t root() const { return root_; }
  size_t num_states() const { return rule_of_.size(); }

 private:
  friend class GrammarBuilder;
  std::vector<Edge> edges_;
  std::vector<uint32_t> first_;  // [states + 1]
  std::vector<uint32_t> rule_of_;
  std::vector<bool> reads_bytes_;
  std::vector<Rule> rules_;
  uint32_t root_ = 0;
};

class GrammarBuilder {
 public:
  using Node = uint32_t;
  // States of the compiled grammar and nodes; beyond, compile() says so.
  static constexpr size_t kMaxStates = 400'000;

  Node empty();
  Node bytes(std::string_view literal);
  Node byte_range(uint8_t low, uint8_t high);
  Node code_points(const CodePoints& ranges);  // one character, in UTF-8
  Node sequence(std::vector<Node> parts);
  Node choice(std::vector<Node> parts);  // empty: nothing at all
  Node repeat(Node part, uint32_t min, std::optional<uint32_t> max);
  Node optional(Node part) { return repeat(part, 0, 1); }
  // A rule may be used before it is defined. name: for messages.
  Node rule(std::string name);
  void define(Node rule, Node body);

  // Errors: a rule that is undefined or left-recursive, a language without any finite text, too
  // many states.
  Result<std::shared_ptr<const CompiledGrammar>> compile(Node root);

 private:
  enum class Kind : uint8_t { kEmpty, kBytes, kRange, kSequence, kChoice, kRepeat, kRule };
  struct Item {
    Kind kind;
    uint8_t low = 0, high = 0;
    std::string literal;        // kBytes, kRule: name
    std::vector<Node> parts;    // kRepeat: one
    uint32_t min = 0, max = 0;  // kRepeat; kRule: min is its index
    bool bounded = false;
  };
  struct Draft;  // the network while it is made

  Node add(Item item);
  bool emit(Draft& draft, Node node, uint32_t from, uint32_t to) const;
  bool emit_repeat(Draft& draft, const Item& item, uint32_t from, uint32_t to) const;
  Status check_recursion(const CompiledGrammar& g) const;
  Status prune(Draft& draft, uint32_t root) const;

  std::vector<Item> items_;
  std::vector<Node> rules_;   // their nodes
  std::vector<Node> bodies_;  // [rules], kUndefined
  static constexpr Node kUndefined = UINT32_MAX;
  size_t total_ = 0;  // nodes and literal bytes
};

}  // namespace moestro::text
