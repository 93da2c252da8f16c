// TextStream: turns one request's TokenEvents into text as a client sees it: detokenises, holds
// back half characters and possible beginnings of stop strings, cuts at a stop string. Used by
// server/ and app/, on the caller's thread; not shared.
#pragma once
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace moestro::engine {

struct TextStreamOptions {
  std::vector<std::string> stop;  // non-empty strings
  bool include_stop_in_output = false;
  bool skip_special_tokens = true;
  // Special tokens are part of the text, whatever the line above says, and every added token is
  // marked in TextDelta::added: for parsers that tell tags by their tokens.
  bool mark_added_tokens = false;
  int32_t min_tokens = 0;  // a stop string counts only if a later token than this completes it
  std::vector<int32_t>
      prompt_tail;  // last ids of the prompt that the text continues; empty: it starts afresh
};

// Text that became certain, with the tokens that brought it: a token comes with the last of its
// text. At the end all tokens up to the one that completed the stop come, also those whose text is
// cut off.
struct TextDelta {
  struct AddedToken {
    size_t begin, end;  // in text
    int32_t id;
  };
  std::string text;
  std::vector<AddedToken> added;  // with mark_added_tokens, in order
  std::vector<int32_t> tokens;
  std::vector<PositionLogprobs> logprobs;
  FinishReason finish = FinishReason::kNone;
  std::optional<std::string> stop_string;  // which stop string ended it
  std::optional<int32_t>
      stop_token;  // or which token (no text of it unless include_stop_in_output)
};

class TextStream {
 public:
  TextStream(const text::Tokenizer& tokenizer, TextStreamOptions options);
  // finish kStop with a stop_string while the engine still runs: the caller must cancel the request
  // and ignore later events; pushing them does nothing.
  TextDelta push(const TokenEvent& event);
  bool finished() const { return finished_; }
  int32_t num_tokens() const { return num_tokens_; }

 private:
  struct HeldToken {
    int32_t id;
    PositionLogprobs logprobs;
    size_t text_end;  // bytes of text_ that belong to it and those before
  };
  struct Match {
    size_t begin, end;  // in held_
    const std::string* stop;
  };
  void append(int32_t id);
  std::optional<Match> find_stop(size_t new_from) const;
  size_t possible_stop_bytes() const;
  void release(size_t bytes, TextDelta& delta);
  bool check_stop(size_t new_from, TextDelta& delta);
  void end(FinishReason reason, TextDelta& delta);

  const text::Tokenizer* tokenizer_;
  TextStreamOptions options_;
  text::StreamingDetokenizer detokenizer_;
  std::string held_;                         // certain characters that may begin a stop string
  std::deque<HeldToken> tokens_;             // not yet given out
  std::deque<TextDelta::AddedToken> added_;  // not yet given out; positions in the whole text
  size_t released_ = 0;                      // bytes of text given out
  int32_t num_tokens_ = 0;
  bool finished_ = false;
};

}  // namespace moestro::engine
