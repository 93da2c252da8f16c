// The flag table: every command-line flag, ours and each one of vLLM's verbs, with what becomes of
// it here. The parser, --help, docs/flags.md and the printed configuration are all made from it.
// Constant data; rows live in flags_<group>.cpp.
#pragma once
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/options.h"

namespace moestro::config {

enum class Verb : uint8_t {
  kServe,
  kChat,
  kComplete,
  kBenchLatency,
  kBenchThroughput,
  kBenchMoe,
  kExplain,
  kInspect,
  kLogits,
  kPerplexity,
  kTokenize,
  kRender,
  kRepack,
  // Verbs of vLLM whose flags the table knows, but which this program does not have.
  kQuantize,
  kRunBatch,
  kBenchServe,
  kBenchStartup,
};
inline constexpr int kNumVerbs = 17;

struct VerbSet {
  uint32_t bits = 0;
  constexpr VerbSet() = default;
  constexpr VerbSet(Verb verb) : bits(1u << static_cast<int>(verb)) {}
  constexpr bool contains(Verb verb) const { return bits >> static_cast<int>(verb) & 1u; }
  constexpr bool empty() const { return bits == 0; }
};
constexpr VerbSet operator|(VerbSet a, VerbSet b) {
  VerbSet both;
  both.bits = a.bits | b.bits;
  return both;
}
constexpr VerbSet operator|(Verb a, Verb b) { return VerbSet(a) | VerbSet(b); }

// explain takes what serve takes, so that one word changes in a command line.
inline constexpr VerbSet kServeVerbs = Verb::kServe | Verb::kExplain;
inline constexpr VerbSet kBatchVerb = Verb::kRunBatch;
inline constexpr VerbSet kFrontVerbs = kServeVerbs | kBatchVerb;
inline constexpr VerbSet kGenerateVerbs = Verb::kChat | Verb::kComplete;
inline constexpr VerbSet kBenchVerbs = Verb::kBenchLatency | Verb::kBenchThroughput;
inline constexpr VerbSet kBenchServeVerb = Verb::kBenchServe;
inline constexpr VerbSet kBenchStartupVerb = Verb::kBenchStartup;
inline constexpr VerbSet kEngineVerbs = kFrontVerbs | kGenerateVerbs | kBenchVerbs | Verb::kLogits |
                                        Verb::kPerplexity | Verb::kRepack | kBenchStartupVerb;
inline constexpr VerbSet kModelVerbs = kEngineVerbs | Verb::kInspect;

std::string_view verb_name(Verb verb);     // "bench latency"
std::string_view verb_summary(Verb verb);  // one line for help
bool is_built(Verb verb);                  // false for the verbs that only the table knows
std::vector<Verb> built_verbs();           // in the order of the help
// Why a verb of vLLM is not here, or empty if the word is no verb of vLLM or is one of ours.
std::string_view absent_verb_reason(std::string_view name);

enum class Kind : uint8_t {
  kSwitch,        // no value
  kPair,          // --x and --no-x, no value
  kInt,           // decimal integer
  kHumanInt,      // integer with k m g t (powers of 1000) or K M G T (powers of 1024)
  kLength,        // human integer, or "auto" = -1
  kFloat,         // number, inf
  kText,          // one word
  kWord,          // one word; case and dashes are normalised before the choices are checked
  kOptionalText,  // a word or nothing (true)
  kWords,         // one or more words; given again, it replaces
  kAppend,        // one word; given again, it adds
  kInts,          // one or more integers
  kCsv,           // one word, split at commas
  kIntCsv,        // one word of integers, split at commas
  kJson,          // JSON text, or --x.key value
  kJsonText,      // the same, or any text
};

enum class State : uint8_t {
  kHonoured,  // sets a field of Options
  kNoEffect,  // accepted and checked, changes nothing; `why` says why that is right here
  kRefused,   // only the default is accepted; `why` is part of the error
  kRemoved,   // gone from vLLM too; `why` names the replacement, if there is one
};
std::string_view state_name(State state);  // "honoured", "no effect here", "refused", "removed"

// Where a flag's value goes.
using Field = std::variant<bool*, std::optional<bool>*, int64_t*, std::optional<int64_t>*, double*,
                           std::optional<double>*, std::string*, std::optional<std::string>*,
                           std::vector<std::string>*, std::vector<int64_t>*, json::object*>;
using FieldAccess = Field (*)(Options&);
#define MOESTRO_FIELD(path) [](Options& o) -> Field { return &o.path; }

struct Flag {
  // "--quantization -q": the long name, then short ones; "MODEL" is the positional argument.
  std::string_view names;
  Kind kind = Kind::kSwitch;
  std::string_view initial;  // the default as one would write it; empty: none
  State state = State::kHonoured;
  std::string_view help;  // what it means, no full stop
  std::string_view why = {};
  FieldAccess field = nullptr;
  std::string_view choices_text = {};  // "auto|bfloat16|float32"; empty: anything
  std::string_view keys_text = {};     // kJson: the keys that exist; empty: any
  // Values of vLLM that are refused, and why.
  std::string_view refused_choices_text = {}, refused_choices_why = {};
  std::string_view deprecated_for = {};  // not empty: works, and a note names this
  VerbSet verbs = {};                    // empty: those of its group
  double min = -std::numeric_limits<double>::infinity(),
         max = std::numeric_limits<double>::infinity();
  bool can_be_null = false;  // None and the empty text mean: not given
  bool is_common = false;    // on the short help screen
  bool is_secret = false;    // value never printed
  bool is_ours = false;      // not a flag of vLLM

