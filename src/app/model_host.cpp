#include "app/model_host.h"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "app/built_in_model.h"
#include "app/loading_progress.h"
#include "base/format.h"
#include "base/log.h"
#include "base/strings.h"
#include "checkpoint/quant_request.h"
#include "checkpoint/slimquant_scales.h"
#include "engine/kv_cache.h"
#include "plan/executed.h"

namespace moestro::app {
namespace {

constexpr int64_t kDefaultPageSize = 64;
constexpr int64_t kDefaultNumSeqs = 128;
constexpr int64_t kDefaultBatchedTokens = 2048;
constexpr int64_t kPlentyOfMemory = int64_t{1} << 50;
constexpr int64_t kFallbackContext = 4096;  // config.json without max_position_embeddings

int32_t narrow(int64_t value) {
  return static_cast<int32_t>(std::min<int64_t>(value, std::numeric_limits<int32_t>::max()));
}

std::string model_name(const std::string& path) {
  if (path.empty()) return std::string(kBuiltInModelName);
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error).lexically_normal();
  const std::string last = absolute.has_filename() ? absolute.filename().string()
                                                   : absolute.parent_path().filename().string();
  return last.empty() ? path : last;
}

struct Types {
  DType compute, kv;
};

Result<Types> choose_types(const config::Options& options, const checkpoint::ModelConfig& config,
                           std::vector<plan::Substitution>& substitutions) {
  const std::string& asked = options.model.dtype;
  if (asked == "float16") {
    return unsupported(
        "--dtype float16 is not computed here; use bfloat16, or float32 for the checkpoint's full "
        "precision");
  }
  Types types{DType::kBF16, DType::kBF16};
  if (asked == "float32" || (asked == "auto" && config.dtype == DType::kF32))
    types.compute = DType::kF32;
  if (asked == "auto" && config.dtype == DType::kF16) {
    substitutions.push_back({"the checkpoint's float16", "bfloat16", "float16 is not computed here",
                             "three bits less precision; --dtype float32 keeps it"});
  }
  const std::string& kv = options.cache.kv_cache_dtype;
  types.kv = kv == "auto" ? types.compute : kv == "float32" ? DType::kF32 : DType::kBF16;
  return types;
}

struct StepSizes {
  int64_t num_seqs, batched_tokens;
};

StepSizes choose_step(const config::Options& options, const HostNeeds& needs, int64_t context) {
  const auto& s = options.scheduler;
  StepSizes sizes{s.max_num_seqs.value_or(needs.num_seqs > 0 ? needs.num_seqs : kDefaultNumSeqs),
                  0};
  const bool whole_prompts = s.enable_chunked_prefill && !*s.enable_chunked_prefill;
  int64_t tokens = kDefaultBatchedTokens;
  if (whole_prompts) tokens = std::max(tokens, context);
  sizes.batched_tokens = s.max_num_batched_tokens.value_or(std::max(tokens, sizes.num_seqs));
  if (!s.max_num_seqs) sizes.num_seqs = std::min(sizes.num_seqs, sizes.batched_tokens);
  return sizes;
}

// The flags' ranks; vLLM's names of backends become ours in the layout.
Result<plan::RankLayout> choose_ranks(const config::Options& options,
                                      const checkpoint::ModelConfig& config, bool plan_only) {
  const config::ParallelOptions& p = options.parallel;
  const config::ParallelOptions defaults;
  plan::RankRequest request{.tensor = static_cast<int32_t>(p.tensor_parallel_size),
                            .data = static_cast<int32_t>(p.data_parallel_size),
                            .expert_parallel = p.expert_parallel,
                            .placement = p.expert_placement == "round_robin"
                                             ? plan::Placement::kRoundRobin
                                             : plan::Placement::kLinear,
                            .backend = {}};
  if (p.all2all_backend != defaults.all2all_backend) request.backend = p.all2all_backend;
  if (!plan_only && request.ranks() != 1)
    return unsupported(
        format("--tensor-parallel-size {} x --data-parallel-size {}: one rank so far; explain "
               "plans more",
               request.tensor, request.data));
  return plan::place_ranks(config, request);
}

struct Sizing {
  const config::Options& options;
  const HostNeeds& needs;
  Types types;
  int num_workers;
  platform::IsaSet isa;
  const plan::KernelTable* table;
  const plan::RankLayout& ranks;
};

// Spec and plan for one context length. Cheap: headers only.
Status build_plan(PlannedModel& planned, const Sizing& sizing, int64_t context) {
  const StepSizes step = choose_step(sizing.options, sizing.needs, context);
  const int64_t rows =
      std::min(step.batched_tokens, std::max(step.num_seqs, sizing.needs.logits_rows));
  const models::SpecRequest request{.config = planned.model.config,
                                    .quant = planned.model.quant,
                                    .source = *planned.model.weights,
                                    .compute = sizing.types.compute,
                                    .kv_dtype = sizing.types.kv,
                                    .limits = {.max_tokens = narrow(step.batched_tokens),
                                               .max_logits_rows = narrow(rows),
                                               .max_context = narrow(context)}};
  MOESTRO_ASSIGN(planned.spec, models::make_model_spec(request));
  engine::EngineOptions& e = planned.engine;
  e.page_size = narrow(sizing.options.cache.block_size.value_or(kDefaultPageSize));
  e.kv_dtype = sizing.types.kv;
  e.max_model_len = narrow(context);
  e.max_num_batched_tokens = narrow(step.batched_tokens);
  e.max_num_seqs = narrow(step.num_seqs);
  const plan::PlanInput input{.isa = sizing.isa,
                              .num_workers = sizing.num_workers,
                              .forced_kernels = sizing.options.moe.kernels,
                              .model_type = planned.model.config.model_type,
                              .compute = sizing.types.compute,
                              .kv_dtype = sizing.types.kv,
                              .page_size = e.page_size,
                              .ranks = sizing.ranks,
                              .substitutions = planned.substitutions,
                              .table = sizing.table};
  MOESTRO_ASSIGN(planned.plan, plan::make_plan(*planned.spec, input));
  return {};
}

// They share its processors and its memory.
int ranks_on_one_machine(const PlannedModel& planned, const plan::RankLayout& ranks) {
  return (ranks.ranks() + planned.machine.ranks - 1) / planned.machine.ranks;
}

KvRequest kv_request(const PlannedModel& planned, const config::Options& options,
                     const HostNeeds& needs, int64_t context) {
  const engine::EngineOptions& e = planned.engine;
  const int64_t logits =
      int64_t{planned.plan.limits.max_logits_rows} * planned.model.config.vocab_size * 4;
  KvRequest r;
  r.page_size = e.page_size;
  r.page_bytes = page_bytes_of(planned);
  r.model_context = context;
  r.max_model_len = options.model.max_model_len;
  if (!r.max_model_len && needs.longest_sequence > 0) r.max_model_len = needs.longest_sequence;
  r.max_num_seqs = e.max_num_seqs;
  r.kv_bytes = options.cache.kv_cache_memory_bytes;
  r.num_pages = options.cache.num_pages;
  r.utilization = options.cache.memory_utilization;
  r.resident_bytes = planned.plan.weight_bytes + planned.plan.activation_bytes +
                     planned.plan.scratch_bytes + logits;
  r.memory = planned.memory;
  return r;
}

// --max-model-len above what the rotary embedding was made for gives garbage, so it is refused as
// vLLM does.
Status check_context(const config::Options& options, int64_t context) {
  const auto& asked = options.model.max_model_len;
  if (!asked || *asked <= context) return {};
  return invalid_argument(
      format("--max-model-len {} is above the {} tokens that config.json allows "
             "(max_position_embeddings); "
             "lower it, or raise that with --hf-overrides",
             *asked, context));
}

Status check_isa(const platform::IsaSet asked, const platform::IsaSet here) {
  if (here.contains(asked)) return {};
  return unsupported(format("--isa: the processor lacks {}", platform::isa_names(asked - here)));
}

bool has_weight_files(const checkpoint::ModelFiles& files) {
  for (const std::string& name : files.list())
    if (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")) return true;
  return false;
}

// What --hardware describes, or this one.
Status choose_machine(const config::Options& options, PlannedModel& planned) {
  if (options.tool.hardware) {
    MOESTRO_ASSIGN(planned.machine, plan::read_machine(*options.tool.hardware));
    planned.memory = {planned.machine.memory_bytes, planned.machine.memory_bytes};
  } else {
    planned.machine = plan::this_machine();
    planned.memory = read_memory_facts();
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<const checkpoint::ModelFiles>> open_files(const config::Options& options) {
  std::unique_ptr<checkpoint::ModelFiles> files;
  if (!options.model.model.empty()) {
    MOESTRO_ASSIGN(files, checkpoint::open_model_directory(options.model.model));
  } else if (files = built_in_model_files(); !files) {
    return not_found("no model given, and this build has no built-in one; name a model directory");
  }
  return std::shared_ptr<const checkpoint::ModelFiles>(std::move(files));
}

Result<OpenModel> open_model(const config::Options& options, bool plan_only) {
  OpenModel model;
  model.is_built_in = options.model.model.empty();
  model.name = model_name(options.model.model);
  MOESTRO_ASSIGN(model.files, open_files(options));
  const checkpoint::ModelFiles* config_files = model.files.get();
  std::unique_ptr<checkpoint::ModelFiles> other;
  if (options.model.hf_config_path) {
    MOESTRO_ASSIGN(other, checkpoint::open_model_directory(*options.model.hf_config_path));
    config_files = other.get();
  }
  MOESTRO_ASSIGN(model.config,
                 checkpoint::read_model_config(*config_files, options.model.hf_overrides));
  MOESTRO_ASSIGN(model.quant, checkpoint::read_quant_config(*model.files, model.config.raw));
  MOESTRO_ASSIGN(model.asked_quantization,
                 checkpoint::resolve_quantization(options.model.quantization, model.quant));
  model.config_only =
      plan_only && options.model.load_format == "auto" && !has_weight_files(*model.files);
  if (options.model.load_format == "dummy" || model.config_only) {
    model.weights = checkpoint::dummy_weights(model.config, model.quant,
                                              static_cast<uint64_t>(options.model.seed));
  } else {
    MOESTRO_ASSIGN(model.weights, checkpoint::open_safetensors(model.files));
    MOESTRO_TRY(checkpoint::settle_slimquant_scales(*model.weights, model.quant));
  }
  return model;
}

Result<PlannedModel> plan_model(const config::Options& options, const HostNeeds& needs,
                                const KernelTimesState* times) {
  PlannedModel planned;
  MOESTRO_TRY(choose_machine(options, planned));
  MOESTRO_ASSIGN(planned.model, open_model(options, needs.plan_only));
  planned.times = times != nullptr ? *times : open_kernel_times(options, planned.machine);
  const checkpoint::ModelConfig& config = planned.model.config;
  MOESTRO_ASSIGN(const Types types, choose_types(options, config, planned.substitutions));
  const platform::IsaSet here = planned.machine.isa;
  platform::IsaSet isa = here;
  if (options.moe.isa != "auto") {
    MOESTRO_ASSIGN(isa, platform::parse_isa(options.moe.isa).with("--isa"));
    MOESTRO_TRY(check_isa(isa, here));
  }
  MOESTRO_ASSIGN(const plan::RankLayout ranks, choose_ranks(options, config, needs.plan_only));
  const int neighbours = ranks_on_one_machine(planned, ranks);
  planned.memory.total /= neighbours;
  planned.memory.available /= neighbours;
  const int num_workers = static_cast<int>(
      options.parallel.threads.value_or(std::max(1, planned.machine.cores / neighbours)));
  const Sizing sizing{options, needs, types, num_workers, isa, &planned.times.table, ranks};

  const int64_t context =
      config.max_position_embeddings > 0 ? config.max_position_embeddings : kFallbackContext;
  MOESTRO_TRY(check_context(options, context));
  int64_t length = context;
  if (options.model.max_model_len && *options.model.max_model_len > 0)
    length = *options.model.max_model_len;
  else if (!options.model.max_model_len && needs.longest_sequence > 0)
    length = needs.longest_sequence;
  MOESTRO_TRY(build_plan(planned, sizing, length));
  KvRequest request = kv_request(planned, options, needs, context);
  Result<KvSizes> sized = size_kv_cache(request);
  if (!sized.ok() && needs.plan_only) {
    planned.obstacle = sized.status().message();
    request.memory = {kPlentyOfMemory, kPlentyOfMemory};
    sized = size_kv_cache(request);
  }
  MOESTRO_ASSIGN(const KvSizes sizes, std::move(sized));
  planned.needed_bytes = request.resident_bytes + sizes.kv_bytes;
  if (sizes.substitution) planned.substitutions.push_back(*sizes.substitution);
  if (sizes.max_model_len != length) MOESTRO_TRY(build_plan(planned, sizing, sizes.max_model_len));

  planned.engine.kv_cache_bytes = sizes.kv_bytes;
  planned.engine.max_waiting = narrow(std::max(options.scheduler.max_waiting, needs.max_waiting));
  planned.engine.enable_chunked_prefill = options.scheduler.enable_chunked_prefill.value_or(true);
  planned.engine.long_prefill_token_threshold =
      narrow(options.scheduler.long_prefill_token_threshold);
  planned.engine.priority_scheduling = options.scheduler.policy == "priority";
  planned.engine.enable_prefix_caching =
      options.cache.enable_prefix_caching.value_or(needs.prefix_caching);
  planned.engine.sampleable_vocab =
      narrow(std::min<int64_t>(needs.sampleable_vocab, config.vocab_size));
  planned.engine.eos_token_ids = config.eos_token_ids;
  planned.engine.sampling = planned.plan.sampling;
  planned.packed = find_packed_weights(options, planned);
  const auto& names = options.server.served_model_names;
  planned.engine.model_name = names.empty() ? planned.model.name : names.front();
  if (options.moe.strict && !planned.plan.substitutions.empty()) {
    const size_t n = planned.plan.substitutions.size();
    return unsupported(format("--strict: {}{}", planned.plan.substitutions.front().text(),
                              n == 1 ? "" : format(" (and {} more; explain lists them)", n - 1)));
  }
  return planned;
}

int64_t page_bytes_of(const PlannedModel& planned) {
  const engine::EngineOptions& e = planned.engine;
  if (planned.plan.input.ranks.request.tensor > 1)  // a rank keeps its heads' keys and values
    return planned.plan.kv_bytes_per_token * e.page_size;
  return engine::KvCache::page_bytes(planned.spec->kv_widths(), e.kv_dtype, e.page_size);
}

std::string plan_summary(const PlannedModel& planned) {
  const checkpoint::ModelConfig& c = planned.model.config;
  const plan::Plan& p = planned.plan;
  std::string experts = "dense";
  if (c.num_experts > 0)
    experts = format("{} experts, {} a token", c.num_experts, c.num_experts_per_tok);
  std::string schemes, kernels;
  for (const plan::PlanEntry& entry : p.entries) {
    if (!entry.scheme.empty() && schemes.find(entry.scheme) == std::string::npos)
      schemes += (schemes.empty() ? "" : ", ") + entry.scheme;
    const bool main_op =
        entry.part == "experts" || entry.part == "attention" || entry.part == "dense mlp";
    if (!main_op) continue;
    for (const plan::BucketPlan& bucket : entry.buckets)
      if (kernels.find(bucket.kernel) == std::string::npos)
        kernels += (kernels.empty() ? "" : ", ") + bucket.kernel;
  }
  const int64_t page_tokens = planned.engine.page_size;
  const int64_t page_bytes = page_bytes_of(planned);
  const int64_t tokens =
      page_bytes > 0 ? planned.engine.kv_cache_bytes / page_bytes * page_tokens : 0;
  std::string out = format("model     {}: {}, {} layers, {}\n", planned.model.name, c.model_type,
                           c.num_layers, experts);
  out += format("weights   {}, {} resident; computed in {}\n", schemes,
                human_bytes(static_cast<uint64_t>(p.weight_bytes)), torch_name(p.input.compute));
  if (!planned.model.asked_quantization.empty())
    out += format("asked     {}\n", planned.model.asked_quantization);
  out += format("kernels   {}\n", kernels);
  out += format("KV cache  {} in {}: {} tokens; a sequence up to {}\n",
                human_bytes(static_cast<uint64_t>(planned.engine.kv_cache_bytes)),
                torch_name(planned.engine.kv_dtype), tokens, planned.engine.max_model_len);
  out += format("steps     up to {1} sequences and {2} tokens, threads: {0}; plan {3}",
                p.input.num_workers, planned.engine.max_num_seqs,
                planned.engine.max_num_batched_tokens, p.id);
  return out;
}

uint64_t bytes_to_load(const PlannedModel& planned) {
  if (planned.packed.cache) return planned.packed.cache->file_bytes();
  // Made-up weights have no size of their own; the plan's is close.
  const uint64_t total = planned.model.weights->total_bytes();
  return total > 0 ? total : static_cast<uint64_t>(planned.plan.weight_bytes);
}

Result<std::unique_ptr<ModelHost>> ModelHost::start(const config::Options& options,
                                                    const HostNeeds& needs) {
  MOESTRO_ASSIGN(PlannedModel planned, plan_model(options, needs));
  auto gang = std::make_unique<platform::Gang>(planned.plan.input.num_workers,
                                               options.parallel.pin_threads);
  const auto walk = [&planned](models::OpVisitor& visitor) { planned.spec->visit(visitor); };
  if (complete_kernel_times(planned.times, walk, planned.plan.input, *gang)) {
    const KernelTimesState times = std::move(planned.times);
    MOESTRO_ASSIGN(planned, plan_model(options, needs, &times));
  }
  for (const plan::Substitution& s : planned.plan.substitutions) log_warning("{}", s.text());
  log_packed_weights(planned.packed);
  const std::string summary = plan_summary(planned);
  for (const std::string_view line : split(summary, '\n')) log_info("{}", line);

  auto host = std::unique_ptr<ModelHost>(new ModelHost(std::move(planned)));
  const Clock::time_point start = Clock::now();
  host->gang_ = std::move(gang);
  std::unique_ptr<models::Model> model;
  {
    LoadingProgress progress(bytes_to_load(host->planned_), options.model.show_load_progress);
    const auto add = [&progress](uint64_t bytes) { progress.add(bytes); };
    MOESTRO_ASSIGN(auto store, open_store(options, host->planned_.packed, *host->gang_, add));
    MOESTRO_ASSIGN(model, host->planned_.spec->load({.source = *host->planned_.model.weights,
                                                     .store = std::move(store),
                                                     .gang = *host->gang_,
                                                     .progress = add}));
  }
  MOESTRO_ASSIGN(host->engine_, engine::Engine::create(host->planned_.engine, std::move(model),
                                                       *host->gang_, host->metrics_));
  plan::publish_counts(host->planned_.plan, host->metrics_);
  host->load_seconds_ = seconds_since(start);
  log_info("loaded in {:.1f} s", host->load_seconds_);
  return host;
}

}  // namespace moestro::app
