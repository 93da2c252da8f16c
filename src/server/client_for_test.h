// A blocking HTTP client over a raw socket, for tests only: sends exactly the bytes it is told to
// and shows what comes back.
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/format.h"
#include "base/json.h"
#include "base/strings.h"

namespace moestro::server {

struct TestResponse {
  int status = 0;  // 0: the connection ended before a whole response
  std::string head, body;
  bool complete = false;  // the framing was complete

  std::string header(std::string_view lower_name) const {
    for (std::string_view line : split(head, '\n')) {
      const size_t colon = line.find(':');
      if (colon != std::string_view::npos && lower(line.substr(0, colon)) == lower_name)
        return std::string(trim(line.substr(colon + 1)));
    }
    return {};
  }
  moestro::json::value json() const {
    auto v = moestro::json::parse(body);
    return v.ok() ? *v : moestro::json::value();
  }
  std::string error_message() const {
    const moestro::json::value v = json();
    if (!v.is_object() || !v.get_object().contains("error")) return {};
    return std::string(moestro::json::view(v.at("error").at("message").as_string()));
  }
  // The payloads of "data:" lines.
  std::vector<std::string> events() const {
    std::vector<std::string> out;
    size_t at = 0;
    while ((at = body.find("data: ", at)) != std::string::npos) {
      const size_t end = body.find("\n\n", at);
      out.push_back(body.substr(at + 6, end == std::string::npos ? end : end - at - 6));
      at += 6;
    }
    return out;
  }
};

class TestClient {
 public:
  explicit TestClient(uint16_t port, int receive_buffer = 0) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_buffer > 0)
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    const int one = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(port);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&a), sizeof a) == 0;
  }
  ~TestClient() { close(); }
  TestClient(TestClient&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        connected_(other.connected_),
        in_(std::move(other.in_)) {}
  TestClient& operator=(TestClient&&) = delete;

  bool connected() const { return connected_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void shutdown_send() { ::shutdown(fd_, SHUT_WR); }
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  // More bytes into the buffer; false: end of stream, error, or nothing for so long.
  bool receive(double seconds = 60) {
    pollfd p{fd_, POLLIN, 0};
    if (::poll(&p, 1, static_cast<int>(seconds * 1e3)) <= 0) return false;
    char chunk[16384];
    const ssize_t n = ::recv(fd_, chunk, sizeof chunk, 0);
    if (n <= 0) return false;
    in_.append(chunk, static_cast<size_t>(n));
    return true;
  }
  // True when the server ends the connection within the time, whatever it sends before.
  bool closed_by_server(double seconds = 10) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    for (;;) {
      const double left =
          std::chrono::duration<double>(end - std::chrono::steady_clock::now()).count();
      pollfd p{fd_, POLLIN, 0};
      if (left <= 0 || ::poll(&p, 1, static_cast<int>(left * 1e3)) <= 0) return false;
      if (!receive(0)) return true;
    }
  }
  std::string& buffer() { return in_; }

  TestResponse read_response(bool head_request = false) {
    TestResponse r;
    size_t end;
    for (;;) {
      while ((end = in_.find("\r\n\r\n")) == std::string::npos) {
        if (!receive()) return r;
      }
      r.head = in_.substr(0, end + 2);
      in_.erase(0, end + 4);
      if (!r.head.starts_with("HTTP/1.1 100")) break;
    }
    r.status = std::atoi(r.head.c_str() + 9);
    if (head_request || r.status == 204) {
      r.complete = true;
    } else if (r.header("transfer-encoding") == "chunked") {
      r.complete = read_chunks(r.body);
    } else if (const std::string length = r.header("content-length"); !length.empty()) {
      const size_t want = std::strtoul(length.c_str(), nullptr, 10);
      while (in_.size() < want && receive()) {
      }
      r.complete = in_.size() >= want;
      r.body = in_.substr(0, want);
      in_.erase(0, want);
    } else {
      while (receive()) {
      }
      r.body = std::exchange(in_, {});
      r.complete = true;
    }
    return r;
  }

 private:
  bool read_chunks(std::string& body) {
    for (;;) {
      size_t eol;
      while ((eol = in_.find("\r\n")) == std::string::npos) {
        if (!receive()) return false;
      }
      const size_t size = std::strtoul(in_.c_str(), nullptr, 16);
      while (in_.size() < eol + 2 + size + 2) {
        if (!receive()) return false;
      }
      body += in_.substr(eol + 2, size);
      in_.erase(0, eol + 2 + size + 2);
      if (size == 0) return true;
    }
  }

  int fd_ = -1;
  bool connected_ = false;
  std::string in_;
};

inline std::string post_request(std::string_view path, std::string_view body,
                                std::string_view more_headers = "") {
  return format(
      "POST {} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: "
      "{}\r\n{}\r\n{}",
      path, body.size(), more_headers, body);
}
inline std::string get_request(std::string_view path, std::string_view more_headers = "") {
  return format("GET {} HTTP/1.1\r\nHost: test\r\n{}\r\n", path, more_headers);
}

}  // namespace moestro::server
