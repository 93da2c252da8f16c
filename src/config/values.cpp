#include "config/values.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/format.h"
#include "base/strings.h"

namespace moestro::config {
namespace {

std::optional<int64_t> suffix_factor(char c) {
  switch (c) {
    case 'k':
      return 1000;
    case 'm':
      return 1000'000;
    case 'g':
      return 1000'000'000;
    case 't':
      return 1000'000'000'000;
    case 'K':
      return 1ll << 10;
    case 'M':
      return 1ll << 20;
    case 'G':
      return 1ll << 30;
    case 'T':
      return 1ll << 40;
    default:
      return std::nullopt;
  }
}

bool is_digits(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

Status bad_human_int(std::string_view text) {
  return invalid_argument(
      format("'{}' is not a whole number such as 4096, 4k (4000), 1.5k or 4K (4096)", text));
}

Status wrong(const Flag& flag, std::string_view text, std::string_view wanted) {
  return invalid_argument(format("{}: '{}' is not {}", flag.name(), text, wanted));
}

std::string range_text(const Flag& flag) {
  const bool low = std::isfinite(flag.min), high = std::isfinite(flag.max);
  const auto number = [](double v) {
    return v == std::floor(v) ? format("{}", static_cast<int64_t>(v)) : format("{}", v);
  };
  if (low && high) return format("{} to {}", number(flag.min), number(flag.max));
  return low ? "at least " + number(flag.min) : "at most " + number(flag.max);
}

Status check_range(const Flag& flag, double value, std::string_view text) {
  if (value >= flag.min && value <= flag.max) return {};
  return invalid_argument(
      format("{}: {} is out of range ({})", flag.name(), text, range_text(flag)));
}

Result<json::value> parse_integer(const Flag& flag, std::string_view text) {
  if (flag.kind == Kind::kLength && lower(text) == "auto") return json::value(-1);
  std::optional<int64_t> number = parse_int(text);
  if (!number && (flag.kind == Kind::kHumanInt || flag.kind == Kind::kLength)) {
    Result<int64_t> human = parse_human_int(text);
    if (!human.ok()) return human.status().with(flag.name());
    number = human.value();
  }
  if (!number) return wrong(flag, text, "a whole number");
  MOESTRO_TRY(check_range(flag, static_cast<double>(*number), text));
  return json::value(*number);
}

Result<json::value> parse_float(const Flag& flag, std::string_view text) {
  const std::optional<double> number = parse_double(text);
  if (!number || std::isnan(*number)) return wrong(flag, text, "a number");
  MOESTRO_TRY(check_range(flag, *number, text));
  return json::value(*number);
}

Status check_choice(const Flag& flag, std::string_view text) {
  if (flag.choices_text.empty()) return {};
  const std::vector<std::string_view> choices = split(flag.choices_text, '|');
  if (std::find(choices.begin(), choices.end(), text) != choices.end()) return {};
  const std::vector<std::string_view> refused = split(flag.refused_choices_text, '|');
  if (!text.empty() && std::find(refused.begin(), refused.end(), text) != refused.end()) return {};
  std::string list;
  for (const std::string_view choice : choices)
    list += (list.empty() ? "" : ", ") + std::string(choice);
  std::string message = format("{}: '{}' is not one of {}", flag.name(), text, list);
  if (!flag.why.empty() && flag.state != State::kRemoved) message += format(" ({})", flag.why);
  return invalid_argument(std::move(message));
}

std::string normalised_word(std::string_view text) {
  std::string word = lower(text);
  std::replace(word.begin(), word.end(), '-', '_');
  return word;
}

Status check_keys(const Flag& flag, const json::value& value) {
  if (flag.keys_text.empty() || !value.is_object()) return {};
  const std::vector<std::string_view> keys = split(flag.keys_text, '|');
  for (const auto& entry : value.get_object()) {
    const std::string_view key(entry.key().data(), entry.key().size());
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
    std::string message = format("{}: unknown key '{}'", flag.name(), key);
    if (const auto near = nearest(key, keys)) message += format("; did you mean '{}'?", *near);
    return invalid_argument(std::move(message));
  }
  return {};
}

Result<json::value> parse_json_option(const Flag& flag, std::string_view text) {
  const bool looks_like_json = text.starts_with('{') && text.ends_with('}');
  if (flag.kind == Kind::kJsonText && !looks_like_json) return json::value(text);
  Result<json::value> value =
      flag.keys_text.empty() ? json::parse(text) : parse_json_with_suffixes(text);
  if (!value.ok()) return value.status().with(flag.name());
  // CORS lists are the only options that hold an array.
  const bool wants_array = flag.initial.starts_with('[');
  if (wants_array) {
    const json::array* array = value.value().if_array();
    const bool words = array && std::all_of(array->begin(), array->end(),
                                            [](const json::value& v) { return v.is_string(); });
    if (!words) return wrong(flag, text, "a JSON array of strings");
  } else if (!value.value().is_object()) {
    return wrong(flag, text, "a JSON object");
  }
  MOESTRO_TRY(check_keys(flag, value.value()));
  return value;
}

Result<json::value> parse_list(const Flag& flag, std::span<const std::string_view> words) {
  json::array list;
  for (const std::string_view word : words) {
    if (flag.kind == Kind::kInts || flag.kind == Kind::kIntCsv) {
      MOESTRO_ASSIGN(json::value number, parse_integer(flag, trim(word)));
      list.push_back(std::move(number));
    } else {
      MOESTRO_TRY(check_choice(flag, word));
      list.push_back(json::value(word));
    }
  }
  return json::value(std::move(list));
}

}  // namespace

Result<int64_t> parse_human_int(std::string_view text) {
  const std::optional<int64_t> factor = text.empty() ? std::nullopt : suffix_factor(text.back());
  const std::string_view number = factor ? text.substr(0, text.size() - 1) : text;
  const bool negative = number.starts_with('-');
  const std::string_view magnitude = negative ? number.substr(1) : number;
  const size_t point = magnitude.find('.');
  const std::string_view whole = magnitude.substr(0, point);
  const std::string_view fraction =
      point == std::string_view::npos ? "" : magnitude.substr(point + 1);
  const bool power_of_1000 = factor && text.back() >= 'a';
  if (!is_digits(whole) ||
      (point != std::string_view::npos && (!power_of_1000 || !is_digits(fraction))))
    return bad_human_int(text);

  int64_t value = 0;
  const std::optional<int64_t> base = parse_int(whole);
  if (!base || __builtin_mul_overflow(*base, factor.value_or(1), &value))
    return bad_human_int(text);
  int64_t place = factor.value_or(1);
  for (const char digit : fraction) {  // exact decimal arithmetic: 1.1k is 1100
    place /= 10;
    if (__builtin_add_overflow(value, place * (digit - '0'), &value)) return bad_human_int(text);
  }
  return negative ? -value : value;
}

Result<json::value> parse_json_with_suffixes(std::string_view text) {
  std::string plain;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_string && text[i] == '\\' && i + 1 < text.size()) {
      plain += text[i++];
    } else if (text[i] == '"') {
      in_string = !in_string;
    }
    if (in_string || !is_digits(text.substr(i, 1))) {
      plain += text[i];
      continue;
    }
    size_t end = text.find_first_not_of("0123456789.", i);
    if (end == std::string_view::npos) end = text.size();
    const bool has_suffix = end < text.size() && suffix_factor(text[end]);
    if (has_suffix) {
      MOESTRO_ASSIGN(const int64_t number, parse_human_int(text.substr(i, end + 1 - i)));
      plain += format("{}", number);
      i = end;
    } else {
      plain += text.substr(i, end - i);
      i = end - 1;
    }
  }
  return json::parse(plain);
}

