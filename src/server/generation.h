// Generation: one request of /v1/chat/completions or /v1/completions from its body to the last byte
// of the answer. Parses and tokenizes on the text pool's request lane; the engine's events then
// come in order through its TaskQueue. Owned by the callbacks that it hands out.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/text_stream.h"
#include "server/http/http.h"
#include "server/openai/answer.h"
#include "server/openai/answer_parser.h"
#include "server/openai/prompt.h"
#include "server/openai/request.h"
#include "server/text_pool.h"

namespace moestro::server {

enum class Endpoint { kChat, kCompletions };

// What every generation uses; lives as long as the server.
struct GenerationContext {
  const openai::PromptContext& prompts;
  TextPool& pool;
  const openai::Grammars& grammars;
  bool log_requests = false, log_outputs = false;
  size_t max_log_chars = 256;
};

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // Called on an I/O thread; returns at once.
  static void start(const GenerationContext& context, Endpoint endpoint, Request request,
                    std::shared_ptr<Responder> responder);

  Generation(const GenerationContext& context, Endpoint endpoint, Request request,
             std::shared_ptr<Responder> responder);

 private:
  struct Choice {
    explicit Choice(engine::TextStream s) : stream(std::move(s)) {}
    engine::TextStream stream;
    std::unique_ptr<openai::AnswerParser> parser;  // null: text is content
    openai::Piece whole;                           // grows when not streaming
    size_t prompt_idx = 0;
    int64_t text_offset = 0;
    int32_t num_cached = 0;
    bool begun = false, finished = false;
  };

  // Request lane.
  void run();
  std::optional<openai::ApiError> parse();
  std::optional<openai::ApiError> make_prompts();
  std::optional<openai::ApiError> submit();
  engine::Request engine_request(size_t choice_idx, const openai::Prompt& prompt,
                                 int32_t max_tokens);
  void warn_unknown_fields() const;

  // Task queue.
  void on_event(size_t choice_idx, engine::TokenEvent&& event);
  void begin_choice(Choice& choice, engine::TokenEvent& event, openai::Piece& piece);
  void emit(Choice& choice, openai::Piece&& piece);
  void end_choice(Choice& choice);
  void complete();
  void fail(const openai::ApiError& error);
  void guarded(const std::function<void()>& work);

  void cancel_engine(std::optional<size_t> one = std::nullopt);  // any thread
  openai::Usage usage() const;
  bool chat() const { return endpoint_ == Endpoint::kChat; }
  const openai::GenerateRequest& common() const {
    return chat() ? static_cast<const openai::GenerateRequest&>(chat_) : completion_;
  }

  const GenerationContext& context_;
  const ServerModel& model_;
  const Endpoint endpoint_;
  Request http_;
  const std::shared_ptr<Responder> responder_;
  const std::shared_ptr<TaskQueue> queue_;
  const Deadline deadline_;
  openai::ChatRequest chat_;
  openai::CompletionRequest completion_;
  openai::AnswerInfo info_;
  std::vector<openai::Prompt> prompts_;
  std::vector<int32_t> max_tokens_;                       // a prompt
  std::shared_ptr<const text::CompiledGrammar> grammar_;  // of all choices; null: free text
  std::vector<Choice> choices_;  // prompts times n, in the order of "index"
  size_t num_finished_ = 0;
  bool done_ = false;  // answered or given up; later events are ignored

  std::mutex mutex_;  // guards the two below
  std::vector<engine::RequestId> engine_ids_;
  bool cancelled_ = false;
};

}  // namespace moestro::server
