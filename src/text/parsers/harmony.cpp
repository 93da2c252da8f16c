// gpt-oss: messages [<|start|>ROLE] HEADER <|message|> CONTENT END. The prompt ended with
// <|start|>assistant, so the first one begins with its header.
#include <utility>

#include "text/parsers/formats.h"

namespace moestro::text::parsers {
namespace {

constexpr size_t kMaxHeaderBytes = 1024;

class Harmony final : public ToolMachine {
 public:
  Harmony(Tags& tags, const OutputParserOptions& options)
      : ToolMachine(options.tools),
        reasons_(!options.reasoning_parser.empty()),
        calls_(!options.tool_parser.empty()),
        channel_(tags.add("<|channel|>")),
        constrain_(tags.add("<|constrain|>")),
        message_(tags.add("<|message|>")),
        start_(tags.add("<|start|>")),
        ends_{start_, tags.add("<|end|>"), tags.add("<|call|>"), tags.add("<|return|>")},
        header_ends_(ends_) {
    header_ends_.push_back(message_);
  }

 private:
  enum class State : uint8_t { kFirst, kHeader, kBody, kBetween };
  enum class Body : uint8_t { kReasoning, kContent, kCall };

  bool step(OutputEvents& out) override {
    switch (state_) {
      case State::kFirst:
        return first();
      case State::kHeader:
        return header(out);
      case State::kBody:
        return body(out);
      case State::kBetween:
        return between();
    }
    return false;
  }

  // Text without any header is the answer.
  bool first() {
    const std::string_view text = in_.view();
    const size_t space = count_leading_space(text);
    if (space == text.size() && !final_) return false;
    bool header = false;
    for (const std::string_view tag : {std::string_view(channel_), std::string_view(message_),
                                       std::string_view("to="), std::string_view(start_)}) {
      const Starts s = starts(text.substr(space), tag);
      if (s == Starts::kMaybe && !final_) return false;
      header = header || s == Starts::kYes;
    }
    if (!header) {
      body_ = Body::kContent;
      state_ = State::kBody;
      return true;
    }
    if (starts(text.substr(space), start_) == Starts::kYes) in_.drop(space + start_.size());
    state_ = State::kHeader;
    return true;
  }

  bool header(OutputEvents& out) {
    const std::string_view text = in_.view();
    const auto found = find_first(text, header_ends_);
    const size_t length = found ? found->at : text.size();
    if (!found && !final_ && length <= kMaxHeaderBytes) return false;
    state_ = State::kBody;
    if (found && found->tag == ends_.size() && length <= kMaxHeaderBytes &&
        read_header(text.substr(0, length), out)) {
      in_.drop(found->end);
    } else {  // no header after all: the text is the answer's
      body_ = Body::kContent;
      newline_ = any_content_;
    }
    return true;
  }

  struct Header {
    std::string_view channel, recipient;
  };
  // [ROLE] [to=R] <|channel|>CHANNEL [to=R] [<|constrain|>TYPE | TYPE]; nothing else.
  std::optional<Header> parse_header(std::string_view head) const {
    Header h;
    bool typed = false, in_channel = false, constrained = false;
    int words = 0;
    while (true) {
      head = head.substr(count_leading_space(head));
      if (head.empty()) return h;
      if (head.starts_with(channel_)) {
        if (std::exchange(in_channel, true)) return std::nullopt;
        head.remove_prefix(channel_.size());
        head = head.substr(count_leading_space(head));
        h.channel = take_word(head);
        if (h.channel.empty()) return std::nullopt;
        continue;
      }
      if (head.starts_with(constrain_)) {
        if (std::exchange(constrained, true)) return std::nullopt;
        head.remove_prefix(constrain_.size());
        continue;
      }
      const std::string_view word = take_word(head);
      if (word.empty()) return std::nullopt;
      if (word.starts_with("to=") && h.recipient.empty()) {
        h.recipient = word.substr(3);
      } else if (in_channel || constrained) {
        if (std::exchange(typed, true)) return std::nullopt;
      } else if (++words > 1) {
        return std::nullopt;
      }
    }
  }
  static std::string_view take_word(std::string_view& text) {
    const std::string_view word = text.substr(0, text.find_first_of(" \n\r\t<\xff"));
    text.remove_prefix(word.size());
    return word;
  }

  // False: no header.
  bool read_header(std::string_view head, OutputEvents& out) {
    const auto h = parse_header(head);
    if (!h) return false;
    const std::string_view channel = h->channel, recipient = h->recipient;
    constexpr std::string_view kFunctions = "functions.";
    const bool function = recipient.starts_with(kFunctions);
    if (function && calls_ && accepts(recipient.substr(kFunctions.size()))) {
      body_ = Body::kCall;
      any_arguments_ = false;
      begin_call(recipient.substr(kFunctions.size()), out);
      return true;
    }
    // Built-in tools that nobody runs here are part of the thinking.
    const bool thought = !function && (channel == "analysis" || !recipient.empty());
    body_ = thought && reasons_ ? Body::kReasoning : Body::kContent;
    bool& before = body_ == Body::kReasoning ? any_reasoning_ : any_content_;
    newline_ = before;
    return true;
  }

  bool body(OutputEvents& out) {
    const std::string_view text = in_.view();
    const auto found = find_first(text, ends_);
    const size_t certain = found    ? found->at
                           : final_ ? text.size()
                                    : text.size() - open_suffix(text, ends_);
    emit(text.substr(0, certain), out);
    if (body_ == Body::kCall && !any_arguments_ && (found || (final_ && !cut_)))
      arguments("{}", out);
    if (found) {
      in_.drop(found->tag == 0 ? found->at : found->end);
      state_ = State::kBetween;
      return true;
    }
    in_.drop(certain);
    return false;
  }

  void emit(std::string_view text, OutputEvents& out) {
    if (text.empty()) return;
    if (body_ == Body::kCall) {
      any_arguments_ = true;
      return arguments(text, out);
    }
    const bool reasoning = body_ == Body::kReasoning;
    const auto kind = reasoning ? OutputEvent::Kind::kReasoning : OutputEvent::Kind::kContent;
    if (newline_) out.add(kind, "\n");
    newline_ = false;
    (reasoning ? any_reasoning_ : any_content_) = true;
    out.add(kind, text);
  }

  // Behind a message: the next one, or text that belongs to none.
  bool between() {
    const std::string_view text = in_.view();
    const size_t space = count_leading_space(text);
    if (space == text.size()) return false;
    const Starts s = starts(text.substr(space), start_);
    if (s == Starts::kMaybe && !final_) return false;
    if (s == Starts::kYes) {
      in_.drop(space + start_.size());
      state_ = State::kHeader;
      return true;
    }
    body_ = Body::kContent;
    newline_ = any_content_;
    state_ = State::kBody;
    return true;
  }

  const bool reasons_, calls_;
  const std::string channel_, constrain_, message_, start_;
  const std::vector<std::string> ends_;   // <|start|> first: it stays for the next message
  std::vector<std::string> header_ends_;  // the same, then <|message|>
  State state_ = State::kFirst;
  Body body_ = Body::kContent;
  bool any_reasoning_ = false, any_content_ = false, any_arguments_ = false, newline_ = false;
};

}  // namespace

std::unique_ptr<Machine> make_harmony(Tags& tags, const OutputParserOptions& options) {
  return std::make_unique<Harmony>(tags, options);
}

}  // namespace moestro::text::parsers
