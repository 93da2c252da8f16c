// moestro logits: raw logits of every prompt position, as safetensors, for comparing with another
// implementation.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "app/model_host.h"
#include "app/print.h"
#include "app/request_stream.h"
#include "app/verbs.h"
#include "base/format.h"

namespace moestro::app {
namespace {

using Prompt = std::vector<int32_t>;

Result<Prompt> parse_prompt(const json::value& value, size_t index) {
  const json::value* ids = &value;
  if (const json::object* object = value.if_object()) {
    ids = json::find(*object, "ids");
    if (!ids) return invalid_argument(format("prompt {} has no \"ids\"", index));
  }
  const json::array* list = ids->if_array();
  if (!list || list->empty())
    return invalid_argument(format("prompt {} is not a list of ids", index));
  Prompt prompt;
  for (const json::value& id : *list) {
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() > INT32_MAX) {
      return invalid_argument(format("prompt {}: {} is no token id", index, json::dump(id)));
    }
    prompt.push_back(static_cast<int32_t>(id.get_int64()));
  }
  return prompt;
}

Result<std::vector<Prompt>> read_prompts(const std::string& path) {
  MOESTRO_ASSIGN(const json::value file, json::parse_file(path));
  const json::value* prompts =
      file.is_object() ? json::find(file.get_object(), "prompts") : nullptr;
  if (!prompts || !prompts->is_array())
    return invalid_argument(format("{}: no \"prompts\" list", path));
  std::vector<Prompt> result;
  for (const json::value& value : prompts->get_array()) {
    Result<Prompt> prompt = parse_prompt(value, result.size());
    if (!prompt.ok()) return prompt.status().with(path);
    result.push_back(std::move(prompt).value());
  }
  if (result.empty()) return invalid_argument(format("{}: \"prompts\" is empty", path));
  return result;
}

// A safetensors file of logits.<i>, whose rows may be written in any order and from any thread.
class LogitsFile {
 public:
  static Result<std::unique_ptr<LogitsFile>> create(const std::string& path,
                                                    const std::vector<Prompt>& prompts,
                                                    int64_t vocab);
  ~LogitsFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  void write_rows(size_t prompt, int64_t first_row, int64_t rows, const float* logits) {
    write_at(logits, rows * vocab_ * 4, offsets_[prompt] + first_row * vocab_ * 4);
  }
  Status finish() {
    if (::close(std::exchange(fd_, -1)) != 0) error_ = errno;
    if (error_ == 0) return {};
    return {Code::kInternal, format("cannot write {}: {}", path_, std::strerror(error_))};
  }

 private:
  void write_at(const void* data, int64_t bytes, int64_t offset) {
    const char* from = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t n = ::pwrite(fd_, from, static_cast<size_t>(bytes), offset);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        error_ = n < 0 ? errno : EIO;
        return;
      }
      from += n;
      bytes -= n;
      offset += n;
    }
  }

  std::string path_;
  int fd_ = -1;
  int64_t vocab_ = 0;
  std::vector<int64_t> offsets_;  // of each tensor, from the start of the file
  std::atomic<int> error_{0};
};

Result<std::unique_ptr<LogitsFile>> LogitsFile::create(const std::string& path,
                                                       const std::vector<Prompt>& prompts,
                                                       int64_t vocab) {
  json::object header;
  int64_t begin = 0;
  auto file = std::make_unique<LogitsFile>();
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto rows = static_cast<int64_t>(prompts[i].size());
    const int64_t end = begin + rows * vocab * 4;
    header[format("logits.{}", i)] = json::object{{"dtype", "F32"},
                                                  {"shape", json::array{rows, vocab}},
                                                  {"data_offsets", json::array{begin, end}}};
    file->offsets_.push_back(begin);
    begin = end;
  }
  std::string text = json::dump(json::value(header));
  text.append((8 - text.size() % 8) % 8, ' ');
  for (int64_t& offset : file->offsets_) offset += 8 + static_cast<int64_t>(text.size());
  file->path_ = path;
  file->vocab_ = vocab;
  file->fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file->fd_ < 0)
    return Status(Code::kNotFound, format("cannot write {}: {}", path, std::strerror(errno)));
  const uint64_t length = text.size();
  file->write_at(&length, 8, 0);
  file->write_at(text.data(), static_cast<int64_t>(text.size()), 8);
  return file;
}

}  // namespace

Status run_logits(const config::CommandLine& line) {
  const config::Options& options = line.options;
  MOESTRO_ASSIGN(const std::vector<Prompt> prompts, read_prompts(*options.tool.input));
  int64_t longest = 0;
  for (const Prompt& prompt : prompts)
    longest = std::max(longest, static_cast<int64_t>(prompt.size()));
  MOESTRO_ASSIGN(const auto host, ModelHost::start(options, {.longest_sequence = longest + 1,
                                                             .num_seqs = 1,
                                                             .logits_rows = 256}));
  const int64_t vocab = host->config().vocab_size;
  MOESTRO_ASSIGN(const auto file, LogitsFile::create(*options.tool.output, prompts, vocab));
  int64_t num_tokens = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    engine::Request request;
    request.client_id = format("prompt {}", i);
    request.prompt = prompts[i];
    request.sampling.temperature = 0;
    request.sampling.max_tokens = 1;
    bool same_width = true;
    request.on_prompt_logits = [&](int32_t first, int32_t rows, int32_t columns,
                                   const float* logits) {
      same_width = same_width && columns == vocab;
      if (columns == vocab) file->write_rows(i, first, rows, logits);
    };
    Result<std::unique_ptr<RequestStream>> stream =
        RequestStream::submit(host->engine(), std::move(request));
    if (!stream.ok()) return stream.status().with(format("prompt {}", i));
    engine::TokenEvent event = (*stream)->next();
    while (event.finish == engine::FinishReason::kNone) event = (*stream)->next();
    if (!event.error.ok()) return event.error;
    if (!same_width) return internal_error("the model's logits are not as wide as its vocabulary");
    num_tokens += static_cast<int64_t>(prompts[i].size());
  }
  MOESTRO_TRY(file->finish());
  if (options.json) {
    print_json(json::object{{"output", *options.tool.output},
                            {"prompts", prompts.size()},
                            {"tokens", num_tokens},
                            {"vocabulary", vocab}});
  } else {
    print(format("{}: logits of {} prompts, {} tokens, vocabulary {}\n", *options.tool.output,
                 prompts.size(), num_tokens, vocab));
  }
  return {};
}

}  // namespace moestro::app
