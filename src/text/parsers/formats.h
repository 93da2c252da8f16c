// The machines by format. Private to text/parsers.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/parsers/machine.h"

namespace moestro::text::parsers {

// Tags that begin a call in the output of this tool parser; none for an unknown or empty name.
std::vector<std::string_view> tool_start_tags(std::string_view tool_parser);

// By options.tool_parser; empty: everything is content.
std::unique_ptr<ToolMachine> make_tool_machine(Tags& tags, const OutputParserOptions& options);

// <tool_call>NAME, then <arg_key>K</arg_key><arg_value>V</arg_value> pairs: GLM.
std::unique_ptr<ToolMachine> make_glm(Tags& tags, const OutputParserOptions& options);

// Blocks of invocations with named parameters: Qwen3-Coder, MiniMax-M2, DeepSeek-V3.2.
struct InvokeFormat {
  std::string_view block_open, block_close;
  bool block_optional = false;
  std::string_view call_open, call_close;    // the opening one up to the name: "<invoke name="
  std::string_view param_open, param_close;  // in the same way
  bool trim_newlines = false;                // one at the beginning and one at the end of a value
  bool string_attribute = false;             // string="true|false" says how to read the value
};
std::unique_ptr<ToolMachine> make_invoke(Tags& tags, const OutputParserOptions& options,
                                         const InvokeFormat& format);

// Sections of calls whose arguments are raw JSON between tags: DeepSeek-V3, V3.1, Kimi-K2.
struct SectionFormat {
  std::vector<std::string_view> section_open, section_close;
  std::string_view call_open, separator, call_close;
  bool fenced = false;     // NAME\n```json\n…\n``` behind the separator, "function" before it
  bool native_id = false;  // the header is functions.NAME:INDEX, and is the id
};
std::unique_ptr<ToolMachine> make_section(Tags& tags, const OutputParserOptions& options,
                                          const SectionFormat& format);

// {"name": …, "arguments": {…}} between tags (hermes), or as the whole answer (Llama).
std::unique_ptr<ToolMachine> make_hermes(Tags& tags, const OutputParserOptions& options);
std::unique_ptr<ToolMachine> make_llama(Tags& tags, const OutputParserOptions& options);

std::unique_ptr<Machine> make_harmony(Tags& tags, const OutputParserOptions& options);

// See make_forced_call_parser().
std::unique_ptr<Machine> make_forced_call(std::string name);

}  // namespace moestro::text::parsers
