#include "text/grammar/grammar.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/format.h"

namespace moestro::text {
namespace {

using Edge = CompiledGrammar::Edge;

void append_utf8(uint32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3f));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  }
}

// [low, high] has encodings of one length; splits it so that each piece is a product of byte
// ranges.
void split_utf8(uint32_t low, uint32_t high,
                std::vector<std::vector<std::pair<uint8_t, uint8_t>>>& out) {
  std::string a, b;
  append_utf8(low, a);
  append_utf8(high, b);
  for (size_t tail = 1; tail < a.size(); ++tail) {
    const uint32_t mask = (1u << (6 * tail)) - 1;
    if ((low & ~mask) == (high & ~mask)) continue;
    if ((low & mask) != 0) {
      split_utf8(low, low | mask, out);
      return split_utf8((low | mask) + 1, high, out);
    }
    if ((high & mask) != mask) {
      split_utf8(low, (high & ~mask) - 1, out);
      return split_utf8(high & ~mask, high, out);
    }
  }
  std::vector<std::pair<uint8_t, uint8_t>> bytes;
  for (size_t i = 0; i < a.size(); ++i)
    bytes.emplace_back(static_cast<uint8_t>(a[i]), static_cast<uint8_t>(b[i]));
  out.push_back(std::move(bytes));
}

}  // namespace

CodePoints normalized(CodePoints ranges) {
  std::sort(ranges.begin(), ranges.end());
  CodePoints merged;
  for (auto [low, high] : ranges) {
    high = std::min(high, 0x10ffffu);
    if (low > high) continue;
    if (!merged.empty() && low <= merged.back().second + 1) {
      merged.back().second = std::max(merged.back().second, high);
    } else {
      merged.emplace_back(low, high);
    }
  }
  CodePoints out;
  for (const auto& [low, high] : merged) {
    if (low < 0xd800) out.emplace_back(low, std::min(high, 0xd7ffu));
    if (high > 0xdfff) out.emplace_back(std::max(low, 0xe000u), high);
  }
  return out;
}

CodePoints complement(const CodePoints& ranges) {
  CodePoints out;
  uint32_t next = 0;
  for (const auto& [low, high] : normalized(ranges)) {
    if (low > next) out.emplace_back(next, low - 1);
    next = high + 1;
  }
  if (next <= 0x10ffff) out.emplace_back(next, 0x10ffff);
  return normalized(std::move(out));
}

GrammarBuilder::Node GrammarBuilder::add(Item item) {
  total_ += 1 + item.literal.size() + item.parts.size();
  items_.push_back(std::move(item));
  return static_cast<Node>(items_.size() - 1);
}
GrammarBuilder::Node GrammarBuilder::empty() { return add({.kind = Kind::kEmpty}); }
GrammarBuilder::Node GrammarBuilder::bytes(std::string_view literal) {
  return add({.kind = Kind::kBytes, .literal = std::string(literal)});
}
GrammarBuilder::Node GrammarBuilder::byte_range(uint8_t low, uint8_t high) {
  return add({.kind = Kind::kRange, .low = low, .high = high});
}
GrammarBuilder::Node GrammarBuilder::sequence(std::vector<Node> parts) {
  return parts.size() == 1 ? parts[0] : add({.kind = Kind::kSequence, .parts = std::move(parts)});
}
GrammarBuilder::Node GrammarBuilder::choice(std::vector<Node> parts) {
  return parts.size() == 1 ? parts[0] : add({.kind = Kind::kChoice, .parts = std::move(parts)});
}
GrammarBuilder::Node GrammarBuilder::repeat(Node part, uint32_t min, std::optional<uint32_t> max) {
  return add({.kind = Kind::kRepeat,
              .parts = {part},
              .min = min,
              .max = max.value_or(0),
              .bounded = max.has_value()});
}
GrammarBuilder::Node GrammarBuilder::rule(std::string name) {
  const Node node = add({.kind = Kind::kRule,
                         .literal = std::move(name),
                         .min = static_cast<uint32_t>(rules_.size())});
  rules_.push_back(node);
  bodies_.push_back(kUndefined);
  return node;
}
void GrammarBuilder::define(Node rule, Node body) { bodies_[items_[rule].min] = body; }

GrammarBuilder::Node GrammarBuilder::code_points(const CodePoints& ranges) {
  constexpr std::pair<uint32_t, uint32_t> kLengths[] = {
      {0, 0x7f}, {0x80, 0x7ff}, {0x800, 0xffff}, {0x10000, 0x10ffff}};
  std::vector<std::vector<std::pair<uint8_t, uint8_t>>> products;
  for (const auto& [low, high] : normalized(ranges))
    for (const auto& [first, last] : kLengths)
      if (low <= last && high >= first)
        split_utf8(std::max(low, first), std::min(high, last), products);
  std::vector<Node> parts;
  for (const auto& product : products) {
    std::vector<Node> bytes;
    for (const auto& [low, high] : product) bytes.push_back(byte_range(low, high));
    parts.push_back(sequence(std::move(bytes)));
  }
  return choice(std::move(parts));
}

