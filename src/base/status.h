// Status and Result<T>: how expected failures (bad input, bad file, no memory, late peer) travel.
// Used by every folder. A code maps one to one to an HTTP status and a process exit code; the
// message names the value, the limit and the remedy.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/check.h"  // Result::value() on an error is a bug

namespace moestro {

enum class Code {
  kOk,
  kInvalidArgument,    // the caller's input is wrong            HTTP 400, exit 2
  kUnauthenticated,    // missing or wrong key                   HTTP 401, exit 1
  kNotFound,           // no such model, file, route             HTTP 404, exit 1
  kMethodNotAllowed,   // HTTP 405
  kPayloadTooLarge,    // HTTP 413
  kResourceExhausted,  // queue full, no memory for KV           HTTP 429, exit 1
  kCancelled,          // client went away                       HTTP 499
  kInternal,           // our fault                              HTTP 500, exit 1
  kUnsupported,       // valid, but not something we do         HTTP 501 in general, 400 for request
                      // fields
  kUnavailable,       // draining, peer lost                    HTTP 503, exit 1
  kDeadlineExceeded,  // HTTP 504
  kDataLoss,          // a checkpoint file is damaged           HTTP 500, exit 1
};

std::string_view code_name(Code code);
int http_status(Code code);
int exit_status(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(Code code, std::string message)
      : error_(std::make_unique<Error>(code, std::move(message))) {}
  Status(const Status& other)
      : error_(other.error_ ? std::make_unique<Error>(*other.error_) : nullptr) {}
  Status& operator=(const Status& other) {
    error_ = other.error_ ? std::make_unique<Error>(*other.error_) : nullptr;
    return *this;
  }
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;

  bool ok() const { return !error_; }
  Code code() const { return error_ ? error_->code : Code::kOk; }
  const std::string& message() const;
  // Same code, the message prefixed: "while loading tokenizer.json: …". Ok stays ok.
  Status with(std::string_view context) const;

 private:
  struct Error {
    Error(Code c, std::string m) : code(c), message(std::move(m)) {}
    Code code;
    std::string message;
  };
  std::unique_ptr<Error> error_;
};

inline Status invalid_argument(std::string message) {
  return {Code::kInvalidArgument, std::move(message)};
}
inline Status not_found(std::string message) { return {Code::kNotFound, std::move(message)}; }
inline Status data_loss(std::string message) { return {Code::kDataLoss, std::move(message)}; }
inline Status unsupported(std::string message) { return {Code::kUnsupported, std::move(message)}; }
inline Status internal_error(std::string message) { return {Code::kInternal, std::move(message)}; }

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Status status) : state_(std::in_place_index<1>, std::move(status)) {
    CHECK(!std::get<1>(state_).ok(), "Result built from an ok Status");
  }
  bool ok() const { return state_.index() == 0; }
  Status status() const { return ok() ? Status() : std::get<1>(state_); }
  T& value() & {
    CHECK(ok(), status().message());
    return std::get<0>(state_);
  }
  const T& value() const& {
    CHECK(ok(), status().message());
    return std::get<0>(state_);
  }
  T&& value() && {
    CHECK(ok(), status().message());
    return std::get<0>(std::move(state_));
  }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  Result with(std::string_view context) && {
    if (ok()) return std::move(*this);
    return status().with(context);
  }

 private:
  std::variant<T, Status> state_;
};

}  // namespace moestro

// Return the Status of `expr` unless it is ok.
#define MOESTRO_TRY(expr)                                                           \
  do {                                                                              \
    if (::moestro::Status moestro_s_ = (expr); !moestro_s_.ok()) return moestro_s_; \
  } while (0)
#define MOESTRO_CONCAT_(a, b) a##b
#define MOESTRO_CONCAT(a, b) MOESTRO_CONCAT_(a, b)
// MOESTRO_ASSIGN(auto x, f()): x = the value, or return the Status.
#define MOESTRO_ASSIGN(lhs, expr) MOESTRO_ASSIGN_(MOESTRO_CONCAT(moestro_r_, __LINE__), lhs, expr)
#define MOESTRO_ASSIGN_(result, lhs, expr)  \
  auto result = (expr);                     \
  if (!result.ok()) return result.status(); \
  lhs = std::move(result).value()
