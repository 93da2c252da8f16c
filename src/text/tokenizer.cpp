#include "text/tokenizer.h"

#include <algorithm>
#include <mutex>

#include "base/strings.h"
#include "text/tokenizer_parts.h"

namespace moestro::text {
namespace {

// Buffers of one encode() call.
struct Scratch {
  BpeScratch bpe;
  RegexScratch regex;
  std::string normalized;
};

// Keeps scratches between calls, so that their word caches stay warm.
class ScratchPool {
 public:
  std::unique_ptr<Scratch> take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<Scratch>();
    std::unique_ptr<Scratch> scratch = std::move(idle_.back());
    idle_.pop_back();
    return scratch;
  }
  void give_back(std::unique_ptr<Scratch> scratch) {
    const std::lock_guard lock(mutex_);
    if (idle_.size() < kMaxIdle) idle_.push_back(std::move(scratch));
  }

 private:
  static constexpr size_t kMaxIdle = 64;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Scratch>> idle_;
};

}  // namespace

struct Tokenizer::Impl {
  TokenizerParts parts;
  AddedTokenSearch raw_tokens, normalized_tokens;
  int32_t vocab_size = 0;
  mutable ScratchPool scratches;

  void index_added_tokens();
  void encode_text(std::string_view piece, bool at_start, Scratch& scratch,
                   std::vector<int32_t>& out) const;
  const AddedToken* added(int32_t id) const {
    const auto it = parts.added_by_id.find(id);
    return it == parts.added_by_id.end() ? nullptr : &parts.added[it->second];
  }
};

namespace {

class BpeSink final : public Pretokenizer::Sink {
 public:
  BpeSink(const Bpe& bpe, BpeScratch& scratch, std::vector<int32_t>& out)
      : bpe_(bpe), scratch_(scratch), out_(out) {}
  void pre_token(std::string_view text) override { bpe_.encode(text, scratch_, out_); }

 private:
  const Bpe& bpe_;
  BpeScratch& scratch_;
  std::vector<int32_t>& out_;
};

}  // namespace

void Tokenizer::Impl::index_added_tokens() {
  RegexScratch regex;
  std::string buffer;
  vocab_size = parts.vocabulary.size();
  for (const AddedToken& token : parts.added) {
    vocab_size = std::max(vocab_size, token.id + 1);
    if (token.normalized)
      normalized_tokens.add(token, parts.normalizer.apply(token.content, buffer, regex));
    else
      raw_tokens.add(token, token.content);
  }
}

// A piece between added tokens that are compared with the raw text.
void Tokenizer::Impl::encode_text(std::string_view piece, bool at_start, Scratch& scratch,
                                  std::vector<int32_t>& out) const {
  const std::string_view text = parts.normalizer.apply(piece, scratch.normalized, scratch.regex);
  BpeSink sink(*parts.bpe, scratch.bpe, out);
  normalized_tokens.split(
      text,
      [&](std::string_view part, size_t offset) {
        parts.pretokenizer.split(part, at_start && offset == 0, scratch.regex, sink);
      },
      [&](int32_t id) { out.push_back(id); });
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::load(std::string_view tokenizer_json,
                                                   std::string_view tokenizer_config_json) {
  auto impl = std::make_unique<Impl>();
  MOESTRO_TRY(read_tokenizer_json(tokenizer_json, impl->parts).with("tokenizer.json"));
  if (!tokenizer_config_json.empty())
    MOESTRO_TRY(
        read_tokenizer_config(tokenizer_config_json, impl->parts).with("tokenizer_config.json"));
  impl->index_added_tokens();
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::string repaired;
  if (!is_valid_utf8(text)) text = repaired = repair_utf8(text);
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 8);
  std::unique_ptr<Scratch> scratch = impl_->scratches.take();
  impl_->raw_tokens.split(
      text,
      [&](std::string_view piece, size_t offset) {
        impl_->encode_text(piece, offset == 0, *scratch, ids);
      },
      [&](int32_t id) { ids.push_back(id); });
  impl_->scratches.give_back(std::move(scratch));
  if (!add_special_tokens) return ids;
  const TokenizerParts& parts = impl_->parts;
  ids = post_process(std::move(ids));
  if (parts.prepend_bos && parts.bos && parts.bos->id &&
      (ids.empty() || ids.front() != *parts.bos->id))
    ids.insert(ids.begin(), *parts.bos->id);
  if (parts.append_eos && parts.eos && parts.eos->id &&
      (ids.empty() || ids.back() != *parts.eos->id))
    ids.push_back(*parts.eos->id);
  return ids;
}

std::vector<int32_t> Tokenizer::post_process(std::vector<int32_t> ids) const {
  return impl_->parts.post_processor.apply(std::move(ids));
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string out;
  DecodeStream stream(impl_->parts.decode_program);
  for (const int32_t id : ids)
    if (is_known(id) && !(skip_special_tokens && is_special(id)))
      stream.push(token_content(id), out);
  stream.finish(out);
  return out;
}

int32_t Tokenizer::vocab_size() const { return impl_->vocab_size; }
std::optional<int32_t> Tokenizer::token_id(std::string_view content) const {
  return impl_->parts.find(content);
}

std::string_view Tokenizer::token_content(int32_t id) const {
  if (const AddedToken* token = impl_->added(id)) return token->content;
  return impl_->parts.vocabulary.content(id);
}

std::string Tokenizer::token_bytes(int32_t id) const {
  return impl_->parts.decode_program.token_bytes(token_content(id));
}

bool Tokenizer::is_known(int32_t id) const {
  return impl_->parts.vocabulary.contains(id) || is_added(id);
}
bool Tokenizer::is_added(int32_t id) const { return impl_->added(id) != nullptr; }
bool Tokenizer::is_special(int32_t id) const {
  const AddedToken* token = impl_->added(id);
  return token && token->special;
}

const std::optional<NamedToken>& Tokenizer::bos() const { return impl_->parts.bos; }
const std::optional<NamedToken>& Tokenizer::eos() const { return impl_->parts.eos; }
const std::optional<NamedToken>& Tokenizer::pad() const { return impl_->parts.pad; }
const std::optional<NamedToken>& Tokenizer::unk() const { return impl_->parts.unk; }
const DecodeProgram& Tokenizer::decode_program() const { return impl_->parts.decode_program; }

}  // namespace moestro::text
