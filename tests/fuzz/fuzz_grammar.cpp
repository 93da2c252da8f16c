// Regular expressions, EBNF and JSON schemas of any bytes: refused with a message, or a grammar in
// which a walk never meets a dead end and stays within its budgets.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "text/grammar/grammar_sources.h"
#include "text/grammar/matcher.h"

namespace {

using namespace moestro;
using namespace moestro::text;

Result<GrammarBuilder::Node> add(GrammarBuilder& b, uint8_t kind, std::string_view source) {
  switch (kind % 4) {
    case 0:
      return add_regex(b, source);
    case 1:
      return add_json_string_pattern(b, source);
    case 2:
      return add_ebnf(b, source);
    default: {
      json::ParseLimits limits;
      limits.max_depth = 64;
      MOESTRO_ASSIGN(const json::value schema, json::parse(source, limits));
      return add_json_schema(b, schema);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  GrammarBuilder b;
  const auto node = add(b, data[0], {reinterpret_cast<const char*>(data) + 2, size - 2});
  if (!node.ok()) {
    CHECK(!node.status().message().empty(), "an error without a message");
    return 0;
  }
  const auto grammar = b.compile(*node);
  if (!grammar.ok()) return 0;
  GrammarMatcher m(*grammar);
  uint32_t random = data[1];
  for (int step = 0; step < 64 && !m.complete(); ++step) {
    m.trim();
    int first = -1;
    for (int i = 0; i < 256 && first < 0; ++i) {
      const int c = static_cast<int>((random + static_cast<uint32_t>(i)) & 255);
      if (m.step(m.state(), static_cast<uint8_t>(c)) != GrammarMatcher::kDead) first = c;
    }
    CHECK(first >= 0 || m.accepting() || m.overflowed(), "a dead end");
    if (first < 0) break;
    const char c = static_cast<char>(first);
    CHECK(m.accept({&c, 1}), "a byte that was allowed is refused");
    random = random * 1664525u + 1013904223u;
  }
  return 0;
}
