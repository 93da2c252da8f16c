// Blocks of invocations: <BLOCK><invoke name="F"><parameter name="K">V</parameter></invoke></BLOCK>
// and its relatives.
#include "base/strings.h"
#include "text/parsers/argument_writer.h"
#include "text/parsers/formats.h"

namespace moestro::text::parsers {
namespace {

// The value of an attribute, with either quotes or none: up to `"`, or the whole.
std::string_view unquote(std::string_view text) {
  text = trim(text);
  if (text.empty() || (text.front() != '"' && text.front() != '\'')) return text;
  const size_t end = text.find(text.front(), 1);
  return text.substr(1, end == std::string_view::npos ? end : end - 1);
}

constexpr size_t kMaxHeadBytes = 512;

// K, "K" or 'K', and no more than string="…" behind it.
bool is_head(std::string_view head) {
  head = trim(head);
  if (head.empty() || (head.front() != '"' && head.front() != '\'')) return !head.empty();
  const size_t end = head.find(head.front(), 1);
  if (end == std::string_view::npos) return false;
  const std::string_view rest = trim(head.substr(end + 1));
  return rest.empty() || rest == "string=\"true\"" || rest == "string=\"false\"";
}

class Invoke final : public ToolMachine {
 public:
  Invoke(Tags& tags, const OutputParserOptions& options, const InvokeFormat& format)
      : ToolMachine(options.tools),
        format_(format),
        block_open_(tags.add(format.block_open)),
        block_close_(tags.add(format.block_close)),
        call_open_(tags.add(format.call_open)),
        call_close_(tags.add(format.call_close)),
        param_open_(tags.add(format.param_open)),
        value_ends_{tags.add(format.param_close)} {
    // Qwen3-Coder forgets closing tags; elsewhere other tags may be the value's text.
    if (format.trim_newlines) value_ends_.insert(value_ends_.end(), {param_open_, call_close_});
    if (block_close_.front() == kTokenMark) value_ends_.push_back(block_close_);
  }

 private:
  enum class State : uint8_t { kContent, kBlock, kName, kParams, kKey, kValueBegin, kValue };

  bool step(OutputEvents& out) override {
    switch (state_) {
      case State::kContent:
        return outside(out);
      case State::kBlock:
        return block(out);
      case State::kName:
        return name(out);
      case State::kParams:
        return params(out);
      case State::kKey:
        return key(out);
      case State::kValueBegin:
        return value_begin();
      case State::kValue:
        return value(out);
    }
    return false;
  }

  bool outside(OutputEvents& out) {
    std::vector<std::string> tags{block_open_};
    if (in_block_ || format_.block_optional) tags.push_back(call_open_);
    if (in_block_) tags.push_back(block_close_);
    const auto found = content_until(tags, out);
    if (!found) return false;
    if (found->tag == 0) {
      state_ = State::kBlock;
    } else if (found->tag == 1) {
      state_ = State::kName;
    } else {
      in_.drop(found->end);
      in_block_ = false;
    }
    return true;
  }

  // in_ begins with the block's tag; it is one only if a call follows.
  bool block(OutputEvents& out) {
    const std::string_view text = in_.view().substr(block_open_.size());
    const size_t space = count_leading_space(text);
    const Starts s = starts(text.substr(space), call_open_);
    if (s == Starts::kMaybe && !final_) return false;
    if (s == Starts::kYes) {
      const auto end = find_name_end(text.substr(space));
      if (end == NameEnd::kWait) return false;
      if (end == NameEnd::kGood) {
        in_.drop(block_open_.size() + space);
        in_block_ = true;
        state_ = State::kName;
        return true;
      }
    }
    content(block_open_, out);
    in_.drop(block_open_.size());
    state_ = State::kContent;
    return true;
  }

  enum class NameEnd : uint8_t { kWait, kGood, kBad };
  // text begins with the call's tag.
  NameEnd find_name_end(std::string_view text) const {
    text.remove_prefix(call_open_.size());
    const size_t end = text.find('>');
    if (end == std::string_view::npos)
      return final_ || text.size() > kMaxNameBytes ? NameEnd::kBad : NameEnd::kWait;
    return end <= kMaxNameBytes && accepts(unquote(text.substr(0, end))) ? NameEnd::kGood
                                                                         : NameEnd::kBad;
  }

