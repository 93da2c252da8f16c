#include "config/command_line.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include "base/format.h"
#include "base/strings.h"
#include "config/checks.h"
#include "config/flag_names.h"
#include "config/values.h"
#include "config/yaml.h"

namespace moestro::config {
namespace {

bool is_number(std::string_view word) { return parse_double(word).has_value(); }

// A word that cannot be the value of the flag before it.
bool looks_like_flag(std::string_view word) {
  return word.size() > 1 && word.front() == '-' && !is_number(word) &&
         word.find(' ') == std::string_view::npos;
}

bool takes_value(Kind kind) { return kind != Kind::kSwitch && kind != Kind::kPair; }
bool takes_many(Kind kind) { return kind == Kind::kWords || kind == Kind::kInts; }
bool is_json(Kind kind) { return kind == Kind::kJson || kind == Kind::kJsonText; }

// One word of the command line taken apart: --name.key=value.
struct Word {
  std::string name;                       // dashes, up to the first dot
  std::string_view keys;                  // "a.b+", without the first dot
  std::optional<std::string_view> value;  // behind '='
};

Word take_apart(std::string_view text) {
  Word word;
  const size_t equals = text.find('=');
  if (equals != std::string_view::npos) word.value = text.substr(equals + 1);
  const std::string_view left = text.substr(0, equals);
  const size_t dot = left.find('.');
  word.name = left.substr(0, dot);
  if (dot != std::string_view::npos) word.keys = left.substr(dot + 1);
  if (word.name.starts_with("--")) std::replace(word.name.begin(), word.name.end(), '_', '-');
  return word;
}

class Parser {
 public:
  Parser(Verb verb) : names_(verb) { line_.verb = verb; }
  Result<CommandLine> parse(std::span<const std::string> args);

 private:
  Status read_config_file(const std::string& path);
  Status apply_entry(const YamlEntry& entry);
  Status parse_word(std::span<const std::string> args, size_t& i);
  Status apply_dotted(const Flag& flag, const Word& word, std::span<const std::string> args,
                      size_t& i);
  Result<std::vector<std::string_view>> take_values(const Flag& flag, const Word& word,
                                                    std::span<const std::string> args, size_t& i);
  Status positional(std::string_view word);
  Status set(const Flag& flag, json::value value);
  Status merge_dotted();
  Status check_swallowed() const;
  Status finish();
  Setting* find(const Flag& flag);

