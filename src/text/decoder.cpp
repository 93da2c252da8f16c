#include "text/decoder.h"

#include <algorithm>

#include "base/format.h"
#include "base/strings.h"
#include "text/byte_map.h"
#include "text/unicode_class.h"

namespace moestro::text {
namespace {

constexpr int kMaxDepth = 16;
constexpr size_t kMaxSteps = 32;
constexpr std::string_view kReplacementCharacter = "\ufffd";

// The byte of a "<0xAB>" token, or -1.
int byte_of_token(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return -1;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const char l = static_cast<char>(c | 32);
    if (c >= '0' && c <= '9')
      value = value * 16 + (c - '0');
    else if (l >= 'a' && l <= 'f')
      value = value * 16 + (l - 'a' + 10);
    else
      return -1;
  }
  return value;
}

// Length of the unfinished but so far valid character at the end of `bytes`: 0 to 3.
size_t unfinished_tail(std::string_view bytes) {
  for (size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
    const std::string_view tail = bytes.substr(bytes.size() - back);
    const auto lead = static_cast<unsigned char>(tail[0]);
    if ((lead & 0xc0) == 0x80) continue;
    if (lead < 0xc2 || lead > 0xf4) return 0;
    const size_t needed = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (back >= needed) return 0;
    if (back >= 2) {
      const auto second = static_cast<unsigned char>(tail[1]);
      if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
          (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f))
        return 0;
    }
    return back;
  }
  return 0;
}

void replace_all(std::string_view text, const Pattern& pattern, std::string_view with,
                 RegexScratch& scratch, std::string& out) {
  size_t done = 0;
  pattern.for_each(text, scratch, [&](size_t begin, size_t end) {
    out.append(text.substr(done, begin - done)).append(with);
    done = end;
  });
  out.append(text.substr(done));
}

}  // namespace

Result<DecodeProgram> DecodeProgram::parse(const json::value* section) {
  DecodeProgram out;
  if (section) MOESTRO_TRY(out.add(*section, 0).with("decoder"));
  if (!section) {
    out.steps_.emplace_back();
    out.steps_.back().kind = Kind::kJoin;
  }
  bool fused = false;
  for (Step& step : out.steps_) {
    step.fused = fused;
    fused |= step.kind == Kind::kJoin || step.kind == Kind::kByteLevel || step.kind == Kind::kFuse;
    if (!step.fused) continue;
    const auto& literal = step.pattern.literal_text();
    const bool one_character =
        literal && !literal->empty() && utf8_length((*literal)[0]) == literal->size();
    step.streams = step.kind == Kind::kFuse || step.kind == Kind::kStrip ||
                   step.kind == Kind::kMetaspace || (step.kind == Kind::kReplace && one_character);
  }
  return out;
}

Status DecodeProgram::add_strip(const json::object& o, Step& step) {
  step.kind = Kind::kStrip;
  MOESTRO_ASSIGN(step.text, json::get_string(o, "content", " "));
  MOESTRO_ASSIGN(const int64_t start, json::get_int(o, "start", 0));
  MOESTRO_ASSIGN(const int64_t stop, json::get_int(o, "stop", 0));
  if (step.text.empty() || utf8_length(step.text[0]) != step.text.size())
    return unsupported("the content of Strip must be one character");
  if (start < 0 || stop < 0 || start > 1024 || stop > 1024)
    return unsupported(
        format("Strip of {} and {} characters; 0 to 1024 are supported", start, stop));
  step.start = static_cast<size_t>(start);
  step.stop = static_cast<size_t>(stop);
  return {};
}

