// moestro chat: a conversation in the terminal with the engine in this process. Ctrl-C stops an
// answer, not the program.
#include <unistd.h>

#include <cerrno>

#include "app/model_host.h"
#include "app/model_text.h"
#include "app/print.h"
#include "app/request_stream.h"
#include "app/signals.h"
#include "app/verbs.h"
#include "base/format.h"
#include "base/strings.h"
#include "engine/text_stream.h"

namespace moestro::app {
namespace {

constexpr std::string_view kHelp =
    "/help   this list\n"
    "/reset  forget the conversation\n"
    "/exit   leave (also Ctrl-D)\n"
    "Ctrl-C  stop the answer\n"
    "End a line with \\ to go on in the next one.\n";

// Lines of stdin by read(), so that an interrupt returns.
class LineReader {
 public:
  enum class Outcome { kLine, kEnd, kInterrupted };
  Outcome read(std::string& line) {
    while (true) {
      if (const size_t end = buffer_.find('\n'); end != std::string::npos) {
        line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        return Outcome::kLine;
      }
      char chunk[4096];
      const ssize_t n = ::read(STDIN_FILENO, chunk, sizeof chunk);
      if (n < 0 && errno == EINTR) return Outcome::kInterrupted;
      if (n <= 0) {
        line = std::exchange(buffer_, {});
        return line.empty() ? Outcome::kEnd : Outcome::kLine;
      }
      buffer_.append(chunk, static_cast<size_t>(n));
    }
  }

 private:
  std::string buffer_;
};

struct Answer {
  std::string text;
  size_t num_prompt_tokens = 0, num_tokens = 0;
  double seconds_to_first = 0, seconds = 0;
  bool interrupted = false;
  engine::FinishReason finish = engine::FinishReason::kNone;
};

class Chat {
 public:
  Chat(const config::CommandLine& line, ModelHost& host, ModelText text,
       engine::SamplingParams sampling)
      : line_(line), host_(host), text_(std::move(text)), sampling_(std::move(sampling)) {
    reset();
  }

  Status converse();
  Status answer_once(const std::string& message);

 private:
  void reset();
  Result<Answer> answer(const std::string& message);
  Result<std::vector<int32_t>> render() const;
  Result<std::optional<std::string>> read_message(LineReader& reader);
  void show_stats(const Answer& answer) const;
  const config::GenerateOptions& flags() const { return line_.options.generate; }

