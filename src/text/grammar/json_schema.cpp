// JSON Schema to grammar. Sound: every text of the grammar is valid. Where a keyword cannot be kept
// exactly, the schema is refused by its name; where an instance may be written in many ways (order
// of properties, exponents), the grammar has one.
#include <algorithm>
#include <cmath>
#include <map>

#include "base/format.h"
#include "text/grammar/grammar_sources.h"
#include "text/grammar/json_text.h"
#include "text/grammar/schema_merge.h"

namespace moestro::text {
namespace {

using Node = GrammarBuilder::Node;
using schema::Types;

constexpr const char* kRefused[] = {"not",
                                    "if",
                                    "then",
                                    "else",
                                    "dependentRequired",
                                    "dependencies",
                                    "contains",
                                    "minContains",
                                    "maxContains",
                                    "dependentSchemas",
                                    "propertyNames",
                                    "$dynamicRef",
                                    "$recursiveRef",
                                    "patternProperties"};

// As regular expressions; other formats are annotations, as the standard has them.
constexpr std::pair<const char*, const char*> kFormats[] = {
    {"date",
     "[0-9]{4}-(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|[0-9]{4}-(0[469]|11)-(0[1-9]|[12][0-"
     "9]|30)|[0-9]{4}-02-(0[1-9]|1[0-9]|2[0-8])"},
    {"time",
     "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5]["
     "0-9])"},
    {"date-time",
     "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.["
     "0-"
     "9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"},
    {"uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"},
    {"ipv4",
     "((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-"
     "9]?[0-9])"},
    {"email",
     "[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,32}){0,3}@[a-z0-9]{1,32}(\\.[a-z0-9]{1,32}){1,3}"}};

constexpr size_t kMaxParts = 20'000, kMaxMerges = 500;
constexpr int kMaxDepth = 160;  // of values in values, each of a few stack frames

class SchemaReader {
 public:
  SchemaReader(GrammarBuilder& b, const json::value& root) : b_(b), text_(b), root_(root) {}

  Result<Node> read() {
    MOESTRO_ASSIGN(const Node node, value(root_, "#"));
    // References that were met are compiled one after the other, not inside each other.
    while (!pending_.empty()) {
      const auto [rule, pointer] = pending_.back();
      pending_.pop_back();
      MOESTRO_ASSIGN(const json::value* target, schema::resolve(root_, pointer));
      MOESTRO_ASSIGN(const Node body, value(*target, pointer));
      b_.define(rule, body);
    }
    return node;
  }

 private:
  static Status error(const std::string& path, std::string_view what) {
    return invalid_argument(format("JSON schema at {}: {}", path, what));
  }

  Result<Node> value(const json::value& schema, const std::string& path) {
    MOESTRO_TRY(count_part());
    if (depth_ >= kMaxDepth || path.size() > 4096)
      return error(path.substr(0, 100), "it is nested too deeply, or allOf goes round in a circle");
    ++depth_;
    Result<Node> node = value_at_depth(schema, path);
    --depth_;
    return node;
  }
  // Copies whole schemas, so a circle of references that doubles them must end early.
  Result<json::object> merge(const json::object& a, const json::value& b) {
    const json::value* all = json::find(a, "allOf");
    if (++num_merges_ > kMaxMerges ||
        (all && all->is_array() && all->get_array().size() > kMaxMerges))
      return invalid_argument(
          format("allOf, or what is beside $ref, anyOf and oneOf, has more than {} parts in all",
                 kMaxMerges));
    return schema::merge(root_, a, b, 0);
  }
  Status count_part() {
    if (++num_parts_ <= kMaxParts) return {};
    return invalid_argument(
        format("the JSON schema has more than {} parts, references included", kMaxParts));
  }

