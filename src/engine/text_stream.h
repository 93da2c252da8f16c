// TextStream: turns one request's TokenEvents into text as a client sees it: detokenises, holds back half characters and
// possible beginnings of stop strings, cuts at a stop string. Used by server/ and app/, on the caller's thread; not shared.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace moestro::engine {

struct TextStreamOptions {
  std::vector<std::string> stop;          // non-empty strings
  bool include_stop_in_output = false;
  bool skip_special_tokens = true;
  int32_t min_tokens = 0;                 // stop strings count only after so many tokens
};

// Text that became certain, with the tokens that brought it.
struct TextDelta {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<PositionLogprobs> logprobs;
  FinishReason finish = FinishReason::kNone;
  std::optional<std::string> stop_string;  // which stop string ended it
  std::optional<int32_t> stop_token;       // or which token (its text is not part of `text` unless include_stop_in_output)
};

class TextStream {
 public:
  TextStream(const text::Tokenizer& tokenizer, TextStreamOptions options);
  // finish kStop with a stop_string while the engine still runs: the caller must cancel the request and ignore later events.
  TextDelta push(const TokenEvent& event);
  bool finished() const { return finished_; }
  int32_t num_tokens() const { return num_tokens_; }

 private:
  TextStreamOptions options_;
  text::StreamingDetokenizer detokenizer_;
  std::string held_;                       // certain characters that may begin a stop string
  int32_t num_tokens_ = 0;
  bool finished_ = false;
};

}  // namespace moestro::engine
