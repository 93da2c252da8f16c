// The "pre_tokenizer" section of a tokenizer.json: null, Sequence, Split, ByteLevel, Metaspace,
// Digits, Whitespace, WhitespaceSplit, Punctuation, BertPreTokenizer. Immutable after load; any
// thread, with that thread's RegexScratch.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "text/pattern.h"

namespace moestro::text {

class Pretokenizer {
 public:
  // Gets each pre-token, never an empty one.
  class Sink {
   public:
    virtual void pre_token(std::string_view text) = 0;

   protected:
    ~Sink() = default;
  };

  // nullptr: no pre-tokenizer, the piece is one pre-token.
  static Result<Pretokenizer> parse(const json::value* section);
  // Whether the pre-tokens are raw bytes of the text that the vocabulary writes in the ByteLevel
  // alphabet.
  bool byte_level() const { return byte_level_; }
  // at_start: the piece begins where the whole text begins.
  void split(std::string_view piece, bool at_start, RegexScratch& scratch, Sink& sink) const;

 private:
  enum class Kind { kSplit, kByteLevel, kMetaspace };
  enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
  enum class Prepend { kFirst, kAlways, kNever };
  struct Step {
    Kind kind = Kind::kSplit;
    Pattern pattern;  // of Split, and of ByteLevel with use_regex
    Behavior behavior = Behavior::kIsolated;
    bool invert = false;
    bool add_prefix_space = false;  // ByteLevel
    bool use_pattern = true;        // ByteLevel, Metaspace: whether to split
    bool map_bytes = false;         // ByteLevel that is not the last step
    std::string replacement;        // Metaspace
    Prepend prepend = Prepend::kAlways;
  };
  struct Context {
    RegexScratch& scratch;
    Sink& sink;
  };
  struct Span {
    size_t begin, end;
    bool match;
  };

  Status add(const json::value& section, int depth);
  Status add_split(std::string_view regex, Behavior behavior, bool invert);
  Status add_metaspace(const json::object& o);
  void run(size_t step, std::string_view text, bool at_start, const Context& context) const;
  void run_split(size_t step, std::string_view text, bool at_start, const Context& context) const;
  void run_byte_level(size_t step, std::string_view text, bool at_start,
                      const Context& context) const;
  void run_metaspace(size_t step, std::string_view text, bool at_start,
                     const Context& context) const;
  static std::vector<Span> merge(const std::vector<Span>& spans, Behavior behavior);
  static Result<Behavior> parse_behavior(std::string_view name);

  std::vector<Step> steps_;
  bool byte_level_ = false;
};

}  // namespace moestro::text
