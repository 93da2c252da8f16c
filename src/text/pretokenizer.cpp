#include "text/pretokenizer.h"

#include <algorithm>

#include "base/format.h"
#include "text/byte_map.h"
#include "text/unicode_class.h"

namespace moestro::text {
namespace {

constexpr int kMaxDepth = 16;
constexpr size_t kMaxSteps = 32;
constexpr std::string_view kAsciiPunctuation = R"re(!-/:-@\[-`{-~)re";

}  // namespace

Result<Pretokenizer> Pretokenizer::parse(const json::value* section) {
  Pretokenizer out;
  if (!section) return out;
  MOESTRO_TRY(out.add(*section, 0).with("pre_tokenizer"));
  for (size_t i = 0; i + 1 < out.steps_.size(); ++i) out.steps_[i].map_bytes = true;
  out.byte_level_ = !out.steps_.empty() && out.steps_.back().kind == Kind::kByteLevel;
  return out;
}

Result<Pretokenizer::Behavior> Pretokenizer::parse_behavior(std::string_view name) {
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  return unsupported(format("behavior \"{}\" is not supported", name));
}

Status Pretokenizer::add_split(std::string_view regex, Behavior behavior, bool invert) {
  Step step;
  MOESTRO_ASSIGN(step.pattern, Pattern::regex(regex));
  step.behavior = behavior;
  step.invert = invert;
  steps_.push_back(std::move(step));
  return {};
}

Status Pretokenizer::add_metaspace(const json::object& o) {
  Step step;
  step.kind = Kind::kMetaspace;
  MOESTRO_ASSIGN(step.replacement, json::get_string(o, "replacement", "\u2581"));
  MOESTRO_ASSIGN(step.use_pattern, json::get_bool(o, "split", true));
  MOESTRO_ASSIGN(const bool add_prefix_space,
                 json::get_bool(o, "add_prefix_space", true));  // older files
  MOESTRO_ASSIGN(const std::string scheme,
                 json::get_string(o, "prepend_scheme", add_prefix_space ? "always" : "never"));
  if (scheme == "first")
    step.prepend = Prepend::kFirst;
  else if (scheme == "always")
    step.prepend = Prepend::kAlways;
  else if (scheme == "never")
    step.prepend = Prepend::kNever;
  else
    return unsupported(format("Metaspace with prepend_scheme \"{}\"", scheme));
  if (step.replacement.empty() || utf8_length(step.replacement[0]) != step.replacement.size())
    return unsupported("the replacement of Metaspace must be one character");
  steps_.push_back(std::move(step));
  return {};
}

Status Pretokenizer::add(const json::value& section, int depth) {
  const json::object* o = section.if_object();
  if (!o) return unsupported(format("must be an object, not {}", json::kind_name(section)));
  MOESTRO_ASSIGN(const std::string type, json::get_string(*o, "type", ""));
  if (steps_.size() >= kMaxSteps) return unsupported(format("more than {} steps", kMaxSteps));
  if (type == "Sequence") {
    const json::value* list = json::find(*o, "pretokenizers");
    if (!list || !list->is_array())
      return unsupported("a Sequence without a list \"pretokenizers\"");
    if (depth >= kMaxDepth)
      return unsupported(format("Sequences nested deeper than {}", kMaxDepth));
    for (const json::value& inner : list->get_array()) MOESTRO_TRY(add(inner, depth + 1));
    return {};
  }
  if (type == "Split") {
    Step step;
    const json::value* pattern = json::find(*o, "pattern");
    if (!pattern) return unsupported("a Split without \"pattern\"");
    MOESTRO_ASSIGN(step.pattern, Pattern::parse(*pattern));
    MOESTRO_ASSIGN(const std::string behavior, json::get_string(*o, "behavior", ""));
    MOESTRO_ASSIGN(step.behavior, parse_behavior(behavior));
    MOESTRO_ASSIGN(step.invert, json::get_bool(*o, "invert", false));
    steps_.push_back(std::move(step));
    return {};
  }
  if (type == "ByteLevel") {
    Step step;
    step.kind = Kind::kByteLevel;
    step.pattern = Pattern::scanner(Scanner::kGpt2);
    MOESTRO_ASSIGN(step.add_prefix_space, json::get_bool(*o, "add_prefix_space", true));
    MOESTRO_ASSIGN(step.use_pattern, json::get_bool(*o, "use_regex", true));
    steps_.push_back(std::move(step));
    return {};
  }
  if (type == "Metaspace") return add_metaspace(*o);
  if (type == "Digits") {
    MOESTRO_ASSIGN(const bool individual, json::get_bool(*o, "individual_digits", false));
    return add_split(R"(\p{N})", individual ? Behavior::kIsolated : Behavior::kContiguous, false);
  }
  if (type == "Whitespace") return add_split(R"(\w+|[^\w\s]+)", Behavior::kRemoved, true);
  if (type == "WhitespaceSplit") return add_split(R"(\s)", Behavior::kRemoved, false);
  const std::string punctuation = "[\\p{P}" + std::string(kAsciiPunctuation) + "]";
  if (type == "Punctuation") {
    MOESTRO_ASSIGN(const std::string name, json::get_string(*o, "behavior", "Isolated"));
    MOESTRO_ASSIGN(const Behavior behavior, parse_behavior(name));
    return add_split(punctuation, behavior, false);
  }
  if (type == "BertPreTokenizer") {
    MOESTRO_TRY(add_split(R"(\s)", Behavior::kRemoved, false));
    return add_split(punctuation, Behavior::kIsolated, false);
  }
  return unsupported(format("type \"{}\" is not supported", type));
}

void Pretokenizer::split(std::string_view piece, bool at_start, RegexScratch& scratch,
                         Sink& sink) const {
  run(0, piece, at_start, Context{scratch, sink});
}

void Pretokenizer::run(size_t step, std::string_view text, bool at_start,
                       const Context& context) const {
  if (text.empty()) return;
  if (step == steps_.size()) return context.sink.pre_token(text);
  switch (steps_[step].kind) {
    case Kind::kSplit:
      return run_split(step, text, at_start, context);
    case Kind::kByteLevel:
      return run_byte_level(step, text, at_start, context);
    case Kind::kMetaspace:
      return run_metaspace(step, text, at_start, context);
  }
}

// Joins neighbouring spans; spans cover the text, in order.
std::vector<Pretokenizer::Span> Pretokenizer::merge(const std::vector<Span>& spans,
                                                    Behavior behavior) {
  std::vector<Span> out;
  bool previous = false;
  if (behavior == Behavior::kMergedWithNext) {
    for (auto it = spans.rbegin(); it != spans.rend(); ++it) {
      if (it->match && !previous && !out.empty())
        out.back().begin = it->begin;
      else
        out.push_back(*it);
      previous = it->match;
    }
    std::reverse(out.begin(), out.end());
    return out;
  }
  for (const Span& span : spans) {
    const bool join =
        behavior == Behavior::kContiguous ? span.match == previous : span.match && !previous;
    if (join && !out.empty())
      out.back().end = span.end;
    else
      out.push_back(span);
    previous = span.match;
  }
  return out;
}

void Pretokenizer::run_split(size_t index, std::string_view text, bool at_start,
                             const Context& context) const {
  const Step& step = steps_[index];
  const auto pass_on = [&](size_t begin, size_t end) {
    run(index + 1, text.substr(begin, end - begin), at_start && begin == 0, context);
  };
  const bool removed = step.behavior == Behavior::kRemoved;
  std::vector<Span> spans;
  const auto span = [&](size_t begin, size_t end, bool match) {
    match ^= step.invert;
    if (removed || step.behavior == Behavior::kIsolated) {
      if (!(removed && match)) pass_on(begin, end);
    } else {
      spans.push_back({begin, end, match});
    }
  };
  size_t done = 0;
  step.pattern.for_each(text, context.scratch, [&](size_t begin, size_t end) {
    if (done < begin) span(done, begin, false);
    span(begin, end, true);
    done = end;
  });
  if (done < text.size()) span(done, text.size(), false);
  if (spans.empty()) return;
  for (const Span& joined : merge(spans, step.behavior)) pass_on(joined.begin, joined.end);
}

void Pretokenizer::run_byte_level(size_t index, std::string_view text, bool at_start,
                                  const Context& context) const {
  const Step& step = steps_[index];
  std::string with_space;
  if (step.add_prefix_space && text[0] != ' ') {
    with_space.append(" ").append(text);
    text = with_space;
  }
  const auto pass_on = [&](size_t begin, size_t end) {
    const std::string_view piece = text.substr(begin, end - begin);
    if (!step.map_bytes) return run(index + 1, piece, at_start && begin == 0, context);
    std::string mapped;
    append_mapped(mapped, piece);
    run(index + 1, mapped, at_start && begin == 0, context);
  };
  if (!step.use_pattern) return pass_on(0, text.size());
  step.pattern.for_each(text, context.scratch, pass_on);  // the pattern leaves no gaps
}

void Pretokenizer::run_metaspace(size_t index, std::string_view text, bool at_start,
                                 const Context& context) const {
  const Step& step = steps_[index];
  std::string replaced;
  replaced.reserve(text.size() + text.size() / 2 + step.replacement.size());
  const bool starts = text[0] == ' ' || text.substr(0, step.replacement.size()) == step.replacement;
  if (!starts &&
      (step.prepend == Prepend::kAlways || (step.prepend == Prepend::kFirst && at_start)))
    replaced += step.replacement;
  for (size_t pos = 0; pos < text.size();) {
    const size_t space = std::min(text.find(' ', pos), text.size());
    replaced += text.substr(pos, space - pos);
    if (space < text.size()) replaced += step.replacement;
    pos = space + 1;
  }
  if (!step.use_pattern) return run(index + 1, replaced, at_start, context);
  const std::string_view all = replaced;
  for (size_t begin = 0; begin < all.size();) {  // a cut before every replacement
    const size_t end = std::min(all.find(step.replacement, begin + 1), all.size());
    run(index + 1, all.substr(begin, end - begin), at_start && begin == 0, context);
    begin = end;
  }
}

}  // namespace moestro::text
