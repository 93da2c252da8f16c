#include "text/grammar/schema_merge.h"

#include <algorithm>
#include <set>

#include "base/format.h"
#include "base/strings.h"

namespace moestro::text::schema {
namespace {

constexpr int kMaxDepth = 64;

constexpr std::pair<std::string_view, Types> kTypeNames[] = {
    {"string", kString},   {"number", kNumber | kInteger},
    {"integer", kInteger}, {"boolean", kBoolean},
    {"null", kNull},       {"object", kObject},
    {"array", kArray}};

constexpr std::pair<std::string_view, Types> kTypedKeywords[] = {
    {"properties", kObject},
    {"required", kObject},
    {"additionalProperties", kObject},
    {"minProperties", kObject},
    {"maxProperties", kObject},
    {"items", kArray},
    {"prefixItems", kArray},
    {"minItems", kArray},
    {"maxItems", kArray},
    {"uniqueItems", kArray},
    {"minLength", kString},
    {"maxLength", kString},
    {"pattern", kString},
    {"minimum", kNumber | kInteger},
    {"maximum", kNumber | kInteger},
    {"exclusiveMinimum", kNumber | kInteger},
    {"exclusiveMaximum", kNumber | kInteger},
    {"multipleOf", kNumber | kInteger}};

constexpr std::string_view kOtherAssertions[] = {
    "type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "format", "additionalItems", "not"};

Types type_of(const json::value& v) {
  if (v.is_string()) return kString;
  if (v.is_bool()) return kBoolean;
  if (v.is_null()) return kNull;
  if (v.is_object()) return kObject;
  if (v.is_array()) return kArray;
  if (v.is_double() && v.get_double() != static_cast<double>(static_cast<int64_t>(v.get_double())))
    return kNumber;
  return kInteger;
}

Result<json::value> merged_value(std::string_view key, const json::value& a, const json::value& b) {
  if (a == b) return a;
  if (key == "type") {
    const Result<Types> x = types_of(json::object{{"type", a}}),
                        y = types_of(json::object{{"type", b}});
    if (!x.ok()) return x.status();
    if (!y.ok()) return y.status();
    json::array both;
    Types left = *x & *y;
    for (const auto& [name, types] : kTypeNames)
      if ((left & types) == types && types != 0) {
        both.push_back(json::value(name));
        left &= ~types;
      }
    if (both.empty()) return invalid_argument("the types of allOf contradict each other");
    return json::value(both);
  }
  if (key == "required") {
    json::array both = a.is_array() ? a.get_array() : json::array();
    if (b.is_array())
      for (const json::value& name : b.get_array())
        if (std::find(both.begin(), both.end(), name) == both.end()) both.push_back(name);
    return json::value(both);
  }
  if (key == "enum" && a.is_array() && b.is_array()) {
    json::array both;
    for (const json::value& v : a.get_array())
      if (std::find(b.get_array().begin(), b.get_array().end(), v) != b.get_array().end())
        both.push_back(v);
    return json::value(both);
  }
  if (a.is_number() && b.is_number()) {
    const bool less = a.to_number<double>() < b.to_number<double>();
    if (key.starts_with("min") || key == "exclusiveMinimum") return less ? b : a;
    if (key.starts_with("max") || key == "exclusiveMaximum") return less ? a : b;
  }
  if ((key == "items" || key == "additionalProperties") && (a.is_bool() || b.is_bool())) {
    const bool a_false = a.is_bool() && !a.get_bool(), b_false = b.is_bool() && !b.get_bool();
    if (a_false || b_false) return json::value(false);
    return a.is_bool() ? b : a;
  }
  if (key == "items" || key == "additionalProperties")
    return json::value(json::object{{"allOf", json::array{a, b}}});
  return invalid_argument(format("two values of {} cannot be taken together", key));
}

bool is_assertion(std::string_view key) {
  return std::any_of(std::begin(kTypedKeywords), std::end(kTypedKeywords),
                     [&](const auto& k) { return k.first == key; }) ||
         std::find(std::begin(kOtherAssertions), std::end(kOtherAssertions), key) !=
             std::end(kOtherAssertions);
}

bool is_false(const json::value* v) { return v && v->is_bool() && !v->get_bool(); }

// Both sides' properties; one that a closed side does not name may not come.
void merge_properties(const json::object& a, const json::object& b, json::object& out) {
  json::object both;
  const auto add = [&](const json::object& from, const json::object& other) {
    const json::value* mine = json::find(from, "properties");
    const json::value* theirs = json::find(other, "properties");
    if (!mine || !mine->is_object()) return;
    for (const auto& [key, schema] : mine->get_object()) {
      const bool named = theirs && theirs->is_object() && theirs->get_object().contains(key);
      if (both.contains(key)) continue;
      if (named) {
        const json::value& second = theirs->get_object().at(key);
        both[key] = schema == second
                        ? schema
                        : json::value(json::object{{"allOf", json::array{schema, second}}});
      } else if (is_false(json::find(other, "additionalProperties"))) {
        both[key] = false;
      } else {
        both[key] = schema;
      }
    }
  };
  add(a, b);
  add(b, a);
  if (!both.empty()) out["properties"] = std::move(both);
}

const json::object* as_object(const json::value& root, const json::value& v, int depth) {
  const json::object* o = v.if_object();
  if (!o || depth > kMaxDepth) return nullptr;
  const json::value* ref = json::find(*o, "$ref");
  if (!ref || !ref->is_string()) return o;
  const Result<const json::value*> target = resolve(root, json::view(ref->get_string()));
  return target.ok() ? as_object(root, **target, depth + 1) : nullptr;
}

// The finite set of values; empty: not known to be one.
json::array values_of(const json::object& o) {
  if (o.contains("const")) return json::array{o.at("const")};
  const json::value* list = json::find(o, "enum");
  return list && list->is_array() ? list->get_array() : json::array();
}

std::set<std::string> names_in(const json::object& o, const char* key) {
  std::set<std::string> names;
  const json::value* v = json::find(o, key);
  if (v && v->is_array())
    for (const json::value& n : v->get_array())
      if (n.is_string()) names.emplace(json::view(n.get_string()));
  if (v && v->is_object())
    for (const auto& [k, unused] : v->get_object()) names.emplace(k.data(), k.size());
  return names;
}

// b requires a property that objects made for a never have.
bool lacks_required(const json::object& a, const json::object& b) {
  const json::value* additional = json::find(a, "additionalProperties");
  if (additional && !is_false(additional)) return false;
  std::set<std::string> made = names_in(a, "properties");
  made.merge(names_in(a, "required"));
  if (made.empty() && !additional) return false;
  const std::set<std::string> wanted = names_in(b, "required");
  return std::any_of(wanted.begin(), wanted.end(),
                     [&](const std::string& n) { return !made.contains(n); });
}

}  // namespace

Result<Types> types_of(const json::object& schema) {
  const json::value* type = json::find(schema, "type");
  Types types = 0;
  if (!type) {
    for (const auto& [key, t] : kTypedKeywords)
      if (json::find(schema, key)) types |= t;
    if (json::find(schema, "format") && types == 0) types = kString;
    return types == 0 ? Types(kAllTypes) : types;
  }
  const auto add = [&](const json::value& v) -> Status {
    for (const auto& [name, t] : kTypeNames)
      if (v.is_string() && json::view(v.get_string()) == name) {
        types |= t;
        return {};
      }
    return invalid_argument(format("there is no type {}", json::dump(v).substr(0, 100)));
  };
  if (const json::array* list = type->if_array()) {
    for (const json::value& v : *list) MOESTRO_TRY(add(v));
  } else {
    MOESTRO_TRY(add(*type));
  }
  return types;
}

bool types_allow(const json::object& schema, const json::value& v) {
  if (!json::find(schema, "type")) return true;
  const Result<Types> types = types_of(schema);
  return types.ok() && (*types & type_of(v)) != 0;
}

Result<const json::value*> resolve(const json::value& root, std::string_view pointer) {
  const std::string shown(pointer.substr(0, 100));
  if (pointer.empty() || pointer.front() != '#')
    return unsupported(format("$ref {}: only references into the schema itself (#/…) are supported",
                              json::quote(shown)));
  const json::value* at = &root;
  pointer.remove_prefix(1);
  if (pointer.empty()) return at;
  if (pointer.front() != '/')
    return unsupported(format("$ref {}: anchors are not supported", json::quote(shown)));
  for (const std::string_view part : split(pointer.substr(1), '/')) {
    std::string key;
    for (size_t i = 0; i < part.size(); ++i) {
      if (part[i] == '~' && i + 1 < part.size()) {
        key += part[++i] == '1' ? '/' : '~';
      } else {
        key += part[i];
      }
    }
    const json::value* next = nullptr;
    if (const json::object* o = at->if_object()) {
      next = o->if_contains(key);
    } else if (const json::array* list = at->if_array()) {
      const auto index = parse_int(key);
      if (index && *index >= 0 && *index < static_cast<int64_t>(list->size()))
        next = &(*list)[static_cast<size_t>(*index)];
    }
    if (!next) return invalid_argument(format("$ref {} points nowhere", json::quote(shown)));
    at = next;
  }
  return at;
}

bool has_other_assertions(const json::object& schema,
                          std::initializer_list<std::string_view> known) {
  return std::any_of(schema.begin(), schema.end(), [&](const auto& entry) {
    const std::string_view key(entry.key().data(), entry.key().size());
    return is_assertion(key) && std::find(known.begin(), known.end(), key) == known.end();
  });
}

Result<json::object> merge(const json::value& root, const json::object& a, const json::value& b,
                           int depth) {
  if (depth > kMaxDepth) return invalid_argument("references go round in a circle");
  if (b.is_bool()) {
    if (b.get_bool()) return a;
    return invalid_argument("the schema false accepts nothing");
  }
  const json::object* other = b.if_object();
  if (!other) return invalid_argument("a schema must be an object");
  if (const json::value* ref = json::find(*other, "$ref"); ref && ref->is_string()) {
    MOESTRO_ASSIGN(const json::value* target, resolve(root, json::view(ref->get_string())));
    MOESTRO_ASSIGN(const json::object with, merge(root, a, *target, depth + 1));
    json::object rest = *other;
    rest.erase("$ref");
    return merge(root, with, rest, depth + 1);
  }
  json::object out = a;
  merge_properties(a, *other, out);
  for (const auto& [key, value] : *other) {
    const std::string_view name(key.data(), key.size());
    if (name == "properties") continue;
    if (!out.contains(key)) {
      out[key] = value;
      continue;
    }
    if (name == "allOf" && out.at(key).is_array() && value.is_array()) {
      for (const json::value& part : value.get_array()) out.at(key).get_array().push_back(part);
      continue;
    }
    if (!is_assertion(name)) continue;  // the first title stays
    MOESTRO_ASSIGN(out[key], merged_value(name, out.at(key), value));
  }
  return out;
}

bool disjoint(const json::value& root, const json::value& a, const json::value& b, int depth) {
  const json::object *x = as_object(root, a, depth), *y = as_object(root, b, depth);
  if (!x || !y || depth > 8) return false;
  const json::array some = values_of(*x), others = values_of(*y);
  if (!some.empty() && !others.empty())
    return std::none_of(some.begin(), some.end(), [&](const json::value& v) {
      return std::find(others.begin(), others.end(), v) != others.end();
    });
  const auto types = [](const json::object& o, const json::array& values) {
    Types t = 0;
    for (const json::value& v : values) t |= type_of(v);
    const Result<Types> named = types_of(o);
    return t != 0 ? t : named.ok() ? *named : Types(kAllTypes);
  };
  const Types tx = types(*x, some), ty = types(*y, others);
  if ((tx & ty) == 0) return true;
  if (tx != kObject || ty != kObject) return false;
  // A property that both require and that tells them apart.
  const json::value *px = json::find(*x, "properties"), *py = json::find(*y, "properties");
  const std::set<std::string> rx = names_in(*x, "required"), ry = names_in(*y, "required");
  if (px && py && px->is_object() && py->is_object())
    for (const std::string& name : rx)
      if (ry.contains(name) && px->get_object().contains(name) && py->get_object().contains(name) &&
          disjoint(root, px->get_object().at(name), py->get_object().at(name), depth + 1))
        return true;
  return lacks_required(*x, *y) && lacks_required(*y, *x);
}

}  // namespace moestro::text::schema
