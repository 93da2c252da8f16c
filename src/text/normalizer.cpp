#include "text/normalizer.h"

#include <utf8proc.h>

#include <cstdlib>

#include "base/format.h"
#include "text/unicode_class.h"

namespace moestro::text {
namespace {

constexpr int kMaxDepth = 16;
constexpr size_t kMaxSteps = 64;

// False if the text is in every normal form already, as far as a quick look can tell. Below U+0300
// all is in NFC, and ASCII in all four.
bool may_change(std::string_view text, bool compose_canonical) {
  if (is_ascii(text)) return false;
  if (!compose_canonical) return true;
  for (const char c : text)
    if (static_cast<unsigned char>(c) >= 0xcc) return true;
  return false;
}

bool unicode_form(std::string_view text, int options, std::string& out) {
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                                             static_cast<utf8proc_option_t>(options));
  if (size >= 0) out.assign(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
  std::free(mapped);
  return size >= 0;
}

void lowercase(std::string_view text, std::string& out) {
  for (size_t pos = 0, length = 0; pos < text.size(); pos += length) {
    const uint32_t code = decode_utf8(text, pos, length);
    append_utf8(out, static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
    if (code == 0x130)
      append_utf8(out, 0x307);  // the one letter whose full lower case is two characters
  }
}

void strip_accents(std::string_view text, std::string& out) {
  for (size_t pos = 0, length = 0; pos < text.size(); pos += length) {
    const uint32_t code = decode_utf8(text, pos, length);
    if (utf8proc_category(static_cast<utf8proc_int32_t>(code)) != UTF8PROC_CATEGORY_MN)
      out += text.substr(pos, length);
  }
}

std::string_view strip(std::string_view text, bool left, bool right) {
  const CharTable& table = CharTable::get();
  size_t length;
  while (left && !text.empty() && table[decode_utf8(text, 0, length)] & kSpace)
    text.remove_prefix(length);
  while (right && !text.empty()) {
    const size_t at = previous_char(text, text.size());
    if (!(table[decode_utf8(text, at, length)] & kSpace)) break;
    text = text.substr(0, at);
  }
  return text;
}

}  // namespace

Result<Normalizer> Normalizer::parse(const json::value* section) {
  Normalizer out;
  if (section) MOESTRO_TRY(out.add(*section, 0).with("normalizer"));
  return out;
}

Status Normalizer::add(const json::value& section, int depth) {
  const json::object* o = section.if_object();
  if (!o) return unsupported(format("must be an object, not {}", json::kind_name(section)));
  MOESTRO_ASSIGN(const std::string type, json::get_string(*o, "type", ""));
  if (type == "Sequence") {
    const json::value* list = json::find(*o, "normalizers");
    if (!list || !list->is_array()) return unsupported("a Sequence without a list \"normalizers\"");
    if (depth >= kMaxDepth)
      return unsupported(format("Sequences nested deeper than {}", kMaxDepth));
    for (const json::value& inner : list->get_array()) MOESTRO_TRY(add(inner, depth + 1));
    return {};
  }
  if (steps_.size() >= kMaxSteps) return unsupported(format("more than {} steps", kMaxSteps));
  Step step{};
  if (type == "NFC") {
    step.kind = Kind::kNfc;
  } else if (type == "NFD") {
    step.kind = Kind::kNfd;
  } else if (type == "NFKC") {
    step.kind = Kind::kNfkc;
  } else if (type == "NFKD") {
    step.kind = Kind::kNfkd;
  } else if (type == "Lowercase") {
    step.kind = Kind::kLowercase;
  } else if (type == "StripAccents") {
    step.kind = Kind::kStripAccents;
  } else if (type == "Strip") {
    step.kind = Kind::kStrip;
    MOESTRO_ASSIGN(step.left, json::get_bool(*o, "strip_left", false));
    MOESTRO_ASSIGN(step.right, json::get_bool(*o, "strip_right", false));
  } else if (type == "Prepend") {
    step.kind = Kind::kPrepend;
    MOESTRO_ASSIGN(step.text, json::get_string(*o, "prepend", ""));
  } else if (type == "Replace") {
    step.kind = Kind::kReplace;
    const json::value* pattern = json::find(*o, "pattern");
    if (!pattern) return unsupported("a Replace without \"pattern\"");
    MOESTRO_ASSIGN(step.pattern, Pattern::parse(*pattern));
    MOESTRO_ASSIGN(step.text, json::get_string(*o, "content", ""));
  } else {
    return unsupported(format("type \"{}\" is not supported", type));
  }
  steps_.push_back(std::move(step));
  return {};
}

// Returns false if the step leaves the text as it is.
bool Normalizer::apply_step(const Step& step, std::string_view text, std::string& out,
                            RegexScratch& scratch) {
  out.clear();
  switch (step.kind) {
    case Kind::kNfc:
      return may_change(text, true) && unicode_form(text, UTF8PROC_STABLE | UTF8PROC_COMPOSE, out);
    case Kind::kNfd:
      return may_change(text, false) &&
             unicode_form(text, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, out);
    case Kind::kNfkc:
      return may_change(text, false) &&
             unicode_form(text, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT, out);
    case Kind::kNfkd:
      return may_change(text, false) &&
             unicode_form(text, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, out);
    case Kind::kPrepend:
      if (text.empty()) return false;
      out.append(step.text).append(text);
      return true;
    case Kind::kLowercase:
      lowercase(text, out);
      return true;
    case Kind::kStripAccents:
      strip_accents(text, out);
      return true;
    case Kind::kStrip:
      out = strip(text, step.left, step.right);
      return true;
    case Kind::kReplace: {
      size_t done = 0;
      step.pattern.for_each(text, scratch, [&](size_t begin, size_t end) {
        out.append(text.substr(done, begin - done)).append(step.text);
        done = end;
      });
      out.append(text.substr(done));
      return true;
    }
  }
  return false;
}

std::string_view Normalizer::apply(std::string_view text, std::string& buffer,
                                   RegexScratch& scratch) const {
  std::string out;
  for (const Step& step : steps_)
    if (apply_step(step, text, out, scratch)) {
      buffer.swap(out);
      text = buffer;
    }
  return text;
}

}  // namespace moestro::text
