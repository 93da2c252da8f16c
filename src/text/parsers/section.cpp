// Sections of calls with raw JSON arguments: <CALL>HEADER<SEP>ARGUMENTS</CALL>.
#include "base/strings.h"
#include "text/parsers/formats.h"

namespace moestro::text::parsers {
namespace {

constexpr size_t kMaxHeaderBytes = 2 * kMaxNameBytes;

class Section final : public ToolMachine {
 public:
  Section(Tags& tags, const OutputParserOptions& options, const SectionFormat& format)
      : ToolMachine(options.tools),
        fenced_(format.fenced),
        native_id_(format.native_id),
        call_open_(tags.add(format.call_open)),
        separator_(tags.add(format.separator)),
        args_ends_{tags.add(format.call_close)} {
    for (const std::string_view tag : format.section_open) opens_.push_back(tags.add(tag));
    for (const std::string_view tag : format.section_close) closes_.push_back(tags.add(tag));
    outside_ = opens_;
    inside_ = opens_;
    inside_.push_back(call_open_);
    inside_.insert(inside_.end(), closes_.begin(), closes_.end());
    args_ends_.insert(args_ends_.end(), closes_.begin(), closes_.end());
  }

 private:
  enum class State : uint8_t { kContent, kSection, kHeader, kArgsBegin, kArgs };

  bool step(OutputEvents& out) override {
    switch (state_) {
      case State::kContent:
        return outside(out);
      case State::kSection:
        return section(out);
      case State::kHeader:
        return header(out);
      case State::kArgsBegin: {
        in_.drop(count_leading_space(in_.view()));
        if (in_.empty() && !final_) return false;
        state_ = State::kArgs;
        return true;
      }
      case State::kArgs:
        return args(out);
    }
    return false;
  }

  bool outside(OutputEvents& out) {
    const auto found = content_until(in_section_ ? inside_ : outside_, out);
    if (!found) return false;
    if (found->tag < opens_.size()) {
      open_ = found->tag;
      state_ = State::kSection;
    } else if (found->tag == opens_.size()) {
      state_ = State::kHeader;
    } else {
      in_.drop(found->end);
      in_section_ = false;
    }
    return true;
  }

  // in_ begins with the section's tag; it is one only if a good call follows.
  bool section(OutputEvents& out) {
    const std::string& tag = opens_[open_];
    const std::string_view text = in_.view().substr(tag.size());
    const size_t space = count_leading_space(text);
    Starts s = starts(text.substr(space), call_open_);
    Header h;
    if (s == Starts::kYes) s = read_header(text.substr(space), h);
    if (s == Starts::kMaybe && !final_) return false;
    if (s == Starts::kYes) {
      in_.drop(tag.size() + space);
      in_section_ = true;
      state_ = State::kHeader;
      return true;
    }
    content(tag, out);
    in_.drop(tag.size());
    state_ = State::kContent;
    return true;
  }

  struct Header {
    std::string name, id;
    size_t end = 0;  // where the arguments begin
  };
  // text begins with the call's tag.
  Starts read_header(std::string_view text, Header& h) const {
    const size_t begin = call_open_.size();
    const size_t at = text.find(separator_, begin);
    if (at == std::string_view::npos)
      return final_ || text.size() > begin + kMaxHeaderBytes + separator_.size() ? Starts::kNo
                                                                                 : Starts::kMaybe;
    if (at > begin + kMaxHeaderBytes) return Starts::kNo;
    std::string_view head = trim(text.substr(begin, at - begin));
    h.end = at + separator_.size();
    if (fenced_) {
      if (head != "function") return Starts::kNo;
      const size_t line = text.find('\n', h.end);
      if (line == std::string_view::npos)
        return final_ || text.size() > h.end + kMaxNameBytes ? Starts::kNo : Starts::kMaybe;
      if (line > h.end + kMaxNameBytes) return Starts::kNo;
      head = trim(text.substr(h.end, line - h.end));
      constexpr std::string_view kFence = "```json";
      const Starts fence = starts(text.substr(line + 1), kFence);
      if (fence == Starts::kMaybe && !final_) return Starts::kMaybe;
      h.end = line + 1 + (fence == Starts::kYes ? kFence.size() : 0);
    }
    if (native_id_) {
      h.id = std::string(head);
      if (const size_t colon = head.rfind(':'); colon != std::string_view::npos)
        head = head.substr(0, colon);
      if (const size_t dot = head.rfind('.'); dot != std::string_view::npos)
        head = head.substr(dot + 1);
    }
    h.name = std::string(head);
    return accepts(head) ? Starts::kYes : Starts::kNo;
  }

  bool header(OutputEvents& out) {
    Header h;
    const Starts s = read_header(in_.view(), h);
    if (s == Starts::kMaybe) return false;
    if (s == Starts::kNo) {
      content(call_open_, out);
      in_.drop(call_open_.size());
      state_ = State::kContent;
      return true;
    }
    begin_call(h.name, out, h.id);
    in_.drop(h.end);
    any_args_ = false;
    state_ = State::kArgsBegin;
    return true;
  }

  bool args(OutputEvents& out) {
    const std::string_view text = in_.view();
    const auto found = find_first(text, args_ends_);
    const size_t certain = found    ? found->at
                           : final_ ? text.size()
                                    : text.size() - open_suffix(text, args_ends_);
    std::string_view raw = text.substr(0, certain);
    // White space and the fence at the end are no arguments.
    size_t tail = 0;
    while (tail < raw.size() &&
           (is_space(raw[raw.size() - 1 - tail]) || (fenced_ && raw[raw.size() - 1 - tail] == '`')))
      ++tail;
    const bool ends = found || final_;
    std::string_view held = raw.substr(raw.size() - tail);
    raw.remove_suffix(tail);
    emit_args(raw, out);
    if (!ends) {
      in_.drop(raw.size());
      return false;
    }
    held = held.substr(0, held.size() - count_trailing_space(held));
    if (fenced_ && held.ends_with("```")) held.remove_suffix(3);
    held = held.substr(0, held.size() - count_trailing_space(held));
    emit_args(held, out);
    if (!any_args_ && !(final_ && cut_)) arguments("{}", out);
    in_.drop(found ? (found->tag == 0 ? found->end : found->at) : in_.size());
    state_ = State::kContent;
    return found.has_value();
  }
  void emit_args(std::string_view text, OutputEvents& out) {
    any_args_ = any_args_ || !text.empty();
    arguments(text, out);
  }

  const bool fenced_, native_id_;
  const std::string call_open_, separator_;
  std::vector<std::string> opens_, closes_, outside_, inside_;
  std::vector<std::string> args_ends_;  // the call's own closing tag first
  State state_ = State::kContent;
  size_t open_ = 0;
  bool in_section_ = false, any_args_ = false;
};

}  // namespace

std::unique_ptr<ToolMachine> make_section(Tags& tags, const OutputParserOptions& options,
                                          const SectionFormat& format) {
  return std::make_unique<Section>(tags, options, format);
}

}  // namespace moestro::text::parsers
