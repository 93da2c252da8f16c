// What a Split or Replace step of a tokenizer.json looks for: {"String": …} or {"Regex": …}.
// Immutable after load; any thread, with that thread's RegexScratch. Walks matches as the reference
// does: an empty match right behind another match does not count.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/status.h"
#include "text/regex.h"
#include "text/scanners.h"

namespace moestro::text {

class Pattern {
 public:
  static Result<Pattern> parse(const json::value& pattern);
  static Result<Pattern> regex(std::string_view onig_pattern, bool allow_scanner = true);
  static Pattern scanner(Scanner scanner);
  static Pattern literal(std::string text);

  // Calls match(size_t begin, size_t end) for every match, in order.
  template <class Match>
  void for_each(std::string_view text, RegexScratch& scratch, Match&& match) const {
    size_t from = 0, begin = 0, end = 0, last_end = npos;
    while (from <= text.size() && find(text, from, scratch, begin, end)) {
      if (begin == end && end == last_end) {
        from += from < text.size() ? char_length(text[from]) : 1;
        continue;
      }
      match(begin, end);
      from = last_end = end;
    }
  }
  // The literal, if this is one.
  const std::optional<std::string>& literal_text() const { return literal_; }

 private:
  static constexpr size_t npos = static_cast<size_t>(-1);
  static size_t char_length(char first);
  bool find(std::string_view text, size_t from, RegexScratch& scratch, size_t& begin,
            size_t& end) const;

  Scanner scanner_ = Scanner::kNone;
  std::optional<Regex> regex_;
  std::optional<std::string> literal_;
};

}  // namespace moestro::text
