#include "text/parsers/formats.h"

#include <algorithm>
#include <array>

#include "base/format.h"
#include "text/parsers/parser_names.h"

namespace moestro::text::parsers {
namespace {

enum class Format : uint8_t { kGlm, kInvoke, kSection, kHermes, kLlama, kHarmony };

struct Entry {
  std::string_view name;
  Format format;
  const void* details = nullptr;
};

constexpr InvokeFormat kQwenCoder{.block_open = "<tool_call>",
                                  .block_close = "</tool_call>",
                                  .block_optional = true,
                                  .call_open = "<function=",
                                  .call_close = "</function>",
                                  .param_open = "<parameter=",
                                  .param_close = "</parameter>",
                                  .trim_newlines = true};
constexpr InvokeFormat kMiniMax{.block_open = "<minimax:tool_call>",
                                .block_close = "</minimax:tool_call>",
                                .call_open = "<invoke name=",
                                .call_close = "</invoke>",
                                .param_open = "<parameter name=",
                                .param_close = "</parameter>"};
constexpr InvokeFormat kDsml{.block_open = "<｜DSML｜function_calls>",
                             .block_close = "</｜DSML｜function_calls>",
                             .call_open = "<｜DSML｜invoke name=",
                             .call_close = "</｜DSML｜invoke>",
                             .param_open = "<｜DSML｜parameter name=",
                             .param_close = "</｜DSML｜parameter>",
                             .string_attribute = true};
constexpr InvokeFormat kDsmlV4{.block_open = "<｜DSML｜tool_calls>",
                               .block_close = "</｜DSML｜tool_calls>",
                               .call_open = "<｜DSML｜invoke name=",
                               .call_close = "</｜DSML｜invoke>",
                               .param_open = "<｜DSML｜parameter name=",
                               .param_close = "</｜DSML｜parameter>",
                               .string_attribute = true};

const SectionFormat& deepseek(bool fenced) {
  static const SectionFormat kPlain{.section_open = {"<｜tool▁calls▁begin｜>"},
                                    .section_close = {"<｜tool▁calls▁end｜>"},
                                    .call_open = "<｜tool▁call▁begin｜>",
                                    .separator = "<｜tool▁sep｜>",
                                    .call_close = "<｜tool▁call▁end｜>"};
  static const SectionFormat kFenced = [] {
    SectionFormat f = kPlain;
    f.fenced = true;
    return f;
  }();
  return fenced ? kFenced : kPlain;
}
const SectionFormat& kimi() {
  static const SectionFormat kKimi{
      .section_open = {"<|tool_calls_section_begin|>", "<|tool_call_section_begin|>"},
      .section_close = {"<|tool_calls_section_end|>", "<|tool_call_section_end|>"},
      .call_open = "<|tool_call_begin|>",
      .separator = "<|tool_call_argument_begin|>",
      .call_close = "<|tool_call_end|>",
      .native_id = true};
  return kKimi;
}

std::span<const Entry> tool_parsers() {
  static const std::array<Entry, 17> kEntries = {
      {{"deepseek_v3", Format::kSection, &deepseek(true)},
       {"deepseek_v31", Format::kSection, &deepseek(false)},
       {"deepseek_v32", Format::kInvoke, &kDsml},
       {"deepseek_v4", Format::kInvoke, &kDsmlV4},
       {"glm45", Format::kGlm},
       {"glm47", Format::kGlm},
       {"hermes", Format::kHermes},
       {"kimi_k2", Format::kSection, &kimi()},
       {"llama3_json", Format::kLlama},
       {"llama4_json", Format::kLlama},
       {"minimax_m2", Format::kInvoke, &kMiniMax},
       {"openai", Format::kHarmony},
       {"openai_gptoss", Format::kHarmony},
       {"qwen3", Format::kHermes},
       {"qwen3_coder", Format::kInvoke, &kQwenCoder},
       {"qwen3_xml", Format::kInvoke, &kQwenCoder},
       {"harmony", Format::kHarmony}}};
  return kEntries;
}

constexpr std::string_view kReasoningParsers[] = {
    "deepseek_r1", "deepseek_v3", "deepseek_v31", "deepseek_v32",  "deepseek_v4", "glm45",  "glm47",
    "kimi_k2",     "minimax_m2",  "openai",       "openai_gptoss", "qwen3",       "harmony"};

const Entry* find_tool_parser(std::string_view name) {
  for (const Entry& e : tool_parsers())
    if (e.name == name) return &e;
  return nullptr;
}

class AllContent final : public ToolMachine {
 public:
  AllContent() : ToolMachine({}) {}

