#include "engine/text_stream.h"

#include <algorithm>
#include <string_view>

namespace moestro::engine {

TextStream::TextStream(const text::Tokenizer& tokenizer, TextStreamOptions options)
    : tokenizer_(&tokenizer),
      options_(std::move(options)),
      detokenizer_(tokenizer, options_.skip_special_tokens && !options_.mark_added_tokens) {
  std::erase(options_.stop, std::string());
  if (!options_.prompt_tail.empty()) detokenizer_.prime(options_.prompt_tail);
}

TextDelta TextStream::push(const TokenEvent& event) {
  TextDelta delta;
  for (size_t i = 0; i < event.tokens.size() && !finished_; ++i) {
    const int32_t id = event.tokens[i];
    const bool stops = event.stop_token >= 0 && i + 1 == event.tokens.size();
    const size_t new_from = held_.size();
    if (!stops || options_.include_stop_in_output) append(id);
    ++num_tokens_;
    tokens_.push_back({id, i < event.logprobs.size() ? event.logprobs[i] : PositionLogprobs{},
                       released_ + held_.size()});
    if (!check_stop(new_from, delta)) release(held_.size() - possible_stop_bytes(), delta);
  }
  if (finished_ || event.finish == FinishReason::kNone) return delta;
  // What the detokenizer still held may complete a stop string too.
  const size_t new_from = held_.size();
  held_ += detokenizer_.flush();
  if (!tokens_.empty()) tokens_.back().text_end = released_ + held_.size();
  if (check_stop(new_from, delta)) return delta;
  if (event.stop_token >= 0) delta.stop_token = event.stop_token;
  end(event.finish, delta);
  return delta;
}

void TextStream::append(int32_t id) {
  const size_t before = held_.size();
  held_ += detokenizer_.push(id);
  if (!options_.mark_added_tokens || !tokenizer_->is_added(id)) return;
  const std::string_view content = tokenizer_->token_content(id);
  const std::string_view news = std::string_view(held_).substr(before);
  const size_t end = released_ + held_.size();
  if (!content.empty() && news.ends_with(content))
    added_.push_back({end - content.size(), end, id});
}

// Looks for a stop string that ends in held_[new_from, …); if there is one, ends the stream at it.
bool TextStream::check_stop(size_t new_from, TextDelta& delta) {
  if (num_tokens_ <= options_.min_tokens || held_.size() == new_from) return false;
  const std::optional<Match> match = find_stop(new_from);
  if (!match) return false;
  held_.resize(options_.include_stop_in_output ? match->end : match->begin);
  delta.stop_string = *match->stop;
  end(FinishReason::kStop, delta);
  return true;
}

// The match that ends first, as if the text came byte by byte; of those, the one that begins first.
std::optional<TextStream::Match> TextStream::find_stop(size_t new_from) const {
  std::optional<Match> best;
  for (const std::string& stop : options_.stop) {
    const size_t from = new_from + 1 > stop.size() ? new_from + 1 - stop.size() : 0;
    const size_t begin = held_.find(stop, from);
    if (begin == std::string::npos) continue;
    const size_t end = begin + stop.size();
    if (!best || end < best->end || (end == best->end && begin < best->begin))
      best = Match{begin, end, &stop};
  }
  return best;
}

// The longest end of held_ that some stop string begins with.
size_t TextStream::possible_stop_bytes() const {
  size_t most = 0;
  const std::string_view held = held_;
  for (const std::string& stop : options_.stop)
    for (size_t n = std::min(held.size(), stop.size() - 1); n > most; --n)
      if (held.substr(held.size() - n) == std::string_view(stop).substr(0, n)) most = n;
  return most;
}

void TextStream::release(size_t bytes, TextDelta& delta) {
  // A marked token comes whole.
  for (const TextDelta::AddedToken& a : added_)
    if (!finished_ && a.begin < released_ + bytes && released_ + bytes < a.end)
      bytes = a.begin - released_;
  const size_t base = delta.text.size();
  for (; !added_.empty() && added_.front().end <= released_ + bytes; added_.pop_front()) {
    const TextDelta::AddedToken& a = added_.front();
    delta.added.push_back({base + a.begin - released_, base + a.end - released_, a.id});
  }
  delta.text.append(held_, 0, bytes);
  held_.erase(0, bytes);
  released_ += bytes;
  // A token without text of its own (half a character, a hidden special token) goes with what is
  // before it.
  for (; !tokens_.empty() && tokens_.front().text_end <= released_; tokens_.pop_front()) {
    delta.tokens.push_back(tokens_.front().id);
    if (!tokens_.front().logprobs.entries.empty())
      delta.logprobs.push_back(std::move(tokens_.front().logprobs));
  }
}

void TextStream::end(FinishReason reason, TextDelta& delta) {
  finished_ = true;
  delta.finish = reason;
  for (HeldToken& token : tokens_) token.text_end = 0;
  release(held_.size(), delta);
}

}  // namespace moestro::engine
