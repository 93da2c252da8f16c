#include "server/openai/answer.h"

#include <algorithm>
#include <cmath>

#include "base/format.h"
#include "base/strings.h"

namespace moestro::server::openai {
namespace {

// JSON has no -inf; the APIs around write this for a token that cannot be.
json::value finite(float logprob) { return std::max(static_cast<double>(logprob), -9999.0); }

// A special token contributes no bytes in the middle of a text: it is shown by its content.
std::string bytes_of(const AnswerInfo& info, int32_t id) {
  std::string bytes = info.tokenizer->token_bytes(id);
  return bytes.empty() ? std::string(info.tokenizer->token_content(id)) : bytes;
}

std::string token_text(const AnswerInfo& info, int32_t id) {
  return info.tokens_as_ids ? format("token_id:{}", id) : repair_utf8(bytes_of(info, id));
}

json::object token_entry(const AnswerInfo& info, const engine::TokenLogprob& t) {
  json::array bytes;
  for (char c : bytes_of(info, t.id)) bytes.emplace_back(static_cast<unsigned char>(c));
  return {{"token", token_text(info, t.id)},
          {"logprob", finite(t.logprob)},
          {"bytes", std::move(bytes)}};
}

json::value usage_json(const Usage& u) {
  json::object o{{"prompt_tokens", u.prompt_tokens},
                 {"total_tokens", u.prompt_tokens + u.completion_tokens},
                 {"completion_tokens", u.completion_tokens}};
  if (u.cached_tokens)
    o["prompt_tokens_details"] = json::object{{"cached_tokens", *u.cached_tokens}};
  return o;
}

json::value ids_json(const std::vector<int32_t>& ids) {
  return json::array(ids.begin(), ids.end());
}

void append_head(std::string& out, const AnswerInfo& info, std::string_view object) {
  out += format("{{\"id\":{},\"object\":\"{}\",\"created\":{},\"model\":{}", json::quote(info.id),
                object, info.created, json::quote(info.model));
  if (!info.fingerprint.empty()) out += ",\"system_fingerprint\":" + json::quote(info.fingerprint);
}

std::string_view chunk_object(const AnswerInfo& info) {
  return info.chat ? "chat.completion.chunk" : "text_completion";
}

std::string logprobs_text(const AnswerInfo& info, const Piece& p) {
  if (!info.logprobs || p.tokens.empty()) return "null";
  return json::dump(info.chat ? chat_logprobs(info, p) : completion_logprobs(info, p));
}

// Under both names that clients look for.
void append_reasoning(std::string& out, std::string_view reasoning) {
  if (reasoning.empty()) return;
  const std::string quoted = json::quote(reasoning);
  out += "\"reasoning_content\":" + quoted + ",\"reasoning\":" + quoted + ",";
}

void append_tool_call_deltas(std::string& out, const std::vector<ToolCallPiece>& calls) {
  out += "\"tool_calls\":[";
  for (const ToolCallPiece& c : calls) {
    out += format("{}{{\"index\":{}", &c == &calls.front() ? "" : ",", c.index);
    if (!c.id.empty()) out += ",\"id\":" + json::quote(c.id) + ",\"type\":\"function\"";
    out += ",\"function\":{";
    if (!c.name.empty()) out += "\"name\":" + json::quote(c.name) + ",";
    out += "\"arguments\":" + json::quote(c.arguments) + "}}";
  }
  out += "],";
}

void append_tool_calls(std::string& out, const std::vector<ToolCallPiece>& calls) {
  out += ",\"tool_calls\":[";
  for (const ToolCallPiece& c : calls) {
    out += format(
        "{}{{\"id\":{},\"type\":\"function\",\"function\":{{\"name\":{},\"arguments\":{}}}}}",
        &c == &calls.front() ? "" : ",", json::quote(c.id), json::quote(c.name),
        json::quote(c.arguments));
  }
  out += ']';
}

// finish_reason, stop_reason and the optional members that chunks and whole answers share.
void append_tail(std::string& out, const AnswerInfo& info, const Piece& p) {
  out += ",\"logprobs\":" + logprobs_text(info, p);
  out += ",\"finish_reason\":";
  out += p.finish_reason.empty() ? "null" : json::quote(p.finish_reason);
  out += ",\"stop_reason\":" + json::dump(p.stop_reason);
  if (info.return_token_ids) out += ",\"token_ids\":" + json::dump(ids_json(p.tokens));
  if (!info.chat && p.prompt_ids)
    out += ",\"prompt_token_ids\":" + json::dump(ids_json(*p.prompt_ids));
  if (!info.chat && !p.prompt_logprobs.is_null())
    out += ",\"prompt_logprobs\":" + json::dump(p.prompt_logprobs);
}

}  // namespace

int64_t count_code_points(std::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

json::value chat_logprobs(const AnswerInfo& info, const Piece& piece) {
  json::array content;
  for (const engine::PositionLogprobs& position : piece.logprobs) {
    if (position.entries.empty()) continue;
    json::object entry = token_entry(info, position.entries.front());
    json::array top;
    for (size_t i = 1; i < position.entries.size(); ++i)
      top.push_back(token_entry(info, position.entries[i]));
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return json::object{{"content", std::move(content)}};
}

json::value completion_logprobs(const AnswerInfo& info, const Piece& piece) {
  json::array offsets, logprobs, tokens, tops;
  int64_t offset = piece.text_offset;
  for (size_t i = 0; i < piece.tokens.size(); ++i) {
    const std::string text = token_text(info, piece.tokens[i]);
    offsets.push_back(offset);
    offset += count_code_points(text);
    tokens.push_back(json::value(text));
    if (i >= piece.logprobs.size() || piece.logprobs[i].entries.empty()) {
      logprobs.push_back(nullptr);
      tops.push_back(nullptr);
      continue;
    }
    const auto& entries = piece.logprobs[i].entries;
    logprobs.push_back(finite(entries.front().logprob));
    json::object top;
    // Two tokens may read the same (halves of characters): the more likely one stays.
    for (size_t k = 1; k < entries.size(); ++k)
      top.emplace(token_text(info, entries[k].id), finite(entries[k].logprob));
    top.emplace(text, finite(entries.front().logprob));
    tops.push_back(std::move(top));
  }
  return json::object{{"text_offset", std::move(offsets)},
                      {"token_logprobs", std::move(logprobs)},
                      {"tokens", std::move(tokens)},
                      {"top_logprobs", std::move(tops)}};
}

json::value prompt_logprobs_json(const text::Tokenizer& tokenizer,
                                 const std::vector<engine::PositionLogprobs>& positions) {
  AnswerInfo info;
  info.tokenizer = &tokenizer;
  json::array out;
  for (const engine::PositionLogprobs& position : positions) {
    if (position.entries.empty()) {
      out.push_back(nullptr);
      continue;
    }
    json::object o;
    for (const engine::TokenLogprob& t : position.entries) {
      o.emplace(format("{}", t.id), json::object{{"logprob", finite(t.logprob)},
                                                 {"rank", t.rank},
                                                 {"decoded_token", token_text(info, t.id)}});
    }
    out.push_back(std::move(o));
  }
  return out;
}

std::string chunk_json(const AnswerInfo& info, const Piece& p, const std::optional<Usage>& usage) {
  std::string out;
  append_head(out, info, chunk_object(info));
  if (info.chat && p.prompt_ids)
    out += ",\"prompt_token_ids\":" + json::dump(ids_json(*p.prompt_ids));
  out += format(",\"choices\":[{{\"index\":{}", p.index);
  if (info.chat) {
    out += ",\"delta\":{";
    if (p.first) out += "\"role\":" + json::quote(info.role) + ",";
    append_reasoning(out, p.reasoning);
    if (!p.tool_calls.empty()) append_tool_call_deltas(out, p.tool_calls);
    // A chunk without anything else has content, maybe empty.
    if (!p.text.empty() || (p.reasoning.empty() && p.tool_calls.empty()))
      out += "\"content\":" + json::quote(p.text) + ",";
    out.back() = '}';
  } else {
    out += ",\"text\":" + json::quote(p.text);
  }
  append_tail(out, info, p);
  out += "}]";
  if (usage) {
    out += ",\"usage\":" + json::dump(usage_json(*usage));
  } else if (info.usage_in_chunks) {
    out += ",\"usage\":null";
  }
  out += '}';
  return out;
}

std::string usage_chunk_json(const AnswerInfo& info, const Usage& usage) {
  std::string out;
  append_head(out, info, chunk_object(info));
  out += ",\"choices\":[],\"usage\":" + json::dump(usage_json(usage)) + "}";
  return out;
}

std::string whole_json(const AnswerInfo& info, const std::vector<Piece>& pieces,
                       const Usage& usage) {
  std::string out;
  append_head(out, info, info.chat ? "chat.completion" : "text_completion");
  out += ",\"choices\":[";
  for (const Piece& p : pieces) {
    if (&p != &pieces.front()) out += ',';
    out += format("{{\"index\":{}", p.index);
    if (info.chat) {
      out += ",\"message\":{\"role\":" + json::quote(info.role) + ",";
      append_reasoning(out, p.reasoning);
      const bool null = p.text.empty() && (!p.tool_calls.empty() || !p.reasoning.empty());
      out += "\"content\":" + (null ? "null" : json::quote(p.text)) + ",\"refusal\":null";
      if (!p.tool_calls.empty()) append_tool_calls(out, p.tool_calls);
      out += '}';
    } else {
      out += ",\"text\":" + json::quote(p.text);
    }
    append_tail(out, info, p);
    out += '}';
  }
  out += "],\"usage\":" + json::dump(usage_json(usage));
  if (info.chat && !pieces.empty()) {
    const Piece& p = pieces.front();
    if (p.prompt_ids) out += ",\"prompt_token_ids\":" + json::dump(ids_json(*p.prompt_ids));
    if (!p.prompt_logprobs.is_null())
      out += ",\"prompt_logprobs\":" + json::dump(p.prompt_logprobs);
  }
  out += '}';
  return out;
}

}  // namespace moestro::server::openai
