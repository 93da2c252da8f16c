// The only translation unit that sees fmt and spdlog, both header-only.
#define FMT_HEADER_ONLY
#define SPDLOG_HEADER_ONLY
#define SPDLOG_FMT_EXTERNAL
#include "base/log.h"

#include <fmt/args.h>
#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <charconv>
#include <cmath>

#include "base/check.h"
#include "base/json.h"  // quoting of the JSON log form

namespace moestro {
namespace {

spdlog::logger& logger() {
  static std::shared_ptr<spdlog::logger> instance = [] {
    auto created = std::make_shared<spdlog::logger>(
        "moestro", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    created->set_pattern("%^%L%$ %H:%M:%S.%e %v");
    created->flush_on(spdlog::level::info);
    return created;
  }();
  return *instance;
}

spdlog::level::level_enum native(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::info;
}

bool json_lines = false;

}  // namespace

std::string vformat(std::string_view pattern, std::span<const FormatArg> args) {
  fmt::dynamic_format_arg_store<fmt::format_context> store;
  store.reserve(args.size(), 0);
  for (const FormatArg& arg : args) {
    switch (arg.kind) {
      case FormatArg::Kind::kInt:
        store.push_back(arg.i);
        break;
      case FormatArg::Kind::kUint:
        store.push_back(arg.u);
        break;
      case FormatArg::Kind::kDouble:
        store.push_back(arg.d);
        break;
      case FormatArg::Kind::kBool:
        store.push_back(arg.b);
        break;
      case FormatArg::Kind::kChar:
        store.push_back(arg.c);
        break;
      case FormatArg::Kind::kString:
        store.push_back(arg.s);
        break;
    }
  }
  try {
    return fmt::vformat(fmt::string_view(pattern.data(), pattern.size()), store);
  } catch (const fmt::format_error& error) {
    CHECK(false, std::string("format pattern \"") + std::string(pattern) + "\": " + error.what());
  }
}

std::string python_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  // The shortest digits that read back; Python writes an exponent below 1e-4 and from 1e16 on.
  const double magnitude = std::fabs(value);
  const bool exponent = magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e16);
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value,
                    exponent ? std::chars_format::scientific : std::chars_format::fixed)
          .ptr;
  std::string text(buffer, end);
  if (!exponent && text.find('.') == std::string::npos) text += ".0";
  return text;
}

void set_log_level(LogLevel level) { logger().set_level(native(level)); }

void set_log_json(bool json) {
  json_lines = json;
  logger().set_pattern(json ? "%v" : "%^%L%$ %H:%M:%S.%e %v");
}

bool log_enabled(LogLevel level) { return logger().should_log(native(level)); }

void log_line(LogLevel level, std::string_view message) {
  if (!json_lines) {
    logger().log(native(level), spdlog::string_view_t(message.data(), message.size()));
    return;
  }
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  json::object line{{"time", now},
                    {"level", spdlog::level::to_string_view(native(level)).data()},
                    {"message", message}};
  logger().log(native(level), json::dump(line));
}

}  // namespace moestro