  const config::CommandLine& line_;
  ModelHost& host_;
  ModelText text_;
  engine::SamplingParams sampling_;
  json::array messages_;
  InterruptFlag interrupt_;
};

void Chat::reset() {
  messages_.clear();
  if (flags().system_prompt)
    messages_.push_back(json::object{{"role", "system"}, {"content", *flags().system_prompt}});
}

Result<std::vector<int32_t>> Chat::render() const {
  const json::value messages(messages_);
  text::ChatTemplate::Input input = text_.template_input();
  input.messages = &messages;
  const json::object& kwargs = line_.options.server.default_chat_template_kwargs;
  if (!kwargs.empty()) input.kwargs = &kwargs;
  MOESTRO_ASSIGN(const std::string prompt, text_.chat_template->render(input));
  return text_.tokenizer->encode(prompt, false);
}

Result<Answer> Chat::answer(const std::string& message) {
  messages_.push_back(json::object{{"role", "user"}, {"content", message}});
  Result<std::vector<int32_t>> prompt = render();
  if (!prompt.ok()) {
    messages_.pop_back();
    return prompt.status();
  }
  Answer answer;
  answer.num_prompt_tokens = prompt->size();
  engine::Request request;
  request.client_id = "chat";
  request.sampling = sampling_;
  const int64_t room =
      host_.engine().options().max_model_len - static_cast<int64_t>(prompt->size());
  request.sampling.max_tokens =
      static_cast<int32_t>(std::max<int64_t>(1, std::min(flags().max_tokens.value_or(room), room)));
  request.prompt = std::move(prompt).value();

  const Clock::time_point start = Clock::now();
  Result<std::unique_ptr<RequestStream>> events =
      RequestStream::submit(host_.engine(), std::move(request));
  if (!events.ok()) {
    messages_.pop_back();
    return events.status();
  }
  engine::TextStream stream(*text_.tokenizer, {.stop = flags().stop});
  interrupt_.take();
  while (answer.finish == engine::FinishReason::kNone) {
    const auto event = (*events)->next_for(std::chrono::milliseconds(50));
    if (!answer.interrupted && interrupt_.take()) {
      answer.interrupted = true;
      (*events)->cancel();  // one more event follows, with the reason
    }
    if (!event) continue;
    if (event->finish == engine::FinishReason::kError) return event->error;
    if (!event->tokens.empty() && answer.num_tokens == 0)
      answer.seconds_to_first = seconds_since(start);
    answer.num_tokens += event->tokens.size();
    const engine::TextDelta delta = stream.push(*event);
    answer.text += delta.text;
    if (!line_.options.json) print(delta.text);
    answer.finish = delta.finish != engine::FinishReason::kNone ? delta.finish : event->finish;
  }
  answer.seconds = seconds_since(start);
  messages_.push_back(json::object{{"role", "assistant"}, {"content", answer.text}});
  return answer;
}

void Chat::show_stats(const Answer& answer) const {
  if (!flags().stats) return;
  const double decode = answer.seconds - answer.seconds_to_first;
  const double rate =
      answer.num_tokens > 1 && decode > 0 ? static_cast<double>(answer.num_tokens - 1) / decode : 0;
  print_note(format("{} prompt tokens, first token after {:.3f} s; {} tokens, {:.1f} a second",
                    answer.num_prompt_tokens, answer.seconds_to_first, answer.num_tokens, rate));
}

Status Chat::answer_once(const std::string& message) {
  MOESTRO_ASSIGN(const Answer a, answer(message));
  if (line_.options.json) {
    print_json(json::object{{"text", a.text},
                            {"finish_reason", finish_name(a.finish)},
                            {"prompt_tokens", a.num_prompt_tokens},
                            {"completion_tokens", a.num_tokens}});
  } else {
    print("\n");
  }
  show_stats(a);
  return {};
}

// The next message, or nothing at the end of the input. Lines that end in a backslash are joined.
Result<std::optional<std::string>> Chat::read_message(LineReader& reader) {
  std::string message, line;
  while (true) {
    if (stdin_is_terminal()) print(message.empty() ? "\n> " : ". ");
    switch (reader.read(line)) {
      case LineReader::Outcome::kEnd:
        return std::optional<std::string>();
      case LineReader::Outcome::kInterrupted:
        interrupt_.take();
        message.clear();
        print("\n(/exit or Ctrl-D to leave)");
        continue;
      case LineReader::Outcome::kLine:
        break;
    }
    if (line.ends_with('\\')) {
      line.back() = '\n';
      message += line;
      continue;
    }
    message += line;
    if (!trim(message).empty()) return std::optional(message);
    message.clear();
  }
}

Status Chat::converse() {
  if (stdin_is_terminal())
    print(format("{} — /help for help, Ctrl-D to leave\n", host_.planned().engine.model_name));
  LineReader reader;
  while (true) {
    MOESTRO_ASSIGN(const std::optional<std::string> message, read_message(reader));
    if (!message || trim(*message) == "/exit" || trim(*message) == "/quit") break;
    if (trim(*message) == "/help") {
      print(kHelp);
    } else if (trim(*message) == "/reset") {
      reset();
      print("(new conversation)\n");
    } else if (message->starts_with('/') && message->find(' ') == std::string::npos) {
      print(format("no command {}; /help lists them\n", *message));
    } else {
      const Result<Answer> a = answer(*message);
      if (!a.ok()) {
        print(format("({}; /reset starts afresh)\n", a.status().message()));
        continue;
      }
      print(a->interrupted                               ? " (stopped)\n"
            : a->finish == engine::FinishReason::kLength ? " (cut at the token limit)\n"
                                                         : "\n");
      show_stats(*a);
    }
  }
  if (stdin_is_terminal()) print("\n");
  return {};
}

}  // namespace

Status run_chat(const config::CommandLine& line) {
  const config::Options& options = line.options;
  if (options.json && !options.generate.prompt)
    return invalid_argument("chat --json needs --quick TEXT: it prints one answer");
  MOESTRO_ASSIGN(const auto files, open_files(options));
  MOESTRO_ASSIGN(ModelText text, open_text(options, *files));
  if (!text.chat_template) {
    return invalid_argument(
        format("{} has no chat template; give one with --chat-template, or use moestro complete",
               files->location()));
  }
  const HostNeeds needs{.num_seqs = 1, .sampleable_vocab = text.tokenizer->vocab_size()};
  MOESTRO_ASSIGN(const auto host, ModelHost::start(options, needs));
  MOESTRO_ASSIGN(const server::SamplingDefaults defaults,
                 sampling_defaults(options, host->config()));
  engine::SamplingParams sampling = sampling_params(options, defaults);
  if (line.is_given("--seed")) sampling.seed = static_cast<uint64_t>(options.model.seed);
  Chat chat(line, *host, std::move(text), std::move(sampling));
  return options.generate.prompt ? chat.answer_once(*options.generate.prompt) : chat.converse();
}

}  // namespace moestro::app
