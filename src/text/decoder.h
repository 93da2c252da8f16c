// The "decoder" section of a tokenizer.json, as a chain of streaming stages: null (tokens joined by
// spaces), ByteLevel, ByteFallback, Replace, Fuse, Strip, Metaspace, Sequence. DecodeProgram is
// immutable after load (any thread); a DecodeStream is one text being decoded (one thread at a
// time) and must not outlive its program.
//
// Up to a stage that fuses (ByteLevel, Fuse, or the implied join) stages see whole tokens; behind
// it they see fragments of what the reference treats as one token. A stage that cannot work on
// fragments collects them until finish().
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "text/pattern.h"

namespace moestro::text {

class DecodeProgram {
 public:
  // nullptr: no decoder.
  static Result<DecodeProgram> parse(const json::value* section);
  // The bytes that a token stands for in the middle of a text.
  std::string token_bytes(std::string_view content) const;
  // The program is ByteLevel alone: decoding is concatenating token_bytes() and repairing the
  // result.
  bool only_byte_level() const { return steps_.size() == 1 && steps_[0].kind == Kind::kByteLevel; }

 private:
  friend class DecodeStream;
  enum class Kind { kJoin, kByteLevel, kByteFallback, kReplace, kFuse, kStrip, kMetaspace };
  struct Step {
    Kind kind = Kind::kFuse;
    bool fused = false;  // gets fragments of one token
    Pattern pattern;     // Replace
    std::string
        text;  // Replace: the replacement; Strip: the character; Metaspace: what becomes a space
    size_t start = 0, stop = 0;  // Strip: how many characters at most
    bool drop_first = false;     // Metaspace: nothing instead of a space in the first token
    bool streams = true;         // works on fragments
  };
  Status add(const json::value& section, int depth);
  Status add_strip(const json::object& o, Step& step);
  std::vector<Step> steps_;
};

class DecodeStream {
 public:
  explicit DecodeStream(const DecodeProgram& program);
  // One token, by its content in the vocabulary; appends the text that became certain to `out`.
  void push(std::string_view token_content, std::string& out);
  void finish(std::string& out);

 private:
  using Step = DecodeProgram::Step;
  using Kind = DecodeProgram::Kind;
  struct State {
    std::string held;
    size_t count = 0;  // tokens seen; of Strip: characters removed at the start
    bool started = false;
  };
  void feed(size_t index, std::string_view text, std::string& out);
  void end(size_t index, std::string& out);
  void feed_bytes(size_t index, std::string_view token, std::string& out);
  void feed_byte_token(size_t index, std::string_view token, std::string& out);
  void end_byte_run(size_t index, std::string& out);
  void feed_strip(size_t index, std::string_view text, std::string& out);
  std::string whole_token(const Step& step, std::string_view token);

  const DecodeProgram& program_;
  std::vector<State> states_;  // [step]
  RegexScratch scratch_;
};

}  // namespace moestro::text