  Result<Node> value_at_depth(const json::value& schema, const std::string& path) {
    if (schema.is_bool()) {
      if (schema.get_bool()) return text_.value;
      return error(path, "the schema false accepts nothing");
    }
    const json::object* o = schema.if_object();
    if (!o)
      return error(path, format("a schema must be an object, got {}", json::kind_name(schema)));
    for (const char* key : kRefused) {
      const json::value* v = json::find(*o, key);
      if (v && !(v->is_object() && v->get_object().empty()))
        return error(path, format("{} is not supported; leave it out", key));
    }
    if (const json::value* all = json::find(*o, "allOf")) return all_of(*o, *all, path);
    if (json::find(*o, "$ref")) return reference(*o, path);
    for (const char* key : {"anyOf", "oneOf"})
      if (const json::value* list = json::find(*o, key)) return branches(*o, *list, key, path);
    if (o->contains("const")) return constant(*o, path);
    if (json::find(*o, "enum")) return enumeration(*o, path);
    return typed(*o, path);
  }

  Result<Node> all_of(const json::object& o, const json::value& list, const std::string& path) {
    if (!list.is_array()) return error(path, "allOf must be an array");
    json::object merged = o;
    merged.erase("allOf");
    for (const json::value& part : list.get_array()) {
      Result<json::object> r = merge(merged, part);
      if (!r.ok()) return error(path, r.status().message());
      merged = std::move(*r);
    }
    return value(merged, path);
  }

  Result<Node> reference(const json::object& o, const std::string& path) {
    const json::value& ref = *json::find(o, "$ref");
    if (!ref.is_string()) return error(path, "$ref must be a string");
    const std::string pointer(json::view(ref.get_string()));
    if (schema::has_other_assertions(o, {"$ref"})) {
      json::object rest = o;
      rest.erase("$ref");
      Result<json::object> r = merge(rest, json::object{{"$ref", pointer}});
      if (!r.ok()) return error(path, r.status().message());
      return value(*r, path);
    }
    const Result<const json::value*> target = schema::resolve(root_, pointer);
    if (!target.ok()) return error(path, target.status().message());
    const auto [at, fresh] = references_.try_emplace(pointer, 0);
    if (fresh) {
      at->second = b_.rule(pointer.substr(0, 100));
      pending_.emplace_back(at->second, pointer);
    }
    return at->second;
  }

  Result<Node> branches(const json::object& o, const json::value& list, const char* key,
                        const std::string& path) {
    if (!list.is_array() || list.get_array().empty())
      return error(path, format("{} must be a non-empty array", key));
    json::object rest = o;
    rest.erase(key);
    std::vector<json::value> merged;
    for (const json::value& branch : list.get_array()) {
      if (branch.is_bool() && !branch.get_bool()) continue;
      if (!schema::has_other_assertions(rest, {})) {
        merged.push_back(branch);
        continue;
      }
      Result<json::object> r = merge(rest, branch);
      if (!r.ok()) return error(path, r.status().message());
      merged.emplace_back(std::move(*r));
    }
    if (std::string_view(key) == "oneOf") {
      if (merged.size() > 256) return error(path, "oneOf has more than 256 branches");
      for (size_t i = 0; i < merged.size(); ++i)
        for (size_t j = 0; j < i; ++j)
          if (!schema::disjoint(root_, merged[i], merged[j], 0))
            return error(path,
                         format("branches {} and {} of oneOf may both match a value; use anyOf, "
                                "or tell them apart by type, const or required",
                                j, i));
    }
    std::vector<Node> nodes;
    for (size_t i = 0; i < merged.size(); ++i) {
      MOESTRO_ASSIGN(const Node node, value(merged[i], format("{}/{}/{}", path, key, i)));
      nodes.push_back(node);
    }
    return b_.choice(std::move(nodes));
  }

  Result<Node> constant(const json::object& o, const std::string& path) {
    if (schema::has_other_assertions(o, {"const", "type"}))
      return error(path, "const is supported with type beside it only");
    const json::value& v = o.at("const");
    if (!schema::types_allow(o, v)) return error(path, "const and type contradict each other");
    return b_.bytes(json::dump(v));
  }

