#include "config/help.h"

#include <algorithm>
#include <vector>

#include "base/format.h"
#include "base/strings.h"
#include "config/values.h"

namespace moestro::config {
namespace {

constexpr size_t kWidth = 100;
constexpr size_t kColumn = 34;  // where help texts begin

std::string_view placeholder(Kind kind) {
  switch (kind) {
    case Kind::kSwitch:
    case Kind::kPair:
      return {};
    case Kind::kInt:
    case Kind::kHumanInt:
      return "N";
    case Kind::kLength:
      return "N|auto";
    case Kind::kFloat:
      return "X";
    case Kind::kText:
    case Kind::kWord:
    case Kind::kAppend:
      return "TEXT";
    case Kind::kOptionalText:
      return "[TEXT]";
    case Kind::kWords:
      return "TEXT...";
    case Kind::kInts:
      return "N...";
    case Kind::kCsv:
      return "A,B";
    case Kind::kIntCsv:
      return "1,2";
    case Kind::kJson:
      return "JSON";
    case Kind::kJsonText:
      return "JSON|TEXT";
  }
  return {};
}

// "--quantization, -q TEXT", "--[no-]strict"
std::string usage(const Flag& flag) {
  if (flag.positional()) return std::string(flag.name());
  std::string text;
  for (const std::string_view name : names_of(flag))
    text += (text.empty() ? "" : ", ") + std::string(name);
  if (flag.kind == Kind::kPair) text = "--[no-]" + text.substr(2);
  const std::string_view value = placeholder(flag.kind);
  if (!value.empty()) text += " " + std::string(value);
  return text;
}

std::string details(const Flag& flag) {
  std::string text(flag.help);
  std::string extra;
  const auto add = [&extra](std::string_view part) {
    extra += (extra.empty() ? "" : "; ") + std::string(part);
  };
  if (!flag.choices_text.empty() && flag.state == State::kHonoured) {
    std::string choices(flag.choices_text);
    size_t at = 0;
    while ((at = choices.find('|', at)) != std::string::npos) choices.replace(at, 1, ", ");
    add(choices);
  }
  const bool is_switch =
      flag.kind == Kind::kSwitch || (flag.kind == Kind::kPair && flag.initial == "false");
  if (!flag.initial.empty() && !is_switch)
    add("default " + std::string(flag.kind == Kind::kPair ? "on" : flag.initial));
  if (!flag.deprecated_for.empty()) add(format("deprecated, use {}", flag.deprecated_for));
  if (!extra.empty()) text += " (" + extra + ")";
  switch (flag.state) {
    case State::kHonoured:
      break;
    case State::kNoEffect:
      text += format(". No effect here: {}", flag.why);
      break;
    case State::kRefused:
      text += format(". Refused: {}", flag.why);
      break;
    case State::kRemoved:
      text += flag.why.empty() ? std::string(". Removed") : format(". Removed; use {}", flag.why);
      break;
  }
  return text;
}

// Two columns, the right one wrapped.
void append_entry(std::string& out, std::string_view left, std::string_view right) {
  std::string line = "  " + std::string(left);
  if (line.size() + 2 > kColumn) {
    out += line + "\n";
    line.clear();
  }
  line.resize(std::max(line.size(), kColumn), ' ');
  bool fresh = true;
  for (const std::string_view word : split(right, ' ')) {
    if (!fresh && line.size() + 1 + word.size() > kWidth) {
      out += line + "\n";
      line.assign(kColumn, ' ');
      fresh = true;
    }
    if (!fresh) line += ' ';
    line += word;
    fresh = false;
  }
  out += line + "\n";
}

void append_wrapped(std::string& out, std::string_view head,
                    const std::vector<std::string_view>& words) {
  std::string line = "  " + std::string(head);
  for (const std::string_view word : words) {
    if (line.size() + 1 + word.size() > kWidth) {
      out += line + "\n";
      line = "   ";
    }
    line += " " + std::string(word);
  }
  out += line + "\n";
}

bool takes_model(Verb verb) {
  for (const FlagGroup& group : flag_groups())
    for (const Flag& flag : group.flags)
      if (flag.name() == "MODEL" && verbs_of(group, flag).contains(verb)) return true;
  return false;
}

std::string usage_line(Verb verb) {
  std::string line = format("Usage: moestro {}{} [flags]\n", verb_name(verb),
                            verb == Verb::kQuantize ? " MODEL OUT"
                            : takes_model(verb)     ? " [MODEL]"
                                                    : "");
  return line + std::string(verb_summary(verb)) + ".\n";
}

std::vector<const Flag*> flags_on(const FlagGroup& group, Verb verb) {
  std::vector<const Flag*> flags;
  for (const Flag& flag : group.flags) {
    if (verbs_of(group, flag).contains(verb)) flags.push_back(&flag);
  }
  return flags;
}

std::string short_help(Verb verb) {
  std::string out = usage_line(verb) + "\n";
  std::vector<std::string_view> names;
  for (const FlagGroup& group : flag_groups()) {
    bool any = false;
    for (const Flag* flag : flags_on(group, verb)) {
      any = any || flag->state == State::kHonoured;
      if (flag->is_common) append_entry(out, usage(*flag), details(*flag));
    }
    if (any) names.push_back(group.name);
  }
  out += "\nMore: --help=all, --help=WORD for flags whose name contains the word, or a group:\n";
  append_wrapped(out, "--help=", names);
  return out;
}

std::string full_help(Verb verb) {
  std::string out = usage_line(verb);
  for (const FlagGroup& group : flag_groups()) {
    const std::vector<const Flag*> flags = flags_on(group, verb);
    if (flags.empty()) continue;
    out += format("\n{} (--help={})\n", group.title, group.name);
    std::vector<std::string_view> by_state[4];
    for (const Flag* flag : flags) {
      if (flag->state == State::kHonoured)
        append_entry(out, usage(*flag), details(*flag));
      else
        by_state[static_cast<int>(flag->state)].push_back(flag->name());
    }
    for (const State state : {State::kNoEffect, State::kRefused, State::kRemoved}) {
      const auto& names = by_state[static_cast<int>(state)];
      if (!names.empty()) append_wrapped(out, format("[{}]", state_name(state)), names);
    }
  }
  return out;
}

// A cell of a markdown table.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

void append_row(std::string& out, const FlagGroup& group, const Flag& flag) {
  std::string names;
  for (const std::string_view name : names_of(flag))
    names += (names.empty() ? "`" : ", `") + std::string(name) + "`";
  if (const std::string off = negated_name(flag); !off.empty()) names += ", `" + off + "`";
  std::string where;
  if (!flag.verbs.empty() && flag.verbs.bits != group.verbs.bits) {
    for (const Verb verb : built_verbs()) {
      if (flag.verbs.contains(verb))
        where += (where.empty() ? "" : ", ") + std::string(verb_name(verb));
    }
    if (!where.empty()) where = " *(" + where + ")*";
  }
  std::string state(state_name(flag.state));
  if (!flag.refused_choices_text.empty())
    state += format("; refused are {}: {}", cell(flag.refused_choices_text),
                    cell(flag.refused_choices_why));
  else if (!flag.why.empty())
    state += (flag.state == State::kRemoved ? "; use " : ": ") + cell(flag.why);
  if (flag.is_ours) state += " (not a flag of vLLM)";
  std::string choices;
  if (!flag.choices_text.empty()) choices = "; " + cell(flag.choices_text);
  const std::string initial = flag.initial.empty() ? std::string() : "`" + cell(flag.initial) + "`";
  out +=
      format("| {} | {} | {} | {}{}{} |\n", names, initial, state, cell(flag.help), choices, where);
}

constexpr std::string_view kMarkdownHead = R"(# Flags

Made from the flag table by `moestro help --flags-markdown`; a test keeps it up to date. Every flag of vLLM's verbs is here, so
that a command line can be carried over and nothing of it is ignored in silence:

- **honoured**: it does what it says.
- **no effect here**: accepted and checked; the log says once that it changes nothing, and why.
- **refused**: only its default is accepted; anything else is an error that says why.
- **removed**: gone from vLLM as well; the error names the replacement.

`moestro explain` takes what serve refuses too: it plans the rest, and lists each refusal with its reason.

## How they are read

- Dashes and underscores are the same in a flag's name; any unique beginning of a name will do.
- `--flag value` and `--flag=value`. Flags that are on or off take no value; most have a `--no-` form. The last one counts.
- `None` or an empty text means "not given" where the default is empty.
- Sizes and token counts may end in k, m, g, t (powers of 1000, fractions allowed) or K, M, G, T (powers of 1024).
- JSON: the whole object (`--hf-overrides '{"num_hidden_layers": 2}'`), or key by key (`--hf-overrides.num_hidden_layers 2`,
  `--x.list+ a,b` adds to a list). Keys given one by one are merged over the object.
- `--config FILE.yaml` holds flags without their dashes; the command line wins over the file. `true` is the bare flag, `false`
  its `--no-` form, a list is several values, a mapping is JSON.
- A flag that takes several values takes every word up to the next flag: write the model first.
- No environment variable changes what happens.
)";

}  // namespace

