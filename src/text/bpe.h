// Byte pair encoding of one pre-token (reference/models.md 6.3): start symbols, then the adjacent
// pair of lowest rank, leftmost first, until none is left. Immutable after build(); encode() from
// any thread with that thread's BpeScratch. O(n log n) in the length of the pre-token.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/vocabulary.h"

namespace moestro::text {

struct BpeOptions {
  int32_t unk_id = kNoToken;
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;
  // Pre-tokens are raw bytes and the vocabulary is written in the ByteLevel alphabet; else both are
  // plain text.
  bool byte_level = false;
};

// Recently encoded words, and buffers. One thread at a time, always with the same Bpe.
class BpeScratch {
 public:
  BpeScratch();

 private:
  friend class Bpe;
  struct CachedWord {  // one cache line
    uint8_t length = 0, num_ids = 0;
    char text[30];
    int32_t ids[8];
  };
  static constexpr size_t kCacheWords = 1 << 14;
  std::vector<CachedWord> cache;
  std::string mapped;
  std::vector<int32_t> symbols, previous, next;
  std::vector<uint32_t> ranks;
  std::vector<uint64_t> heap;
};

class Bpe {
 public:
  // `vocabulary` must outlive the Bpe.
  Bpe(const Vocabulary& vocabulary, BpeOptions options);
  void reserve(size_t merges);
  // In order of rank. Both parts and their concatenation must be in the vocabulary.
  Status add_merge(std::string_view left, std::string_view right);
  // After the last add_merge().
  void build();

  void encode(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& out) const;

 private:
  static constexpr uint32_t kNoRank = 0xffffffff;
  struct Slot {
    uint64_t pair = kEmpty;
    uint32_t rank = 0;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  static size_t hash_pair(uint64_t pair) {
    return static_cast<size_t>((pair * 0x9e3779b97f4a7c15u) >> 20);
  }

  uint32_t rank(int32_t left, int32_t right) const;
  void encode_piece(std::string_view piece, BpeScratch& scratch, std::vector<int32_t>& out) const;
  void encode_uncached(std::string_view word, BpeScratch& scratch, std::vector<int32_t>& out) const;
  void start_symbols(std::string_view text, std::vector<int32_t>& out) const;
  void merge_short(BpeScratch& scratch, std::vector<int32_t>& out) const;
  void merge_long(BpeScratch& scratch, std::vector<int32_t>& out) const;

  const Vocabulary& vocabulary_;
  BpeOptions options_;
  std::vector<Slot> table_;       // pair of ids -> rank; open addressing, at most half full
  std::vector<int32_t> results_;  // [rank]
  std::array<int32_t, 256>
      byte_ids_{};  // start symbol of a byte (byte level) or of an ASCII character
  std::array<int32_t, 256> fallback_ids_{};  // "<0xAB>"
  bool all_bytes_known_ = false;
  // SentencePiece-style vocabularies never merge across the start of a word ("▁" after anything
  // else): then a text without pre-tokenizer can be cut there, which makes it a sequence of
  // cacheable words.
  bool cut_at_words_ = false;
};

}  // namespace moestro::text
