// Model output of any bytes through every output parser: no crash, and the same result however the
// text is cut. The first bytes choose the parsers, where reasoning begins, and the cuts.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "text/parsers/output_parser.h"

namespace {

using namespace moestro;
using namespace moestro::text;

constexpr const char* kTools[] = {"",           "deepseek_v3", "deepseek_v31", "deepseek_v32",
                                  "glm45",      "hermes",      "kimi_k2",      "llama3_json",
                                  "minimax_m2", "openai",      "qwen3_coder"};

std::vector<OutputEvent> parse(const OutputParserOptions& options, std::string_view text,
                               size_t step, bool cut) {
  auto parser = OutputParser::create(options);
  CHECK(parser.ok(), parser.status().message());
  OutputEvents out;
  for (size_t at = 0; at < text.size(); at += step) (*parser)->push(text.substr(at, step), out);
  (*parser)->finish(cut, out);
  return out.list();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  OutputParserOptions options;
  options.tool_parser = kTools[data[0] % std::size(kTools)];
  options.reasoning_parser = options.tool_parser == "openai" ? "openai_gptoss"
                             : (data[1] & 4) != 0            ? "qwen3"
                                                             : "";
  options.start = static_cast<ReasoningStart>(data[1] & 3 ? (data[1] & 3) - 1 : 0);
  if ((data[1] & 8) != 0)
    options.tools = {
        {"f", json::object{{"properties", json::object{{"a", json::object{{"type", "string"}}}}}}}};
  const std::string_view text(reinterpret_cast<const char*>(data) + 3, size - 3);
  const bool cut = (data[1] & 16) != 0;
  const auto whole = parse(options, text, text.size() + 1, cut);
  CHECK(parse(options, text, 1, cut) == whole, "byte by byte is not the same");
  CHECK(parse(options, text, 2 + data[2] % 13, cut) == whole, "in pieces is not the same");
  return 0;
}
