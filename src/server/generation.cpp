#include "server/generation.h"

#include <algorithm>
#include <exception>

#include "base/format.h"
#include "base/log.h"
#include "base/strings.h"
#include "server/limits.h"
#include "server/sse.h"

namespace moestro::server {
namespace {

using openai::ApiError;

constexpr size_t kPromptTail =
    8;  // ids that the detokenizer continues from: an answer is not the beginning of a text

Deadline request_deadline(double timeout_s) {
  return timeout_s > 0 ? Deadline::after(std::chrono::duration_cast<std::chrono::nanoseconds>(
                             std::chrono::duration<double>(timeout_s)))
                       : Deadline();
}

std::string finish_name(engine::FinishReason reason) {
  return reason == engine::FinishReason::kLength ? "length" : "stop";
}

// One warning a field name; a client cannot fill the log with invented ones.
bool first_warning_about(const std::string& field) {
  static std::mutex mutex;
  static std::vector<std::string> seen;
  std::lock_guard lock(mutex);
  if (seen.size() >= 64 || std::find(seen.begin(), seen.end(), field) != seen.end()) return false;
  seen.push_back(field);
  return true;
}

}  // namespace

void Generation::start(const GenerationContext& context, Endpoint endpoint, Request request,
                       std::shared_ptr<Responder> responder) {
  auto self = std::make_shared<Generation>(context, endpoint, std::move(request), responder);
  responder->on_disconnect([weak = std::weak_ptr(self)] {
    if (auto alive = weak.lock()) {
      alive->cancel_engine();
      alive->responder_->abort();  // not when the engine's last event comes: the connection ends
                                   // even if the engine hangs
    }
  });
  context.pool.post(TextPool::Lane::kRequests, [self] { self->run(); });
}

Generation::Generation(const GenerationContext& context, Endpoint endpoint, Request request,
                       std::shared_ptr<Responder> responder)
    : context_(context),
      model_(context.prompts.model),
      endpoint_(endpoint),
      http_(std::move(request)),
      responder_(std::move(responder)),
      queue_(std::make_shared<TaskQueue>(context.pool)),
      deadline_(request_deadline(context.prompts.options.request_timeout_s)) {
  info_.id = http_.id;
}

void Generation::guarded(const std::function<void()>& work) {
  try {
    work();
  } catch (const std::bad_alloc&) {
    fail({503, "not enough memory for this request", {}, "out_of_memory"});
  } catch (const std::exception& e) {
    fail(openai::from_status(internal_error(e.what())));
  }
}

void Generation::run() {
  guarded([this] {
    std::optional<ApiError> error = parse();
    if (!error) error = make_prompts();
    if (!error) error = submit();
    if (error) fail(*error);
  });
  queue_->resume();
}

std::optional<ApiError> Generation::parse() {
  const config::ServerOptions& options = context_.prompts.options;
  json::ParseLimits limits;
  limits.max_depth = static_cast<size_t>(options.max_json_depth);
  Result<json::value> body = json::parse(http_.body, limits);
  std::string().swap(http_.body);  // a large body is not kept while its answer is written
  if (!body.ok())
    return openai::bad_request(
        {}, format("the body is not valid JSON: {}", body.status().message()), "invalid_json");
  const json::object* object = body->if_object();
  if (!object)
    return openai::bad_request(
        {}, format("the body must be a JSON object, got {}", json::kind_name(*body)));
  const openai::ParseContext context{model_, options};
  auto error = chat() ? openai::parse_chat_request(*object, context, chat_)
                      : openai::parse_completion_request(*object, context, completion_);
  if (error) return error;
  const openai::GenerateRequest& r = common();
  if (!r.model.empty() &&
      std::find(model_.names.begin(), model_.names.end(), r.model) == model_.names.end()) {
    return ApiError{404,
                    format("The model {} does not exist here; this server has {}.",
                           json::quote(r.model.substr(0, 256)), json::quote(model_.names.front())),
                    "model", "model_not_found"};
  }
  warn_unknown_fields();

  info_.chat = chat();
  if (!r.request_id.empty() && r.request_id.size() <= kMaxRequestIdBytes) info_.id = r.request_id;
  info_.id = (chat() ? "chatcmpl-" : "cmpl-") + info_.id;
  info_.model = r.model.empty() ? model_.names.front() : r.model;
  info_.fingerprint = model_.fingerprint;
  info_.created = std::chrono::duration_cast<std::chrono::seconds>(
                      std::chrono::system_clock::now().time_since_epoch())
                      .count();
  info_.role = chat_.continue_final_message ? "assistant" : options.response_role;
  info_.return_token_ids = r.return_token_ids;
  info_.tokens_as_ids = r.tokens_as_ids;
  info_.logprobs = r.sampling.logprobs >= 0;
  info_.usage_in_chunks = r.include_usage;
  info_.tokenizer = model_.tokenizer.get();
  return std::nullopt;
}

void Generation::warn_unknown_fields() const {
  for (const std::string& field : common().unknown_fields) {
    if (first_warning_about(field))
      log_warning("requests have the unknown field {}: it is ignored",
                  json::quote(field.substr(0, 64)));
  }
}

std::optional<ApiError> Generation::make_prompts() {
  prompts_.resize(chat() ? 1 : completion_.prompts.size());
  for (size_t i = 0; i < prompts_.size(); ++i) {
    if (responder_->disconnected()) return ApiError{499, "the client went away", {}, {}};
    auto error =
        chat() ? openai::make_chat_prompt(chat_, context_.prompts, deadline_, prompts_[i])
               : openai::make_completion_prompt(completion_, i, context_.prompts, prompts_[i]);
    if (error) return error;
    int32_t max_tokens = 0;
    if (auto e =
            openai::fit_to_context(common(), chat(), prompts_[i].ids.size(), model_, max_tokens))
      return e;
    max_tokens_.push_back(max_tokens);
  }
  chat_.messages.clear();
  completion_.prompts.clear();
  return std::nullopt;
}

engine::Request Generation::engine_request(size_t choice_idx, const openai::Prompt& prompt,
                                           int32_t max_tokens) {
  const openai::GenerateRequest& r = common();
  engine::Request out;
  out.client_id = info_.id;
  out.prompt = prompt.ids;
  out.sampling = r.sampling;
  out.sampling.max_tokens = max_tokens;
  if (r.sampling.seed)
    *out.sampling.seed +=
        choice_idx % static_cast<size_t>(r.n);  // choices differ, each is reproducible
  out.priority = r.priority;
  out.cache_salt = r.cache_salt;
  out.deadline = deadline_;
  out.on_event = [self = shared_from_this(), choice_idx](engine::TokenEvent&& event) {
    // std::function wants copyable captures; the event itself moves.
    auto shared = std::make_shared<engine::TokenEvent>(std::move(event));
    self->queue_->post([self, choice_idx, shared] {
      self->guarded([&] { self->on_event(choice_idx, std::move(*shared)); });
    });
  };
  return out;
}

std::optional<ApiError> Generation::submit() {
  const openai::GenerateRequest& r = common();
  const auto n = static_cast<size_t>(r.n);
  engine::TextStreamOptions text_options{.stop = r.stop,
                                         .include_stop_in_output = r.include_stop_in_output,
                                         .skip_special_tokens = r.skip_special_tokens,
                                         .min_tokens = r.sampling.min_tokens,
                                         .prompt_tail = {}};
  choices_.reserve(prompts_.size() * n);
  for (size_t i = 0; i < prompts_.size() * n; ++i) {
    const std::vector<int32_t>& ids = prompts_[i / n].ids;
    text_options.prompt_tail.assign(
        ids.end() - static_cast<ptrdiff_t>(std::min(ids.size(), kPromptTail)), ids.end());
    std::unique_ptr<openai::AnswerParser> parser;
    if (chat()) {
      auto made = openai::AnswerParser::create(chat_, model_, prompts_[i / n].reasoning_start);
      if (!made.ok()) return openai::from_status(made.status());
      parser = std::move(*made);
    }
    text_options.mark_added_tokens = parser != nullptr;
    Choice& c = choices_.emplace_back(engine::TextStream(*model_.tokenizer, text_options));
    c.parser = std::move(parser);
    c.prompt_idx = i / n;
    c.whole.index = static_cast<int32_t>(i);
  }
  if (auto error = context_.grammars.compile(r.constraint, chat() ? &chat_ : nullptr,
                                             prompts_.front().reasoning_start, grammar_))
    return error;
  if (context_.log_requests) {
    log_info("{}: {} prompt tokens, up to {} new ones, n = {}, stream = {}", info_.id,
             prompts_.front().ids.size(), max_tokens_.front(), r.n, r.stream);
  }
  for (size_t i = 0; i < choices_.size(); ++i) {
    const size_t p = choices_[i].prompt_idx;
    engine::Request request = engine_request(i, prompts_[p], max_tokens_[p]);
    if (grammar_) {
      if (auto error = context_.grammars.make_constraint(grammar_, r.sampling.stop_token_ids,
                                                         request.sampling.constraint))
        return error;
    }
    Result<engine::RequestId> id = model_.engine->submit(std::move(request));
    if (!id.ok()) return openai::from_status(id.status());
    bool cancelled;
    {
      std::lock_guard lock(mutex_);
      engine_ids_.push_back(*id);
      cancelled = cancelled_;
    }
    if (cancelled) {  // the client left in between: what was submitted before is cancelled already
      model_.engine->cancel(*id);
      return ApiError{499, "the client went away", {}, {}};
    }
  }
  if (r.stream) {
    Response head;
    head.content_type = std::string(kSseContentType);
    head.headers.push_back({"Cache-Control", "no-cache"});
    head.headers.push_back({"X-Accel-Buffering", "no"});  // proxies must pass events on at once
    responder_->start_stream(std::move(head));
  }
  return std::nullopt;
}

void Generation::cancel_engine(std::optional<size_t> one) {
  std::vector<engine::RequestId> ids;
  {
    std::lock_guard lock(mutex_);
    if (one) {
      if (*one < engine_ids_.size()) ids.push_back(engine_ids_[*one]);
    } else {
      cancelled_ = true;
      ids = engine_ids_;
    }
  }
  for (engine::RequestId id : ids) model_.engine->cancel(id);
}

void Generation::on_event(size_t choice_idx, engine::TokenEvent&& event) {
  Choice& choice = choices_[choice_idx];
  if (done_ || choice.finished) return;
  if (responder_->disconnected()) {
    done_ = true;
    cancel_engine();
    return responder_->abort();
  }
  switch (event.finish) {
    case engine::FinishReason::kError:
      return fail(
          openai::from_status(event.error.ok() ? internal_error("engine error") : event.error));
    case engine::FinishReason::kCancelled:
      return fail(
          {503, "the request was cancelled: the server is shutting down", {}, "unavailable"});
    case engine::FinishReason::kDeadline:
      return fail({504,
                   format("the answer was not complete within {} s",
                          context_.prompts.options.request_timeout_s),
                   {},
                   "timeout"});
    default:
      break;
  }
  const bool echo_only = common().max_tokens == 0;
  engine::TextDelta delta = choice.stream.push(event);
  openai::Piece piece;
  piece.index = choice.whole.index;
  if (!choice.begun) begin_choice(choice, event, piece);
  if (delta.finish != engine::FinishReason::kNone)
    piece.finish_reason = echo_only ? "length" : finish_name(delta.finish);
  if (!echo_only) {
    if (choice.parser) {
      choice.parser->push(delta, piece);
    } else {
      piece.text += delta.text;
    }
    piece.tokens.insert(piece.tokens.end(), delta.tokens.begin(), delta.tokens.end());
    piece.logprobs.insert(piece.logprobs.end(), std::make_move_iterator(delta.logprobs.begin()),
                          std::make_move_iterator(delta.logprobs.end()));
  }
  if (delta.finish != engine::FinishReason::kNone) {
    if (!echo_only && delta.stop_string) piece.stop_reason = json::value(*delta.stop_string);
    const auto& stops = common().sampling.stop_token_ids;  // the model's own EOS is no stop_reason
    if (!echo_only && delta.stop_token &&
        std::find(stops.begin(), stops.end(), *delta.stop_token) != stops.end())
      piece.stop_reason = *delta.stop_token;
    if (event.finish == engine::FinishReason::kNone)
      cancel_engine(choice_idx);  // a stop string: the engine does not know it
  }
  const bool last = !piece.finish_reason.empty();
  emit(choice, std::move(piece));
  if (last && !done_) end_choice(choice);
}

// The first event: the echoed prompt, its log-probabilities, its ids.
void Generation::begin_choice(Choice& choice, engine::TokenEvent& event, openai::Piece& piece) {
  const openai::GenerateRequest& r = common();
  const openai::Prompt& prompt = prompts_[choice.prompt_idx];
  choice.begun = piece.first = true;
  choice.num_cached = event.num_cached_tokens;
  if (r.return_prompt_logprobs)
    piece.prompt_logprobs = openai::prompt_logprobs_json(*model_.tokenizer, event.prompt_logprobs);
  if (r.return_token_ids) piece.prompt_ids = prompt.ids;
  if (!r.echo) return;
  if (chat()) {
    piece.text = prompt.chat_echo;
  } else {
    piece.text = prompt.text;
    if (info_.logprobs) {
      piece.tokens = prompt.ids;
      piece.logprobs = std::move(event.prompt_logprobs);
      piece.logprobs.resize(prompt.ids.size());
    }
  }
}

void Generation::emit(Choice& choice, openai::Piece&& piece) {
  const openai::GenerateRequest& r = common();
  piece.text_offset = choice.text_offset;
  choice.text_offset += openai::count_code_points(piece.text);
  if (r.stream) {
    const bool tokens_matter = (info_.logprobs || r.return_token_ids) && !piece.tokens.empty();
    const bool parts = !piece.reasoning.empty() || !piece.tool_calls.empty();
    if (piece.text.empty() && !parts && piece.finish_reason.empty() && !tokens_matter &&
        !(piece.first && chat())) {
      choice.begun =
          choice.begun && !piece.first;  // nothing certain yet: the first chunk is still to come
      return;
    }
    std::optional<openai::Usage> now;
    if (r.continuous_usage) now = usage();
    if (!responder_->write(sse_event(openai::chunk_json(info_, piece, now)))) {
      done_ = true;
      cancel_engine();
      responder_->abort();
    }
    return;
  }
  openai::Piece& w = choice.whole;
  w.text += piece.text;
  w.reasoning += piece.reasoning;
  for (openai::ToolCallPiece& call : piece.tool_calls) {
    if (!call.id.empty()) {
      w.tool_calls.push_back(std::move(call));
    } else {
      for (openai::ToolCallPiece& known : w.tool_calls)
        if (known.index == call.index) known.arguments += call.arguments;
    }
  }
  w.tokens.insert(w.tokens.end(), piece.tokens.begin(), piece.tokens.end());
  w.logprobs.insert(w.logprobs.end(), std::make_move_iterator(piece.logprobs.begin()),
                    std::make_move_iterator(piece.logprobs.end()));
  if (!piece.finish_reason.empty()) {
    w.finish_reason = piece.finish_reason;
    w.stop_reason = piece.stop_reason;
  }
  if (piece.prompt_ids) w.prompt_ids = std::move(piece.prompt_ids);
  if (!piece.prompt_logprobs.is_null()) w.prompt_logprobs = std::move(piece.prompt_logprobs);
}

void Generation::end_choice(Choice& choice) {
  choice.finished = true;
  if (context_.log_outputs && !common().stream)
    log_info("{}: {}", info_.id, json::quote(choice.whole.text.substr(0, context_.max_log_chars)));
  if (++num_finished_ == choices_.size()) complete();
}

openai::Usage Generation::usage() const {
  openai::Usage u;
  int64_t cached = 0;
  for (const openai::Prompt& p : prompts_) u.prompt_tokens += static_cast<int64_t>(p.ids.size());
  const auto n = static_cast<size_t>(common().n);
  for (size_t i = 0; i < choices_.size(); ++i) {
    if (common().max_tokens != 0) u.completion_tokens += choices_[i].stream.num_tokens();
    if (i % n == 0) cached += choices_[i].num_cached;
  }
  if (context_.prompts.options.enable_prompt_tokens_details) u.cached_tokens = cached;
  return u;
}

void Generation::complete() {
  done_ = true;
  const openai::GenerateRequest& r = common();
  if (r.stream) {
    std::string end;
    if (r.include_usage) end = sse_event(openai::usage_chunk_json(info_, usage()));
    end += kSseDone;
    responder_->write(end);
    return responder_->finish();
  }
  std::vector<openai::Piece> pieces;
  pieces.reserve(choices_.size());
  for (Choice& c : choices_) pieces.push_back(std::move(c.whole));
  Response response;
  response.body = openai::whole_json(info_, pieces, usage());
  responder_->send(std::move(response));
}

void Generation::fail(const ApiError& error) {
  if (done_) return;
  done_ = true;
  cancel_engine();
  if (responder_->disconnected()) return responder_->abort();
  if (!common().stream || choices_.empty() || error.status == 499)
    return responder_->send(openai::error_response(error));
  // The status line may be out already: the error travels as an event. Without a started stream
  // this write is refused.
  if (responder_->write(sse_event(openai::error_json(error)) + std::string(kSseDone)))
    return responder_->finish();
  responder_->send(openai::error_response(error));
}

}  // namespace moestro::server
