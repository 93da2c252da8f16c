// CHECK: for bugs only, on in every build; prints file, line and message and aborts. No input may
// reach a failing CHECK. DCHECK: the same in debug and sanitizer builds (kernel preconditions that
// the plan has proved).
#pragma once
#include <string_view>

namespace moestro {
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               std::string_view message);
}

#define CHECK(condition, message)                                         \
  do {                                                                    \
    if (!(condition)) [[unlikely]]                                        \
      ::moestro::check_failed(__FILE__, __LINE__, #condition, (message)); \
  } while (0)
#ifdef MOESTRO_DCHECK
#define DCHECK(condition, message) CHECK(condition, message)
#else
#define DCHECK(condition, message) \
  do {                             \
  } while (0)
#endif
