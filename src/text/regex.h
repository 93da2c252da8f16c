// A compiled pattern of a tokenizer.json: PCRE2 with JIT. Compiled at load; find() from any thread
// with that thread's RegexScratch. Matching is bounded: where a match would take more than the
// limit, there is none to the end of the text.
#pragma once
#include <cstddef>
#include <memory>
#include <string_view>

#include "base/status.h"

namespace moestro::text {

// Match data and JIT stack, made at first use, for one thread at a time.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(RegexScratch&&) noexcept;
  RegexScratch& operator=(RegexScratch&&) noexcept;

 private:
  friend class Regex;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class Regex {
 public:
  // Oniguruma syntax (onig_pattern.h). The pattern is tried on long runs of one kind of character:
  // one that cannot be matched within the limit there is refused.
  static Result<Regex> compile(std::string_view onig_pattern);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  // The leftmost match that starts at or after `from`; lookbehind sees the text before it. text
  // must be valid UTF-8.
  bool find(std::string_view text, size_t from, RegexScratch& scratch, size_t& begin,
            size_t& end) const;

 private:
  struct Impl;
  explicit Regex(std::unique_ptr<Impl> impl);
  // 1: match, 0: none, -1: over the limit.
  int search(std::string_view text, size_t from, RegexScratch& scratch, size_t& begin,
             size_t& end) const;
  Status probe() const;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moestro::text
