// Server-sent events: one "data:" line an event, as OpenAI's streams have them.
#pragma once
#include <string>
#include <string_view>

namespace moestro::server {

inline constexpr std::string_view kSseContentType = "text/event-stream; charset=utf-8";
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";

// json: one line (no raw line ends, which JSON text never has when dumped compactly).
inline std::string sse_event(std::string_view json) {
  std::string out;
  out.reserve(json.size() + 8);
  out += "data: ";
  out += json;
  out += "\n\n";
  return out;
}

}  // namespace moestro::server
