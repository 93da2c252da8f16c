// Calls that are JSON objects with a name: between tags (hermes: Qwen3 and many others), as the
// whole answer (Llama), and what tool_choice forces.
#include <algorithm>
#include <utility>

#include "text/parsers/call_object.h"
#include "text/parsers/formats.h"

namespace moestro::text::parsers {
namespace {

// Reading of one object that begins at in_[begin]. Nothing is dropped before the call is certain,
// so that what turns out to be none is still there.
class ObjectReader {
 public:
  enum class Result : uint8_t { kMore, kBegun, kDone, kBad };

  void start(size_t begin) {
    object_ = {};
    at_ = begin;
    end_ = 0;
    ended_ = begun_ = complete_ = false;
  }
  // Up to where the call is certain (kBegun, once: its name is known and its arguments begin), its
  // end, a byte that does not belong there, or the end of text. stop: where to end at the latest.
  Result read(std::string_view text, size_t stop) {
    const size_t end = std::min(text.size(), stop);
    while (at_ < end) {
      const auto s = object_.feed(text[at_]);
      if (s == CallObject::State::kBad) return Result::kBad;
      ++at_;
      const bool done = s == CallObject::State::kDone;
      const bool certain = object_.has_name() && (object_.has_arguments() || done);
      if (done || (certain && !ended_ && object_.arguments_complete())) {
        end_ = at_;
        ended_ = true;
      }
      complete_ = done;
      if (certain && !std::exchange(begun_, true)) return Result::kBegun;
      if (done) return Result::kDone;
    }
    return complete_ && begun_ ? Result::kDone : Result::kMore;
  }
  // Bytes that need not stay: what comes behind the arguments may yet turn out to be text.
  size_t decided() const { return ended_ ? end_ : at_; }
  void dropped(size_t n) {
    at_ -= n;
    if (ended_) end_ -= n;
  }
  bool begun() const { return begun_; }
  CallObject& object() { return object_; }

 private:
  CallObject object_;
  size_t at_ = 0;
  size_t end_ = 0;  // behind the arguments, or the object
  bool ended_ = false, begun_ = false, complete_ = false;
};

class Hermes final : public ToolMachine {
 public:
  Hermes(Tags& tags, const OutputParserOptions& options)
      : ToolMachine(options.tools),
        open_{tags.add("<tool_call>")},
        close_{tags.add("</tool_call>")} {}

 private:
  enum class State : uint8_t { kContent, kObject, kAfter };

  bool step(OutputEvents& out) override {
    switch (state_) {
      case State::kContent:
        if (!content_until(open_, out)) return false;
        reader_.start(open_[0].size());
        state_ = State::kObject;
        return true;
      case State::kObject:
        return object(out);
      case State::kAfter: {
        const std::string tags[] = {close_[0], open_[0]};
        const auto found = content_until(tags, out);
        if (!found) return false;
        if (found->tag == 0) in_.drop(found->end);
        forget_space();
        state_ = State::kContent;
        return true;
      }
    }
    return false;
  }

  bool object(OutputEvents& out) {
    const std::string_view text = in_.view();
    // A closing tag that is a token ends the object in any case; as text it may be in a string.
    size_t stop = text.size();
    const bool token = close_[0].front() == kTokenMark;
    bool closed = false;
    if (token) {
      const size_t at = text.find(close_[0], reader_.begun() ? 0 : open_[0].size());
      closed = at != std::string_view::npos;
      stop = closed ? at : final_ ? text.size() : text.size() - open_suffix(text, close_);
    }
    const auto r = reader_.read(text, stop);
    if (r == ObjectReader::Result::kBegun) {
      if (!accepts(reader_.object().name())) return give_up(out);
      begin_call(reader_.object().name(), out);
      drop_read(out);
      return true;
    }
    if (!reader_.begun()) {
      if (r == ObjectReader::Result::kMore && !closed && !final_) return false;
      return give_up(out);
    }
    drop_read(out);
    if (r == ObjectReader::Result::kMore && !closed && !final_) return false;
    state_ = State::kAfter;
    return true;
  }
  void drop_read(OutputEvents& out) {
    arguments(reader_.object().take_arguments(), out);
    in_.drop(reader_.decided());
    reader_.dropped(reader_.decided());
  }
  bool give_up(OutputEvents& out) {
    content(open_[0], out);
    in_.drop(open_[0].size());
    state_ = State::kContent;
    return true;
  }

  const std::vector<std::string> open_, close_;
  State state_ = State::kContent;
  ObjectReader reader_;
};

class Llama final : public ToolMachine {
 public:
  Llama(Tags& tags, const OutputParserOptions& options)
      : ToolMachine(options.tools), tag_(tags.add("<|python_tag|>")) {}

 private:
  enum class State : uint8_t { kStart, kObject, kAfter, kContent };

