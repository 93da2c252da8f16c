// Failure: how an error leaves the interpreter. Thrown inside src/text/jinja only; ChatTemplate
// turns it into a Status, so no exception crosses the folder. A hundred small functions (filters,
// methods, operators) stay readable this way.
#pragma once
#include <cstdint>
#include <string>
#include <utility>

#include "base/status.h"

namespace moestro::text::jinja {

struct Failure {
  Code code = Code::kInvalidArgument;
  std::string message;
  uint32_t line = 0;      // 0: the line that is being rendered
  bool verbatim = false;  // raise_exception: the message stands alone, without the line
};

[[noreturn]] inline void fail(std::string message) {
  throw Failure{Code::kInvalidArgument, std::move(message), 0, false};
}
[[noreturn]] inline void fail_at(uint32_t line, std::string message) {
  throw Failure{Code::kInvalidArgument, std::move(message), line, false};
}

}  // namespace moestro::text::jinja
