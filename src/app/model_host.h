// From flags to a running engine, the part that every verb shares: files -> config -> quantisation
// -> plan -> weights -> engine. open_model() and plan_model() read headers only, so explain and
// inspect stop there. Called on the main thread.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "app/kernel_times.h"
#include "app/kv_budget.h"
#include "app/packed_weights.h"
#include "base/metrics.h"
#include "checkpoint/model_config.h"
#include "checkpoint/model_files.h"
#include "checkpoint/quant_config.h"
#include "checkpoint/weight_source.h"
#include "config/options.h"
#include "engine/engine.h"
#include "models/model_spec.h"
#include "plan/machine.h"
#include "plan/plan.h"
#include "platform/gang.h"

namespace moestro::app {

struct OpenModel {
  std::string name;  // the directory's last part, or the demo's
  bool is_built_in = false;
  std::shared_ptr<const checkpoint::ModelFiles> files;
  checkpoint::ModelConfig config;
  checkpoint::QuantConfig quant;
  std::string asked_quantization;  // what --quantization comes to, in words; empty: not given
  std::unique_ptr<checkpoint::WeightSource> weights;
  bool config_only = false;  // no weights in the directory; planned as config.json describes them
};
// The model's files alone: the directory that the flags name, or the built-in model.
Result<std::shared_ptr<const checkpoint::ModelFiles>> open_files(const config::Options& options);
// plan_only: a directory without weight files will do.
Result<OpenModel> open_model(const config::Options& options, bool plan_only = false);

// What a verb needs beyond the flags.
struct HostNeeds {
  int64_t longest_sequence =
      0;  // tokens that must fit where --max-model-len is not given; 0: the model's context
  int64_t num_seqs = 0;     // sequences at once where --max-num-seqs is not given; 0: the default
  int64_t logits_rows = 0;  // rows of prompt logits worth computing in one step
  int64_t max_waiting = 0;  // at least so many queued requests
  bool plan_only = false;   // too little memory here is no error, but PlannedModel::obstacle
  int64_t sampleable_vocab = 0;  // ids that the tokenizer knows; 0: all
  bool prefix_caching = true;    // where the flags do not say
};

struct PlannedModel {
  OpenModel model;
  plan::Machine machine;  // the plan is for
  KernelTimesState times;
  std::unique_ptr<models::ModelSpec> spec;  // kernels filled in
  plan::Plan plan;
  engine::EngineOptions engine;  // sizes; the vocabulary and end tokens too
  MemoryFacts memory;
  std::vector<plan::Substitution> substitutions;  // found here; plan.substitutions has all
  int64_t needed_bytes = 0;                       // weights, step memory and KV cache
  std::string obstacle;                           // why it could not run here; empty: it could
  PackedWeights packed;                           // a packed cache for this plan, if there is one
};
// times: null reads the file that the flags name.
Result<PlannedModel> plan_model(const config::Options& options, const HostNeeds& needs,
                                const KernelTimesState* times = nullptr);

// Bytes of one page of a rank's KV cache, all layers.
int64_t page_bytes_of(const PlannedModel& planned);
// Of the checkpoint, or of the packed cache that stands for it; for the progress bar.
uint64_t bytes_to_load(const PlannedModel& planned);

// A few lines for the log: model, types, kernels, KV cache, threads.
std::string plan_summary(const PlannedModel& planned);

// A loaded model with its engine. Member order is destruction order: the engine goes first.
class ModelHost {
 public:
  static Result<std::unique_ptr<ModelHost>> start(const config::Options& options,
                                                  const HostNeeds& needs = {});

  const PlannedModel& planned() const { return planned_; }
  const checkpoint::ModelConfig& config() const { return planned_.model.config; }
  MetricsRegistry& metrics() { return metrics_; }
  engine::Engine& engine() { return *engine_; }
  std::shared_ptr<engine::Engine> shared_engine() { return engine_; }
  double load_seconds() const { return load_seconds_; }

 private:
  explicit ModelHost(PlannedModel planned) : planned_(std::move(planned)) {}

  PlannedModel planned_;
  MetricsRegistry metrics_;
  std::unique_ptr<platform::Gang> gang_;
  double load_seconds_ = 0;
  std::shared_ptr<engine::Engine> engine_;
};

}  // namespace moestro::app
