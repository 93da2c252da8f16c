#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>

#include "base/check.h"
#include "base/format.h"
#include "text/onig_pattern.h"

namespace moestro::text {
namespace {

// Backtracking steps for one match; the patterns of published models stay below 10 per character.
constexpr uint32_t kMatchLimit = 4'000'000;
constexpr uint32_t kHeapLimitKib = 64 * 1024;
constexpr size_t kJitStackBytes = 4 << 20;

}  // namespace

struct RegexScratch::Impl {
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
  Impl() {
    data = pcre2_match_data_create(1, nullptr);
    context = pcre2_match_context_create(nullptr);
    CHECK(data && context, "out of memory");
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
    stack = pcre2_jit_stack_create(64 << 10, kJitStackBytes, nullptr);
    if (stack) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Impl() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    if (stack) pcre2_jit_stack_free(stack);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
};

RegexScratch::RegexScratch() = default;
RegexScratch::~RegexScratch() = default;
RegexScratch::RegexScratch(RegexScratch&&) noexcept = default;
RegexScratch& RegexScratch::operator=(RegexScratch&&) noexcept = default;

struct Regex::Impl {
  pcre2_code* code = nullptr;
  ~Impl() { pcre2_code_free(code); }
};

Regex::Regex(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

Result<Regex> Regex::compile(std::string_view onig_pattern) {
  MOESTRO_ASSIGN(const std::string pattern, pcre2_pattern(onig_pattern));
  const std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  CHECK(context, "out of memory");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  auto impl = std::make_unique<Impl>();
  int error = 0;
  PCRE2_SIZE offset = 0;
  impl->code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_AUTO_CAPTURE | PCRE2_NEVER_BACKSLASH_C,
      &error, &offset, context.get());
  if (!impl->code) {
    PCRE2_UCHAR text[200] = {};
    pcre2_get_error_message(error, text, sizeof text);
    return unsupported(
        format("pattern {}: {}", onig_pattern.substr(0, 200), reinterpret_cast<const char*>(text)));
  }
  pcre2_jit_compile(impl->code, PCRE2_JIT_COMPLETE);  // without JIT pcre2_match interprets
  Regex regex(std::move(impl));
  MOESTRO_TRY(regex.probe().with(format("pattern {}", onig_pattern.substr(0, 200))));
  return regex;
}

int Regex::search(std::string_view text, size_t from, RegexScratch& scratch, size_t& begin,
                  size_t& end) const {
  if (!scratch.impl_) scratch.impl_ = std::make_unique<RegexScratch::Impl>();
  RegexScratch::Impl& s = *scratch.impl_;
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data() ? text.data() : "");
  int n =
      pcre2_match(impl_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, s.data, s.context);
  if (n == PCRE2_ERROR_JIT_STACKLIMIT)
    n = pcre2_match(impl_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                    s.data, s.context);
  if (n == PCRE2_ERROR_NOMATCH) return 0;
  if (n < 0) return -1;
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(s.data);
  begin = ends[0];
  end = ends[1];
  return end >= begin ? 1 : 0;
}

bool Regex::find(std::string_view text, size_t from, RegexScratch& scratch, size_t& begin,
                 size_t& end) const {
  return search(text, from, scratch, begin, end) == 1;
}

Status Regex::probe() const {
  constexpr size_t kLength = 1500;
  RegexScratch scratch;
  for (const std::string_view unit :
       {"a", "A", "1", " ", "\n", " \n", ".", "'", "\xe4\xb8\xad", "aA1 .", "\xcc\x81"}) {
    std::string text;
    while (text.size() < kLength) text += unit;
    for (const std::string_view last : {"", "\x01", "a", " "}) {
      const std::string whole = text + std::string(last);
      size_t begin = 0, end = 0;
      const int found = search(whole, 0, scratch, begin, end);
      if (found < 0) return unsupported("it backtracks too much on ordinary text");
    }
  }
  return {};
}

}  // namespace moestro::text