  bool name(OutputEvents& out) {
    const NameEnd found = find_name_end(in_.view());
    if (found == NameEnd::kWait) return false;
    if (found == NameEnd::kBad) {
      content(call_open_, out);
      in_.drop(call_open_.size());
      state_ = State::kContent;
      return true;
    }
    const std::string_view text = in_.view().substr(call_open_.size());
    const size_t end = text.find('>');
    const std::string name(unquote(text.substr(0, end)));
    begin_call(name, out);
    writer_ = ArgumentWriter(schema_of(name));
    in_.drop(call_open_.size() + end + 1);
    state_ = State::kParams;
    return true;
  }

  // Between parameters. A call that was not closed ends at the next one, and with the block.
  bool params(OutputEvents& out) {
    std::vector<std::string> tags{param_open_, call_close_, call_open_};
    if (in_block_) tags.push_back(block_close_);
    const auto found = content_until(tags, out);
    if (!found) {
      if (final_ && !cut_) end_call(out);
      return false;
    }
    forget_space();
    if (found->tag == 0) {
      state_ = State::kKey;
      return true;
    }
    if (found->tag == 1) in_.drop(found->end);
    end_call(out);
    return true;
  }

  // in_ begins with the parameter's tag.
  bool key(OutputEvents& out) {
    const std::string_view text = in_.view().substr(param_open_.size());
    const size_t end = text.find_first_of(">\n<");
    const bool open = end == std::string_view::npos;
    if (open && !final_ && text.size() <= kMaxHeadBytes) return false;
    const std::string_view head = text.substr(0, end);
    if (open || text[end] != '>' || head.size() > kMaxHeadBytes || !is_head(head)) {
      content(param_open_, out);
      in_.drop(param_open_.size());
      state_ = State::kParams;
      return true;
    }
    auto typing = ArgumentWriter::Typing::kBySchema;
    if (format_.string_attribute) {
      if (const size_t at = head.find("string="); at != std::string_view::npos)
        typing = unquote(head.substr(at + 7)) == "false" ? ArgumentWriter::Typing::kJson
                                                         : ArgumentWriter::Typing::kString;
    }
    std::string json;
    writer_.begin_value(trim(unquote(head)), json, typing);
    arguments(json, out);
    in_.drop(param_open_.size() + end + 1);
    state_ = format_.trim_newlines ? State::kValueBegin : State::kValue;
    return true;
  }

  bool value_begin() {
    if (in_.empty() && !final_) return false;
    if (!in_.empty() && in_.view().front() == '\n') in_.drop(1);
    state_ = State::kValue;
    return true;
  }

  bool value(OutputEvents& out) {
    const std::string_view text = in_.view();
    const auto found = find_first(text, value_ends_);
    const bool ends_now = found || (final_ && !cut_);
    size_t certain = found    ? found->at
                     : final_ ? text.size()
                              : text.size() - open_suffix(text, value_ends_);
    size_t dropped = found && found->tag == 0 ? found->end : certain;
    if (format_.trim_newlines && certain > 0 && text[certain - 1] == '\n' &&
        (ends_now || !final_)) {
      --certain;
      if (!ends_now) dropped = certain;
    }
    std::string json;
    writer_.value(text.substr(0, certain), json);
    in_.drop(dropped);
    if (ends_now) {
      writer_.end_value(json);
      state_ = State::kParams;
    } else if (final_) {
      writer_.cut(json);
    }
    arguments(json, out);
    return ends_now;
  }

  void end_call(OutputEvents& out) {
    std::string json;
    writer_.end(json);
    arguments(json, out);
    state_ = State::kContent;
  }

  const InvokeFormat format_;
  const std::string block_open_, block_close_, call_open_, call_close_, param_open_;
  std::vector<std::string> value_ends_;  // the parameter's own closing tag first
  State state_ = State::kContent;
  bool in_block_ = false;
  ArgumentWriter writer_;
};

}  // namespace

std::unique_ptr<ToolMachine> make_invoke(Tags& tags, const OutputParserOptions& options,
                                         const InvokeFormat& format) {
  return std::make_unique<Invoke>(tags, options, format);
}

}  // namespace moestro::text::parsers
