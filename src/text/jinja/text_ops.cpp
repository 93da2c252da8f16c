#include "text/jinja/text_ops.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "base/format.h"
#include "base/strings.h"
#include "text/jinja/failure.h"
#include "text/jinja/python_text.h"
#include "text/jinja/repr.h"

namespace moestro::text::jinja {
namespace {

// An empty `from` matches before every character and at the end.
std::string_view replace_empty(Heap& heap, std::string_view text, std::string_view to,
                               int64_t count) {
  const auto places = static_cast<int64_t>(count_code_points(text)) + 1;
  const int64_t n = count < 0 ? places : std::min(count, places);
  heap.require(static_cast<uint64_t>(n) * to.size() + text.size());
  std::string out;
  int64_t done = 0;
  for (size_t i = 0; i <= text.size();) {
    if (done < n) {
      out += to;
      ++done;
    }
    if (i == text.size()) break;
    const uint32_t size = decode(text, i).size;
    out += text.substr(i, size);
    i += size;
  }
  return heap.copy(out);
}

bool is_line_break(char32_t c) {
  return c == '\n' || c == '\r' || c == '\v' || c == '\f' || (c >= 0x1c && c <= 0x1e) ||
         c == 0x85 || c == 0x2028 || c == 0x2029;
}

}  // namespace

size_t find_text(Heap& heap, std::string_view text, std::string_view wanted, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (wanted.empty()) return from;
  if (wanted.size() > text.size() - from) return std::string_view::npos;
  const void* at = memmem(text.data() + from, text.size() - from, wanted.data(), wanted.size());
  const size_t found =
      at ? static_cast<size_t>(static_cast<const char*>(at) - text.data()) : std::string_view::npos;
  heap.step_bytes((at ? found : text.size()) - from);
  return found;
}

size_t rfind_text(Heap& heap, std::string_view text, std::string_view wanted) {
  if (wanted.size() > text.size()) return std::string_view::npos;
  for (size_t at = text.size() - wanted.size();; --at) {
    heap.step(1 + wanted.size() / 256);
    if (text.compare(at, wanted.size(), wanted) == 0) return at;
    if (at == 0) return std::string_view::npos;
  }
}

std::string_view replace(Heap& heap, std::string_view text, std::string_view from,
                         std::string_view to, int64_t count) {
  if (count == 0) return text;
  if (from.empty()) return replace_empty(heap, text, to, count);
  std::vector<size_t> places;
  for (size_t at = 0; count < 0 || places.size() < static_cast<size_t>(count);) {
    at = find_text(heap, text, from, at);
    if (at == std::string_view::npos) break;
    places.push_back(at);
    at += from.size();
  }
  if (places.empty()) return text;
  // Cannot overflow: both factors are below 2^32.
  const size_t size = text.size() - places.size() * from.size() + places.size() * to.size();
  heap.require(size);
  char* out = heap.array<char>(size);
  char* at = out;
  const auto put = [&](std::string_view s) {
    if (!s.empty()) std::memcpy(at, s.data(), s.size());
    at += s.size();
  };
  size_t begin = 0;
  for (const size_t place : places) {
    put(text.substr(begin, place - begin));
    put(to);
    begin = place + from.size();
  }
  put(text.substr(begin));
  return {out, size};
}

std::string_view join(Heap& heap, std::string_view separator, std::span<const Value> items,
                      bool strict) {
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    heap.step();
    if (strict && !items[i].is_string()) {
      fail(format("sequence item {}: expected str instance, {} found", i, type_name(items[i])));
    }
    if (i) out += separator;
    append_str(heap, items[i], out);
    check_size(heap, out);
  }
  return heap.copy(out);
}

