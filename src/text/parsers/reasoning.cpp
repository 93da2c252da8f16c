#include "text/parsers/reasoning.h"

#include "text/parsers/formats.h"

namespace moestro::text::parsers {
namespace {

size_t count_leading_newlines(std::string_view text) {
  size_t n = 0;
  while (n < text.size() && (text[n] == '\n' || text[n] == '\r')) ++n;
  return n;
}
size_t count_trailing_newlines(std::string_view text) {
  size_t n = 0;
  while (n < text.size() &&
         (text[text.size() - 1 - n] == '\n' || text[text.size() - 1 - n] == '\r'))
    ++n;
  return n;
}

class Reasoning final : public Machine {
 public:
  Reasoning(Tags& tags, const OutputParserOptions& options, std::unique_ptr<Machine> next)
      : next_(std::move(next)), open_(tags.add("<think>")), ends_{tags.add("</think>")} {
    // A call inside an unfinished block ends it.
    for (const std::string_view tag : tool_start_tags(options.tool_parser))
      ends_.push_back(tags.add(tag));
    state_ = options.start == ReasoningStart::kInside    ? State::kBegin
             : options.start == ReasoningStart::kOutside ? State::kAnswer
                                                         : State::kWait;
  }

 private:
  enum class State : uint8_t { kWait, kBegin, kInside, kGap, kAnswer };

  bool step(OutputEvents& out) override {
    switch (state_) {
      case State::kWait:
        return wait(true);
      case State::kBegin:
        return wait(false);
      case State::kInside:
        return inside(out);
      case State::kGap: {
        in_.drop(count_leading_newlines(in_.view()));
        if (in_.empty()) return false;
        state_ = State::kAnswer;
        return true;
      }
      case State::kAnswer:
        if (in_.empty()) return false;
        next_->push(in_.view(), out);
        in_.drop(in_.size());
        return false;
    }
    return false;
  }

  // For the opening tag behind white space. must: without it nothing is reasoning.
  bool wait(bool must) {
    const std::string_view text = in_.view();
    const size_t space = count_leading_space(text);
    const Starts s = starts(text.substr(space), open_);
    if (s == Starts::kYes) {
      in_.drop(space + open_.size());
      state_ = State::kBegin;
      return true;
    }
    if (s == Starts::kMaybe && !final_) return false;
    if (must) {
      state_ = State::kAnswer;
      return true;
    }
    const size_t newlines = count_leading_newlines(text);
    in_.drop(newlines);
    if (newlines == text.size() && !final_) return false;
    state_ = State::kInside;
    return true;
  }

  bool inside(OutputEvents& out) {
    const std::string_view text = in_.view();
    const auto found = find_first(text, ends_);
    if (found) {
      const std::string_view before = text.substr(0, found->at);
      out.add(OutputEvent::Kind::kReasoning,
              before.substr(0, before.size() - count_trailing_newlines(before)));
      in_.drop(found->tag == 0 ? found->end : found->at);
      state_ = found->tag == 0 ? State::kGap : State::kAnswer;
      return true;
    }
    const size_t held = final_ ? 0 : open_suffix(text, ends_);
    std::string_view certain = text.substr(0, text.size() - held);
    certain.remove_suffix(count_trailing_newlines(certain));
    out.add(OutputEvent::Kind::kReasoning, certain);
    in_.drop(certain.size());
    return false;
  }

  void on_finish(OutputEvents& out) override { next_->finish(cut_, out); }

  std::unique_ptr<Machine> next_;
  const std::string open_;
  std::vector<std::string> ends_;  // the closing tag first
  State state_;
};

}  // namespace

std::unique_ptr<Machine> make_reasoning(Tags& tags, const OutputParserOptions& options,
                                        std::unique_ptr<Machine> next) {
  return std::make_unique<Reasoning>(tags, options, std::move(next));
}

}  // namespace moestro::text::parsers
