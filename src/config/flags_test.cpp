// The table itself: complete, consistent, and what is made from it.
#include "config/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "config/command_line.h"
#include "config/flag_names.h"
#include "config/help.h"
#include "config/values.h"

namespace moestro::config {
namespace {

using testing::HasSubstr;
using testing::Not;

struct Row {
  const FlagGroup* group;
  const Flag* flag;
  VerbSet verbs;
};

std::vector<Row> rows() {
  std::vector<Row> all;
  for (const FlagGroup& group : flag_groups()) {
    for (const Flag& flag : group.flags) all.push_back({&group, &flag, verbs_of(group, flag)});
  }
  return all;
}

TEST(FlagTable, LongNamesAreUniqueOnEveryVerb) {
  std::set<std::pair<int, std::string>> seen;
  for (const Row& row : rows()) {
    for (int v = 0; v < kNumVerbs; ++v) {
      if (!row.verbs.contains(static_cast<Verb>(v))) continue;
      EXPECT_TRUE(seen.emplace(v, row.flag->name()).second)
          << row.flag->name() << " on " << verb_name(static_cast<Verb>(v));
    }
  }
}

TEST(FlagTable, RowsAreWhole) {
  for (const Row& row : rows()) {
    const Flag& flag = *row.flag;
    SCOPED_TRACE(flag.name());
    EXPECT_FALSE(row.verbs.empty());
    EXPECT_FALSE(flag.help.empty());
    EXPECT_FALSE(flag.help.ends_with('.'));
    if (flag.state == State::kHonoured) {
      EXPECT_TRUE(flag.field || flag.name() == "--config");
      EXPECT_TRUE(flag.why.empty());
    } else if (flag.state != State::kRemoved) {
      EXPECT_FALSE(flag.why.empty());
    }
    if (flag.positional())
      EXPECT_THAT(flag.name(), testing::AnyOf("MODEL", "OUT"));
    else
      EXPECT_TRUE(flag.name().starts_with("--"));
  }
}

// The default that help and docs print is the one Options has.
TEST(FlagTable, DefaultsAreThoseOfOptions) {
  const Options options;
  for (const Row& row : rows()) {
    const Flag& flag = *row.flag;
    SCOPED_TRACE(flag.name());
    const json::value value = default_value(flag);  // also proves that every default parses
    if (!flag.field) continue;
    const json::value held = load(flag, options);
    const bool empty = held.is_null() || (held.is_string() && held.as_string().empty()) ||
                       (held.is_array() && held.as_array().empty()) ||
                       (held.is_object() && held.as_object().empty());
    if (value.is_null())
      EXPECT_TRUE(empty) << json::dump(held);
    else if (held.is_double())
      EXPECT_EQ(held.as_double(), value.to_number<double>());
    else
      EXPECT_EQ(json::dump(held), json::dump(value));
  }
}

// A value of the right kind reaches the field and comes back: kinds and field types fit.
TEST(FlagTable, ValuesReachTheirFields) {
  for (const Row& row : rows()) {
    const Flag& flag = *row.flag;
    if (!flag.field) continue;
    SCOPED_TRACE(flag.name());
    std::string text = flag.choices_text.empty()
                           ? "7"
                           : std::string(flag.choices_text.substr(0, flag.choices_text.find('|')));
    if (flag.kind == Kind::kFloat) text = "0.5";
    if (flag.kind == Kind::kJson || flag.kind == Kind::kJsonText)
      text = flag.initial.starts_with('[') ? R"(["x"])" : R"({"x":1})";
    if (flag.kind == Kind::kJson && !flag.keys_text.empty()) text = "{}";
    if (flag.min > 7) text = std::to_string(static_cast<int64_t>(flag.min));
    if (flag.max < 0.5) text = "0.25";
    const std::string_view words[] = {text};
    const Result<json::value> value = parse_value(flag, words);
    ASSERT_TRUE(value.ok()) << value.status().message();
    Options options;
    store(flag, value.value(), options);
    const json::value back = load(flag, options);
    if (back.is_double())
      EXPECT_EQ(back.as_double(), value.value().to_number<double>());
    else
      EXPECT_EQ(json::dump(back), json::dump(value.value()));
    store(flag, json::value(nullptr), options);
    EXPECT_EQ(json::dump(load(flag, options)), json::dump(load(flag, Options())));
  }
}

std::optional<Verb> our_verb(std::string_view name) {
  if (name == "launch render") return Verb::kServe;
  for (int v = 0; v < kNumVerbs; ++v) {
    if (verb_name(static_cast<Verb>(v)) == name) return static_cast<Verb>(v);
  }
  return std::nullopt;
}

// Every flag of vLLM's verbs, by name and verb, with its short names and its --no- form.
TEST(FlagTable, HoldsEveryFlagOfVllm) {
  const std::string path = MOESTRO_SOURCE_DIR "/../shared/reference/vllm-flags.json";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
  const auto facts = json::parse_file(path);
  ASSERT_TRUE(facts.ok()) << facts.status().message();
  int entries = 0;
  for (const json::value& v : facts->as_object().at("flags").as_array()) {
    const json::object& fact = v.as_object();
    ++entries;
    const std::string name(json::view(fact.at("name").as_string()));
    const bool removed =
        json::find(fact, "status") && json::find(fact, "status")->as_string() == "removed";
    for (const json::value& verb_fact : fact.at("verbs").as_array()) {
      const auto verb = our_verb(json::view(verb_fact.as_string()));
      ASSERT_TRUE(verb) << json::view(verb_fact.as_string());
      SCOPED_TRACE(name + " on " + std::string(verb_name(*verb)));
      const FlagNames names(*verb);
      if (name == "model_tag") {
        EXPECT_NE(names.positional(), nullptr);
        continue;
      }
      const FlagNames::Match match = names.exact(name);
      ASSERT_NE(match.flag, nullptr);
      for (const json::value& alias : fact.at("aliases").as_array()) {
        const FlagNames::Match by_alias = names.exact(json::view(alias.as_string()));
        ASSERT_NE(by_alias.flag, nullptr) << alias;
        EXPECT_EQ(by_alias.flag->name(), name);
      }
      if (const json::value* negated = json::find(fact, "negated");
          negated && negated->is_string()) {
        EXPECT_EQ(negated_name(*match.flag), json::view(negated->as_string()));
      }
      EXPECT_TRUE(!removed || match.flag->state == State::kRemoved ||
                  match.flag->state == State::kNoEffect);
    }
  }
  EXPECT_EQ(entries, 514);
}

TEST(Help, ShortScreenIsShort) {
  const std::string help = *verb_help(Verb::kServe, "");
  EXPECT_THAT(help, HasSubstr("--max-model-len"));
  EXPECT_THAT(help, Not(HasSubstr("--enable-lora")));
  const auto lines = std::count(help.begin(), help.end(), '\n');
  EXPECT_GT(lines, 20);
  EXPECT_LT(lines, 60);
}

TEST(Help, NoLineIsTooLong) {
  for (const Verb verb : built_verbs()) {
    std::istringstream text(*verb_help(verb, "all"));
    for (std::string line; std::getline(text, line);) EXPECT_LE(line.size(), 110u) << line;
  }
}

TEST(Help, AllNamesEveryFlagOfTheVerb) {
  const std::string help = *verb_help(Verb::kServe, "all");
  for (const Row& row : rows()) {
    if (!row.verbs.contains(Verb::kServe)) continue;
    const std::string_view name = row.flag->name();
    EXPECT_THAT(help, HasSubstr(std::string(row.flag->positional() ? name : name.substr(2))));
  }
  EXPECT_THAT(help, HasSubstr("[refused]"));
  EXPECT_THAT(help, Not(HasSubstr("--num-iters")));
}

TEST(Help, GroupsWordsAndNeither) {
  EXPECT_THAT(*verb_help(Verb::kServe, "cache"), HasSubstr("enable-prefix-caching"));
  EXPECT_THAT(*verb_help(Verb::kServe, "kv_cache"), HasSubstr("--kv-cache-dtype"));
  EXPECT_THAT(*verb_help(Verb::kBenchLatency, ""), HasSubstr("--num-iters"));
  const auto bad = verb_help(Verb::kServe, "nonsense");
  ASSERT_FALSE(bad.ok());
  EXPECT_THAT(bad.status().message(), HasSubstr("scheduler"));
  EXPECT_THAT(program_help(), HasSubstr("bench throughput"));
}

TEST(Docs, FlagsPageIsUpToDate) {
  std::ifstream file(MOESTRO_SOURCE_DIR "/docs/flags.md");
  std::ostringstream text;
  text << file.rdbuf();
  EXPECT_TRUE(text.str() == flags_markdown())
      << "write it anew: moestro help --flags-markdown > docs/flags.md";
}

TEST(Configuration, SaysWhatWasAskedAndHidesKeys) {
  const std::vector<std::string> args = {"dir",       "--max-num-seqs", "3",
                                         "--api-key", "hush",           "--no-strict"};
  const auto line = parse_command_line(Verb::kServe, args);
  ASSERT_TRUE(line.ok());
  const json::object all = configuration(*line);
  EXPECT_EQ(json::dump(all.at("max-num-seqs")), R"({"value":3,"asked":true})");
  EXPECT_EQ(json::dump(all.at("port")), R"({"value":8000,"asked":false})");
  EXPECT_THAT(json::dump(json::value(all)), Not(HasSubstr("hush")));
  EXPECT_EQ(asked_text(*line), "MODEL dir\n--max-num-seqs 3\n--api-key (hidden)\n--no-strict");
}

}  // namespace
}  // namespace moestro::config