std::vector<std::string_view> split_lines(Heap& heap, std::string_view text, bool keep_ends) {
  heap.step_bytes(text.size());
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode(text, i);
    size_t end = i + c.size;
    if (!is_line_break(c.value)) {
      i = end;
      continue;
    }
    if (c.value == '\r' && end < text.size() && text[end] == '\n') ++end;
    lines.push_back(text.substr(begin, (keep_ends ? end : i) - begin));
    heap.step();
    i = begin = end;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

std::string_view pad_text(Heap& heap, std::string_view text, int64_t width, std::string_view fill,
                          int before_of_two) {
  if (count_code_points(fill) != 1) fail("The fill character must be exactly one character long");
  const auto size = static_cast<int64_t>(count_code_points(text));
  if (width <= size) return text;
  const int64_t total = width - size;
  // CPython's str.center puts the odd one left when both the padding and the width are odd.
  const int64_t before = before_of_two == 0   ? 0
                         : before_of_two == 2 ? total
                                              : total / 2 + (total & width & 1);
  if (static_cast<uint64_t>(total) > heap.budget().max_memory_bytes)
    heap.require(static_cast<uint64_t>(total));
  heap.require(static_cast<uint64_t>(total) * fill.size());
  std::string out;
  for (int64_t i = 0; i < before; ++i) out += fill;
  out += text;
  for (int64_t i = before; i < total; ++i) out += fill;
  return heap.copy(out);
}

std::string_view reversed(Heap& heap, std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t end = text.size(); end > 0;) {
    const uint32_t size = decode_before(text, end).size;
    end -= size;
    out += text.substr(end, size);
  }
  return heap.copy(out);
}

namespace {
// Digits may be separated by single underscores; nullopt-like empty result when they are misplaced.
bool drop_underscores(std::string& text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') continue;
    const auto is_digit_like = [](char c) { return std::isalnum(static_cast<unsigned char>(c)); };
    if (i == 0 || i + 1 == text.size() || !is_digit_like(text[i - 1]) ||
        !is_digit_like(text[i + 1]))
      return false;
  }
  std::erase(text, '_');
  return true;
}
}  // namespace

double parse_unbounded(const std::string& text) { return std::strtod(text.c_str(), nullptr); }

namespace {
// digits [. digits] [e [sign] digits], with a digit on one side of the point at least.
bool well_formed_number(std::string_view text) {
  size_t at = 0;
  const auto digits = [&] {
    const size_t begin = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
    return at - begin;
  };
  size_t n = digits();
  if (at < text.size() && text[at] == '.') {
    ++at;
    n += digits();
  }
  if (n == 0) return false;
  if (at < text.size() && text[at] == 'e') {
    ++at;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    if (digits() == 0) return false;
  }
  return at == text.size();
}
}  // namespace

Value parse_float_text(std::string_view text) {
  std::string body(strip(text));
  if (!drop_underscores(body) || body.empty()) return Value();
  const size_t sign = body[0] == '-' || body[0] == '+' ? 1 : 0;
  const std::string word = lower(body.substr(sign));
  const double factor = body[0] == '-' ? -1.0 : 1.0;
  if (word == "inf" || word == "infinity")
    return Value::number(factor * std::numeric_limits<double>::infinity());
  if (word == "nan") return Value::number(std::numeric_limits<double>::quiet_NaN());
  if (word.empty() || word.find_first_not_of("0123456789.e+-") != std::string::npos) return Value();
  if (word[0] == '+' || word[0] == '-') return Value();
  if (!well_formed_number(word)) return Value();
  return Value::number(factor * parse_unbounded(word));
}

Value parse_int_text(std::string_view text, int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) fail("int() base must be >= 2 and <= 36, or 0");
  std::string body(strip(text));
  const bool negative = body.starts_with('-');
  if (negative || body.starts_with('+')) body.erase(0, 1);
  const char prefix = body.size() > 2 && body[0] == '0' ? static_cast<char>(body[1] | 0x20) : '\0';
  const int64_t prefixed = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 0;
  if (prefixed && (base == 0 || base == prefixed)) {
    base = prefixed;
    body.erase(0, 2);
    if (body.starts_with('_')) body.erase(0, 1);
  } else if (base == 0) {
    if (body.size() > 1 && body[0] == '0' && body.find_first_not_of("0_") != std::string::npos)
      return Value();
    base = 10;
  }
  if (!drop_underscores(body) || body.empty()) return Value();
  int64_t value = 0;
  for (const char c : body) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 10
                      : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                             : 99;
    if (digit >= base) return Value();
    if (__builtin_mul_overflow(value, base, &value) ||
        __builtin_sub_overflow(value, digit, &value)) {
      fail("integer overflow: the number does not fit 64 bits");
    }
  }
  if (negative) return Value::integer(value);
  if (value == INT64_MIN) fail("integer overflow: the number does not fit 64 bits");
  return Value::integer(-value);
}

}  // namespace moestro::text::jinja