  Result<Node> enumeration(const json::object& o, const std::string& path) {
    if (schema::has_other_assertions(o, {"enum", "type"}))
      return error(path, "enum is supported with type beside it only");
    const json::value& list = *json::find(o, "enum");
    if (!list.is_array()) return error(path, "enum must be an array");
    std::vector<Node> nodes;
    for (const json::value& v : list.get_array())
      if (schema::types_allow(o, v)) nodes.push_back(b_.bytes(json::dump(v)));
    if (nodes.empty()) return error(path, "enum has no value of the type");
    return b_.choice(std::move(nodes));
  }

  Result<Node> typed(const json::object& o, const std::string& path) {
    const Result<Types> types = schema::types_of(o);
    if (!types.ok()) return error(path, types.status().message());
    if (*types == 0) return error(path, "no type is left");
    if (!json::find(o, "type") && *types == schema::kAllTypes) return text_.value;
    std::vector<Node> nodes;
    if (*types & schema::kObject) {
      MOESTRO_ASSIGN(const Node n, object(o, path));
      nodes.push_back(n);
    }
    if (*types & schema::kArray) {
      MOESTRO_ASSIGN(const Node n, array(o, path));
      nodes.push_back(n);
    }
    if (*types & schema::kString) {
      MOESTRO_ASSIGN(const Node n, string(o, path));
      nodes.push_back(n);
    }
    if (*types & (schema::kNumber | schema::kInteger)) {
      MOESTRO_ASSIGN(const Node n, number(o, (*types & schema::kNumber) == 0, path));
      nodes.push_back(n);
    }
    if (*types & schema::kBoolean) {
      nodes.push_back(b_.bytes("true"));
      nodes.push_back(b_.bytes("false"));
    }
    if (*types & schema::kNull) nodes.push_back(b_.bytes("null"));
    return b_.choice(std::move(nodes));
  }

  // A count like minItems.
  static Result<std::optional<uint32_t>> count(const json::object& o, const char* key,
                                               const std::string& path) {
    const json::value* v = json::find(o, key);
    if (!v) return std::optional<uint32_t>();
    if (!v->is_number() || v->to_number<double>() < 0 || v->to_number<double>() > 1e6)
      return error(path, format("{} must be a number from 0 to 1000000", key));
    return std::optional<uint32_t>(static_cast<uint32_t>(v->to_number<double>()));
  }

  Result<Node> string(const json::object& o, const std::string& path) {
    MOESTRO_ASSIGN(const auto min, count(o, "minLength", path));
    MOESTRO_ASSIGN(const auto max, count(o, "maxLength", path));
    if (min && max && *min > *max) return error(path, "minLength is above maxLength");
    const auto quoted = [&](Node inner) {
      return b_.sequence({b_.bytes("\""), inner, b_.bytes("\"")});
    };
    const bool bounded = min.value_or(0) > 0 || max;
    if (const json::value* pattern = json::find(o, "pattern")) {
      if (!pattern->is_string()) return error(path, "pattern must be a string");
      if (bounded)
        return error(path,
                     "pattern together with minLength or maxLength is not supported; put the "
                     "length into the pattern");
      const Result<Node> n = add_json_string_pattern(b_, json::view(pattern->get_string()));
      if (!n.ok()) return error(path, n.status().message());
      return quoted(*n);
    }
    if (const json::value* named = json::find(o, "format");
        named && named->is_string() && !bounded) {
      for (const auto& [name, regex] : kFormats)
        if (json::view(named->get_string()) == name) {
          MOESTRO_ASSIGN(const Node n, add_regex(b_, regex));
          return quoted(n);
        }
    }
    if (!bounded) return text_.string;
    return quoted(b_.repeat(text_.string_char, min.value_or(0), max));
  }

