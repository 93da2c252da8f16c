#include "text/grammar/token_trie.h"

#include <algorithm>
#include <numeric>

namespace moestro::text {

TokenTrie::TokenTrie(const Tokenizer& tokenizer, std::span<const std::string> texts) {
  const auto vocab = static_cast<size_t>(tokenizer.vocab_size());
  bytes_.resize(vocab);
  same_.assign(vocab, -1);
  std::vector<int32_t> order;
  constexpr size_t kLongest = 4096;  // of a token; the depth is 16 bits
  for (size_t i = 0; i < vocab; ++i) {
    const auto id = static_cast<int32_t>(i);
    if (!tokenizer.is_known(id)) continue;
    const std::string_view content = tokenizer.token_content(id);
    const bool text = std::find(texts.begin(), texts.end(), content) != texts.end();
    if (tokenizer.is_special(id) && !text) continue;
    std::string b =
        tokenizer.is_added(id) ? kTokenMark + std::string(content) : tokenizer.token_bytes(id);
    if (b.empty() || b.size() > kLongest) continue;
    bytes_[i] = std::move(b);
    order.push_back(id);
  }
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const int c = bytes(a).compare(bytes(b));
    return c != 0 ? c < 0 : a < b;
  });
  std::vector<uint32_t> path;  // nodes from the root
  std::string_view last;
  for (const int32_t id : order) {
    const std::string_view b = bytes(id);
    const size_t shared = static_cast<size_t>(
        std::mismatch(b.begin(), b.end(), last.begin(), last.end()).first - b.begin());
    for (; path.size() > shared; path.pop_back())
      nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
    for (size_t d = shared; d < b.size(); ++d) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({0, -1, static_cast<uint16_t>(d + 1), static_cast<uint8_t>(b[d])});
    }
    int32_t* slot = &nodes_[path.back()].token;
    while (*slot >= 0) slot = &same_[static_cast<size_t>(*slot)];
    *slot = id;
    max_depth_ = std::max(max_depth_, b.size());
    last = b;
  }
  for (; !path.empty(); path.pop_back())
    nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
}

void TokenTrie::fill(GrammarMatcher& matcher, std::span<uint32_t> mask) const {
  std::fill(mask.begin(), mask.end(), 0);
  std::vector<GrammarMatcher::State> at(max_depth_ + 1);  // by depth
  at[0] = matcher.state();
  for (size_t i = 0; i < nodes_.size();) {
    const Node& node = nodes_[i];
    const GrammarMatcher::State s = matcher.step(at[node.depth - 1u], node.byte);
    if (s == GrammarMatcher::kDead) {
      i = node.end;
      continue;
    }
    at[node.depth] = s;
    for (int32_t id = node.token; id >= 0; id = same_[static_cast<size_t>(id)])
      mask[static_cast<size_t>(id) / 32] |= 1u << (static_cast<unsigned>(id) % 32);
    ++i;
  }
}

}  // namespace moestro::text
