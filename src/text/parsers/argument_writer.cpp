#include "text/parsers/argument_writer.h"

#include <cmath>

#include "base/format.h"
#include "base/strings.h"
#include "text/parsers/machine.h"

namespace moestro::text::parsers {
namespace {

enum Type : unsigned {
  kString = 1,
  kNull = 2,
  kInteger = 4,
  kNumber = 8,
  kBoolean = 16,
  kObject = 32,
  kArray = 64
};

unsigned type_named(std::string_view name) {
  if (name == "string") return kString;
  if (name == "null") return kNull;
  if (name == "integer") return kInteger;
  if (name == "number") return kNumber;
  if (name == "boolean") return kBoolean;
  if (name == "object") return kObject;
  if (name == "array") return kArray;
  return 0;
}

unsigned type_of_value(const json::value& v) {
  if (v.is_string()) return kString;
  if (v.is_null()) return kNull;
  if (v.is_bool()) return kBoolean;
  if (v.is_object()) return kObject;
  if (v.is_array()) return kArray;
  return v.is_double() ? kNumber : kInteger;
}

// 0: the schema does not say.
unsigned types_of(const json::value& schema, int depth = 0) {
  const json::object* o = schema.if_object();
  if (!o || depth > 8) return 0;
  unsigned types = 0;
  if (const json::value* type = json::find(*o, "type")) {
    if (type->is_string()) types |= type_named(json::view(type->get_string()));
    if (const json::array* list = type->if_array())
      for (const json::value& t : *list)
        if (t.is_string()) types |= type_named(json::view(t.get_string()));
    return types;
  }
  for (const char* key : {"anyOf", "oneOf", "allOf"}) {
    const json::value* list = json::find(*o, key);
    if (list && list->is_array())
      for (const json::value& branch : list->get_array()) types |= types_of(branch, depth + 1);
  }
  if (const json::value* list = json::find(*o, "enum"); list && list->is_array())
    for (const json::value& v : list->get_array()) types |= type_of_value(v);
  if (const json::value* v = json::find(*o, "const")) types |= type_of_value(*v);
  return types;
}

// The parameter's types; 0: unknown.
unsigned types_of_parameter(const json::value* parameters, std::string_view key) {
  const json::object* o = parameters ? parameters->if_object() : nullptr;
  const json::value* properties = o ? json::find(*o, "properties") : nullptr;
  if (!properties || !properties->is_object()) return 0;
  const json::value* schema = json::find(properties->get_object(), key);
  return schema ? types_of(*schema) : 0;
}

std::optional<std::string> as_json(std::string_view text, unsigned types, bool any_json) {
  const std::string_view t = trim(text);
  if ((types & kNull) && (t == "null" || t == "None")) return "null";
  if ((types & kBoolean) && !(types & (kInteger | kNumber)) && (t == "0" || t == "1"))
    return t == "1" ? "true" : "false";
  if ((types & kBoolean) && (t == "True" || t == "False")) return lower(t);
  const Result<json::value> v = json::parse(t);
  if (!v.ok()) return std::nullopt;
  if (any_json) return std::string(t);
  unsigned type = type_of_value(*v);
  if (type == kInteger) type |= kNumber;
  if (type == kNumber && v->is_double() && std::isfinite(v->get_double()) &&
      std::trunc(v->get_double()) == v->get_double())
    type |= kInteger;
  if (type == kString || !(type & types)) return std::nullopt;
  return std::string(t);
}

}  // namespace

void append_escaped(std::string_view text, std::string& json) {
  constexpr char kDigits[] = "0123456789abcdef";
  for (const char c : text) {
    switch (c) {
      case '"':
        json += "\\\"";
        break;
      case '\\':
        json += "\\\\";
        break;
      case '\n':
        json += "\\n";
        break;
      case '\r':
        json += "\\r";
        break;
      case '\t':
        json += "\\t";
        break;
      case kTokenMark:
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          json += "\\u00";
          json += kDigits[static_cast<unsigned char>(c) >> 4];
          json += kDigits[c & 15];
        } else {
          json += c;
        }
    }
  }
}

void ArgumentWriter::begin_value(std::string_view key, std::string& json, Typing typing) {
  json += any_ ? ", \"" : "{\"";
  any_ = true;
  append_escaped(key, json);
  json += "\": ";
  constexpr unsigned kAll = kString | kNull | kInteger | kNumber | kBoolean | kObject | kArray;
  types_ = types_of_parameter(parameters_, key);
  if (types_ == 0) types_ = kAll;
  if (typing == Typing::kString) types_ = kString;
  if (typing == Typing::kJson) types_ = kAll;
  any_json_ = typing == Typing::kJson;
  streams_ = types_ == kString;
  held_.clear();
  if (streams_) json += '"';
}

void ArgumentWriter::value(std::string_view text, std::string& json) {
  if (streams_) {
    append_escaped(text, json);
  } else {
    held_ += text;
  }
}

void ArgumentWriter::end_value(std::string& json) {
  if (!streams_) {
    std::erase(held_, kTokenMark);
    if (const auto typed = as_json(held_, types_, any_json_)) {
      json += *typed;
      return;
    }
    json += '"';
    append_escaped(held_, json);
  }
  json += '"';
}

void ArgumentWriter::cut(std::string& json) {
  if (!streams_) json += held_;
}

void ArgumentWriter::end(std::string& json) { json += any_ ? "}" : "{}"; }

}  // namespace moestro::text::parsers
