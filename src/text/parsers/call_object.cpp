#include "text/parsers/call_object.h"

#include <utility>

#include "base/json.h"
#include "text/parsers/machine.h"

namespace moestro::text::parsers {
namespace {

bool is_argument_key(std::string_view key) { return key == "arguments" || key == "parameters"; }

}  // namespace

CallObject::State CallObject::feed(char c) {
  switch (at_) {
    case At::kStart:
      if (is_space(c)) return State::kOpen;
      at_ = At::kKeyOrEnd;
      return c == '{' ? State::kOpen : State::kBad;
    case At::kKeyOrEnd:
    case At::kKey:
      if (is_space(c)) return State::kOpen;
      if (c == '}' && at_ == At::kKeyOrEnd) return State::kBad;  // no name
      key_.clear();
      at_ = At::kInKey;
      return c == '"' ? State::kOpen : State::kBad;
    case At::kInKey:
      if (c == '"') {
        at_ = At::kColon;
        return State::kOpen;
      }
      // Keys of calls have no escapes.
      if (c == '\\' || key_.size() > kMaxNameBytes) return State::kBad;
      key_ += c;
      return State::kOpen;
    case At::kColon:
      if (is_space(c)) return State::kOpen;
      at_ = At::kValue;
      return c == ':' ? State::kOpen : State::kBad;
    case At::kValue:
      if (is_space(c)) return State::kOpen;
      at_ = At::kInValue;
      value_.clear();
      depth_ = 0;
      in_string_ = escaped_ = false;
      scalar_ = c != '{' && c != '[' && c != '"';
      if (c == '}' || c == ']' || c == ',' || c == ':') return State::kBad;
      if (is_argument_key(key_) && has_arguments_) return State::kBad;
      streams_ = is_argument_key(key_) && c == '{';
      return feed_value(c);
    case At::kInValue:
      return feed_value(c);
    case At::kNext:
      if (is_space(c)) return State::kOpen;
      if (c == ',') {
        at_ = At::kKey;
        return State::kOpen;
      }
      if (c != '}' || !has_name_) return State::kBad;
      if (!has_arguments_) arguments_ = "{}";
      return State::kDone;
  }
  return State::kBad;
}

CallObject::State CallObject::feed_value(char c) {
  if (scalar_ && (c == ',' || c == '}' || is_space(c))) {
    const State s = end_value();
    return s == State::kOpen ? feed(c) : s;
  }
  std::string& to = streams_ ? arguments_ : value_;
  to += c;
  if (streams_) has_arguments_ = true;
  if (scalar_) return c == '"' || c == '{' || c == '[' ? State::kBad : State::kOpen;
  if (in_string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
    }
  } else if (c == '"') {
    in_string_ = true;
  } else if (c == '{' || c == '[') {
    ++depth_;
  } else if (c == '}' || c == ']') {
    --depth_;
  }
  return depth_ == 0 && !in_string_ ? end_value() : State::kOpen;
}

CallObject::State CallObject::end_value() {
  at_ = At::kNext;
  if (streams_) return State::kOpen;
  if (key_ == "name") {
    const Result<json::value> v = json::parse(value_);
    if (!v.ok() || !v->is_string() || has_name_) return State::kBad;
    name_ = std::string(json::view(v->get_string()));
    has_name_ = true;
  } else if (is_argument_key(key_)) {
    has_arguments_ = true;
    const Result<json::value> v = json::parse(value_);
    // Also sent as a string that holds the JSON; null: none.
    if (v.ok() && v->is_string()) {
      arguments_ += json::view(v->get_string());
    } else {
      arguments_ += v.ok() && v->is_null() ? "{}" : value_;
    }
  }
  return State::kOpen;
}

std::string CallObject::take_arguments() { return std::exchange(arguments_, {}); }

}  // namespace moestro::text::parsers