struct GrammarBuilder::Draft {
  std::vector<std::vector<Edge>> edges;  // [states]
  std::vector<uint32_t> rule_of;
  std::vector<CompiledGrammar::Rule> rules;
  uint32_t rule = 0;  // being emitted
  uint32_t add_state() {
    edges.emplace_back();
    rule_of.push_back(rule);
    return static_cast<uint32_t>(edges.size() - 1);
  }
  void add_edge(uint32_t from, Edge edge) { edges[from].push_back(edge); }
  void add_empty(uint32_t from, uint32_t to) {
    edges[from].push_back({Edge::Kind::kEmpty, 0, 0, to, 0});
  }
};

// Between from and to. No edge goes back into from but where from is a loop's own state.
bool GrammarBuilder::emit(Draft& d, Node node, uint32_t from, uint32_t to) const {
  if (d.edges.size() > kMaxStates) return false;
  const Item& item = items_[node];
  switch (item.kind) {
    case Kind::kEmpty:
      d.add_empty(from, to);
      return true;
    case Kind::kBytes: {
      if (item.literal.empty()) d.add_empty(from, to);
      for (size_t i = 0; i < item.literal.size(); ++i) {
        const uint32_t next = i + 1 == item.literal.size() ? to : d.add_state();
        const auto b = static_cast<uint8_t>(item.literal[i]);
        d.add_edge(from, {Edge::Kind::kByte, b, b, next, 0});
        from = next;
      }
      return true;
    }
    case Kind::kRange:
      d.add_edge(from, {Edge::Kind::kByte, item.low, item.high, to, 0});
      return true;
    case Kind::kSequence:
      if (item.parts.empty()) d.add_empty(from, to);
      for (size_t i = 0; i < item.parts.size(); ++i) {
        const uint32_t next = i + 1 == item.parts.size() ? to : d.add_state();
        if (!emit(d, item.parts[i], from, next)) return false;
        from = next;
      }
      return true;
    case Kind::kChoice:
      return std::all_of(item.parts.begin(), item.parts.end(),
                         [&](Node part) { return emit(d, part, from, to); });
    case Kind::kRepeat:
      return emit_repeat(d, item, from, to);
    case Kind::kRule:
      d.add_edge(from, {Edge::Kind::kCall, 0, 0, to, item.min});
      return true;
  }
  return false;
}

bool GrammarBuilder::emit_repeat(Draft& d, const Item& item, uint32_t from, uint32_t to) const {
  const Node part = item.parts[0];
  for (uint32_t i = 0; i < item.min; ++i) {
    const uint32_t next = d.add_state();
    if (!emit(d, part, from, next)) return false;
    from = next;
  }
  if (!item.bounded) {
    const uint32_t loop = d.add_state();
    d.add_empty(from, loop);
    d.add_empty(loop, to);
    return emit(d, part, loop, loop);
  }
  for (uint32_t i = item.min; i < item.max; ++i) {
    const uint32_t next = d.add_state();
    d.add_empty(from, to);
    if (!emit(d, part, from, next)) return false;
    from = next;
  }
  d.add_empty(from, to);
  return true;
}

// Drops edges from which the end of their rule cannot be reached, so that no matching ever runs
// into a dead end.
Status GrammarBuilder::prune(Draft& d, uint32_t root) const {
  const size_t n = d.edges.size();
  std::vector<std::vector<uint32_t>> sources(n);               // of edges into a state
  std::vector<std::vector<uint32_t>> callers(d.rules.size());  // states with a call of the rule
  for (uint32_t s = 0; s < n; ++s)
    for (const Edge& e : d.edges[s]) {
      sources[e.target].push_back(s);
      if (e.kind == Edge::Kind::kCall) callers[e.rule].push_back(s);
    }
  std::vector<bool> ends(n), rule_ends(d.rules.size());
  std::vector<uint32_t> work;
  const auto reach = [&](uint32_t s) {
    if (!ends[s]) {
      ends[s] = true;
      work.push_back(s);
    }
  };
  const auto can_end = [&](uint32_t s) {
    return std::any_of(d.edges[s].begin(), d.edges[s].end(), [&](const Edge& e) {
      return ends[e.target] && (e.kind != Edge::Kind::kCall || rule_ends[e.rule]);
    });
  };
  for (const auto& r : d.rules) reach(r.final);
  while (!work.empty()) {
    const uint32_t s = work.back();
    work.pop_back();
    for (const uint32_t source : sources[s])
      if (can_end(source)) reach(source);
    const uint32_t rule = d.rule_of[s];
    if (d.rules[rule].start == s && !rule_ends[rule]) {
      rule_ends[rule] = true;
      for (const uint32_t caller : callers[rule])
        if (can_end(caller)) reach(caller);
    }
  }
  if (!rule_ends[root])
    return invalid_argument(
        format("the grammar has no finite text: rule {} never ends", items_[rules_[root]].literal));
  for (auto& edges : d.edges)
    std::erase_if(edges, [&](const Edge& e) {
      return !ends[e.target] || (e.kind == Edge::Kind::kCall && !rule_ends[e.rule]);
    });
  return {};
}

