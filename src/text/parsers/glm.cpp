// GLM-4.5 to 5: <tool_call>NAME<arg_key>K</arg_key><arg_value>V</arg_value>…</tool_call>.
#include "base/strings.h"
#include "text/parsers/argument_writer.h"
#include "text/parsers/formats.h"

namespace moestro::text::parsers {
namespace {

class Glm final : public ToolMachine {
 public:
  Glm(Tags& tags, const OutputParserOptions& options)
      : ToolMachine(options.tools),
        open_{tags.add("<tool_call>")},
        key_open_(tags.add("<arg_key>")),
        key_close_(tags.add("</arg_key>")),
        value_open_(tags.add("<arg_value>")),
        close_(tags.add("</tool_call>")),
        value_ends_{tags.add("</arg_value>")} {
    // A closing tag that is a token ends the value too; as text it may belong to it.
    if (close_.front() == kTokenMark) value_ends_.push_back(close_);
  }

 private:
  enum class State : uint8_t { kContent, kName, kPairs, kKey, kValueOpen, kValue };

  bool step(OutputEvents& out) override {
    switch (state_) {
      case State::kContent:
        if (!content_until(open_, out)) return false;
        state_ = State::kName;
        return true;
      case State::kName:
        return name(out);
      case State::kPairs:
        return pairs(out);
      case State::kKey:
        return key(out);
      case State::kValueOpen:
        return value_open(out);
      case State::kValue:
        return value(out);
    }
    return false;
  }

  // in_ begins with the opening tag.
  bool name(OutputEvents& out) {
    const std::string ends[] = {key_open_, close_};
    const std::string_view text = in_.view().substr(open_[0].size());
    const auto found = find_first(text, ends);
    const size_t length = found ? found->at : text.size();
    const std::string_view name = trim(text.substr(0, length));
    const bool complete = found || (final_ && !cut_);
    if (complete && length <= kMaxNameBytes && accepts(name)) {
      begin_call(name, out);
      const json::value* schema = schema_of(name);
      writer_ = ArgumentWriter(schema);
      in_.drop(open_[0].size() + length);
      state_ = State::kPairs;
      return true;
    }
    if (!complete && !final_ && length <= kMaxNameBytes + key_open_.size()) return false;
    content(open_[0], out);
    in_.drop(open_[0].size());
    state_ = State::kContent;
    return true;
  }

  bool pairs(OutputEvents& out) {
    const std::string ends[] = {key_open_, close_};
    const auto found = content_until(ends, out);
    if (!found) {
      if (final_ && !cut_) end_call(out);
      return false;
    }
    forget_space();
    in_.drop(found->end);
    if (found->tag == 1) {
      end_call(out);
    } else {
      state_ = State::kKey;
    }
    return true;
  }

  // Tolerates a missing </arg_key>.
  bool key(OutputEvents& out) {
    const std::string ends[] = {key_close_, value_open_, close_};
    const auto found = find_first(in_.view(), ends);
    if (!found || found->tag == 2) return stray_key(found ? found->at : in_.size(), !found, out);
    key_ = std::string(trim(in_.view().substr(0, found->at)));
    in_.drop(found->tag == 0 ? found->end : found->at);
    state_ = State::kValueOpen;
    return true;
  }
  // A key without a value is no argument: its text stays as content.
  bool stray_key(size_t length, bool open, OutputEvents& out) {
    if (open && !final_) return false;
    content(key_open_, out);
    content(in_.view().substr(0, length), out);
    in_.drop(length);
    state_ = State::kPairs;
    return true;
  }

  bool value_open(OutputEvents& out) {
    const std::string_view text = in_.view();
    const size_t space = count_leading_space(text);
    const Starts s = starts(text.substr(space), value_open_);
    if (s == Starts::kMaybe && !final_) return false;
    if (s == Starts::kYes) {
      in_.drop(space + value_open_.size());
      std::string json;
      writer_.begin_value(key_, json);
      arguments(json, out);
      state_ = State::kValue;
      return true;
    }
    content(key_open_, out);
    content(key_, out);
    content(key_close_, out);
    state_ = State::kPairs;
    return true;
  }

  bool value(OutputEvents& out) {
    const std::string_view text = in_.view();
    const auto found = find_first(text, value_ends_);
    const size_t certain = found    ? found->at
                           : final_ ? text.size()
                                    : text.size() - open_suffix(text, value_ends_);
    std::string json;
    writer_.value(text.substr(0, certain), json);
    in_.drop(found && found->tag == 0 ? found->end : certain);
    const bool ends = found || (final_ && !cut_);
    if (ends) {
      writer_.end_value(json);
      state_ = State::kPairs;
    } else if (final_) {
      writer_.cut(json);
    }
    arguments(json, out);
    return ends;
  }

  void end_call(OutputEvents& out) {
    std::string json;
    writer_.end(json);
    arguments(json, out);
    state_ = State::kContent;
  }

  const std::vector<std::string> open_;
  const std::string key_open_, key_close_, value_open_, close_;
  std::vector<std::string> value_ends_;
  State state_ = State::kContent;
  ArgumentWriter writer_;
  std::string key_;
};

}  // namespace

std::unique_ptr<ToolMachine> make_glm(Tags& tags, const OutputParserOptions& options) {
  return std::make_unique<Glm>(tags, options);
}

}  // namespace moestro::text::parsers
