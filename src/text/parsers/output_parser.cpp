#include "text/parsers/output_parser.h"

#include "base/format.h"
#include "text/parsers/formats.h"
#include "text/parsers/parser_names.h"
#include "text/parsers/reasoning.h"

namespace moestro::text {
namespace {

using parsers::Machine;
using parsers::Tags;

class MachineParser final : public OutputParser {
 public:
  MachineParser(std::unique_ptr<Machine> machine, Tags tags)
      : machine_(std::move(machine)), tags_(std::move(tags)) {}
  void push(std::string_view text, OutputEvents& out) override {
    // Never in UTF-8; the machines would take it for the mark of a token.
    if (text.find(parsers::kTokenMark) == std::string_view::npos) return machine_->push(text, out);
    std::string clean(text);
    std::erase(clean, parsers::kTokenMark);
    machine_->push(clean, out);
  }
  bool push_token(std::string_view content, OutputEvents& out) override {
    if (tags_.is_tag_token(content)) {
      std::string marked(1, parsers::kTokenMark);
      machine_->push(marked += content, out);
      return true;
    }
    if (!tags_.is_part(content)) return false;
    machine_->push(content, out);
    return true;
  }
  void finish(bool cut, OutputEvents& out) override { machine_->finish(cut, out); }

 private:
  std::unique_ptr<Machine> machine_;
  const Tags tags_;
};

}  // namespace

void OutputEvents::add(OutputEvent::Kind kind, std::string_view text, int32_t call) {
  if (text.empty()) return;
  if (list_.empty() || list_.back().kind != kind || list_.back().call != call)
    list_.push_back({kind, call, {}, {}});
  std::string& to = list_.back().text;
  for (const char c : text)
    if (c != parsers::kTokenMark) to += c;
  if (to.empty()) list_.pop_back();
}

void OutputEvents::begin_call(int32_t call, std::string_view name, std::string_view id) {
  list_.push_back({OutputEvent::Kind::kCallBegin, call, std::string(name), std::string(id)});
}

Result<std::unique_ptr<OutputParser>> OutputParser::create(const OutputParserOptions& options) {
  MOESTRO_TRY(parsers::check_reasoning_parser(options.reasoning_parser));
  MOESTRO_TRY(parsers::check_tool_parser(options.tool_parser));
  Tags tags(options.is_token);
  std::unique_ptr<Machine> machine;
  if (parsers::is_harmony(options.reasoning_parser) || parsers::is_harmony(options.tool_parser)) {
    machine = parsers::make_harmony(tags, options);
  } else {
    machine = parsers::make_tool_machine(tags, options);
    if (!options.reasoning_parser.empty())
      machine = parsers::make_reasoning(tags, options, std::move(machine));
  }
  return std::unique_ptr<OutputParser>(new MachineParser(std::move(machine), std::move(tags)));
}

std::unique_ptr<OutputParser> make_forced_call_parser(std::string name) {
  return std::make_unique<MachineParser>(parsers::make_forced_call(std::move(name)), Tags({}));
}

}  // namespace moestro::text
