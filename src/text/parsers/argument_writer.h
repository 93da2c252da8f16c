// ArgumentWriter: the JSON arguments of a call whose format names parameters one by one, written as
// they come. Strings stream; other values wait for their end and are typed by the function's
// schema. Private to text/parsers.
#pragma once
#include <string>
#include <string_view>

#include "base/json.h"

namespace moestro::text::parsers {

class ArgumentWriter {
 public:
  // How the value says what it is.
  enum class Typing { kBySchema, kString, kJson };

  // parameters: the function's JSON schema, null or nullptr: unknown.
  explicit ArgumentWriter(const json::value* parameters = nullptr) : parameters_(parameters) {}
  // All append to json, so that everything appended is one object.
  void begin_value(std::string_view key, std::string& json, Typing typing = Typing::kBySchema);
  void value(std::string_view text, std::string& json);
  void end_value(std::string& json);
  void cut(std::string& json);  // the output stops inside the open value
  void end(std::string& json);  // no value is open

 private:
  const json::value* parameters_;
  bool any_ = false, streams_ = false, any_json_ = false;
  unsigned types_ = 0;
  std::string held_;
};

// The bytes of a JSON string between its quotes.
void append_escaped(std::string_view text, std::string& json);

}  // namespace moestro::text::parsers