  bool step(OutputEvents& out) override {
    switch (state_) {
      case State::kStart:
        return start();
      case State::kObject:
        return object(out);
      case State::kAfter: {  // parallel calls: objects with ; between them
        const std::string_view text = in_.view();
        const size_t space = count_leading_space(text);
        if (space == text.size()) return false;
        if (text[space] == ';' || text[space] == ',') {
          const size_t more = count_leading_space(text.substr(space + 1));
          if (space + 1 + more == text.size()) {
            if (!final_) return false;
          } else if (text[space + 1 + more] == '{') {
            begin_ = space + 1 + more;
            reader_.start(begin_);
            state_ = State::kObject;
            return true;
          }
        }
        state_ = State::kContent;
        return true;
      }
      case State::kContent:
        content(in_.view(), out);
        in_.drop(in_.size());
        return false;
    }
    return false;
  }

  bool start() {
    const std::string_view text = in_.view();
    size_t begin = count_leading_space(text);
    const Starts s = starts(text.substr(begin), tag_);
    if (s == Starts::kMaybe && !final_) return false;
    if (s == Starts::kYes) {
      begin += tag_.size();
      begin += count_leading_space(text.substr(begin));
      if (begin == text.size() && !final_) return false;
    }
    begin_ = begin;
    reader_.start(begin);
    state_ = begin < text.size() && text[begin] == '{' ? State::kObject : State::kContent;
    return true;
  }

  bool object(OutputEvents& out) {
    const auto r = reader_.read(in_.view(), in_.size());
    if (r == ObjectReader::Result::kBegun) {
      if (!accepts(reader_.object().name())) return give_up();
      begin_call(reader_.object().name(), out);
      drop_read(out);
      return true;
    }
    if (!reader_.begun()) {
      if (r == ObjectReader::Result::kMore && !final_) return false;
      return give_up();
    }
    drop_read(out);
    if (r == ObjectReader::Result::kMore && !final_) return false;
    state_ = r == ObjectReader::Result::kDone ? State::kAfter : State::kContent;
    return true;
  }
  bool give_up() {
    state_ = State::kContent;
    return true;
  }
  void drop_read(OutputEvents& out) {
    arguments(reader_.object().take_arguments(), out);
    in_.drop(reader_.decided());
    reader_.dropped(reader_.decided());
  }

  const std::string tag_;
  State state_ = State::kStart;
  ObjectReader reader_;
  size_t begin_ = 0;
};

// The output is [{"name", "parameters"}, …], or the arguments of one function: a grammar saw to it.
class ForcedCall final : public ToolMachine {
 public:
  explicit ForcedCall(std::string name) : ToolMachine({}), name_(std::move(name)) {}

 private:
  bool step(OutputEvents& out) override { return name_.empty() ? list(out) : named(out); }

  bool named(OutputEvents& out) {
    if (num_calls() == 0) {
      in_.drop(count_leading_space(in_.view()));
      if (in_.empty()) return false;
      begin_call(name_, out);
    }
    // White space behind the arguments is none of them.
    std::string_view text = in_.view();
    text.remove_suffix(count_trailing_space(text));
    arguments(text, out);
    in_.drop(text.size());
    return false;
  }

  bool list(OutputEvents& out) {
    const std::string_view text = in_.view();
    if (bad_) {
      content(text, out);
      in_.drop(text.size());
      return false;
    }
    if (!in_object_) {
      size_t n = 0;
      while (n < text.size() &&
             (is_space(text[n]) || text[n] == '[' || text[n] == ',' || text[n] == ']'))
        ++n;
      in_.drop(n);
      if (in_.empty()) return false;
      reader_.start(0);
      in_object_ = true;
      return true;
    }
    const auto r = reader_.read(text, text.size());
    if (r == ObjectReader::Result::kBegun) begin_call(reader_.object().name(), out);
    if (!reader_.begun()) {
      if (r == ObjectReader::Result::kMore && !final_) return false;
      bad_ = true;
      return true;
    }
    arguments(reader_.object().take_arguments(), out);
    in_.drop(reader_.decided());
    reader_.dropped(reader_.decided());
    if (r == ObjectReader::Result::kMore && !final_) return false;
    if (r == ObjectReader::Result::kDone) in_object_ = false;
    bad_ = r == ObjectReader::Result::kBad || r == ObjectReader::Result::kMore;
    return true;
  }

  const std::string name_;
  ObjectReader reader_;
  bool in_object_ = false, bad_ = false;
};

}  // namespace

std::unique_ptr<ToolMachine> make_hermes(Tags& tags, const OutputParserOptions& options) {
  return std::make_unique<Hermes>(tags, options);
}
std::unique_ptr<ToolMachine> make_llama(Tags& tags, const OutputParserOptions& options) {
  return std::make_unique<Llama>(tags, options);
}
std::unique_ptr<Machine> make_forced_call(std::string name) {
  return std::make_unique<ForcedCall>(std::move(name));
}

}  // namespace moestro::text::parsers
