#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>

#include "base/format.h"
#include "text/byte_map.h"
#include "text/unicode_class.h"

namespace moestro::text {
namespace {

constexpr std::string_view kWordStart = "\u2581";
constexpr size_t kShortWord = 40;  // symbols; below, scanning for the minimum beats a heap
constexpr size_t kMaxPieceBytes = 1u << 30;  // positions are 32 bits wide

// Whether a word start follows another character somewhere in `content`.
bool spans_words(std::string_view content) {
  for (size_t at = content.find(kWordStart); at != std::string_view::npos;
       at = content.find(kWordStart, at + 3))
    if (at >= 3 ? content.substr(at - 3, 3) != kWordStart : at > 0) return true;
  return false;
}

}  // namespace

BpeScratch::BpeScratch() : cache(kCacheWords) {}

Bpe::Bpe(const Vocabulary& vocabulary, BpeOptions options)
    : vocabulary_(vocabulary), options_(options) {
  cut_at_words_ =
      !options.byte_level && !options.ignore_merges && vocabulary.find(kWordStart) != kNoToken;
}

void Bpe::reserve(size_t merges) {
  table_.assign(std::bit_ceil(merges * 2 + 16), Slot());
  results_.reserve(merges);
}

Status Bpe::add_merge(std::string_view left, std::string_view right) {
  const int32_t a = vocabulary_.find(left), b = vocabulary_.find(right);
  const size_t number = results_.size();
  if (a == kNoToken || b == kNoToken)
    return data_loss(format("merge {} names the token {}, which the vocabulary lacks", number,
                            (a == kNoToken ? left : right).substr(0, 80)));
  std::string whole(left);
  whole += right;
  const int32_t result = vocabulary_.find(whole);
  if (result == kNoToken)
    return data_loss(format("merge {} makes the token {}, which the vocabulary lacks", number,
                            whole.substr(0, 80)));
  if (left.empty() || right.empty()) return data_loss(format("merge {} has an empty part", number));
  if (results_.size() * 2 >= table_.size()) {
    std::vector<Slot> old(table_.size() * 2 + 16 == 16 ? 32 : table_.size() * 2);
    old.swap(table_);
    for (const Slot& s : old)
      if (s.pair != kEmpty) {
        size_t i = hash_pair(s.pair) & (table_.size() - 1);
        while (table_[i].pair != kEmpty) i = (i + 1) & (table_.size() - 1);
        table_[i] = s;
      }
  }
  const uint64_t pair = static_cast<uint64_t>(a) << 32 | static_cast<uint32_t>(b);
  size_t slot = hash_pair(pair) & (table_.size() - 1);
  while (table_[slot].pair != kEmpty && table_[slot].pair != pair)
    slot = (slot + 1) & (table_.size() - 1);
  table_[slot] = {pair, static_cast<uint32_t>(number)};  // of two equal pairs the later rank counts
  results_.push_back(result);
  if (cut_at_words_ && spans_words(whole)) cut_at_words_ = false;
  return {};
}

void Bpe::build() {
  if (table_.empty()) reserve(0);
  all_bytes_known_ = true;
  for (uint32_t b = 0; b < 256; ++b) {
    const auto byte = static_cast<uint8_t>(b);
    const char ascii = static_cast<char>(b);
    if (options_.byte_level)
      byte_ids_[b] = vocabulary_.find(byte_to_mapped(byte));
    else
      byte_ids_[b] = b < 128 ? vocabulary_.find({&ascii, 1}) : kNoToken;
    all_bytes_known_ &= byte_ids_[b] != kNoToken;
    fallback_ids_[b] =
        options_.byte_fallback ? vocabulary_.find(format("<0x{:02X}>", b)) : kNoToken;
  }
}

uint32_t Bpe::rank(int32_t left, int32_t right) const {
  const uint64_t pair = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  const size_t mask = table_.size() - 1;
  for (size_t i = hash_pair(pair) & mask;; i = (i + 1) & mask) {
    if (table_[i].pair == pair) return table_[i].rank;
    if (table_[i].pair == kEmpty) return kNoRank;
  }
}

void Bpe::encode(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& out) const {
  while (word.size() > kMaxPieceBytes) {
    size_t cut = kMaxPieceBytes;
    if (!options_.byte_level) cut = previous_char(word, cut + 1);
    encode(word.substr(0, cut), scratch, out);
    word.remove_prefix(cut);
  }
  if (!cut_at_words_) return encode_piece(word, scratch, out);
  size_t start = 0;
  for (size_t at = word.find(kWordStart); at != std::string_view::npos;
       at = word.find(kWordStart, at + 3)) {
    if (at == start || (at >= 3 && word.substr(at - 3, 3) == kWordStart)) continue;
    encode_piece(word.substr(start, at - start), scratch, out);
    start = at;
  }
  encode_piece(word.substr(start), scratch, out);
}

void Bpe::encode_piece(std::string_view word, BpeScratch& scratch,
                       std::vector<int32_t>& out) const {
  if (word.empty()) return;
  if (word.size() > sizeof(BpeScratch::CachedWord::text))
    return encode_uncached(word, scratch, out);
  BpeScratch::CachedWord& cached = scratch.cache[hash_bytes(word) & (BpeScratch::kCacheWords - 1)];
  if (cached.length == word.size() && std::memcmp(cached.text, word.data(), word.size()) == 0) {
    out.insert(out.end(), cached.ids, cached.ids + cached.num_ids);
    return;
  }
  const size_t before = out.size();
  encode_uncached(word, scratch, out);
  const size_t count = out.size() - before;
  if (count > std::size(cached.ids)) return;
  cached.length = static_cast<uint8_t>(word.size());
  cached.num_ids = static_cast<uint8_t>(count);
  std::memcpy(cached.text, word.data(), word.size());
  std::copy(out.begin() + static_cast<ptrdiff_t>(before), out.end(), cached.ids);
}

void Bpe::encode_uncached(std::string_view word, BpeScratch& scratch,
                          std::vector<int32_t>& out) const {
  scratch.symbols.clear();
  std::string_view text = word;
  const bool by_bytes = options_.byte_level && all_bytes_known_;
  if (options_.byte_level && (options_.ignore_merges || !by_bytes)) {
    scratch.mapped.clear();
    append_mapped(scratch.mapped, word);
    text = scratch.mapped;
  }
  if (options_.ignore_merges)
    if (const int32_t id = vocabulary_.find(text); id != kNoToken) return out.push_back(id);
  if (by_bytes) {
    for (const char c : word) scratch.symbols.push_back(byte_ids_[static_cast<uint8_t>(c)]);
  } else {
    start_symbols(text, scratch.symbols);
  }
  if (scratch.symbols.size() <= kShortWord)
    merge_short(scratch, out);
  else
    merge_long(scratch, out);
}

// One symbol per character; what the vocabulary lacks becomes byte tokens, else the unknown token,
// else nothing. An unknown token waits for the next known character (that is when the reference
// emits it, so byte tokens overtake it).
void Bpe::start_symbols(std::string_view text, std::vector<int32_t>& out) const {
  bool unk_pending = false;
  for (size_t pos = 0; pos < text.size();) {
    const size_t length = utf8_length(text[pos]);
    const std::string_view c = text.substr(pos, length);
    pos += length;
    const int32_t id = length == 1 && !options_.byte_level ? byte_ids_[static_cast<uint8_t>(c[0])]
                                                           : vocabulary_.find(c);
    if (id != kNoToken) {
      if (unk_pending) out.push_back(options_.unk_id);
      unk_pending = false;
      out.push_back(id);
      continue;
    }
    if (options_.byte_fallback && std::all_of(c.begin(), c.end(), [&](char b) {
          return fallback_ids_[static_cast<uint8_t>(b)] != kNoToken;
        })) {
      for (const char b : c) out.push_back(fallback_ids_[static_cast<uint8_t>(b)]);
      continue;
    }
    if (options_.unk_id == kNoToken) continue;
    if (unk_pending && !options_.fuse_unk) out.push_back(options_.unk_id);
    unk_pending = true;
  }
  if (unk_pending) out.push_back(options_.unk_id);
}

void Bpe::merge_short(BpeScratch& scratch, std::vector<int32_t>& out) const {
  int32_t* ids = scratch.symbols.data();
  size_t n = scratch.symbols.size();
  uint32_t ranks[kShortWord];  // [i]: of the pair (i, i + 1)
  for (size_t i = 0; i + 1 < n; ++i) ranks[i] = rank(ids[i], ids[i + 1]);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i)
      if (ranks[i] < ranks[best]) best = i;
    if (ranks[best] == kNoRank) break;
    ids[best] = results_[ranks[best]];
    for (size_t i = best + 1; i + 1 < n; ++i) {
      ids[i] = ids[i + 1];
      ranks[i] = i + 2 < n ? ranks[i + 1] : kNoRank;
    }
    --n;
    if (best > 0) ranks[best - 1] = rank(ids[best - 1], ids[best]);
    if (best + 1 < n) ranks[best] = rank(ids[best], ids[best + 1]);
  }
  out.insert(out.end(), ids, ids + n);
}

