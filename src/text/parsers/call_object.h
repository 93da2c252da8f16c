// CallObject: reads {"name": "f", "arguments": {…}} byte by byte. Private to text/parsers.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace moestro::text::parsers {

class CallObject {
 public:
  enum class State : uint8_t { kOpen, kDone, kBad };  // kDone: the closing brace was the last byte

  // The next byte; not after kDone or kBad.
  State feed(char c);
  bool has_name() const { return has_name_; }
  const std::string& name() const { return name_; }
  bool has_arguments() const { return has_arguments_; }  // at least their beginning
  bool arguments_complete() const { return has_arguments_ && !(at_ == At::kInValue && streams_); }
  // Argument text since the last call; wanted once the name is known.
  std::string take_arguments();

 private:
  enum class At : uint8_t { kStart, kKeyOrEnd, kKey, kInKey, kColon, kValue, kInValue, kNext };
  State feed_value(char c);
  State end_value();

  At at_ = At::kStart;
  std::string key_, value_, name_, arguments_;
  int depth_ = 0;
  bool in_string_ = false, escaped_ = false, has_name_ = false, has_arguments_ = false;
  bool scalar_ = false, streams_ = false;
};

}  // namespace moestro::text::parsers
