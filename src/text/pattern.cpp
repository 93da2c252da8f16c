#include "text/pattern.h"

#include "base/format.h"
#include "text/unicode_class.h"

namespace moestro::text {

size_t Pattern::char_length(char first) { return utf8_length(first); }

Result<Pattern> Pattern::parse(const json::value& pattern) {
  if (const json::object* o = pattern.if_object(); o && o->size() == 1) {
    const json::value& text = o->begin()->value();
    if (text.is_string()) {
      const std::string_view key(o->begin()->key().data(), o->begin()->key().size());
      if (key == "String") return literal(std::string(json::view(text.get_string())));
      if (key == "Regex") return regex(json::view(text.get_string()));
    }
  }
  return unsupported(R"("pattern" must be {"String": "…"} or {"Regex": "…"})");
}

Result<Pattern> Pattern::regex(std::string_view onig_pattern, bool allow_scanner) {
  if (allow_scanner)
    if (const Scanner known = known_scanner(onig_pattern); known != Scanner::kNone)
      return scanner(known);
  Pattern out;
  MOESTRO_ASSIGN(out.regex_, Regex::compile(onig_pattern));
  return out;
}

Pattern Pattern::scanner(Scanner scanner) {
  Pattern out;
  out.scanner_ = scanner;
  return out;
}

Pattern Pattern::literal(std::string text) {
  Pattern out;
  out.literal_ = std::move(text);
  return out;
}

bool Pattern::find(std::string_view text, size_t from, RegexScratch& scratch, size_t& begin,
                   size_t& end) const {
  if (scanner_ != Scanner::kNone) return scan(scanner_, text, from, begin, end);
  if (regex_) return regex_->find(text, from, scratch, begin, end);
  begin = text.find(*literal_, from);
  if (begin == std::string_view::npos) return false;
  end = begin + literal_->size();
  return true;
}

}  // namespace moestro::text
