#include "server/openai/output_constraint.h"

#include "base/format.h"
#include "server/openai/request.h"
#include "server/server.h"
#include "text/grammar/grammar_sources.h"
#include "text/parsers/parser_names.h"

namespace moestro::server::openai {
namespace {

using Kind = OutputConstraint::Kind;
using text::GrammarBuilder;
using Node = GrammarBuilder::Node;

constexpr std::string_view kThink = "<think>", kEndThink = "</think>";
constexpr std::string_view kChannel = "<|channel|>", kMessage = "<|message|>", kEnd = "<|end|>",
                           kStart = "<|start|>";
constexpr size_t kMaxChoices = 10'000;

// Keeps the first constraint and refuses a second.
class Collector {
 public:
  Collector(Fields& f, OutputConstraint& out) : f_(f), out_(out) {}
  OutputConstraint* take(std::string_view param, Kind kind) {
    if (out_.kind != Kind::kNone) {
      f_.fail(param, format("{} and {} cannot both bind the answer", out_.param, param));
      return nullptr;
    }
    out_.kind = kind;
    out_.param = std::string(param);
    return &out_;
  }
  void schema(std::string_view param, const json::value& v) {
    OutputConstraint* c = take(param, Kind::kJsonSchema);
    if (!c) return;
    c->schema = v;
    if (!v.is_string()) return;  // also sent as JSON text
    const Result<json::value> parsed = json::parse(json::view(v.get_string()));
    if (!parsed.ok())
      return f_.fail(param, format("{} is not valid JSON: {}", param, parsed.status().message()));
    c->schema = *parsed;
  }
  void text(std::string_view param, Kind kind, const json::value& v) {
    if (!v.is_string())
      return f_.fail(param, format("{} must be a string, got {}", param, json::kind_name(v)));
    if (OutputConstraint* c = take(param, kind)) c->text = std::string(json::view(v.get_string()));
  }
  void choices(std::string_view param, const json::value& v) {
    const json::array* list = v.if_array();
    if (!list || list->empty() || list->size() > kMaxChoices)
      return f_.fail(param, format("{} must be an array of 1 to {} strings", param, kMaxChoices));
    OutputConstraint* c = take(param, Kind::kChoice);
    if (!c) return;
    for (const json::value& text : *list) {
      if (!text.is_string()) return f_.fail(param, format("{} must hold strings", param));
      c->choices.emplace_back(json::view(text.get_string()));
    }
  }