// A rule that can come to itself without reading a byte would never stop being expanded.
Status GrammarBuilder::check_recursion(const CompiledGrammar& g) const {
  std::vector<bool> nullable(g.rules_.size());
  std::vector<uint32_t> seen(g.num_states()), work;
  uint32_t round = 0;
  // Goes from a rule's start without reading; whether its end is reached.
  const auto close = [&](uint32_t rule, auto&& on_call) {
    ++round;
    const auto visit = [&](uint32_t s) {
      if (std::exchange(seen[s], round) != round) work.push_back(s);
    };
    visit(g.rules_[rule].start);
    while (!work.empty()) {
      const uint32_t s = work.back();
      work.pop_back();
      for (const Edge* e = g.begin(s); e != g.end(s); ++e) {
        if (e->kind == Edge::Kind::kByte) continue;
        if (e->kind == Edge::Kind::kCall) on_call(e->rule);
        if (e->kind == Edge::Kind::kEmpty || nullable[e->rule]) visit(e->target);
      }
    }
    return seen[g.rules_[rule].final] == round;
  };
  // Which rules can be empty; one more lets those that call it be looked at again.
  std::vector<std::vector<uint32_t>> callers(g.rules_.size());
  for (uint32_t s = 0; s < g.num_states(); ++s)
    for (const Edge* e = g.begin(s); e != g.end(s); ++e)
      if (e->kind == Edge::Kind::kCall) callers[e->rule].push_back(g.rule_of_[s]);
  std::vector<uint32_t> open(g.rules_.size());
  std::iota(open.begin(), open.end(), 0u);
  while (!open.empty()) {
    const uint32_t r = open.back();
    open.pop_back();
    if (nullable[r] || !close(r, [](uint32_t) {})) continue;
    nullable[r] = true;
    open.insert(open.end(), callers[r].begin(), callers[r].end());
  }
  std::vector<std::vector<uint32_t>> calls(g.rules_.size());
  for (uint32_t r = 0; r < g.rules_.size(); ++r)
    close(r, [&](uint32_t called) { calls[r].push_back(called); });
  // Depth-first search for a cycle, without recursion of our own.
  std::vector<uint8_t> color(g.rules_.size());
  for (uint32_t root = 0; root < g.rules_.size(); ++root) {
    std::vector<std::pair<uint32_t, size_t>> stack;
    if (color[root] == 0) stack.emplace_back(root, 0);
    while (!stack.empty()) {
      const uint32_t r = stack.back().first;
      color[r] = 1;
      if (stack.back().second == calls[r].size()) {
        color[r] = 2;
        stack.pop_back();
        continue;
      }
      const uint32_t next = calls[r][stack.back().second++];
      if (color[next] == 1)
        return invalid_argument(
            format("rule {} is left-recursive: it can begin with itself; write it as a repetition",
                   items_[rules_[next]].literal));
      if (color[next] == 0) stack.emplace_back(next, 0);
    }
  }
  return {};
}

Result<std::shared_ptr<const CompiledGrammar>> GrammarBuilder::compile(Node root_node) {
  const Node root_rule = rule("root of the output");
  define(root_rule, root_node);
  const uint32_t root = items_[root_rule].min;
  const auto too_large = [] {
    return invalid_argument(format(
        "the grammar has more than {} states: shorten counted repetitions, lengths and lists",
        kMaxStates));
  };
  if (total_ > 4 * kMaxStates) return too_large();
  Draft d;
  for (uint32_t r = 0; r < rules_.size(); ++r) {
    if (bodies_[r] == kUndefined)
      return invalid_argument(format("rule {} is not defined", items_[rules_[r]].literal));
    d.rule = r;
    const uint32_t start = d.add_state(), final = d.add_state();
    d.rules.push_back({start, final});
    if (!emit(d, bodies_[r], start, final)) return too_large();
  }
  MOESTRO_TRY(prune(d, root));
  auto g = std::make_shared<CompiledGrammar>();
  g->rules_ = std::move(d.rules);
  g->rule_of_ = std::move(d.rule_of);
  g->root_ = root;
  for (const auto& edges : d.edges) {
    g->first_.push_back(static_cast<uint32_t>(g->edges_.size()));
    g->edges_.insert(g->edges_.end(), edges.begin(), edges.end());
    g->reads_bytes_.push_back(std::any_of(
        edges.begin(), edges.end(), [](const Edge& e) { return e.kind == Edge::Kind::kByte; }));
  }
  g->first_.push_back(static_cast<uint32_t>(g->edges_.size()));
  MOESTRO_TRY(check_recursion(*g));
  return std::shared_ptr<const CompiledGrammar>(std::move(g));
}

}  // namespace moestro::text
