// format("{} of {:.1f}", a, b): fmt's syntax without fmt's headers (one translation unit owns
// those). Arguments: integers, floats, bool, char, anything that converts to string_view. A wrong
// pattern is a bug: it aborts.
#pragma once
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace moestro {

struct FormatArg {
  enum class Kind : uint8_t { kInt, kUint, kDouble, kBool, kChar, kString };
  Kind kind;
  union {
    int64_t i;
    uint64_t u;
    double d;
    bool b;
    char c;
    std::string_view s;
  };
  FormatArg(bool v) : kind(Kind::kBool), b(v) {}
  FormatArg(char v) : kind(Kind::kChar), c(v) {}
  FormatArg(std::signed_integral auto v) : kind(Kind::kInt), i(static_cast<int64_t>(v)) {}
  FormatArg(std::unsigned_integral auto v) : kind(Kind::kUint), u(static_cast<uint64_t>(v)) {}
  FormatArg(std::floating_point auto v) : kind(Kind::kDouble), d(static_cast<double>(v)) {}
  FormatArg(const char* v) : kind(Kind::kString), s(v) {}
  FormatArg(std::string_view v) : kind(Kind::kString), s(v) {}
  FormatArg(const std::string& v) : kind(Kind::kString), s(v) {}
};

std::string vformat(std::string_view pattern, std::span<const FormatArg> args);

template <class... Args>
std::string format(std::string_view pattern, const Args&... args) {
  if constexpr (sizeof...(Args) == 0) {
    return vformat(pattern, {});
  } else {
    const FormatArg list[] = {FormatArg(args)...};
    return vformat(pattern, list);
  }
}

// Shortest text that reads back as the same number: "1.0", "1e-07", "0.1" as Python's repr writes
// it; nan, inf, -inf.
std::string python_repr(double value);

}  // namespace moestro
