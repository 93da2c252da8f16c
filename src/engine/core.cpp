#include "engine/core.h"

#include <algorithm>
#include <random>

#include "base/format.h"
#include "base/log.h"
#include "base/strings.h"

namespace moestro::engine {
namespace {

Status check_flag(std::string_view flag, int64_t value, int64_t low, int64_t high,
                  std::string_view why) {
  if (value >= low && value <= high) return {};
  return invalid_argument(
      format("{} is {}; it must be in [{}, {}]: {}", flag, value, low, high, why));
}

Status check_options(const EngineOptions& o, const models::Model& model) {
  const models::ModelLimits& limits = model.limits();
  MOESTRO_TRY(check_flag("--block-size", o.page_size, 1, 1 << 16, "tokens of a KV page"));
  MOESTRO_TRY(check_flag("--max-model-len", o.max_model_len, 2, limits.max_context,
                         "what the model was built for"));
  MOESTRO_TRY(check_flag("--max-num-seqs", o.max_num_seqs, 1, limits.max_logits_rows,
                         "rows of logits of the model"));
  MOESTRO_TRY(check_flag("--max-num-batched-tokens", o.max_num_batched_tokens, o.max_num_seqs,
                         limits.max_tokens, "from --max-num-seqs to what the model was built for"));
  if (!o.enable_chunked_prefill && o.max_num_batched_tokens < o.max_model_len)
    return invalid_argument(
        format("--max-num-batched-tokens is {}; without chunked prefill it must be at least "
               "--max-model-len "
               "({}): raise it or leave chunked prefill on",
               o.max_num_batched_tokens, o.max_model_len));
  MOESTRO_TRY(check_flag("--long-prefill-token-threshold", o.long_prefill_token_threshold, 0,
                         limits.max_context, "tokens of one prompt in a step, 0 for no limit"));
  if (!o.enable_chunked_prefill && o.long_prefill_token_threshold > 0)
    return invalid_argument(
        format("--long-prefill-token-threshold is {}, but without chunked prefill a prompt is one "
               "step: leave one of the two out",
               o.long_prefill_token_threshold));
  if (o.max_waiting < 0)
    return invalid_argument(
        format("the queue's length is {}; it must be at least 0", o.max_waiting));
  if (o.kv_dtype != DType::kBF16 && o.kv_dtype != DType::kF32)
    return unsupported(format("--kv-cache-dtype is {}; the KV cache holds bfloat16 or float32",
                              torch_name(o.kv_dtype)));
  MOESTRO_TRY(check_flag("the sampleable vocabulary", o.sampleable_vocab, 0, model.vocab_size(),
                         "rows of the model's head"));
  for (const int32_t id : o.eos_token_ids)
    MOESTRO_TRY(check_flag("an EOS token id", id, 0, model.vocab_size() - 1, "the vocabulary"));
  return {};
}

SchedulerLimits scheduler_limits(const EngineOptions& o, int32_t max_logits_rows,
                                 const KvCache& kv) {
  return {.max_step_tokens = o.max_num_batched_tokens,
          .max_logits_rows = max_logits_rows,
          .max_running = o.max_num_seqs,
          .page_size = o.page_size,
          .num_pages = kv.pool().num_blocks(),
          .long_prefill_tokens = o.long_prefill_token_threshold,
          .chunked_prefill = o.enable_chunked_prefill};
}

std::optional<uint64_t> prefix_seed(const EngineOptions& o) {
  if (!o.enable_prefix_caching) return std::nullopt;
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

BatchLimits batch_limits(const EngineOptions& o, int32_t max_logits_rows, const KvCache& kv,
                         int32_t vocab) {
  return {o.max_num_batched_tokens, o.max_num_seqs, max_logits_rows, kv.pages_for(o.max_model_len),
          vocab};
}

}  // namespace

Result<std::unique_ptr<Core>> Core::create(EngineOptions options,
                                           std::unique_ptr<models::Model> model,
                                           platform::Gang& gang, MetricsRegistry& metrics) {
  MOESTRO_TRY(check_options(options, *model));
  const int32_t max_rows =
      std::min(model->limits().max_logits_rows, options.max_num_batched_tokens);
  const int32_t min_pages = (options.max_model_len + options.page_size - 1) / options.page_size;
  MOESTRO_ASSIGN(KvCache kv,
                 KvCache::create(model->kv_widths(), options.kv_dtype, options.page_size,
                                 options.kv_cache_bytes, min_pages, prefix_seed(options)));
  if (options.sampling.table == nullptr) options.sampling.table = &best_row_ops();
  MOESTRO_ASSIGN(auto executor, Executor::create(std::move(model), gang, options.sampleable_vocab,
                                                 max_rows, options.sampling));
  log_info("KV cache: {} pages of {} tokens, {}", kv.pool().num_blocks(), options.page_size,
           human_bytes(static_cast<uint64_t>(options.kv_cache_bytes)));
  return std::unique_ptr<Core>(
      new Core(std::move(options), std::move(kv), std::move(executor), max_rows, metrics));
}

Core::Core(EngineOptions options, KvCache kv, std::unique_ptr<Executor> executor,
           int32_t max_logits_rows, MetricsRegistry& metrics)
    : options_(std::move(options)),
      kv_(std::move(kv)),
      executor_(std::move(executor)),
      scheduler_(scheduler_limits(options_, max_logits_rows, kv_)),
      batch_(batch_limits(options_, max_logits_rows, kv_, executor_->model().vocab_size())),
      metrics_(metrics, options_, kv_.pool().num_blocks()),
      vocab_(executor_->model().vocab_size()),
      max_logits_rows_(max_logits_rows),
      kv_view_(kv_.view()) {
  running_.reserve(static_cast<size_t>(options_.max_num_seqs));
  waiting_.reserve(std::min<size_t>(
      static_cast<size_t>(options_.max_num_seqs) + static_cast<size_t>(options_.max_waiting),
      1 << 16));
}

Status Core::check(const Request& request) const {
  const auto length = static_cast<int64_t>(request.prompt.size());
  if (length == 0) return invalid_argument("the prompt has no tokens; it needs at least 1");
  if (length >= options_.max_model_len)
    return invalid_argument(format(
        "the prompt has {} tokens; with room for 1 new token at most {} fit --max-model-len ({})",
        length, options_.max_model_len - 1, options_.max_model_len));
  for (const int32_t id : request.prompt)
    if (id < 0 || id >= vocab_)
      return invalid_argument(format("the prompt has token id {}; ids are in [0, {})", id, vocab_));
  MOESTRO_TRY(request.sampling.validate(options_.sampleable_vocab > 0 ? options_.sampleable_vocab
                                                                      : vocab_));
  if (request.priority != 0 && !options_.priority_scheduling)
    return invalid_argument(
        format("priority is {}; this server runs requests in the order of their arrival: leave it "
               "out, or start the server with --scheduling-policy priority",
               request.priority));
  if (request.cache_salt.size() > kMaxCacheSaltBytes)
    return invalid_argument(format("cache_salt has {} bytes; the limit is {}",
                                   request.cache_salt.size(), kMaxCacheSaltBytes));
  const bool rows = request.sampling.prompt_logprobs >= 0 || request.on_prompt_logits;
  if (rows && !options_.enable_chunked_prefill && length > max_logits_rows_)
    return invalid_argument(format(
        "logits of a prompt of {} tokens were asked for; without chunked prefill at most {} tokens "
        "can have them: shorten the prompt or enable chunked prefill",
        length, max_logits_rows_));
  return {};
}

std::unique_ptr<Sequence> Core::make_sequence(RequestId id, Request request, uint64_t seed) const {
  const auto length = static_cast<int64_t>(request.prompt.size());
  const auto max_len = static_cast<int32_t>(
      std::min<int64_t>(length + request.sampling.max_tokens, options_.max_model_len));
  SamplingParams params = request.sampling;
  params.max_tokens = max_len - static_cast<int32_t>(length);
  SamplingState state(std::move(params), request.prompt, options_.eos_token_ids, seed, vocab_);
  PrefixSalt salt;
  if (!request.cache_salt.empty())
    salt = std::make_shared<const std::string>(std::move(request.cache_salt));
  PrefixChain chain = kv_.make_chain(std::move(salt), max_len);
  auto s = std::make_unique<Sequence>(id, std::move(request), max_len, kv_.pages_for(max_len),
                                      std::move(state), std::move(chain));
  if (s->request.sampling.prompt_logprobs >= 0)
    s->prompt_logprobs.reserve(static_cast<size_t>(length));
  s->arrived = Clock::now();
  return s;
}

void Core::insert_by_rank(Sequences& list, std::unique_ptr<Sequence> sequence) {
  const auto at = std::upper_bound(list.begin(), list.end(), sequence,
                                   [](const auto& a, const auto& b) { return a->before(*b); });
  list.insert(at, std::move(sequence));
}

void Core::add(std::unique_ptr<Sequence> sequence) {
  earliest_deadline_ = std::min(earliest_deadline_, sequence->request.deadline);
  insert_by_rank(waiting_, std::move(sequence));
}

void Core::cancel(RequestId id) {
  for (Sequences* list : {&running_, &waiting_})
    for (auto& s : *list)
      if (s->id == id) end(*s, FinishReason::kCancelled, {}, Clock::now());
  remove_ended();
}

void Core::cancel_all() {
  for (Sequences* list : {&running_, &waiting_})
    for (auto& s : *list) end(*s, FinishReason::kCancelled, {}, Clock::now());
  remove_ended();
}

void Core::reset_prefix_cache() {
  kv_.forget_prefixes();
  for (auto& s : running_) {
    s->publishes = false;
    s->num_published = 0;
  }
}

void Core::end_expired(Clock::time_point now) {
  if (now < earliest_deadline_.at()) return;
  earliest_deadline_ = {};
  for (Sequences* list : {&running_, &waiting_})
    for (auto& s : *list) {
      if (now >= s->request.deadline.at())
        end(*s, FinishReason::kDeadline, {}, now);
      else
        earliest_deadline_ = std::min(earliest_deadline_, s->request.deadline);
    }
  remove_ended();
}

void Core::step() {
  const Clock::time_point now = Clock::now();
  end_expired(now);
  const Decision& decision = scheduler_.schedule(running_, waiting_, kv_);
  apply(decision, now);
  batch_.build(decision.chunks, executor_->logits());
  commit(decision, executor_->step(batch_, kv_view_));
}

void Core::preempt_last() {
  std::unique_ptr<Sequence> s = std::move(running_.back());
  running_.pop_back();
  kv_.release(s->pages);
  s->num_computed = s->num_published = 0;
  s->publishes = true;
  insert_by_rank(waiting_, std::move(s));
}

// Newcomers join, with the pages that the cache has for them.
void Core::admit(const Decision& decision, Clock::time_point now) {
  const size_t first = decision.chunks.size() - decision.admitted.size();
  for (size_t i = 0; i < decision.admitted.size(); ++i) {
    std::unique_ptr<Sequence>& s = waiting_[static_cast<size_t>(decision.admitted[i])];
    const int32_t num_pages = decision.chunks[first + i].num_cached_pages;
    kv_.share_prefix(s->prefix, s->tokens, num_pages, s->pages);
    s->num_published = num_pages;
    s->num_computed = num_pages * kv_.page_size();
    if (!s->scheduled_before) {
      s->scheduled_before = true;
      s->first_scheduled = now;
      s->num_cached = s->num_computed;
      metrics_.on_first_schedule(*s, kv_.keeps_prefixes() && !s->wants_prompt_rows());
    }
    insert_by_rank(running_, std::move(s));
  }
  if (!decision.admitted.empty()) std::erase(waiting_, nullptr);
}

// Preempted sequences go back to the queue, admitted ones join, and every chunk gets its pages: new
// ones only after all that are shared are held, or they might be taken for others.
void Core::apply(const Decision& decision, Clock::time_point now) {
  ++num_steps_;
  for (int32_t i = 0; i < decision.num_preempted; ++i) preempt_last();
  admit(decision, now);
  for (const Chunk& chunk : decision.chunks) {
    kv_.grow(chunk.sequence->pages, chunk.sequence->num_computed + chunk.num_tokens);
    chunk.sequence->last_step = num_steps_;
  }
  if (decision.num_tokens > 0) metrics_.on_step(decision.num_tokens, decision.num_preempted);
}

void Core::commit(const Decision& decision, std::span<const SampleResult> results) {
  const Clock::time_point now = Clock::now();
  for (size_t i = 0; i < decision.chunks.size(); ++i) {
    Sequence& s = *decision.chunks[i].sequence;
    const int32_t n = decision.chunks[i].num_tokens, first_row = batch_.first_row(i);
    const bool alive = commit_prompt_rows(s, n, first_row, results, now);
    s.num_computed += n;
    if (alive) publish(s);
    if (alive && s.num_computed == s.num_tokens())
      commit_token(s, results[static_cast<size_t>(batch_.first_row(i + 1)) - 1], now);
  }
  remove_ended();
}

// What has been computed may be shared.
void Core::publish(Sequence& s) {
  if (!kv_.keeps_prefixes() || !s.publishes) return;
  s.prefix.extend(s.tokens);
  s.num_published = kv_.publish(s.prefix, s.tokens, s.num_computed, s.num_published, s.pages);
}

// Hands over the logits and log-probabilities of this chunk's prompt positions; false: the request
// has ended.
bool Core::commit_prompt_rows(Sequence& s, int32_t num_tokens, int32_t first_row,
                              std::span<const SampleResult> results, Clock::time_point now) {
  const int32_t first = std::max(s.num_computed, s.first_prompt_row());
  const int32_t rows = std::min(s.num_computed + num_tokens, s.num_prompt) - first;
  if (rows <= 0) return true;
  s.prompt_rows_done = first + rows;
  if (s.request.on_prompt_logits)
    s.request.on_prompt_logits(first, rows, vocab_,
                               executor_->logits() + static_cast<int64_t>(first_row) * vocab_);
  if (s.request.sampling.prompt_logprobs < 0) return true;
  if (first == 0) s.prompt_logprobs.emplace_back();  // nothing comes before the first token
  for (int32_t p = first; p < first + rows && p + 1 < s.num_prompt; ++p) {
    const SampleResult& result = results[static_cast<size_t>(first_row + p - first)];
    if (result.outcome != SampleOutcome::kOk) {
      fail(s, result.outcome, p, now);
      return false;
    }
    s.prompt_logprobs.push_back({{result.logprobs.begin(), result.logprobs.end()}});
  }
  return true;
}

void Core::commit_token(Sequence& s, const SampleResult& result, Clock::time_point now) {
  if (result.outcome != SampleOutcome::kOk) return fail(s, result.outcome, s.num_tokens() - 1, now);
  TokenEvent event;
  event.tokens.push_back(result.token);
  if (s.request.sampling.logprobs >= 0)
    event.logprobs.push_back({{result.logprobs.begin(), result.logprobs.end()}});
  if (s.num_generated() == 0) {
    event.prompt_logprobs = std::move(s.prompt_logprobs);
    s.first_token = now;
  }
  metrics_.on_token(s, now);
  s.last_token = now;
  s.tokens.push_back(result.token);
  s.sampling.add(result.token);
  if (s.num_generated() >= s.request.sampling.min_tokens && s.sampling.is_stop(result.token)) {
    event.stop_token = result.token;
    return end(s, FinishReason::kStop, std::move(event), now);
  }
  if (s.num_tokens() == s.max_tokens) return end(s, FinishReason::kLength, std::move(event), now);
  event.num_prompt_tokens = s.num_prompt;
  event.num_cached_tokens = s.num_cached;
  if (s.request.on_event) s.request.on_event(std::move(event));
}

void Core::fail(Sequence& s, SampleOutcome outcome, int32_t position, Clock::time_point now) {
  TokenEvent event;
  if (outcome == SampleOutcome::kBadLogits) {
    metrics_.on_bad_logits();
    reset_prefix_cache();  // what made them may be in the pages of this prompt's beginning
    event.error =
        internal_error(format("the model's logits after token {} of request {} are not finite (NaN "
                              "or infinity); other requests are not affected",
                              position, s.request.client_id));
  } else {
    event.error = invalid_argument(
        format("request {}: allowed_token_ids, logit_bias, min_tokens and the grammar leave no "
               "token to sample after {} generated tokens",
               s.request.client_id, s.num_generated()));
  }
  end(s, FinishReason::kError, std::move(event), now);
}

// Pages are free before the last event is out: whoever hears of the end may rely on them.
void Core::end(Sequence& s, FinishReason reason, TokenEvent event, Clock::time_point now) {
  kv_.release(s.pages);
  s.ended = true;
  ++num_ended_;
  metrics_.on_finish(s, reason, now);
  event.finish = reason;
  event.num_prompt_tokens = s.num_prompt;
  event.num_cached_tokens = s.num_cached;
  if (s.request.on_event) s.request.on_event(std::move(event));
}

void Core::remove_ended() {
  for (Sequences* list : {&running_, &waiting_})
    std::erase_if(*list, [](const auto& s) { return s->ended; });
  // Here, not in commit(): a cancellation that leaves no work is followed by no step.
  const BlockPool& pool = kv_.pool();
  metrics_.set_state(num_running(), static_cast<int32_t>(waiting_.size()),
                     static_cast<double>(pool.num_blocks() - pool.num_free()) / pool.num_blocks());
}

}  // namespace moestro::engine