std::string program_help() {
  std::string out =
      "moestro serves mixture-of-experts language models.\n\nUsage: moestro VERB [MODEL] "
      "[flags]\n\n"
      "MODEL is a directory with config.json and safetensors files; without it the built-in demo "
      "model runs.\n\n";
  for (const Verb verb : built_verbs()) append_entry(out, verb_name(verb), verb_summary(verb));
  append_entry(out, "version", "Version, processor and instruction sets");
  out +=
      "\nTry: moestro chat\n     moestro serve\n     moestro explain MODEL\n     moestro VERB "
      "--help\n";
  return out;
}

Result<std::string> verb_help(Verb verb, std::string_view topic) {
  if (topic.empty()) return short_help(verb);
  if (topic == "all") return full_help(verb);
  std::string out = usage_line(verb) + "\n";
  std::string wanted = lower(topic);
  std::replace(wanted.begin(), wanted.end(), '_', '-');
  std::string groups;
  bool found = false;
  for (const FlagGroup& group : flag_groups()) {
    groups += " " + std::string(group.name);
    for (const Flag* flag : flags_on(group, verb)) {
      if (wanted != group.name) continue;
      append_entry(out, usage(*flag), details(*flag));
      found = true;
    }
  }
  for (const FlagGroup& group : flag_groups()) {
    for (const Flag* flag : flags_on(group, verb)) {
      if (found || flag->names.find(wanted) == std::string_view::npos) continue;
      append_entry(out, usage(*flag), details(*flag));
    }
  }
  if (out.ends_with(".\n\n"))
    return invalid_argument(
        format("--help={}: no flag and no group of that name; groups:{}", topic, groups));
  return out;
}

