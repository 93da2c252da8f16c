// moestro perplexity: exp of the mean negative log-likelihood of the next token over windows of
// token ids. The first token of a window is not scored.
#include <cmath>
#include <cstring>
#include <deque>
#include <filesystem>

#include "app/model_host.h"
#include "app/print.h"
#include "app/request_stream.h"
#include "app/verbs.h"
#include "base/format.h"
#include "platform/memory_map.h"

namespace moestro::app {
namespace {

struct Windows {
  int64_t count = 0, length = 0;
  std::vector<int32_t> ids;  // [count, length]
};

Result<Windows> read_windows(const std::string& path, const std::string& tensor) {
  MOESTRO_ASSIGN(const platform::MemoryMap map, platform::MemoryMap::open(path));
  std::vector<checkpoint::EmbeddedFile> one{{"tokens.safetensors", map.bytes()}};
  MOESTRO_ASSIGN(const auto source, checkpoint::open_safetensors(
                                        checkpoint::embedded_model_files(path, std::move(one))));
  const checkpoint::TensorInfo* info = source->find(tensor);
  if (!info) {
    std::string names;
    for (const std::string& name : source->names()) names += (names.empty() ? "" : ", ") + name;
    return not_found(format("{} has no tensor {}; it has {}", path, tensor, names));
  }
  MOESTRO_ASSIGN(const checkpoint::TensorView view, source->get(tensor, {-1, -1}, {DType::kI32}));
  Windows windows{view.shape[0], view.shape[1],
                  std::vector<int32_t>(static_cast<size_t>(view.num_elements()))};
  if (windows.count < 1 || windows.length < 2) {
    return invalid_argument(
        format("{}: {} is [{}, {}]; at least one window of two tokens is needed", path, tensor,
               windows.count, windows.length));
  }
  std::memcpy(windows.ids.data(), view.bytes.data(), view.bytes.size());
  return windows;
}

// -log softmax(logits)[target], in double.
double negative_log_likelihood(const float* logits, int32_t vocab, int32_t target) {
  float largest = logits[0];
  for (int32_t i = 1; i < vocab; ++i) largest = std::max(largest, logits[i]);
  double sum = 0;
  for (int32_t i = 0; i < vocab; ++i) sum += std::exp(static_cast<double>(logits[i] - largest));
  return std::log(sum) - static_cast<double>(logits[target] - largest);
}

struct Scored {
  std::unique_ptr<RequestStream> stream;
  std::shared_ptr<double> sum;  // written by the engine's thread until the last event
};

Result<Scored> score(engine::Engine& engine, const Windows& windows, int64_t window) {
  const int32_t* ids = windows.ids.data() + window * windows.length;
  Scored scored;
  scored.sum = std::make_shared<double>(0);
  engine::Request request;
  request.client_id = format("window {}", window);
  request.prompt.assign(ids,
                        ids + windows.length - 1);  // its last row predicts the window's last token
  request.sampling.temperature = 0;
  request.sampling.max_tokens = 1;
  request.on_prompt_logits = [ids, sum = scored.sum](int32_t first, int32_t rows, int32_t vocab,
                                                     const float* logits) {
    for (int32_t r = 0; r < rows; ++r)
      *sum += negative_log_likelihood(logits + int64_t{r} * vocab, vocab, ids[first + r + 1]);
  };
  MOESTRO_ASSIGN(scored.stream, RequestStream::submit(engine, std::move(request)));
  return scored;
}

}  // namespace

Status run_perplexity(const config::CommandLine& line) {
  const config::Options& options = line.options;
  MOESTRO_ASSIGN(const Windows windows,
                 read_windows(*options.tool.tokens, options.tool.tensor_name));
  MOESTRO_ASSIGN(const auto host, ModelHost::start(options, {.longest_sequence = windows.length,
                                                             .num_seqs = 8,
                                                             .logits_rows = 512}));
  const int32_t vocab = host->config().vocab_size;
  for (const int32_t id : windows.ids) {
    if (id < 0 || id >= vocab)
      return invalid_argument(
          format("{}: id {} is not in the vocabulary of {}", *options.tool.tokens, id, vocab));
  }
  const int64_t at_once = host->engine().options().max_num_seqs;
  std::deque<Scored> running;
  double sum = 0;
  for (int64_t window = 0; window < windows.count || !running.empty();) {
    if (window < windows.count && static_cast<int64_t>(running.size()) < at_once) {
      MOESTRO_ASSIGN(Scored scored, score(host->engine(), windows, window++));
      running.push_back(std::move(scored));
      continue;
    }
    engine::TokenEvent event = running.front().stream->next();
    while (event.finish == engine::FinishReason::kNone) event = running.front().stream->next();
    if (!event.error.ok()) return event.error;
    sum += *running.front().sum;
    running.pop_front();
  }
  const int64_t scored = windows.count * (windows.length - 1);
  print_json(json::object{{"perplexity", std::exp(sum / static_cast<double>(scored))},
                          {"tokens", scored}});
  return {};
}

}  // namespace moestro::app