 private:
  Fields& f_;
  OutputConstraint& out_;
};

void parse_response_format(Fields& f, Collector& c) {
  const json::object* wanted = f.object("response_format");
  if (!wanted) return;
  const json::value* type = json::find(*wanted, "type");
  if (!type || !type->is_string())
    return f.fail("response_format", "response_format.type must be a string");
  const std::string_view name = json::view(type->get_string());
  if (name == "text") return;
  if (name == "json_object") {
    c.take("response_format", Kind::kJsonObject);
    return;
  }
  if (name != "json_schema")
    return f.fail(not_supported("response_format",
                                format("response_format {} is not supported; there are text, "
                                       "json_object and json_schema",
                                       json::quote(name.substr(0, 64)))));
  const json::value* holder = json::find(*wanted, "json_schema");
  const json::value* schema =
      holder && holder->is_object() ? json::find(holder->get_object(), "schema") : nullptr;
  if (!schema)
    return f.fail("response_format", "response_format.json_schema.schema must be a JSON schema");
  c.schema("response_format", *schema);
}

void parse_structured_outputs(Fields& f, Collector& c) {
  const json::object* o = f.object("structured_outputs");
  if (!o) return;
  Fields sub(*o, "structured_outputs");
  if (const json::value* v = sub.any("json")) c.schema("structured_outputs.json", *v);
  if (const json::value* v = sub.any("regex")) c.text("structured_outputs.regex", Kind::kRegex, *v);
  if (const json::value* v = sub.any("choice")) c.choices("structured_outputs.choice", *v);
  if (const json::value* v = sub.any("grammar"))
    c.text("structured_outputs.grammar", Kind::kGrammar, *v);
  if (sub.boolean("json_object").value_or(false))
    c.take("structured_outputs.json_object", Kind::kJsonObject);
  sub.refuse("structural_tag", "use tools");
  sub.refuse("whitespace_pattern", "white space in JSON is short and optional");
  sub.accept("disable_any_whitespace");
  sub.accept("disable_additional_properties");
  sub.accept("disable_fallback");
  if (sub.error()) return f.fail(*sub.error());
  const std::vector<std::string> unknown = sub.unknown();
  if (!unknown.empty())
    f.fail("structured_outputs",
           format("structured_outputs has no {}; there are json, regex, choice, grammar and "
                  "json_object",
                  json::quote(unknown.front().substr(0, 64))));
}

std::optional<ApiError> refused(const Status& status, const std::string& param) {
  return bad_request(param, status.message());
}

}  // namespace

void parse_output_constraint(Fields& f, OutputConstraint& out) {
  Collector c(f, out);
  parse_response_format(f, c);
  parse_structured_outputs(f, c);
  if (const json::value* v = f.any("guided_json")) c.schema("guided_json", *v);
  if (const json::value* v = f.any("guided_regex")) c.text("guided_regex", Kind::kRegex, *v);
  if (const json::value* v = f.any("guided_choice")) c.choices("guided_choice", *v);
  if (const json::value* v = f.any("guided_grammar")) c.text("guided_grammar", Kind::kGrammar, *v);
  f.accept("guided_decoding_backend");  // there is one
  f.refuse("guided_whitespace_pattern", "white space in JSON is short and optional");
  f.refuse("structural_tag", "use tools");
}

// A tag that is a token of the model's is only that token, never its letters.
std::string Grammars::tag(std::string_view content) const {
  const auto id = model_.tokenizer->token_id(content);
  const bool token = id && model_.tokenizer->is_added(*id);
  return (token ? std::string(1, text::TokenTrie::kTokenMark) : std::string()) +
         std::string(content);
}

std::shared_ptr<const text::TokenTrie> Grammars::trie() const {
  std::lock_guard lock(mutex_);
  if (!trie_) {
    std::vector<std::string> texts;
    if (text::parsers::is_harmony(model_.reasoning_parser)) {
      for (const std::string_view t : {kChannel, kMessage, kEnd, kStart}) texts.emplace_back(t);
    } else {
      for (const std::string_view t : {kThink, kEndThink}) texts.emplace_back(t);
    }
    trie_ = std::make_shared<text::TokenTrie>(*model_.tokenizer, texts);
  }
  return trie_;
}

Node Grammars::behind_reasoning(GrammarBuilder& b, Node answer, text::ReasoningStart start) const {
  if (text::parsers::is_harmony(model_.reasoning_parser)) {
    const Node final = b.sequence({b.bytes(tag(kChannel) + "final" + tag(kMessage)), answer});
    const Node next = b.sequence({b.bytes(tag(kStart) + "assistant"), final});
    return b.choice({final, b.sequence({b.bytes(tag(kChannel) + "analysis" + tag(kMessage)),
                                        text::add_text_before(b, tag(kEnd), next)})});
  }
  if (model_.reasoning_parser.empty() || start == text::ReasoningStart::kOutside) return answer;
  const Node rule = b.rule("answer");
  b.define(rule, answer);
  const Node reasoning = text::add_text_before(b, tag(kEndThink), rule);
  if (start == text::ReasoningStart::kInside) return reasoning;
  const Node newline = b.optional(b.bytes("\n"));
  return b.choice({rule, b.sequence({newline, b.bytes(tag(kThink)), reasoning})});
}

namespace {

Result<Node> add_parameters(GrammarBuilder& b, const json::object& function) {
  const json::value* parameters = json::find(function, "parameters");
  if (!parameters) return text::add_json_object(b);
  json::value schema = *parameters;
  if (json::object* o = schema.if_object(); o && !json::find(*o, "type") && !json::find(*o, "$ref"))
    (*o)["type"] = "object";
  return text::add_json_schema(b, schema);
}

// tool_choice: the arguments of the named function, or a list of calls.
Result<Node> add_forced_calls(GrammarBuilder& b, const ChatRequest& chat) {
  std::vector<Node> calls;
  for (const json::value& tool : *chat.tools) {
    const json::object& function = tool.at("function").get_object();
    const std::string name(json::view(function.at("name").get_string()));
    const bool named = chat.tool_choice == ToolChoice::kNamed;
    if (named && name != chat.forced_tool) continue;
    Result<Node> parameters = add_parameters(b, function);
    if (!parameters.ok())
      return parameters.status().with(format("parameters of tool {}", json::quote(name)));
    if (named) return parameters;
    calls.push_back(
        b.sequence({b.bytes(format("{{\"name\": {}, \"parameters\": ", json::quote(name))),
                    *parameters, b.bytes("}")}));
  }
  const Node call = b.rule("tool call");
  b.define(call, b.choice(std::move(calls)));
  std::vector<Node> parts{b.bytes("["), call};
  if (chat.parallel_tool_calls) parts.push_back(b.repeat(b.sequence({b.bytes(", "), call}), 0, 15));
  parts.push_back(b.bytes("]"));
  return b.sequence(std::move(parts));
}

Result<Node> add_constraint(GrammarBuilder& b, const OutputConstraint& c) {
  switch (c.kind) {
    case Kind::kJsonObject:
      return text::add_json_object(b);
    case Kind::kJsonSchema:
      return text::add_json_schema(b, c.schema);
    case Kind::kRegex:
      return text::add_regex(b, c.text);
    case Kind::kChoice:
      return text::add_choices(b, c.choices);
    case Kind::kGrammar:
      return text::add_ebnf(b, c.text);
    case Kind::kNone:
      break;
  }
  return internal_error("no constraint to compile");
}

}  // namespace

std::optional<ApiError> Grammars::compile(const OutputConstraint& constraint,
                                          const ChatRequest* chat, text::ReasoningStart start,
                                          std::shared_ptr<const text::CompiledGrammar>& out) const {
  const bool forced = chat && (chat->tool_choice == ToolChoice::kRequired ||
                               chat->tool_choice == ToolChoice::kNamed);
  if (!forced && constraint.kind == Kind::kNone) return std::nullopt;
  const std::string param = forced ? "tool_choice" : constraint.param;
  if (forced && constraint.kind != Kind::kNone)
    return bad_request(param,
                       format("tool_choice and {} cannot both bind the answer", constraint.param));
  GrammarBuilder b;
  const Result<Node> answer = forced ? add_forced_calls(b, *chat) : add_constraint(b, constraint);
  if (!answer.ok()) return refused(answer.status(), param);
  Result<std::shared_ptr<const text::CompiledGrammar>> compiled =
      b.compile(chat ? behind_reasoning(b, *answer, start) : *answer);
  if (!compiled.ok()) return refused(compiled.status(), param);
  out = std::move(*compiled);
  return std::nullopt;
}

std::optional<ApiError> Grammars::make_constraint(
    std::shared_ptr<const text::CompiledGrammar> grammar,
    const std::vector<int32_t>& stop_token_ids,
    std::shared_ptr<engine::TokenConstraint>& out) const {
  std::vector<int32_t> stops = model_.engine->options().eos_token_ids;
  stops.insert(stops.end(), stop_token_ids.begin(), stop_token_ids.end());
  if (stops.empty())
    return not_supported({},
                         "this model names no token that ends a text, which bound answers need; "
                         "give one in stop_token_ids");
  auto made =
      engine::GrammarConstraint::create(std::move(grammar), trie(), std::move(stops), workers_);
  if (!made.ok()) return refused(made.status(), {});
  out = std::move(*made);
  return std::nullopt;
}

}  // namespace moestro::server::openai
