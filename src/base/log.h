// Logging: log_info("loaded {} tensors in {:.1f} s", n, seconds). Lines go to stderr, never to
// stdout (stdout belongs to results and --json). Thread-safe; not for the step path.
#pragma once
#include <string_view>

#include "base/format.h"

namespace moestro {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

void set_log_level(LogLevel level);
void set_log_json(bool json);  // one JSON object a line instead of text
bool log_enabled(LogLevel level);
void log_line(LogLevel level, std::string_view message);

template <class... Args>
void log_debug(std::string_view pattern, const Args&... args) {
  if (log_enabled(LogLevel::kDebug)) log_line(LogLevel::kDebug, format(pattern, args...));
}
template <class... Args>
void log_info(std::string_view pattern, const Args&... args) {
  if (log_enabled(LogLevel::kInfo)) log_line(LogLevel::kInfo, format(pattern, args...));
}
template <class... Args>
void log_warning(std::string_view pattern, const Args&... args) {
  if (log_enabled(LogLevel::kWarning)) log_line(LogLevel::kWarning, format(pattern, args...));
}
template <class... Args>
void log_error(std::string_view pattern, const Args&... args) {
  if (log_enabled(LogLevel::kError)) log_line(LogLevel::kError, format(pattern, args...));
}

}  // namespace moestro