std::string flags_markdown() {
  std::string out(kMarkdownHead);
  for (const FlagGroup& group : flag_groups()) {
    out +=
        format("\n## {}\n\n| flag | default | here | meaning |\n|---|---|---|---|\n", group.title);
    for (const Flag& flag : group.flags) append_row(out, group, flag);
  }
  return out;
}

json::object configuration(const CommandLine& line) {
  json::object all;
  for (const FlagGroup& group : flag_groups()) {
    for (const Flag* flag : flags_on(group, line.verb)) {
      if (!flag->field) continue;
      std::string_view name = flag->name();
      while (name.starts_with('-')) name.remove_prefix(1);
      if (all.contains(name)) continue;
      json::value value = load(*flag, line.options);
      if (flag->is_secret && value.is_array())
        value = format("{} hidden", value.get_array().size());
      all[name] = json::object{{"value", std::move(value)}, {"asked", line.is_given(flag->name())}};
    }
  }
  return all;
}

json::array asked_flags(const CommandLine& line) {
  json::array flags;
  for (const Setting& setting : line.given) {
    const Flag& flag = *setting.flag;
    std::string text(flag.name());
    if (setting.value.is_bool()) {
      if (!setting.value.get_bool() && flag.kind == Kind::kPair) text = negated_name(flag);
    } else if (flag.is_secret) {
      text += " (hidden)";
    } else {
      text += " " + (setting.value.is_string() ? std::string(json::view(setting.value.get_string()))
                                               : json::dump(setting.value));
    }
    if (setting.from_file) text += " (config file)";
    flags.push_back(json::value(text));
  }
  return flags;
}

std::string asked_text(const CommandLine& line) {
  std::string out;
  for (const json::value& flag : asked_flags(line))
    out += (out.empty() ? "" : "\n") + std::string(json::view(flag.get_string()));
  return out;
}

}  // namespace moestro::config
