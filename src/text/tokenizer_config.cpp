#include <charconv>

#include "base/format.h"
#include "base/json.h"
#include "base/log.h"
#include "base/strings.h"
#include "text/tokenizer_parts.h"

namespace moestro::text {
namespace {

// A token written as "…" or {"content": "…"}; null and absent give nothing.
Result<std::optional<std::string>> token_content(const json::object& o, std::string_view key) {
  const json::value* v = json::find(o, key);
  if (!v) return std::optional<std::string>();
  if (const json::object* token = v->if_object()) {
    MOESTRO_ASSIGN(std::string content, json::get_string(*token, "content", ""));
    return std::optional<std::string>(std::move(content));
  }
  MOESTRO_ASSIGN(std::string content, json::get_string(o, key, ""));
  return std::optional<std::string>(std::move(content));
}

// transformers treats tokens with a role as special even where tokenizer.json does not list them as
// added.
Status make_special(std::string_view content, TokenizerParts& parts) {
  const int32_t id = parts.vocabulary.find(content);
  if (content.empty() || id == kNoToken || parts.added_by_content.count(std::string(content)) ||
      parts.added_by_id.count(id))
    return {};
  AddedToken token;
  token.id = id;
  token.content = content;
  token.normalized = false;
  token.special = true;
  return parts.add(std::move(token));
}

Status read_role(const json::object& root, std::string_view key, TokenizerParts& parts,
                 std::optional<NamedToken>& role) {
  MOESTRO_ASSIGN(std::optional<std::string> content, token_content(root, key));
  if (!content || content->empty()) return {};
  MOESTRO_TRY(make_special(*content, parts));
  const std::optional<int32_t> id = parts.find(*content);
  role = NamedToken{std::move(*content), id};
  return {};
}

// tokenizer.json is authoritative: only tokens that it lacks are taken from here.
Status read_added_tokens_decoder(const json::object& root, TokenizerParts& parts) {
  const json::value* section = json::find(root, "added_tokens_decoder");
  if (!section) return {};
  if (!section->is_object()) return data_loss("\"added_tokens_decoder\" must be an object");
  for (const auto& entry : section->get_object()) {
    const std::string_view key(entry.key().data(), entry.key().size());
    const std::optional<int64_t> id = parse_int(key);
    const json::object* o = entry.value().if_object();
    if (!id || *id < 0 || *id > kMaxTokenId || !o)
      return data_loss(
          format("\"added_tokens_decoder\" has the entry \"{}\"; keys are ids from 0 to {}, values "
                 "objects",
                 key.substr(0, 40), kMaxTokenId));
    AddedToken token;
    token.id = static_cast<int32_t>(*id);
    MOESTRO_ASSIGN(token.content, json::get_string(*o, "content", ""));
    MOESTRO_ASSIGN(token.single_word, json::get_bool(*o, "single_word", false));
    MOESTRO_ASSIGN(token.lstrip, json::get_bool(*o, "lstrip", false));
    MOESTRO_ASSIGN(token.rstrip, json::get_bool(*o, "rstrip", false));
    MOESTRO_ASSIGN(token.special, json::get_bool(*o, "special", false));
    MOESTRO_ASSIGN(token.normalized, json::get_bool(*o, "normalized", !token.special));
    if (token.content.empty() || parts.added_by_content.count(token.content)) continue;
    const int32_t known = parts.vocabulary.find(token.content);
    const bool taken = parts.added_by_id.count(token.id) || parts.vocabulary.contains(token.id);
    if (known == token.id || (known == kNoToken && !taken)) {
      MOESTRO_TRY(parts.add(std::move(token)));
    } else {
      log_warning("tokenizer_config.json gives {} the id {}, tokenizer.json does not: ignored",
                  token.content, token.id);
    }
  }
  return {};
}

}  // namespace

Status read_tokenizer_config(std::string_view text, TokenizerParts& parts) {
  MOESTRO_ASSIGN(const json::value document, json::parse(text));
  const json::object* root = document.if_object();
  if (!root) return data_loss("must be a JSON object");
  MOESTRO_TRY(read_added_tokens_decoder(*root, parts));
  MOESTRO_TRY(read_role(*root, "bos_token", parts, parts.bos));
  MOESTRO_TRY(read_role(*root, "eos_token", parts, parts.eos));
  MOESTRO_TRY(read_role(*root, "pad_token", parts, parts.pad));
  MOESTRO_TRY(read_role(*root, "unk_token", parts, parts.unk));
  if (const json::value* list = json::find(*root, "additional_special_tokens");
      list && list->is_array())
    for (const json::value& entry : list->get_array()) {
      const json::object* o = entry.if_object();
      const json::value* content = o ? json::find(*o, "content") : &entry;
      if (content && content->is_string())
        MOESTRO_TRY(make_special(json::view(content->get_string()), parts));
    }
  // Llama-like classes build their own post-processor from these two (reference/models.md 6.5).
  MOESTRO_ASSIGN(const std::string tokenizer_class, json::get_string(*root, "tokenizer_class", ""));
  if (tokenizer_class.find("Llama") != std::string::npos) {
    MOESTRO_ASSIGN(parts.prepend_bos, json::get_bool(*root, "add_bos_token", false));
    MOESTRO_ASSIGN(parts.append_eos, json::get_bool(*root, "add_eos_token", false));
  }
  return {};
}

}  // namespace moestro::text