Status DecodeProgram::add(const json::value& section, int depth) {
  const json::object* o = section.if_object();
  if (!o) return unsupported(format("must be an object, not {}", json::kind_name(section)));
  MOESTRO_ASSIGN(const std::string type, json::get_string(*o, "type", ""));
  if (type == "Sequence") {
    const json::value* list = json::find(*o, "decoders");
    if (!list || !list->is_array()) return unsupported("a Sequence without a list \"decoders\"");
    if (depth >= kMaxDepth)
      return unsupported(format("Sequences nested deeper than {}", kMaxDepth));
    for (const json::value& inner : list->get_array()) MOESTRO_TRY(add(inner, depth + 1));
    return {};
  }
  if (steps_.size() >= kMaxSteps) return unsupported(format("more than {} steps", kMaxSteps));
  Step step;
  if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
  } else if (type == "ByteFallback") {
    step.kind = Kind::kByteFallback;
  } else if (type == "Fuse") {
    step.kind = Kind::kFuse;
  } else if (type == "Strip") {
    MOESTRO_TRY(add_strip(*o, step));
  } else if (type == "Replace") {
    step.kind = Kind::kReplace;
    const json::value* pattern = json::find(*o, "pattern");
    if (!pattern) return unsupported("a Replace without \"pattern\"");
    MOESTRO_ASSIGN(step.pattern, Pattern::parse(*pattern));
    MOESTRO_ASSIGN(step.text, json::get_string(*o, "content", ""));
  } else if (type == "Metaspace") {
    step.kind = Kind::kMetaspace;
    MOESTRO_ASSIGN(step.text, json::get_string(*o, "replacement", "\u2581"));
    MOESTRO_ASSIGN(const bool add_prefix_space, json::get_bool(*o, "add_prefix_space", true));
    MOESTRO_ASSIGN(const std::string scheme,
                   json::get_string(*o, "prepend_scheme", add_prefix_space ? "always" : "never"));
    step.drop_first = scheme != "never";
    if (step.text.empty() || utf8_length(step.text[0]) != step.text.size())
      return unsupported("the replacement of Metaspace must be one character");
    step.pattern = Pattern::literal(step.text);
  } else {
    return unsupported(format("type \"{}\" is not supported", type));
  }
  steps_.push_back(std::move(step));
  return {};
}

std::string DecodeProgram::token_bytes(std::string_view content) const {
  std::string text(content);
  RegexScratch scratch;
  for (const Step& step : steps_) {
    std::string out;
    switch (step.kind) {
      case Kind::kByteLevel:
        append_unmapped(out, text);
        return out;  // bytes from here on, not characters
      case Kind::kByteFallback:
        if (const int byte = byte_of_token(text); byte >= 0)
          return std::string(1, static_cast<char>(byte));
        continue;
      case Kind::kReplace:
        replace_all(text, step.pattern, step.text, scratch, out);
        break;
      case Kind::kMetaspace:
        replace_all(text, step.pattern, " ", scratch, out);
        break;
      case Kind::kStrip:
        if (step.fused) continue;
        out = text;  // a strip of every token is rare enough to leave to the stream
        break;
      case Kind::kJoin:
      case Kind::kFuse:
        continue;
    }
    text = std::move(out);
  }
  return text;
}

DecodeStream::DecodeStream(const DecodeProgram& program)
    : program_(program), states_(program.steps_.size()) {}

void DecodeStream::push(std::string_view token_content, std::string& out) {
  feed(0, token_content, out);
}

void DecodeStream::finish(std::string& out) {
  end(0, out);
  for (State& state : states_) state = State();
}

void DecodeStream::feed(size_t index, std::string_view text, std::string& out) {
  if (index == states_.size()) {
    out += text;
    return;
  }
  const Step& step = program_.steps_[index];
  State& state = states_[index];
  if (!step.streams) {
    state.held += text;
    state.started = true;
    return;
  }
  switch (step.kind) {
    case Kind::kFuse:
      return feed(index + 1, text, out);
    case Kind::kJoin:
      if (state.count++) feed(index + 1, " ", out);
      return feed(index + 1, text, out);
    case Kind::kByteLevel:
      return feed_bytes(index, text, out);
    case Kind::kByteFallback:
      return feed_byte_token(index, text, out);
    case Kind::kStrip:
      if (step.fused) return feed_strip(index, text, out);
      break;
    case Kind::kReplace:
    case Kind::kMetaspace:
      break;
  }
  feed(index + 1, whole_token(step, text), out);
  if (!step.fused) ++state.count;
}