 private:
  bool step(OutputEvents& out) override {
    out.add(OutputEvent::Kind::kContent, in_.view());
    in_.drop(in_.size());
    return false;
  }
};

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

std::vector<std::string_view> tool_start_tags(std::string_view tool_parser) {
  const Entry* e = find_tool_parser(tool_parser);
  if (!e) return {};
  switch (e->format) {
    case Format::kGlm:
    case Format::kHermes:
      return {"<tool_call>"};
    case Format::kInvoke: {
      const auto& f = *static_cast<const InvokeFormat*>(e->details);
      if (f.block_optional) return {f.block_open, f.call_open};
      return {f.block_open};
    }
    case Format::kSection:
      return static_cast<const SectionFormat*>(e->details)->section_open;
    case Format::kLlama:
      return {"<|python_tag|>"};
    case Format::kHarmony:
      return {};
  }
  return {};
}

std::unique_ptr<ToolMachine> make_tool_machine(Tags& tags, const OutputParserOptions& options) {
  const Entry* e = find_tool_parser(options.tool_parser);
  if (!e) return std::make_unique<AllContent>();
  switch (e->format) {
    case Format::kGlm:
      return make_glm(tags, options);
    case Format::kInvoke:
      return make_invoke(tags, options, *static_cast<const InvokeFormat*>(e->details));
    case Format::kSection:
      return make_section(tags, options, *static_cast<const SectionFormat*>(e->details));
    case Format::kHermes:
      return make_hermes(tags, options);
    case Format::kLlama:
      return make_llama(tags, options);
    case Format::kHarmony:
      break;
  }
  return std::make_unique<AllContent>();
}

Status check_tool_parser(std::string_view name) {
  if (name.empty() || find_tool_parser(name)) return {};
  std::string known;
  for (const Entry& e : tool_parsers()) known += format("{}{}", known.empty() ? "" : ", ", e.name);
  return invalid_argument(format("there is no tool call parser '{}'; there are {}", name, known));
}

Status check_reasoning_parser(std::string_view name) {
  if (name.empty() || std::find(std::begin(kReasoningParsers), std::end(kReasoningParsers), name) !=
                          std::end(kReasoningParsers))
    return {};
  std::string known;
  for (const std::string_view n : kReasoningParsers)
    known += format("{}{}", known.empty() ? "" : ", ", n);
  return invalid_argument(format("there is no reasoning parser '{}'; there are {}", name, known));
}

bool is_harmony(std::string_view name) {
  return name == "openai" || name == "openai_gptoss" || name == "harmony";
}

std::string tool_parser_of(std::string_view model_type, std::string_view chat_template) {
  // What the template writes for the calls of earlier turns is what the model was taught.
  if (model_type == "gpt_oss") return "openai";
  if (model_type == "minimax_m2" || has(chat_template, "<minimax:tool_call>")) return "minimax_m2";
  if (has(chat_template, "<|tool_call_argument_begin|>")) return "kimi_k2";
  if (has(chat_template, "｜DSML｜"))
    return has(chat_template, "DSML｜tool_calls") ? "deepseek_v4" : "deepseek_v32";
  if (has(chat_template, "<｜tool▁sep｜>"))
    return has(chat_template, "```json") ? "deepseek_v3" : "deepseek_v31";
  if (has(chat_template, "<arg_key>")) return "glm45";
  if (has(chat_template, "<function=")) return "qwen3_coder";
  if (has(chat_template, "<tool_call>")) return "hermes";
  if (model_type == "glm4_moe") return "glm45";
  if (model_type == "glm4_moe_lite" || model_type == "glm_moe_dsa") return "glm47";
  if (model_type == "deepseek_v32") return "deepseek_v32";
  if (model_type == "kimi_k2") return "kimi_k2";
  if (model_type == "llama" && has(chat_template, "parameters")) return "llama3_json";
  return {};
}

std::string reasoning_parser_of(std::string_view model_type, std::string_view chat_template) {
  if (model_type == "gpt_oss") return "openai_gptoss";
  if (!has(chat_template, "<think>") && !has(chat_template, "</think>")) return {};
  if (model_type.starts_with("glm")) return "glm45";
  if (model_type.starts_with("qwen3")) return "qwen3";
  if (model_type == "minimax_m2") return "minimax_m2";
  if (model_type == "kimi_k2" || has(chat_template, "<|tool_call_argument_begin|>"))
    return "kimi_k2";
  return "deepseek_r1";  // all read <think>…</think>
}

}  // namespace moestro::text::parsers