  Result<Node> number(const json::object& o, bool integer, const std::string& path) {
    if (const json::value* m = json::find(o, "multipleOf"))
      if (!integer || !m->is_number() || m->to_number<double>() != 1)
        return error(path, "multipleOf is not supported");
    double low = -INFINITY, high = INFINITY;
    bool low_open = false, high_open = false;
    const auto read = [&](const char* key, bool is_low, bool open) -> Status {
      const json::value* v = json::find(o, key);
      if (!v || v->is_bool()) return {};
      if (!v->is_number()) return error(path, format("{} must be a number", key));
      const double x = v->to_number<double>();
      double& bound = is_low ? low : high;
      bool& is_open = is_low ? low_open : high_open;
      if (is_low ? x >= bound : x <= bound) {
        is_open = open || (x == bound && is_open);
        bound = x;
      }
      return {};
    };
    MOESTRO_TRY(read("minimum", true,
                     o.contains("exclusiveMinimum") && o.at("exclusiveMinimum").is_bool() &&
                         o.at("exclusiveMinimum").get_bool()));
    MOESTRO_TRY(read("maximum", false,
                     o.contains("exclusiveMaximum") && o.at("exclusiveMaximum").is_bool() &&
                         o.at("exclusiveMaximum").get_bool()));
    MOESTRO_TRY(read("exclusiveMinimum", true, true));
    MOESTRO_TRY(read("exclusiveMaximum", false, true));
    if (std::isinf(low) && std::isinf(high)) return integer ? text_.integer : text_.number;
    constexpr auto kMost = static_cast<double>(JsonText::kMaxInteger);
    double from = std::ceil(std::max(low, -kMost)), to = std::floor(std::min(high, kMost));
    if (low_open && from == low) ++from;
    if (high_open && to == high) --to;
    if (from > to || std::fabs(from) > kMost || std::fabs(to) > kMost)
      return error(path,
                   integer ? "no integer is within the bounds"
                           : "no whole number is within the bounds, which then are not supported");
    const auto clamp = [](double x) {
      return std::clamp(static_cast<int64_t>(x), -JsonText::kMaxInteger, JsonText::kMaxInteger);
    };
    return integer ? text_.integer_between(clamp(from), clamp(to))
                   : text_.number_between(clamp(from), clamp(to));
  }

  Result<Node> array(const json::object& o, const std::string& path) {
    MOESTRO_ASSIGN(const auto min_items, count(o, "minItems", path));
    MOESTRO_ASSIGN(auto max, count(o, "maxItems", path));
    const uint32_t min = min_items.value_or(0);
    const json::value* unique = json::find(o, "uniqueItems");
    if (unique && unique->is_bool() && unique->get_bool() && max.value_or(2) > 1)
      return error(path, "uniqueItems is not supported; leave it out");
    const json::value* items = json::find(o, "items");
    const json::value* prefix = json::find(o, "prefixItems");
    if (items && items->is_array()) {  // draft 7
      prefix = items;
      items = json::find(o, "additionalItems");
    }
    if (prefix && !prefix->is_array()) return error(path, "prefixItems must be an array");
    const size_t fixed = prefix ? prefix->get_array().size() : 0;
    if (fixed > 256) return error(path, "prefixItems has more than 256 entries");
    std::vector<Node> first;
    for (size_t i = 0; i < fixed; ++i) {
      MOESTRO_ASSIGN(const Node n,
                     value(prefix->get_array()[i], format("{}/prefixItems/{}", path, i)));
      first.push_back(n);
    }
    if (items && items->is_bool() && !items->get_bool())
      max = std::min(max.value_or(UINT32_MAX), static_cast<uint32_t>(fixed));
    if (max && min > *max) return error(path, "minItems is above what the array may have");
    Node item = text_.value;
    if (items && !items->is_bool()) {
      MOESTRO_ASSIGN(item, value(*items, path + "/items"));
    }
    if (fixed == 0) return text_.list("[", "]", item, min, max);
    return tuple(first, item, min, max);
  }

