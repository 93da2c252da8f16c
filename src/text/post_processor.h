// The "post_processor" section of a tokenizer.json: null, ByteLevel (no effect on ids),
// TemplateProcessing, BertProcessing, RobertaProcessing, Sequence. Immutable after load; any
// thread.
#pragma once
#include <cstdint>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace moestro::text {

class PostProcessor {
 public:
  static Result<PostProcessor> parse(const json::value* section);
  // Adds the template's special tokens around the ids of one text.
  std::vector<int32_t> apply(std::vector<int32_t> ids) const;
  // Every id that a template inserts, for checking.
  std::vector<int64_t> inserted_ids() const;

 private:
  struct Part {
    bool is_text = false;
    std::vector<int32_t> ids;  // of a special token
  };
  Status add(const json::value& section, int depth);
  Status add_template(const json::object& o);
  Status add_pair(const json::object& o);
  std::vector<std::vector<Part>> templates_;  // applied one after the other
};

}  // namespace moestro::text
