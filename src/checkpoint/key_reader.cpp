#include "checkpoint/key_reader.h"

#include <cmath>
#include <utility>

#include "base/format.h"
#include "base/strings.h"

namespace moestro::checkpoint {
namespace {

constexpr int32_t kMaxSize = std::numeric_limits<int32_t>::max();

template <class T>
T take(Result<T> result, T fallback, KeyReader& reader) {
  if (result.ok()) return std::move(result).value();
  reader.fail(result.status());
  return fallback;
}

}  // namespace

std::string_view KeyReader::first_of(std::initializer_list<std::string_view> keys) const {
  for (const std::string_view key : keys)
    if (has(key)) return key;
  return *(keys.end() - 1);
}

int64_t KeyReader::integer(std::string_view key, int64_t fallback, int64_t low, int64_t high) {
  const json::value* v = find(key);
  if (!v) return fallback;
  int64_t n = take(json::get_int(object_, key, fallback), fallback, *this);
  if (!status_.ok()) return fallback;
  if (n >= low && n <= high) return n;
  fail(invalid_argument(format("{} is {}, allowed is {} to {}", key, n, low, high)));
  return fallback;
}

int32_t KeyReader::size(std::string_view key) {
  if (!has(key)) fail(invalid_argument(format("{} is missing", key)));
  return size(key, 1);
}

int32_t KeyReader::size(std::string_view key, int32_t fallback, int32_t low) {
  return static_cast<int32_t>(integer(key, fallback, low, kMaxSize));
}

double KeyReader::number(std::string_view key, double fallback, double low, double high) {
  const double n = take(json::get_double(object_, key, fallback), fallback, *this);
  if (!has(key) || !status_.ok()) return fallback;
  if (n >= low && n <= high) return n;
  fail(invalid_argument(format("{} is {}, allowed is {} to {}", key, python_repr(n),
                               python_repr(low), python_repr(high))));
  return fallback;
}

bool KeyReader::boolean(std::string_view key, bool fallback) {
  return take(json::get_bool(object_, key, fallback), fallback, *this);
}

std::string KeyReader::text(std::string_view key, std::string fallback) {
  return take(json::get_string(object_, key, fallback), fallback, *this);
}

std::string shown(const json::value& v) {
  std::string text = json::dump(v, {.ensure_ascii = true});
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

}  // namespace moestro::checkpoint