  constexpr std::string_view name() const { return names.substr(0, names.find(' ')); }
  constexpr bool positional() const { return !names.starts_with('-'); }

  // Builders, so that a row is one expression.
  constexpr Flag choices(std::string_view text) const {
    Flag f = *this;
    f.choices_text = text;
    return f;
  }
  constexpr Flag refuse_choices(std::string_view text, std::string_view reason) const {
    Flag f = *this;
    f.refused_choices_text = text;
    f.refused_choices_why = reason;
    return f;
  }
  // The field of a flag without effect on what runs here, which explain plans with all the same.
  constexpr Flag planned(FieldAccess access) const {
    Flag f = *this;
    f.field = access;
    return f;
  }
  constexpr Flag keys(std::string_view text) const {
    Flag f = *this;
    f.keys_text = text;
    return f;
  }
  constexpr Flag on(VerbSet set) const {
    Flag f = *this;
    f.verbs = set;
    return f;
  }
  constexpr Flag range(double lo, double hi) const {
    Flag f = *this;
    f.min = lo;
    f.max = hi;
    return f;
  }
  constexpr Flag at_least(double lo) const {
    Flag f = *this;
    f.min = lo;
    return f;
  }
  constexpr Flag nullable() const {
    Flag f = *this;
    f.can_be_null = true;
    return f;
  }
  constexpr Flag common() const {
    Flag f = *this;
    f.is_common = true;
    return f;
  }
  constexpr Flag secret() const {
    Flag f = *this;
    f.is_secret = true;
    return f;
  }
  constexpr Flag ours() const {
    Flag f = *this;
    f.is_ours = true;
    return f;
  }
  constexpr Flag deprecated(std::string_view use) const {
    Flag f = *this;
    f.deprecated_for = use;
    return f;
  }
};

constexpr Flag honoured(std::string_view names, Kind kind, std::string_view initial,
                        std::string_view help, FieldAccess field) {
  return {.names = names, .kind = kind, .initial = initial, .help = help, .field = field};
}
constexpr Flag no_effect(std::string_view names, Kind kind, std::string_view initial,
                         std::string_view help, std::string_view why) {
  return {.names = names,
          .kind = kind,
          .initial = initial,
          .state = State::kNoEffect,
          .help = help,
          .why = why};
}
constexpr Flag refused(std::string_view names, Kind kind, std::string_view initial,
                       std::string_view help, std::string_view why, FieldAccess field = nullptr) {
  return {.names = names,
          .kind = kind,
          .initial = initial,
          .state = State::kRefused,
          .help = help,
          .why = why,
          .field = field};
}
constexpr Flag removed(std::string_view names, Kind kind, std::string_view initial,
                       std::string_view help, std::string_view replacement = {}) {
  return {.names = names,
          .kind = kind,
          .initial = initial,
          .state = State::kRemoved,
          .help = help,
          .why = replacement};
}

struct FlagGroup {
  std::string_view name;  // for --help=NAME
  std::string_view title;
  VerbSet verbs;  // of rows that name none
  std::span<const Flag> flags;
};

// Every group, in the order of the help. A name may stand in several rows for different verbs; of
// rows that share a verb and a short name the first wins (chat's -q).
std::span<const FlagGroup> flag_groups();
inline VerbSet verbs_of(const FlagGroup& group, const Flag& flag) {
  return flag.verbs.empty() ? group.verbs : flag.verbs;
}
std::vector<std::string_view> names_of(const Flag& flag);  // without the --no- form
std::string negated_name(const Flag& flag);                // "--no-x" for kPair, else empty

}  // namespace moestro::config