json::value parse_dotted_value(std::string_view text) {
  if (Result<json::value> parsed = json::parse(text); parsed.ok()) return std::move(parsed).value();
  if (const Result<int64_t> number = parse_human_int(text); number.ok())
    return json::value(number.value());
  return json::value(text);
}

Result<json::value> parse_value(const Flag& flag, std::span<const std::string_view> words) {
  const std::string_view first = words.empty() ? std::string_view() : words.front();
  if (flag.can_be_null && words.size() == 1 && (first.empty() || first == "None"))
    return json::value(nullptr);
  switch (flag.kind) {
    case Kind::kSwitch:
    case Kind::kPair:
      return json::value(true);
    case Kind::kInt:
      if (!flag.choices_text.empty()) MOESTRO_TRY(check_choice(flag, first));
      return parse_integer(flag, first);
    case Kind::kHumanInt:
    case Kind::kLength:
      return parse_integer(flag, first);
    case Kind::kFloat:
      return parse_float(flag, first);
    case Kind::kText: {
      MOESTRO_TRY(check_choice(flag, first));
      return json::value(first);
    }
    case Kind::kWord: {
      const std::string word = normalised_word(first);
      MOESTRO_TRY(check_choice(flag, word));
      return json::value(word);
    }
    case Kind::kOptionalText:
      return words.empty() ? json::value(true) : json::value(first);
    case Kind::kWords:
    case Kind::kAppend:
    case Kind::kInts:
      return parse_list(flag, words);
    case Kind::kCsv:
    case Kind::kIntCsv:
      return parse_list(flag, split(first, ','));
    case Kind::kJson:
    case Kind::kJsonText:
      return parse_json_option(flag, first);
  }
  return internal_error("flag of unknown kind");
}

