#include "server/openai/fields.h"

#include <cmath>

#include "base/format.h"

namespace moestro::server::openai {

std::optional<int64_t> as_integer(const json::value& v) {
  if (v.is_int64()) return v.get_int64();
  if (v.is_double()) {
    const double d = v.get_double();
    if (std::abs(d) < 9e15 && d == std::floor(d)) return static_cast<int64_t>(d);
  }
  return std::nullopt;  // uint64 above int64's range: no field takes one
}

const json::value* Fields::any(std::string_view name) {
  seen_.insert(std::string(name));
  return json::find(object_, name);
}

void Fields::wrong_type(std::string_view name, std::string_view wanted, const json::value& found) {
  fail(name, format("{} must be {}, got {}", full_name(name), wanted, json::kind_name(found)));
}

std::optional<int64_t> Fields::integer(std::string_view name, int64_t min, int64_t max) {
  const json::value* v = any(name);
  if (!v) return std::nullopt;
  if (!v->is_number()) {
    wrong_type(name, "an integer", *v);
    return std::nullopt;
  }
  const std::optional<int64_t> i = as_integer(*v);
  if (!i || *i < min || *i > max) {
    fail(name, format("{} must be an integer from {} to {}, got {}", full_name(name), min, max,
                      json::dump(*v)));
    return std::nullopt;
  }
  return i;
}

std::optional<double> Fields::number(std::string_view name, double min, double max) {
  const json::value* v = any(name);
  if (!v) return std::nullopt;
  if (!v->is_number()) {
    wrong_type(name, "a number", *v);
    return std::nullopt;
  }
  const double d = v->to_number<double>();
  if (!(d >= min && d <= max)) {
    fail(name, format("{} must be from {} to {}, got {}", full_name(name), python_repr(min),
                      python_repr(max), json::dump(*v)));
    return std::nullopt;
  }
  return d;
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const json::value* v = any(name);
  if (!v) return std::nullopt;
  if (!v->is_bool()) {
    wrong_type(name, "true or false", *v);
    return std::nullopt;
  }
  return v->get_bool();
}

std::optional<std::string> Fields::string(std::string_view name) {
  const json::value* v = any(name);
  if (!v) return std::nullopt;
  if (!v->is_string()) {
    wrong_type(name, "a string", *v);
    return std::nullopt;
  }
  return std::string(json::view(v->get_string()));
}

const json::array* Fields::array(std::string_view name) {
  const json::value* v = any(name);
  if (!v) return nullptr;
  if (!v->is_array()) wrong_type(name, "an array", *v);
  return v->if_array();
}

const json::object* Fields::object(std::string_view name) {
  const json::value* v = any(name);
  if (!v) return nullptr;
  if (!v->is_object()) wrong_type(name, "an object", *v);
  return v->if_object();
}

void Fields::refuse(std::string_view name, std::string_view why, const json::value& harmless) {
  const json::value* v = any(name);
  if (!v || *v == harmless) return;
  fail(not_supported(full_name(name), format("{} is not supported: {}", full_name(name), why)));
}

std::vector<std::string> Fields::unknown() const {
  std::vector<std::string> names;
  for (const auto& member : object_) {
    if (!seen_.contains(std::string_view(member.key().data(), member.key().size())))
      names.emplace_back(member.key().data(), member.key().size());
  }
  return names;
}

}  // namespace moestro::server::openai