  CommandLine line_;
  FlagNames names_;
  bool from_file_ = false;
  bool only_positionals_ = false;
  std::vector<const Flag*> seen_, repeated_;
  std::vector<std::pair<const Flag*, json::object>> dotted_;  // merged over JSON text at the end
  std::vector<std::pair<const Flag*, std::string>>
      swallowed_;  // the last of several separate values of a list flag
};

Setting* Parser::find(const Flag& flag) {
  for (Setting& setting : line_.given) {
    if (setting.flag == &flag) return &setting;
  }
  return nullptr;
}

bool is_refused_choice(const Flag& flag, const json::value& value) {
  if (flag.refused_choices_text.empty() || !value.is_string()) return false;
  const std::vector<std::string_view> refused = split(flag.refused_choices_text, '|');
  return std::find(refused.begin(), refused.end(), json::view(value.get_string())) != refused.end();
}

// Empty: it is not refused.
std::string refusal_of(const Flag& flag, const json::value& value) {
  if (is_refused_choice(flag, value))
    return format("{} {} is not supported: {}", flag.name(), json::view(value.get_string()),
                  flag.refused_choices_why);
  if (flag.state == State::kRefused && value != default_value(flag))
    return format("{} is not supported: {}", flag.name(), flag.why);
  return {};
}

Status Parser::set(const Flag& flag, json::value value) {
  if (flag.state == State::kRemoved) {
    std::string message = format("{} is gone", flag.name());
    if (!flag.why.empty()) message += format("; use {}", flag.why);
    return invalid_argument(std::move(message));
  }
  if (line_.verb != Verb::kExplain) {
    if (std::string refusal = refusal_of(flag, value); !refusal.empty())
      return invalid_argument(std::move(refusal));
  }
  Setting* setting = find(flag);
  if (setting && flag.kind == Kind::kAppend && setting->from_file == from_file_) {
    json::array& list = setting->value.as_array();
    for (json::value& item : value.as_array()) list.push_back(std::move(item));
    return {};
  }
  if (!setting) setting = &line_.given.emplace_back(Setting{&flag, {}, from_file_});
  setting->value = std::move(value);
  setting->from_file = from_file_;
  return {};
}

Status Parser::positional(std::string_view word) {
  const Flag* model = names_.positional();
  CHECK(model, "no positional argument on this verb");
  for (const Flag* flag : names_.positionals()) {
    if (const Setting* setting = find(*flag); setting && !setting->from_file) continue;
    const std::string_view words[] = {word};
    MOESTRO_ASSIGN(json::value value, parse_value(*flag, words));
    return set(*flag, std::move(value));
  }
  return invalid_argument(format("unexpected argument '{}': the model is already '{}'", word,
                                 json::view(find(*model)->value.as_string())));
}

Result<std::vector<std::string_view>> Parser::take_values(const Flag& flag, const Word& word,
                                                          std::span<const std::string> args,
                                                          size_t& i) {
  std::vector<std::string_view> values;
  if (word.value) {
    if (!takes_value(flag.kind)) {
      const std::string off = negated_name(flag);
      return invalid_argument(format("{} takes no value; write {}{}", word.name, flag.name(),
                                     off.empty() ? "" : " or " + off));
    }
    values.push_back(*word.value);
    return values;
  }
  if (!takes_value(flag.kind)) return values;
  const size_t most = takes_many(flag.kind) ? args.size() : 1;
  while (values.size() < most && i + 1 < args.size() && !looks_like_flag(args[i + 1]))
    values.push_back(args[++i]);
  if (values.empty() && flag.kind != Kind::kOptionalText) {
    const std::string_view wanted = takes_many(flag.kind) ? "one or more values" : "a value";
    if (i + 1 < args.size()) {
      return invalid_argument(format("{} needs {}, and '{}' looks like a flag; write {}={}",
                                     word.name, wanted, args[i + 1], word.name, args[i + 1]));
    }
    return invalid_argument(format("{} needs {}", word.name, wanted));
  }
  if (values.size() > 1) swallowed_.emplace_back(&flag, std::string(values.back()));
  return values;
}

Status Parser::apply_dotted(const Flag& flag, const Word& word, std::span<const std::string> args,
                            size_t& i) {
  if (!is_json(flag.kind))
    return invalid_argument(format("{}.{}: {} has no keys", word.name, word.keys, flag.name()));
  std::string_view text;
  if (word.value) {
    text = *word.value;
  } else if (i + 1 < args.size() && !looks_like_flag(args[i + 1])) {
    text = args[++i];
  } else {
    return invalid_argument(format("{}.{} needs a value", word.name, word.keys));
  }
  std::string_view keys = word.keys;
  const bool append = keys.ends_with('+');
  if (append) keys.remove_suffix(1);

  auto entry =
      std::find_if(dotted_.begin(), dotted_.end(), [&](const auto& d) { return d.first == &flag; });
  if (entry == dotted_.end()) entry = dotted_.insert(dotted_.end(), {&flag, json::object()});
  json::object* object = &entry->second;
  std::vector<std::string_view> path = split(keys, '.');
  for (const std::string_view key : path) {
    if (key.empty()) return invalid_argument(format("{}.{}: an empty key", word.name, word.keys));
  }
  for (size_t depth = 0; depth + 1 < path.size(); ++depth) {
    json::value& next = (*object)[path[depth]];
    if (!next.is_object()) next = json::object();
    object = &next.as_object();
  }
  json::value& target = (*object)[path.back()];
  if (!append) {
    target = parse_dotted_value(text);
    return {};
  }
  if (!target.is_array()) target = json::array();
  for (const std::string_view item : split(text, ','))
    target.as_array().push_back(parse_dotted_value(item));
  return {};
}

Status Parser::parse_word(std::span<const std::string> args, size_t& i) {
  const std::string& text = args[i];
  if (only_positionals_ || !looks_like_flag(text)) return positional(text);
  if (text == "--") {
    only_positionals_ = true;
    return {};
  }
  const Word word = take_apart(text);
  if (word.name == "--help" || text == "-h") {
    line_.help = std::string(word.value.value_or(""));
    return {};
  }
  MOESTRO_ASSIGN(const FlagNames::Match match, names_.resolve(word.name));
  const Flag& flag = *match.flag;
  if (!word.keys.empty()) return apply_dotted(flag, word, args, i);
  if (flag.name() == "--config") {  // read before everything else
    if (!word.value) ++i;
    return {};
  }
  Word rest = word;
  if (!match.glued.empty()) rest.value = match.glued;
  MOESTRO_ASSIGN(const std::vector<std::string_view> values, take_values(flag, rest, args, i));
  if (std::find(seen_.begin(), seen_.end(), &flag) != seen_.end() && flag.kind != Kind::kAppend)
    repeated_.push_back(&flag);
  seen_.push_back(&flag);
  if (match.negated) return set(flag, json::value(false));
  MOESTRO_ASSIGN(json::value value, parse_value(flag, values));
  return set(flag, std::move(value));
}

void merge_into(json::object& target, const json::object& source) {
  for (const auto& entry : source) {
    json::value& slot = target[entry.key()];
    if (slot.is_object() && entry.value().is_object())
      merge_into(slot.as_object(), entry.value().as_object());
    else
      slot = entry.value();
  }
}

Status Parser::merge_dotted() {
  for (auto& [flag, object] : dotted_) {
    json::object merged;
    if (const Setting* setting = find(*flag); setting && setting->value.is_object())
      merged = setting->value.as_object();
    merge_into(merged, object);
    const std::string text =
        json::dump(json::value(merged));  // once more through the checks of the whole option
    const std::string_view words[] = {text};
    MOESTRO_ASSIGN(json::value value, parse_value(*flag, words));
    MOESTRO_TRY(set(*flag, std::move(value)));
  }
  return {};
}

std::string entry_text(const YamlEntry& entry) {
  const bool structured = entry.value.is_array() || entry.value.is_object();
  return structured ? json::dump(entry.value) : entry.text;
}

// true: the bare flag; false: its --no- form; a list: several values; a mapping: JSON; null: None;
// the rest as written.
Status Parser::apply_entry(const YamlEntry& entry) {
  std::string name = entry.key;
  std::replace(name.begin(), name.end(), '_', '-');
  if (name == "model" || name == "model-tag") {
    const std::string_view words[] = {entry.text};
    MOESTRO_ASSIGN(json::value model, parse_value(*names_.positional(), words));
    return set(*names_.positional(), std::move(model));
  }
  MOESTRO_ASSIGN(const FlagNames::Match match, names_.resolve("--" + name));
  const Flag& flag = *match.flag;
  if (!takes_value(flag.kind)) {
    if (!entry.value.is_bool())
      return invalid_argument(
          format("{} is true or false, not '{}'", entry.key, entry_text(entry)));
    return set(flag, json::value(entry.value.as_bool() != match.negated));
  }
  std::vector<std::string> texts;
  if (const json::array* list = entry.value.if_array(); list && !is_json(flag.kind)) {
    for (const json::value& item : *list)
      texts.push_back(item.is_string() ? std::string(json::view(item.as_string()))
                                       : json::dump(item));
    if (texts.empty()) return {};
  } else if (entry.value.is_null()) {
    texts.push_back("None");
  } else {
    texts.push_back(entry_text(entry));
  }
  const std::vector<std::string_view> words(texts.begin(), texts.end());
  if (words.size() > 1 && !takes_many(flag.kind) && flag.kind != Kind::kAppend) {
    return invalid_argument(format("{} takes one value, not a list", entry.key));
  }
  MOESTRO_ASSIGN(json::value value, parse_value(flag, words));
  return set(flag, std::move(value));
}

Status Parser::read_config_file(const std::string& path) {
  if (!path.ends_with(".yaml") && !path.ends_with(".yml")) {
    return invalid_argument(format("--config: '{}' must end in .yaml or .yml", path));
  }
  std::ifstream file(path);
  if (!file) return invalid_argument(format("--config: cannot read '{}'", path));
  std::ostringstream text;
  text << file.rdbuf();
  Result<std::vector<YamlEntry>> entries = parse_yaml(text.str());
  if (!entries.ok()) return entries.status().with(path);
  from_file_ = true;
  for (const YamlEntry& entry : entries.value()) {
    if (const Status status = apply_entry(entry); !status.ok())
      return status.with(format("{} line {}", path, entry.line));
  }
  from_file_ = false;
  return {};
}

// "serve --api-key KEY MODEL": the list flag has taken the model. Without a model the demo would be
// served instead.
Status Parser::check_swallowed() const {
  if (line_.is_given("--diff")) return {};  // its two values have the models
  if (!line_.options.model.model.empty() || swallowed_.empty()) return {};
  return invalid_argument(
      format("no model given: {} has taken '{}' as one more of its values; write the model first",
             swallowed_.back().first->name(), swallowed_.back().second));
}

Status Parser::finish() {
  MOESTRO_TRY(merge_dotted());
  const Flag* model = names_.positional();
  const FlagNames::Match long_model = names_.exact("--model");
  if (Setting* a = find(*model), *b = long_model.flag ? find(*long_model.flag) : nullptr; a && b) {
    if (!a->from_file && !b->from_file)
      return invalid_argument("the model is given twice: as an argument and by --model");
    if (a->from_file) std::erase_if(line_.given, [&](const Setting& s) { return s.flag == model; });
  }
  for (const Flag* flag : repeated_)
    line_.notes.push_back(format("{} is given more than once; the last one counts", flag->name()));
  for (const Setting& setting : line_.given) {
    const Flag& flag = *setting.flag;
    if (!flag.deprecated_for.empty())
      line_.notes.push_back(format("{} is deprecated; use {}", flag.name(), flag.deprecated_for));
    if (std::string refusal = refusal_of(flag, setting.value); !refusal.empty()) {
      line_.refusals.push_back(std::move(refusal));
      if (is_refused_choice(flag, setting.value)) continue;
    }
    if (flag.state == State::kNoEffect && setting.value != default_value(flag) &&
        (flag.field == nullptr || line_.verb != Verb::kExplain)) {
      line_.notes.push_back(format("{} has no effect here: {}", flag.name(), flag.why));
    }
    store(flag, setting.value, line_.options);
  }
  MOESTRO_TRY(check_swallowed());
  return check_options(line_);
}

Result<CommandLine> Parser::parse(std::span<const std::string> args) {
  std::optional<std::string> config;
  for (size_t i = 0; i < args.size() && args[i] != "--"; ++i) {
    const bool glued = args[i].starts_with("--config=");
    if (!glued && args[i] != "--config") continue;
    if (config) return invalid_argument("--config may be given once");
    if (!glued && i + 1 == args.size()) return invalid_argument("--config needs a file");
    config = glued ? args[i].substr(9) : args[i + 1];
  }
  if (config) MOESTRO_TRY(read_config_file(*config));
  for (size_t i = 0; i < args.size(); ++i) {
    MOESTRO_TRY(parse_word(args, i));
    if (line_.help) return std::move(line_);
  }
  MOESTRO_TRY(finish());
  return std::move(line_);
}

}  // namespace

bool CommandLine::is_given(std::string_view name) const {
  return std::any_of(given.begin(), given.end(),
                     [&](const Setting& s) { return s.flag->name() == name; });
}

Result<CommandLine> parse_command_line(Verb verb, std::span<const std::string> args) {
  return Parser(verb).parse(args);
}

}  // namespace moestro::config
