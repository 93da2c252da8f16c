// Fields: reads a JSON request object field by field. The first wrong field is kept as an ApiError
// with its name, type and range; null is the same as absent (clients send both); what was never
// asked for is listed by unknown(). One object a request, on the text pool.
#pragma once
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "server/openai/error.h"

namespace moestro::server::openai {

class Fields {
 public:
  explicit Fields(const json::object& object, std::string path = {})
      : object_(object), path_(std::move(path)) {}

  // nullptr: absent or null.
  const json::value* any(std::string_view name);
  std::optional<int64_t> integer(std::string_view name, int64_t min,
                                 int64_t max);  // 3.0 counts as 3
  std::optional<double> number(std::string_view name, double min, double max);
  std::optional<bool> boolean(std::string_view name);
  std::optional<std::string> string(std::string_view name);
  const json::array* array(std::string_view name);
  const json::object* object(std::string_view name);

  // Refuses the field when it is present, not null, and not equal to `harmless`.
  void refuse(std::string_view name, std::string_view why, const json::value& harmless = nullptr);
  // The field means nothing to the answer and is accepted in every form ("user", "metadata").
  void accept(std::string_view name) { seen_.insert(std::string(name)); }

  void fail(ApiError error) {
    if (!error_) error_ = std::move(error);
  }
  void fail(std::string_view name, std::string message) {
    fail(bad_request(full_name(name), std::move(message)));
  }
  const std::optional<ApiError>& error() const { return error_; }
  std::string full_name(std::string_view name) const {
    return path_.empty() ? std::string(name) : path_ + "." + std::string(name);
  }
  std::vector<std::string> unknown() const;

 private:
  void wrong_type(std::string_view name, std::string_view wanted, const json::value& found);

  const json::object& object_;
  const std::string path_;  // "stream_options": names of nested fields
  std::set<std::string, std::less<>> seen_;
  std::optional<ApiError> error_;
};

// An integer, also written as 3.0; nullopt: no integer or beyond int64.
std::optional<int64_t> as_integer(const json::value& v);

}  // namespace moestro::server::openai