  Node tuple(const std::vector<Node>& first, Node item, uint32_t min, std::optional<uint32_t> max) {
    const auto fixed = static_cast<uint32_t>(first.size());
    const auto more = [&](Node n) { return b_.sequence({b_.bytes(","), text_.space, n}); };
    Node rest = b_.empty();
    if (!max || *max > fixed)
      rest = b_.repeat(more(item), min > fixed ? min - fixed : 0,
                       max ? std::optional<uint32_t>(*max - fixed) : std::nullopt);
    for (uint32_t i = fixed; i-- > 0;) {
      if (max && i >= *max) continue;
      const Node with = b_.sequence({i == 0 ? first[0] : more(first[i]), rest});
      rest = i >= min ? b_.optional(with) : with;
    }
    return b_.sequence({b_.bytes("["), text_.space, rest, text_.space, b_.bytes("]")});
  }

  struct Property {
    Node node;  // "name": value
    bool required;
  };

  Result<Node> object(const json::object& o, const std::string& path) {
    const json::value* properties = json::find(o, "properties");
    if (properties && !properties->is_object()) return error(path, "properties must be an object");
    const json::value* additional = json::find(o, "additionalProperties");
    const bool closed = additional && additional->is_bool() && !additional->get_bool();
    std::vector<std::string> required;
    if (const json::value* list = json::find(o, "required")) {
      if (!list->is_array()) return error(path, "required must be an array");
      for (const json::value& name : list->get_array()) {
        if (!name.is_string()) return error(path, "required must hold strings");
        required.emplace_back(json::view(name.get_string()));
      }
    }
    Node extra_value = text_.value;
    if (additional && additional->is_object()) {
      MOESTRO_ASSIGN(extra_value, value(*additional, path + "/additionalProperties"));
    }
    std::vector<Property> list;
    std::vector<std::string> names;
    const auto add = [&](std::string_view name, Node node, bool needed) {
      list.push_back({b_.sequence({b_.bytes(json::quote(name) + ":"), text_.space, node}), needed});
    };
    if (properties) {
      for (const auto& [key, schema] : properties->get_object()) {
        const std::string name(key.data(), key.size());
        const bool needed = std::find(required.begin(), required.end(), name) != required.end();
        names.push_back(name);
        if (schema.is_bool() && !schema.get_bool() && !needed) continue;
        MOESTRO_ASSIGN(const Node n, value(schema, format("{}/properties/{}", path, name)));
        add(name, n, needed);
      }
    }
    for (const std::string& name : required) {
      if (std::find(names.begin(), names.end(), name) != names.end()) continue;
      if (closed)
        return error(path, format("{} is required, but neither in properties nor an additional one",
                                  json::quote(name.substr(0, 100))));
      names.push_back(name);
      add(name, extra_value, true);
    }
    // Further properties only where the schema speaks of them, or of no property at all: a model
    // that may invent some does not stop.
    const bool extras = !closed && (additional || names.empty());
    return members(o, list, extras ? std::optional<Node>(extra_value) : std::nullopt, names, path);
  }

  Result<Node> members(const json::object& o, const std::vector<Property>& list,
                       std::optional<Node> extra_value, const std::vector<std::string>& names,
                       const std::string& path) {
    MOESTRO_ASSIGN(const auto min, count(o, "minProperties", path));
    MOESTRO_ASSIGN(const auto max, count(o, "maxProperties", path));
    std::optional<Node> extra;
    if (extra_value)
      extra = b_.sequence({names.empty() ? text_.string : other_key(names), b_.bytes(":"),
                           text_.space, *extra_value});
    if (list.empty() && extra) {
      if (max && min.value_or(0) > *max) return error(path, "minProperties is above maxProperties");
      if (max && *max > 1 && !names.empty())
        return error(path, "maxProperties is not supported here");
      // A name that came twice would count once.
      if (min.value_or(0) > 1) return error(path, "minProperties above 1 is not supported");
      return text_.list("{", "}", *extra, min.value_or(0), max);
    }
    const auto num_required = static_cast<uint32_t>(
        std::count_if(list.begin(), list.end(), [](const Property& p) { return p.required; }));
    if (min.value_or(0) > std::max(num_required, 0u))
      return error(path, "minProperties beyond the required ones is not supported");
    if (max && (extra || list.size() > *max))
      return error(path, "maxProperties is supported only where it has no effect");
    return chain(list, extra);
  }

