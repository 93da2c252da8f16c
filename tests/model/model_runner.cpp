#include "model/model_runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "checkpoint/quant_config.h"
#include "plan/executed.h"

namespace moestro::tests {
namespace {
constexpr int32_t kPoolTokens = 8192;
}

Result<std::unique_ptr<ModelRunner>> ModelRunner::open(const std::string& directory,
                                                       const RunnerOptions& options) {
  auto r = std::make_unique<ModelRunner>();
  r->options_ = options;
  MOESTRO_ASSIGN(r->files_, checkpoint::open_model_directory(directory));
  MOESTRO_ASSIGN(const checkpoint::ModelConfig config,
                 checkpoint::read_model_config(*r->files_, options.overrides));
  MOESTRO_ASSIGN(const checkpoint::QuantConfig quant,
                 checkpoint::read_quant_config(*r->files_, config.raw));
  MOESTRO_ASSIGN(r->source_, checkpoint::open_safetensors(r->files_));
  r->gang_ = std::make_unique<platform::Gang>(options.workers, false);
  const models::SpecRequest request{.config = config,
                                    .quant = quant,
                                    .source = *r->source_,
                                    .compute = options.compute,
                                    .kv_dtype = options.kv,
                                    .limits = {.max_tokens = options.max_tokens,
                                               .max_logits_rows = options.max_tokens,
                                               .max_context = options.max_context}};
  MOESTRO_ASSIGN(const auto spec, models::make_model_spec(request));
  MOESTRO_ASSIGN(r->plan_, plan::make_plan(*spec, {.isa = options.isa,
                                                   .num_workers = options.workers,
                                                   .model_type = config.model_type,
                                                   .compute = options.compute,
                                                   .kv_dtype = options.kv,
                                                   .page_size = options.page_size}));
  if (options.after_plan) options.after_plan(*spec);
  MOESTRO_ASSIGN(r->model_, spec->load({.source = *r->source_,
                                        .store = std::make_shared<quant::WeightArena>(),
                                        .gang = *r->gang_,
                                        .progress = {}}));

  const int32_t pages = kPoolTokens / options.page_size;
  const auto view = [&](int32_t width) {
    const int64_t row = int64_t{width} * bits(options.kv) / 8;
    auto& bytes =
        r->memory_.emplace_back(static_cast<size_t>(row * options.page_size * pages + 64),
                                std::byte{0x7f});  // NaN-like: unwritten rows must not be read
    return tensor::PagedView{.data = bytes.data(),
                             .dtype = options.kv,
                             .page_size = options.page_size,
                             .width = width,
                             .row_bytes = row,
                             .block_bytes = row * options.page_size};
  };
  for (const models::LayerKvWidths& w : r->model_->kv_widths())
    r->layers_.push_back({.key = view(w.key), .value = view(w.value), .index = view(w.index)});
  r->free_pages_.resize(static_cast<size_t>(pages));
  std::iota(r->free_pages_.begin(), r->free_pages_.end(), 0);
  std::shuffle(r->free_pages_.begin(), r->free_pages_.end(), std::mt19937(1));
  r->logits_.resize(static_cast<size_t>(options.max_tokens) *
                    static_cast<size_t>(r->model_->vocab_size()));
  return r;
}

ModelRunner::~ModelRunner() {
  if (!options_.expect_plan_executed) return;
  for (const std::string& text : plan::mismatches(plan_)) ADD_FAILURE() << text;
}

void ModelRunner::give_pages(Sequence& s, int32_t tokens) {
  while (static_cast<int32_t>(s.pages.size()) * options_.page_size < tokens) {
    s.pages.push_back(free_pages_.back());
    free_pages_.pop_back();
  }
}

// Appends the logits of every new token to rows[i].
void ModelRunner::step(std::vector<Sequence*> sequences, const std::vector<int32_t>& counts,
                       std::vector<std::vector<float>>& rows) {
  std::vector<int32_t> ids, positions, seq_of, starts{0}, logits_rows, tables;
  size_t stride = 1;
  for (size_t i = 0; i < sequences.size(); ++i) {
    give_pages(*sequences[i], sequences[i]->done + counts[i]);
    stride = std::max(stride, sequences[i]->pages.size());
  }
  for (size_t i = 0; i < sequences.size(); ++i) {
    Sequence& s = *sequences[i];
    for (int32_t t = 0; t < counts[i]; ++t) {
      ids.push_back(s.ids[static_cast<size_t>(s.done + t)]);
      positions.push_back(s.done + t);
      seq_of.push_back(static_cast<int32_t>(i));
    }
    starts.push_back(static_cast<int32_t>(ids.size()));
    std::vector<int32_t> table = s.pages;
    table.resize(stride, -1);
    tables.insert(tables.end(), table.begin(), table.end());
  }
  logits_rows.resize(ids.size());
  std::iota(logits_rows.begin(), logits_rows.end(), 0);
  const kernels::StepInput input{.num_tokens = static_cast<int32_t>(ids.size()),
                                 .num_seqs = static_cast<int32_t>(sequences.size()),
                                 .token_ids = ids.data(),
                                 .positions = positions.data(),
                                 .token_seq = seq_of.data(),
                                 .query_start = starts.data(),
                                 .block_tables = tables.data(),
                                 .block_table_stride = static_cast<int32_t>(stride),
                                 .logits_rows = logits_rows.data(),
                                 .num_logits_rows = static_cast<int32_t>(ids.size())};
  const kernels::KvView kv{.layers = layers_};
  gang_->run([&](platform::Worker& worker) { model_->forward(input, kv, logits_.data(), worker); });
  for (size_t i = 0; i < sequences.size(); ++i) {
    sequences[i]->done += counts[i];
    const auto begin = logits_.begin() + int64_t{starts[i]} * vocab();
    rows[i].insert(rows[i].end(), begin, begin + int64_t{counts[i]} * vocab());
  }
}

std::vector<std::vector<float>> ModelRunner::logits(
    const std::vector<std::vector<int32_t>>& prompts) {
  std::vector<Sequence> sequences;
  for (const auto& p : prompts) sequences.push_back({.ids = p});
  std::vector<std::vector<float>> all(prompts.size());
  for (;;) {
    std::vector<Sequence*> active;
    std::vector<int32_t> counts;
    std::vector<size_t> index;
    int32_t room = options_.max_tokens;
    for (size_t i = 0; i < sequences.size(); ++i) {
      const int32_t left = static_cast<int32_t>(sequences[i].ids.size()) - sequences[i].done;
      const int32_t n = std::min({left, options_.chunk, room});
      if (n <= 0) continue;
      room -= n;
      active.push_back(&sequences[i]);
      counts.push_back(n);
      index.push_back(i);
    }
    if (active.empty()) break;
    std::vector<std::vector<float>> rows(active.size());
    step(active, counts, rows);
    for (size_t i = 0; i < active.size(); ++i)
      all[index[i]].insert(all[index[i]].end(), rows[i].begin(), rows[i].end());
  }
  for (const Sequence& s : sequences)
    free_pages_.insert(free_pages_.end(), s.pages.begin(), s.pages.end());
  return all;
}

void ModelRunner::idle_step() {
  std::vector<std::vector<float>> rows;
  step({}, {}, rows);
}

std::vector<int32_t> ModelRunner::greedy(const std::vector<int32_t>& prompt, int32_t n) {
  Sequence s{.ids = prompt};
  std::vector<int32_t> out;
  while (static_cast<int32_t>(out.size()) < n) {
    std::vector<std::vector<float>> rows(1);
    step({&s}, {std::min(options_.chunk, static_cast<int32_t>(s.ids.size()) - s.done)}, rows);
    if (s.done < static_cast<int32_t>(s.ids.size())) continue;
    const auto last = rows[0].end() - vocab();
    out.push_back(static_cast<int32_t>(std::max_element(last, rows[0].end()) - last));
    s.ids.push_back(out.back());
  }
  free_pages_.insert(free_pages_.end(), s.pages.begin(), s.pages.end());
  return out;
}

}  // namespace moestro::tests
