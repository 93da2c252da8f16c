// The "normalizer" section of a tokenizer.json: null, Sequence, NFC, NFD, NFKC, NFKD, Prepend,
// Replace, Lowercase, Strip, StripAccents. Immutable after load; any thread, with that thread's
// RegexScratch.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "text/pattern.h"

namespace moestro::text {

class Normalizer {
 public:
  // nullptr: no normalizer.
  static Result<Normalizer> parse(const json::value* section);
  bool empty() const { return steps_.empty(); }
  // `text` is valid UTF-8. Returns text itself where nothing changes it, else a view of `buffer`.
  std::string_view apply(std::string_view text, std::string& buffer, RegexScratch& scratch) const;

 private:
  enum class Kind {
    kNfc,
    kNfd,
    kNfkc,
    kNfkd,
    kPrepend,
    kReplace,
    kLowercase,
    kStrip,
    kStripAccents
  };
  struct Step {
    Kind kind;
    std::string text;                  // to prepend, or the replacement
    Pattern pattern;                   // to replace
    bool left = false, right = false;  // of Strip
  };
  Status add(const json::value& section, int depth);
  static bool apply_step(const Step& step, std::string_view text, std::string& out,
                         RegexScratch& scratch);

  std::vector<Step> steps_;
};

}  // namespace moestro::text
