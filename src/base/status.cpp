#include "base/status.h"

namespace moestro {

std::string_view code_name(Code code) {
  switch (code) {
    case Code::kOk:
      return "ok";
    case Code::kInvalidArgument:
      return "invalid argument";
    case Code::kUnauthenticated:
      return "unauthenticated";
    case Code::kNotFound:
      return "not found";
    case Code::kMethodNotAllowed:
      return "method not allowed";
    case Code::kPayloadTooLarge:
      return "payload too large";
    case Code::kResourceExhausted:
      return "resource exhausted";
    case Code::kCancelled:
      return "cancelled";
    case Code::kInternal:
      return "internal error";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kUnavailable:
      return "unavailable";
    case Code::kDeadlineExceeded:
      return "deadline exceeded";
    case Code::kDataLoss:
      return "data loss";
  }
  return "unknown";
}

int http_status(Code code) {
  switch (code) {
    case Code::kOk:
      return 200;
    case Code::kInvalidArgument:
      return 400;
    case Code::kUnauthenticated:
      return 401;
    case Code::kNotFound:
      return 404;
    case Code::kMethodNotAllowed:
      return 405;
    case Code::kPayloadTooLarge:
      return 413;
    case Code::kResourceExhausted:
      return 429;
    case Code::kCancelled:
      return 499;
    case Code::kInternal:
      return 500;
    case Code::kUnsupported:
      return 501;
    case Code::kUnavailable:
      return 503;
    case Code::kDeadlineExceeded:
      return 504;
    case Code::kDataLoss:
      return 500;
  }
  return 500;
}

int exit_status(Code code) {
  if (code == Code::kOk) return 0;
  return code == Code::kInvalidArgument ? 2 : 1;
}

const std::string& Status::message() const {
  static const std::string empty;
  return error_ ? error_->message : empty;
}

Status Status::with(std::string_view context) const {
  if (ok()) return {};
  return {error_->code, std::string(context) + ": " + error_->message};
}

}  // namespace moestro