  // One rule for each place in the list, before and after the first member.
  Node chain(const std::vector<Property>& list, std::optional<Node> extra) {
    const Node close = b_.sequence({text_.space, b_.bytes("}")});
    Node begun = close, fresh = close;
    if (extra) {
      begun = b_.rule("further properties");
      b_.define(begun,
                b_.choice({b_.sequence({b_.bytes(","), text_.space, *extra, begun}), close}));
      fresh = b_.choice({b_.sequence({text_.space, *extra, begun}), close});
    }
    for (size_t i = list.size(); i-- > 0;) {
      const Property& p = list[i];
      std::vector<Node> if_begun{b_.sequence({b_.bytes(","), text_.space, p.node, begun})};
      std::vector<Node> if_fresh{b_.sequence({text_.space, p.node, begun})};
      if (!p.required) {
        if_begun.push_back(begun);
        if_fresh.push_back(fresh);
      }
      begun = b_.rule("properties");
      b_.define(begun, b_.choice(std::move(if_begun)));
      fresh = b_.rule("properties");
      b_.define(fresh, b_.choice(std::move(if_fresh)));
    }
    return b_.sequence({b_.bytes("{"), fresh});
  }

  // A string without escapes that is none of the names. A name that needs escapes is none of these
  // anyway.
  Node other_key(const std::vector<std::string>& names) {
    std::vector<std::u32string> all;
    for (const std::string& name : names) all.push_back(decode(name));
    std::sort(all.begin(), all.end());
    return b_.sequence({b_.bytes("\""), not_one_of(all, 0), b_.bytes("\"")});
  }
  static std::u32string decode(std::string_view utf8) {
    std::u32string out;
    for (const char c : utf8) {
      const auto byte = static_cast<uint8_t>(c);
      if ((byte & 0xc0) != 0x80) {
        out += static_cast<char32_t>(byte < 0x80 ? byte : byte & (byte < 0xe0 ? 0x1f : 0x0f));
      } else if (!out.empty()) {
        out.back() = out.back() << 6 | (byte & 0x3f);
      }
    }
    return out;
  }
  // Behind `at` characters that all of the (sorted) names share. Beyond 100 of them a name's own
  // path is left out, which only makes fewer keys.
  Node not_one_of(std::span<const std::u32string> names, size_t at) {
    const CodePoints plain{{0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0x10ffff}};
    const Node any = b_.repeat(b_.code_points(plain), 0, std::nullopt);
    std::vector<Node> parts;
    CodePoints taken{{0, 0x1f}, {'"', '"'}, {'\\', '\\'}};
    bool is_name = false;
    for (size_t i = 0; i < names.size();) {
      if (names[i].size() == at) {
        is_name = true;
        ++i;
        continue;
      }
      const size_t first = i;
      const auto c = static_cast<uint32_t>(names[i][at]);
      while (i < names.size() && names[i].size() > at && names[i][at] == names[first][at]) ++i;
      taken.emplace_back(c, c);
      if (c >= 0x20 && c != '"' && c != '\\' && at < 100)
        parts.push_back(b_.sequence(
            {b_.code_points({{c, c}}), not_one_of(names.subspan(first, i - first), at + 1)}));
    }
    if (!is_name) parts.push_back(b_.empty());
    parts.push_back(b_.sequence({b_.code_points(complement(taken)), any}));
    return b_.choice(std::move(parts));
  }

  GrammarBuilder& b_;
  JsonText text_;
  const json::value& root_;
  std::map<std::string, Node> references_;
  std::vector<std::pair<Node, std::string>> pending_;
  size_t num_parts_ = 0, num_merges_ = 0;
  int depth_ = 0;
};

}  // namespace

Result<Node> add_json_schema(GrammarBuilder& b, const json::value& schema) {
  return SchemaReader(b, schema).read();
}

Node add_json_object(GrammarBuilder& b) { return JsonText(b).object; }

}  // namespace moestro::text
