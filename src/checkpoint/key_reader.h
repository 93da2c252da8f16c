// KeyReader: reads typed, bounded values out of one JSON object and keeps the first error, so that
// a list of fields reads as a list of assignments. Used by the config.json and quantization_config
// readers; one thread.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/status.h"

namespace moestro::checkpoint {

class KeyReader {
 public:
  explicit KeyReader(const json::object& o) : object_(o) {}

  const json::value* find(std::string_view key) const { return json::find(object_, key); }
  bool has(std::string_view key) const { return find(key) != nullptr; }
  // The first of the keys that is there, or the last one (for messages).
  std::string_view first_of(std::initializer_list<std::string_view> keys) const;

  // An integer in [low, high]; absent: fallback, unchecked. After an error: fallback.
  int64_t integer(std::string_view key, int64_t fallback, int64_t low, int64_t high);
  // A size: 1 to 2^31-1. Without a fallback the key is required.
  int32_t size(std::string_view key);
  int32_t size(std::string_view key, int32_t fallback, int32_t low = 1);
  // A finite number in [low, high].
  double number(std::string_view key, double fallback, double low, double high);
  bool boolean(std::string_view key, bool fallback);
  std::string text(std::string_view key, std::string fallback);

  void fail(Status status) {
    if (status_.ok()) status_ = std::move(status);
  }
  const Status& status() const { return status_; }

 private:
  const json::object& object_;
  Status status_;
};

// A value as a message shows it: on one line, at most 80 characters.
std::string shown(const json::value& v);

}  // namespace moestro::checkpoint