json::value default_value(const Flag& flag) {
  if (flag.kind == Kind::kSwitch || flag.kind == Kind::kPair) {
    return flag.initial.empty() ? json::value(nullptr) : json::value(flag.initial == "true");
  }
  if (flag.initial.empty()) {
    // An empty list is a default of its own; an empty word of a text option that is never null is
    // one too.
    if (flag.kind == Kind::kText && !flag.can_be_null && flag.state != State::kHonoured)
      return json::value("");
    return json::value(nullptr);
  }
  const bool many = flag.kind == Kind::kWords || flag.kind == Kind::kInts;
  const std::vector<std::string_view> words =
      many ? split(flag.initial, ' ') : std::vector{flag.initial};
  Result<json::value> value = parse_value(flag, words);
  CHECK(value.ok(), value.status().message());  // a test parses every row
  return std::move(value).value();
}

namespace {

struct Storer {
  const json::value& value;

  void operator()(bool* field) const { *field = value.as_bool(); }
  void operator()(std::optional<bool>* field) const { *field = value.as_bool(); }
  void operator()(int64_t* field) const { *field = value.to_number<int64_t>(); }
  void operator()(std::optional<int64_t>* field) const { *field = value.to_number<int64_t>(); }
  void operator()(double* field) const { *field = value.to_number<double>(); }
  void operator()(std::optional<double>* field) const { *field = value.to_number<double>(); }
  void operator()(std::string* field) const { *field = json::view(value.as_string()); }
  void operator()(std::optional<std::string>* field) const {
    *field = std::string(json::view(value.as_string()));
  }
  void operator()(std::vector<std::string>* field) const {
    field->clear();
    for (const json::value& v : value.as_array()) field->emplace_back(json::view(v.as_string()));
  }
  void operator()(std::vector<int64_t>* field) const {
    field->clear();
    for (const json::value& v : value.as_array()) field->push_back(v.to_number<int64_t>());
  }
  void operator()(json::object* field) const { *field = value.as_object(); }
};

struct Loader {
  json::value operator()(const json::object* field) const { return json::value(*field); }
  json::value operator()(const std::string* field) const { return json::value(*field); }
  template <class T>
  json::value operator()(const std::optional<T>* field) const {
    return *field ? json::value(**field) : json::value(nullptr);
  }
  template <class T>
  json::value operator()(const std::vector<T>* field) const {
    json::array list;
    for (const T& v : *field) list.push_back(json::value(v));
    return json::value(std::move(list));
  }
  json::value operator()(const bool* field) const { return json::value(*field); }
  json::value operator()(const int64_t* field) const { return json::value(*field); }
  json::value operator()(const double* field) const { return json::value(*field); }
};

}  // namespace

void store(const Flag& flag, const json::value& value, Options& options) {
  if (!flag.field) return;
  if (value.is_null()) {
    Options fresh;
    std::visit(
        [&](auto* target) {
          using Pointer = decltype(target);
          *target = *std::get<Pointer>(flag.field(fresh));
        },
        flag.field(options));
    return;
  }
  std::visit(Storer{value}, flag.field(options));
}

json::value load(const Flag& flag, const Options& options) {
  if (!flag.field) return json::value(nullptr);
  Options copy = options;  // fields are reached through a mutable reference
  return std::visit([](auto* field) { return Loader{}(field); }, flag.field(copy));
}

}  // namespace moestro::config