// A linked list of symbols and a heap of (rank, position); an entry whose pair has changed since is
// skipped.
void Bpe::merge_long(BpeScratch& scratch, std::vector<int32_t>& out) const {
  constexpr int32_t kEnd = -1;
  std::vector<int32_t>&ids = scratch.symbols, &previous = scratch.previous, &next = scratch.next;
  std::vector<uint32_t>& ranks =
      scratch.ranks;  // of the pair that starts at a position; kNoRank also if it is gone
  std::vector<uint64_t>& heap = scratch.heap;
  const size_t n = ids.size();
  previous.resize(n);
  next.resize(n);
  ranks.resize(n);
  heap.clear();
  const auto later = std::greater<uint64_t>();
  const auto set_rank = [&](size_t at) {
    const int32_t after = next[at];
    ranks[at] = after == kEnd ? kNoRank : rank(ids[at], ids[static_cast<size_t>(after)]);
    return ranks[at] != kNoRank;
  };
  for (size_t i = 0; i < n; ++i) {
    previous[i] = static_cast<int32_t>(i) - 1;
    next[i] = i + 1 < n ? static_cast<int32_t>(i + 1) : kEnd;
    if (set_rank(i)) heap.push_back(static_cast<uint64_t>(ranks[i]) << 32 | i);
  }
  std::make_heap(heap.begin(), heap.end(), later);
  const auto push = [&](size_t at) {
    if (!set_rank(at)) return;
    heap.push_back(static_cast<uint64_t>(ranks[at]) << 32 | at);
    std::push_heap(heap.begin(), heap.end(), later);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const size_t at = heap.back() & 0xffffffff;
    const auto wanted = static_cast<uint32_t>(heap.back() >> 32);
    heap.pop_back();
    if (ranks[at] != wanted) continue;
    const auto gone = static_cast<size_t>(next[at]);
    ids[at] = results_[wanted];
    next[at] = next[gone];
    if (next[at] != kEnd) previous[static_cast<size_t>(next[at])] = static_cast<int32_t>(at);
    ranks[gone] = kNoRank;
    push(at);
    if (previous[at] != kEnd) push(static_cast<size_t>(previous[at]));
  }
  for (int32_t i = 0; i != kEnd; i = next[static_cast<size_t>(i)])
    out.push_back(ids[static_cast<size_t>(i)]);
}

}  // namespace moestro::text