void DecodeStream::feed_bytes(size_t index, std::string_view token, std::string& out) {
  std::string& held = states_[index].held;
  append_unmapped(held, token);
  const size_t tail = unfinished_tail(held);
  const std::string_view whole = std::string_view(held).substr(0, held.size() - tail);
  if (whole.empty()) return;
  feed(index + 1, is_valid_utf8(whole) ? std::string(whole) : repair_utf8(whole), out);
  held.erase(0, held.size() - tail);
}

void DecodeStream::feed_byte_token(size_t index, std::string_view token, std::string& out) {
  if (const int byte = byte_of_token(token); byte >= 0) {
    states_[index].held += static_cast<char>(byte);
    return;
  }
  end_byte_run(index, out);
  feed(index + 1, token, out);
}

// The bytes of a run are one token if they are valid, else one U+FFFD token each.
void DecodeStream::end_byte_run(size_t index, std::string& out) {
  std::string run;
  run.swap(states_[index].held);
  if (run.empty()) return;
  if (is_valid_utf8(run)) return feed(index + 1, run, out);
  for (size_t i = 0; i < run.size(); ++i) feed(index + 1, kReplacementCharacter, out);
}

// Drops the character at the start at most step.start times, and holds back as many as may be
// dropped at the end.
void DecodeStream::feed_strip(size_t index, std::string_view text, std::string& out) {
  const Step& step = program_.steps_[index];
  State& state = states_[index];
  const auto begins = [&] { return text.substr(0, step.text.size()) == step.text; };
  while (!state.started && !text.empty()) {
    if (state.count < step.start && begins()) {
      text.remove_prefix(step.text.size());
      ++state.count;
    } else {
      state.started = true;
    }
  }
  std::string all = std::move(state.held);
  all += text;
  size_t keep = all.size();
  for (size_t n = 0; n < step.stop && keep >= step.text.size(); ++n) {
    if (std::string_view(all).substr(keep - step.text.size(), step.text.size()) != step.text) break;
    keep -= step.text.size();
  }
  state.held = all.substr(keep);
  if (keep > 0) feed(index + 1, std::string_view(all).substr(0, keep), out);
}

// Replace, Metaspace and Strip of a token that is all there (or, for characters, of any fragment).
std::string DecodeStream::whole_token(const Step& step, std::string_view token) {
  std::string out;
  const State& state = states_[static_cast<size_t>(&step - program_.steps_.data())];
  if (step.kind == Kind::kReplace) {
    replace_all(token, step.pattern, step.text, scratch_, out);
  } else if (step.kind == Kind::kMetaspace) {
    replace_all(token, step.pattern, state.count == 0 && step.drop_first ? "" : " ", scratch_, out);
  } else {
    const size_t unit = step.text.size();
    for (size_t n = 0; n < step.start && token.substr(0, unit) == step.text; ++n)
      token.remove_prefix(unit);
    for (size_t n = 0;
         n < step.stop && token.size() >= unit && token.substr(token.size() - unit) == step.text;
         ++n)
      token.remove_suffix(unit);
    out = token;
  }
  return out;
}

void DecodeStream::end(size_t index, std::string& out) {
  if (index == states_.size()) return;
  const Step& step = program_.steps_[index];
  State& state = states_[index];
  if (!step.streams) {
    std::string text = std::move(state.held);
    if (step.kind == Kind::kByteLevel) {
      std::string bytes;
      append_unmapped(bytes, text);
      text = repair_utf8(bytes);
    } else if (step.kind == Kind::kByteFallback) {
      if (const int byte = byte_of_token(text); byte >= 0)
        text = repair_utf8(std::string(1, static_cast<char>(byte)));
    } else {
      text = whole_token(step, text);
    }
    if (state.started) feed(index + 1, text, out);
  } else if (step.kind == Kind::kByteLevel && !state.held.empty()) {
    feed(index + 1, repair_utf8(state.held), out);
  } else if (step.kind == Kind::kByteFallback) {
    end_byte_run(index, out);
  }
  end(index + 1, out);
}

}  // namespace moestro::text
