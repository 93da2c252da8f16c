#include <utility>

#include "base/format.h"
#include "base/json.h"
#include "text/tokenizer_parts.h"

namespace moestro::text {
namespace {

Status read_added_tokens(const json::object& root, TokenizerParts& parts) {
  const json::value* list = json::find(root, "added_tokens");
  if (!list) return {};
  if (!list->is_array()) return data_loss("\"added_tokens\" must be a list");
  for (const json::value& entry : list->get_array()) {
    const json::object* o = entry.if_object();
    if (!o) return data_loss("an entry of \"added_tokens\" must be an object");
    AddedToken token;
    MOESTRO_ASSIGN(const int64_t id, json::get_int(*o, "id", -1));
    if (id < 0 || id > kMaxTokenId)
      return data_loss(format("added token id {}; ids go from 0 to {}", id, kMaxTokenId));
    token.id = static_cast<int32_t>(id);
    MOESTRO_ASSIGN(token.content, json::get_string(*o, "content", ""));
    MOESTRO_ASSIGN(token.single_word, json::get_bool(*o, "single_word", false));
    MOESTRO_ASSIGN(token.lstrip, json::get_bool(*o, "lstrip", false));
    MOESTRO_ASSIGN(token.rstrip, json::get_bool(*o, "rstrip", false));
    MOESTRO_ASSIGN(token.special, json::get_bool(*o, "special", false));
    MOESTRO_ASSIGN(token.normalized, json::get_bool(*o, "normalized", !token.special));
    MOESTRO_TRY(parts.add(std::move(token)));
  }
  return {};
}

Status read_vocabulary(const json::object& model, Vocabulary& vocabulary) {
  const json::value* section = json::find(model, "vocab");
  if (!section || !section->is_object()) return data_loss("the model has no object \"vocab\"");
  const json::object& entries = section->get_object();
  size_t bytes = 0;
  for (const auto& entry : entries) bytes += entry.key().size();
  vocabulary.reserve(entries.size(), bytes);
  for (const auto& entry : entries) {
    const std::string_view content(entry.key().data(), entry.key().size());
    const int64_t* id = entry.value().if_int64();
    if (!id)
      return data_loss(
          format("token {} has the id {}", content.substr(0, 80), json::dump(entry.value())));
    MOESTRO_TRY(vocabulary.add(content, *id));
  }
  if (entries.empty()) return data_loss("the vocabulary is empty");
  return {};
}

// "A B" or ["A", "B"].
Status add_merge(const json::value& merge, size_t number, Bpe& bpe) {
  if (const json::string* text = merge.if_string()) {
    const std::string_view pair = json::view(*text);
    const size_t space = pair.find(' ');
    if (space == std::string_view::npos || pair.find(' ', space + 1) != std::string_view::npos)
      return data_loss(format("merge {} is not two tokens with one space between: {}", number,
                              pair.substr(0, 80)));
    return bpe.add_merge(pair.substr(0, space), pair.substr(space + 1));
  }
  const json::array* pair = merge.if_array();
  if (!pair || pair->size() != 2 || !(*pair)[0].is_string() || !(*pair)[1].is_string())
    return data_loss(format("merge {} is neither a string nor a pair of strings", number));
  return bpe.add_merge(json::view((*pair)[0].get_string()), json::view((*pair)[1].get_string()));
}

Status refuse_unsupported(const json::object& model) {
  MOESTRO_ASSIGN(const std::string type, json::get_string(model, "type", "BPE"));
  if (type != "BPE") return unsupported(format("model type \"{}\"; only BPE is supported", type));
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    MOESTRO_ASSIGN(const std::string text, json::get_string(model, key, ""));
    if (!text.empty())
      return unsupported(format("\"{}\" is \"{}\"; only null and \"\" are supported", key, text));
  }
  MOESTRO_ASSIGN(const double dropout, json::get_double(model, "dropout", 0));
  if (dropout != 0)
    return unsupported(format("\"dropout\" is {}; only null and 0 are supported", dropout));
  return {};
}

Status read_model(const json::object& model, TokenizerParts& parts) {
  MOESTRO_TRY(refuse_unsupported(model));
  MOESTRO_TRY(read_vocabulary(model, parts.vocabulary));
  BpeOptions options;
  options.byte_level = parts.pretokenizer.byte_level();
  MOESTRO_ASSIGN(options.fuse_unk, json::get_bool(model, "fuse_unk", false));
  MOESTRO_ASSIGN(options.byte_fallback, json::get_bool(model, "byte_fallback", false));
  MOESTRO_ASSIGN(options.ignore_merges, json::get_bool(model, "ignore_merges", false));
  MOESTRO_ASSIGN(const std::string unk, json::get_string(model, "unk_token", ""));
  if (!unk.empty()) {
    parts.unk = NamedToken{unk, parts.find(unk)};
    options.unk_id = parts.unk->id.value_or(kNoToken);
  }
  parts.bpe.emplace(parts.vocabulary, options);
  const json::value* merges = json::find(model, "merges");
  if (!merges || !merges->is_array()) return data_loss("the model has no list \"merges\"");
  parts.bpe->reserve(merges->get_array().size());
  size_t number = 0;
  for (const json::value& merge : merges->get_array())
    MOESTRO_TRY(add_merge(merge, number++, *parts.bpe));
  parts.bpe->build();
  return {};
}

}  // namespace

std::optional<int32_t> TokenizerParts::find(std::string_view content) const {
  if (const auto it = added_by_content.find(std::string(content)); it != added_by_content.end())
    return added[it->second].id;
  const int32_t id = vocabulary.find(content);
  if (id == kNoToken) return std::nullopt;
  return id;
}

Status TokenizerParts::add(AddedToken token) {
  if (const auto it = added_by_id.find(token.id); it != added_by_id.end())
    return data_loss(format("added tokens {} and {} share the id {}",
                            added[it->second].content.substr(0, 80), token.content.substr(0, 80),
                            token.id));
  if (!added_by_content.emplace(token.content, added.size()).second)
    return data_loss(format("the added token {} is listed twice", token.content.substr(0, 80)));
  added_by_id.emplace(token.id, added.size());
  added.push_back(std::move(token));
  return {};
}

Status read_tokenizer_json(std::string_view text, TokenizerParts& parts) {
  MOESTRO_ASSIGN(const json::value document, json::parse(text));
  const json::object* root = document.if_object();
  if (!root) return data_loss("must be a JSON object");
  const json::value* model = json::find(*root, "model");
  if (!model || !model->is_object()) return data_loss("has no object \"model\"");
  MOESTRO_TRY(read_added_tokens(*root, parts));
  MOESTRO_ASSIGN(parts.normalizer, Normalizer::parse(json::find(*root, "normalizer")));
  MOESTRO_ASSIGN(parts.pretokenizer, Pretokenizer::parse(json::find(*root, "pre_tokenizer")));
  MOESTRO_ASSIGN(parts.post_processor, PostProcessor::parse(json::find(*root, "post_processor")));
  MOESTRO_ASSIGN(parts.decode_program, DecodeProgram::parse(json::find(*root, "decoder")));
  MOESTRO_TRY(read_model(model->get_object(), parts));
  for (const int64_t id : parts.post_processor.inserted_ids())
    if (!parts.vocabulary.contains(static_cast<int32_t>(id)) &&
        !parts.added_by_id.count(static_cast<int32_t>(id)))
      return data_loss(format("the post-processor inserts id {}, which no token has", id));
  return {};
}

}  // namespace moestro::text
