#include "text/post_processor.h"

#include "base/format.h"
#include "text/vocabulary.h"

namespace moestro::text {
namespace {

constexpr int kMaxDepth = 16;
constexpr size_t kMaxTemplates = 16, kMaxParts = 64;

Result<int32_t> checked_id(const json::value& v) {
  const int64_t* id = v.if_int64();
  if (!id || *id < 0 || *id > kMaxTokenId)
    return data_loss(format("{} is no token id", json::dump(v).substr(0, 40)));
  return static_cast<int32_t>(*id);
}

}  // namespace

Result<PostProcessor> PostProcessor::parse(const json::value* section) {
  PostProcessor out;
  if (section) MOESTRO_TRY(out.add(*section, 0).with("post_processor"));
  return out;
}

Status PostProcessor::add(const json::value& section, int depth) {
  const json::object* o = section.if_object();
  if (!o) return unsupported(format("must be an object, not {}", json::kind_name(section)));
  MOESTRO_ASSIGN(const std::string type, json::get_string(*o, "type", ""));
  if (templates_.size() >= kMaxTemplates)
    return unsupported(format("more than {} templates", kMaxTemplates));
  if (type == "ByteLevel") return {};
  if (type == "TemplateProcessing") return add_template(*o);
  if (type == "BertProcessing" || type == "RobertaProcessing") return add_pair(*o);
  if (type == "Sequence") {
    const json::value* list = json::find(*o, "processors");
    if (!list || !list->is_array()) return unsupported("a Sequence without a list \"processors\"");
    if (depth >= kMaxDepth)
      return unsupported(format("Sequences nested deeper than {}", kMaxDepth));
    for (const json::value& inner : list->get_array()) MOESTRO_TRY(add(inner, depth + 1));
    return {};
  }
  return unsupported(format("type \"{}\" is not supported", type));
}

Status PostProcessor::add_template(const json::object& o) {
  const json::value* single = json::find(o, "single");
  const json::value* specials = json::find(o, "special_tokens");
  if (!single || !single->is_array())
    return unsupported("TemplateProcessing without a list \"single\"");
  if (single->get_array().size() > kMaxParts)
    return unsupported(format("a template of more than {} parts", kMaxParts));
  std::vector<Part> parts;
  for (const json::value& entry : single->get_array()) {
    const json::object* part = entry.if_object();
    if (!part || part->size() != 1)
      return unsupported("a template part must be an object with one key");
    const std::string_view kind(part->begin()->key().data(), part->begin()->key().size());
    const json::object* body = part->begin()->value().if_object();
    if (!body || (kind != "SpecialToken" && kind != "Sequence"))
      return unsupported(format("template part \"{}\"", kind));
    MOESTRO_ASSIGN(const std::string id, json::get_string(*body, "id", ""));
    if (kind == "Sequence") {
      if (id != "A")
        return unsupported(format("template for one text names the sequence \"{}\"", id));
      parts.push_back({true, {}});
      continue;
    }
    const json::object* table = specials ? specials->if_object() : nullptr;
    const json::value* special = table ? json::find(*table, id) : nullptr;
    const json::value* ids =
        special && special->is_object() ? json::find(special->get_object(), "ids") : nullptr;
    if (!ids || !ids->is_array() || ids->get_array().size() > kMaxParts)
      return data_loss(format("\"special_tokens\" has no ids for \"{}\"", id));
    Part out;
    for (const json::value& v : ids->get_array()) {
      MOESTRO_ASSIGN(const int32_t checked, checked_id(v));
      out.ids.push_back(checked);
    }
    parts.push_back(std::move(out));
  }
  size_t texts = 0;
  for (const Part& part : parts) texts += part.is_text;
  if (texts > 1) return unsupported("a template that repeats the text");
  templates_.push_back(std::move(parts));
  return {};
}

// Bert and Roberta: [cls] text [sep], each written as [content, id].
Status PostProcessor::add_pair(const json::object& o) {
  std::vector<Part> parts(3);
  parts[1].is_text = true;
  for (const auto& [key, at] : {std::pair{"cls", 0}, std::pair{"sep", 2}}) {
    const json::value* pair = json::find(o, key);
    if (!pair || !pair->is_array() || pair->get_array().size() != 2)
      return data_loss(format("\"{}\" must be [token, id]", key));
    MOESTRO_ASSIGN(const int32_t id, checked_id(pair->get_array()[1]));
    parts[static_cast<size_t>(at)].ids.push_back(id);
  }
  templates_.push_back(std::move(parts));
  return {};
}

std::vector<int32_t> PostProcessor::apply(std::vector<int32_t> ids) const {
  for (const std::vector<Part>& parts : templates_) {
    std::vector<int32_t> out;
    out.reserve(ids.size() + parts.size());
    for (const Part& part : parts) {
      const std::vector<int32_t>& from = part.is_text ? ids : part.ids;
      out.insert(out.end(), from.begin(), from.end());
    }
    ids = std::move(out);
  }
  return ids;
}

std::vector<int64_t> PostProcessor::inserted_ids() const {
  std::vector<int64_t> out;
  for (const std::vector<Part>& parts : templates_)
    for (const Part& part : parts) out.insert(out.end(), part.ids.begin(), part.ids.end());
  return out;
}

}  // namespace moestro::text
