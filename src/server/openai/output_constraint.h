// OutputConstraint: what a request binds its answer to (response_format, structured_outputs,
// guided_*, tool_choice), and Grammars, which makes engine constraints of it. On the text pool.
#pragma once
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/grammar_constraint.h"
#include "server/openai/error.h"
#include "server/openai/fields.h"
#include "text/grammar/grammar.h"
#include "text/parsers/output_parser.h"

namespace moestro::server {
struct ServerModel;
}

namespace moestro::server::openai {

struct ChatRequest;

struct OutputConstraint {
  enum class Kind : uint8_t { kNone, kJsonObject, kJsonSchema, kRegex, kChoice, kGrammar };
  Kind kind = Kind::kNone;
  std::string param;  // the field that it came from
  std::string text;   // kRegex, kGrammar
  json::value schema;
  std::vector<std::string> choices;
};

// Reads the fields; two constraints, and ignore_eos or min_tokens beside one, are refused.
void parse_output_constraint(Fields& fields, OutputConstraint& out);

class Grammars {
 public:
  explicit Grammars(const ServerModel& model) : model_(model) {}

  // Null: the request binds its answer to nothing. chat: null for text completions. start: of the
  // prompt; an answer that may reason does so before the grammar begins.
  std::optional<ApiError> compile(const OutputConstraint& constraint, const ChatRequest* chat,
                                  text::ReasoningStart start,
                                  std::shared_ptr<const text::CompiledGrammar>& out) const;
  // One for each choice.
  std::optional<ApiError> make_constraint(std::shared_ptr<const text::CompiledGrammar> grammar,
                                          const std::vector<int32_t>& stop_token_ids,
                                          std::shared_ptr<engine::TokenConstraint>& out) const;

 private:
  std::shared_ptr<const text::TokenTrie> trie() const;
  text::GrammarBuilder::Node behind_reasoning(text::GrammarBuilder& b,
                                              text::GrammarBuilder::Node answer,
                                              text::ReasoningStart start) const;
  std::string tag(std::string_view content) const;

  const ServerModel& model_;
  mutable engine::MaskWorkers workers_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const text::TokenTrie> trie_;  // made for the first request
};

}  // namespace moestro::server::openai
