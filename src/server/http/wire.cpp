#include "server/http/wire.h"

#include <charconv>

#include "base/format.h"

namespace moestro::server::wire {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void append_header(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  out += ": ";
  for (char c : value) {  // a value may hold client bytes: nothing may end the line
    if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) out += c;
  }
  out += "\r\n";
}

std::string head_of(const Response& response, const Framing& framing) {
  // Always HTTP/1.1: the version tells what the server can, not what the client sent.
  std::string out = format("HTTP/1.1 {} {}\r\n", response.status, reason_phrase(response.status));
  if (!response.content_type.empty()) append_header(out, "Content-Type", response.content_type);
  for (const Header& h : response.headers) append_header(out, h.name, h.value);
  if (!framing.keep_alive) {
    out += "Connection: close\r\n";
  } else if (framing.http10) {
    out += "Connection: keep-alive\r\n";
  }
  return out;
}

}  // namespace

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Status";
  }
}

std::string whole_response(const Response& response, const Framing& framing) {
  std::string out = head_of(response, framing);
  if (response.status != 204)
    append_header(out, "Content-Length", format("{}", response.body.size()));
  out += "\r\n";
  if (!framing.head_only && response.status != 204) out += response.body;
  return out;
}

std::string stream_head(const Response& head, const Framing& framing) {
  std::string out = head_of(head, framing);
  if (!framing.http10) out += "Transfer-Encoding: chunked\r\n";
  out += "\r\n";
  return out;
}

void append_body(std::string& out, std::string_view bytes, bool chunked) {
  if (!chunked) {
    out += bytes;
    return;
  }
  char size[17];
  const auto end = std::to_chars(size, size + sizeof size, bytes.size(), 16).ptr;
  out.append(size, end);
  out += "\r\n";
  out += bytes;
  out += "\r\n";
}

bool decode_target(std::string_view target, std::string_view method, std::string& path) {
  if (target == "*" && method == "OPTIONS") {
    path = "*";
    return true;
  }
  for (std::string_view scheme : {"http://", "https://"}) {  // absolute form, as proxies send it
    if (!target.starts_with(scheme)) continue;
    const size_t slash = target.find('/', scheme.size());
    target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
  }
  target = target.substr(0, target.find_first_of("?#"));
  if (target.empty() || target[0] != '/') return false;
  path.clear();
  for (size_t i = 0; i < target.size(); ++i) {
    char c = target[i];
    if (c == '%') {
      if (i + 2 >= target.size()) return false;
      const int high = hex_digit(target[i + 1]), low = hex_digit(target[i + 2]);
      if (high < 0 || low < 0) return false;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (c == '\0') return false;
    path += c;
  }
  return true;
}

std::string body_too_large(uint64_t length, int64_t limit) {
  return format("the body has {} bytes, the limit is {}", length, limit);
}

}  // namespace moestro::server::wire
