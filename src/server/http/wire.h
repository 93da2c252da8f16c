// Bytes of HTTP responses and the target of a request: pure functions for http_server.cpp.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "server/http/http.h"

namespace moestro::server::wire {

struct Framing {
  bool http10 = false;
  bool head_only = false;  // answer to HEAD: no body, the length it would have
  bool keep_alive = true;
};
struct Refusal {
  int status;
  std::string message;
};

std::string_view reason_phrase(int status);
std::string whole_response(const Response& response, const Framing& framing);
std::string stream_head(const Response& head, const Framing& framing);
void append_body(std::string& out, std::string_view bytes, bool chunked);
// "/v1/a%20b?x=1" → "/v1/a b". false: no absolute path ("*" is one for OPTIONS), a broken escape,
// or a NUL.
bool decode_target(std::string_view target, std::string_view method, std::string& path);
std::string body_too_large(uint64_t length, int64_t limit);

}  // namespace moestro::server::wire
