#include "checkpoint/module_matcher.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <unordered_set>
#include <utility>

#include "base/format.h"
#include "base/json.h"
#include "base/log.h"
#include "base/strings.h"

namespace moestro::checkpoint {
namespace {

constexpr size_t kMaxPatterns = 1024, kMaxPatternBytes = 4096;
constexpr uint32_t kMatchSteps = 100'000, kMatchHeapKib = 4096;  // about a millisecond

template <auto kFree>
struct Free {
  template <class T>
  void operator()(T* p) const {
    kFree(p);
  }
};
using Code8 = std::unique_ptr<pcre2_code, Free<pcre2_code_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>>;

struct Pattern {
  std::string text;
  Code8 code;
  mutable std::atomic<bool> given_up = false;
};

// '*' matches any run of characters, dots too. Linear in text times stars.
bool glob_matches(std::string_view glob, std::string_view text) {
  size_t g = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      resume = t;
    } else if (g < glob.size() && glob[g] == text[t]) {
      ++g, ++t;
    } else if (star != std::string_view::npos) {
      g = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (g < glob.size() && glob[g] == '*') ++g;
  return g == glob.size();
}

// Calls f with every run of whole dotted parts of the name until f says true.
template <class F>
bool any_run_of_parts(std::string_view name, F f) {
  constexpr size_t kMaxParts = 32;
  std::vector<size_t> starts = {0}, ends;
  for (size_t i = 0; i < name.size() && starts.size() < kMaxParts; ++i)
    if (name[i] == '.') ends.push_back(i), starts.push_back(i + 1);
  ends.push_back(name.size());
  for (size_t i = 0; i < starts.size(); ++i)
    for (size_t j = i; j < ends.size(); ++j)
      if (f(name.substr(starts[i], ends[j] - starts[i]))) return true;
  return false;
}

struct ViewHash {
  using is_transparent = void;
  size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
};

}  // namespace

struct EntryList::Impl {
  EntryRule rule = EntryRule::kNames;
  bool all_linear = false;  // the class name is there
  std::unordered_set<std::string, ViewHash, std::equal_to<>> literals;
  std::vector<std::string> globs;
  std::deque<Pattern> patterns;  // atomics do not move
  MatchContext limits;

  Status add_pattern(std::string text) {
    if (patterns.size() == kMaxPatterns)
      return invalid_argument(format("more than {} patterns", kMaxPatterns));
    if (text.size() > kMaxPatternBytes)
      return invalid_argument(
          format("a pattern of {} bytes is over the limit of {}", text.size(), kMaxPatternBytes));
    int error = 0;
    PCRE2_SIZE at = 0;
    // Names are bytes: no switch to UTF from inside a pattern.
    Code8 code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                             PCRE2_ANCHORED | PCRE2_NEVER_UTF | PCRE2_NEVER_UCP, &error, &at,
                             nullptr));
    if (!code) {
      PCRE2_UCHAR why[160] = {};
      pcre2_get_error_message(error, why, sizeof why);
      return invalid_argument(format("the pattern {} is not valid at character {}: {}",
                                     json::quote(text, true), at,
                                     reinterpret_cast<const char*>(why)));
    }
    if (!limits) {
      limits.reset(pcre2_match_context_create(nullptr));
      CHECK(limits != nullptr, "no memory for a match context");
      pcre2_set_match_limit(limits.get(), kMatchSteps);
      pcre2_set_heap_limit(limits.get(), kMatchHeapKib);
    }
    Pattern& pattern = patterns.emplace_back();
    pattern.text = std::move(text);
    pattern.code = std::move(code);
    return {};
  }

  bool pattern_matches(const Pattern& pattern, std::string_view module) const {
    if (pattern.given_up.load(std::memory_order_relaxed)) return false;
    const MatchData data(pcre2_match_data_create(1, nullptr));
    CHECK(data != nullptr, "no memory for match data");
    const int rc = pcre2_match(pattern.code.get(), reinterpret_cast<PCRE2_SPTR>(module.data()),
                               module.size(), 0, 0, data.get(), limits.get());
    if (rc >= 0) return true;
    if (rc != PCRE2_ERROR_NOMATCH && !pattern.given_up.exchange(true))
      log_warning("quantization_config: the pattern {} takes too long to match and is ignored",
                  json::quote(pattern.text, true));
    return false;
  }
};

EntryList::EntryList() : impl_(std::make_unique<Impl>()) {}
EntryList::EntryList(EntryList&&) noexcept = default;
EntryList& EntryList::operator=(EntryList&&) noexcept = default;
EntryList::~EntryList() = default;

Result<EntryList> EntryList::compile(std::span<const std::string> entries, EntryRule rule) {
  auto impl = std::make_unique<Impl>();
  impl->rule = rule;
  for (const std::string& entry : entries) {
    if (entry.starts_with("re:")) {
      MOESTRO_TRY(impl->add_pattern(entry.substr(3)));
    } else if (rule == EntryRule::kNames && lower(entry) == "linear") {
      impl->all_linear = true;
    } else if (rule == EntryRule::kParts && entry.find('*') != std::string::npos) {
      if (impl->globs.size() == kMaxPatterns || entry.size() > kMaxPatternBytes)
        return invalid_argument(format("more than {} patterns, or one of more than {} bytes",
                                       kMaxPatterns, kMaxPatternBytes));
      impl->globs.push_back(entry);
    } else {
      impl->literals.insert(entry);
    }
  }
  EntryList list;
  list.impl_ = std::move(impl);
  return list;
}

bool EntryList::matches(std::string_view module) const {
  const Impl& m = *impl_;
  if (m.all_linear) return true;
  if (m.rule == EntryRule::kNames) {
    if (m.literals.find(module) != m.literals.end()) return true;
  } else {
    const auto is_entry = [&](std::string_view part) {
      return m.literals.find(part) != m.literals.end() ||
             std::any_of(m.globs.begin(), m.globs.end(),
                         [&](const std::string& glob) { return glob_matches(glob, part); });
    };
    if (any_run_of_parts(module, is_entry)) return true;
  }
  return std::any_of(m.patterns.begin(), m.patterns.end(),
                     [&](const Pattern& p) { return m.pattern_matches(p, module); });
}

int ModuleMatcher::group_of(std::string_view module) const {
  for (const EntryList& list : exceptions_)
    if (list.matches(module)) return -1;
  for (size_t i = 0; i < groups_.size(); ++i)
    if (groups_[i].matches(module)) return static_cast<int>(i);
  return -1;
}

}  // namespace moestro::checkpoint
