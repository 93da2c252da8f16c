#include "plan/plan.h"

#include <algorithm>
#include <type_traits>

#include "base/digest.h"
#include "base/format.h"
#include "plan/choose.h"
#include "plan/ops.h"
#include "plan/shards.h"

namespace moestro::plan {
namespace {

using models::OpSite;

class Chooser final : public models::OpVisitor {
 public:
  Chooser(Plan& plan, const std::vector<std::pair<std::string, std::string>>& forced)
      : plan_(plan), shards_(plan.input.ranks), forced_(forced), used_(forced.size(), false) {}
  void visit(const OpSite& site, kernels::LinearChoice& op) override { decide(site, op); }
  void visit(const OpSite& site, kernels::HeadLinearChoice& op) override { decide(site, op); }
  void visit(const OpSite& site, kernels::ExpertMlpChoice& op) override { decide(site, op); }
  void visit(const OpSite& site, kernels::GqaChoice& op) override { decide(site, op); }
  void visit(const OpSite& site, kernels::MlaChoice& op) override { decide(site, op); }
  void visit(const OpSite& site, kernels::SparseIndexChoice& op) override { decide(site, op); }

  void visit(const OpSite& site, kernels::RowOpsChoice& ops) override {
    PlanEntry entry = entry_of(site, {"row_ops", "", ""});
    BucketPlan all;
    const std::string_view forced = forced_name("row_ops");
    for (const kernels::RowOps& table : kernels::row_ops())
      all.candidates.push_back({std::string(table.name),
                                forbidden(table.name, table.needs, {}, plan_.input.isa, forced)});
    const int index = pick(all.candidates, nullptr, 0);
    if (index < 0)
      return fail(unsupported(
          format("no kernel can run {} (row_ops): {}", entry.name, reasons_text(all.candidates))));
    ops.table = &kernels::row_ops()[static_cast<size_t>(index)];
    all.kernel = ops.table->name;
    entry.buckets.push_back(std::move(all));
    ops.counts = finish(std::move(entry), site.layer);
  }

  void visit(const OpSite& site, moe::DispatchChoice& dispatch) override {
    PlanEntry entry = entry_of(site, {"dispatch", "", ""});
    say_dispatch(entry);
    BucketPlan all;
    all.kernel = plan_.input.ranks.dispatch.name;
    for (const DispatchCandidate& c : plan_.input.ranks.dispatch.candidates)
      all.candidates.push_back({std::string(c.name), c.why_not});
    if (all.candidates.empty()) all.candidates.push_back({std::string(dispatch.name), {}});
    entry.buckets.push_back(std::move(all));
    dispatch.counts = finish(std::move(entry), site.layer);
  }

  Status status() const {
    if (!status_.ok()) return status_;
    for (size_t i = 0; i < forced_.size(); ++i)
      if (!used_[i])
        return invalid_argument(
            format("--kernel {}={}: this model has no op \"{}\"; ops are linear, head_linear, "
                   "expert_mlp, gqa, mla, sparse_index, row_ops",
                   forced_[i].first, forced_[i].second, forced_[i].first));
    return {};
  }

 private:
  PlanEntry entry_of(const OpSite& site, const Named& named) const {
    PlanEntry e{.part = site.part,
                .name = site.name,
                .op = named.op,
                .scheme = site.scheme,
                .weights = site.weights,
                .activations = site.activations,
                .layout = named.layout,
                .shape = named.shape};
    if (site.layer >= 0) e.layers.push_back(site.layer);
    for (const RankShard& shard : plan_.input.ranks.shards)
      e.rank_bytes.push_back(shards_.weight_bytes(site, shard));
    e.weight_bytes = e.rank_bytes.front();
    return e;
  }

  void say_dispatch(PlanEntry& e) const {
    e.dispatch = plan_.input.ranks.dispatch.name;
    e.wire = wire_;
    e.placement = plan_.input.ranks.placement_text();
  }

  // Rows travel as the experts' kernel wants them, quantised before the wire where it quantises.
  void set_wire(const kernels::ExpertMlpShape& s) {
    const DispatchPlan& d = plan_.input.ranks.dispatch;
    const int32_t tensor = plan_.input.ranks.request.tensor;
    wire_ = "none";
    if (d.all_reduce) wire_ = format("none before, float32 sums of {} tensor ranks after", tensor);
    if (!d.crosses_ranks()) return;
    const tensor::PackedFormat& f = s.format;
    const bool int8 = f.activation == tensor::ActivationType::kInt8,
               fp8 = f.activation == tensor::ActivationType::kFp8,
               f32 = f.activation == tensor::ActivationType::kF32;
    const int64_t scales =
        int8 || fp8
            ? (f.activation_group > 0 ? (s.hidden + f.activation_group - 1) / f.activation_group
                                      : 1)
            : 0;
    const int64_t bytes = s.hidden * int64_t{int8 || fp8 ? 1 : f32 ? 4 : 2} + 4 * scales;
    wire_ = format("{} ({} bytes a row), sums in {}",
                   int8  ? "int8 rows with scales"
                   : fp8 ? "float8 rows with scales"
                   : f32 ? "float32 rows"
                         : "bfloat16 rows",
                   bytes, f32 ? "float32" : "bfloat16");
  }

  std::string_view forced_name(std::string_view op) {
    for (size_t i = 0; i < forced_.size(); ++i) {
      if (forced_[i].first != op) continue;
      used_[i] = true;
      return forced_[i].second;
    }
    return {};
  }

  template <class Op>
  void decide(const OpSite& site, Op& op) {
    Op mine = op;  // a rank's
    shards_.split(site, mine.shape);
    if (const Status fits = shards_.check(site, op.shape, mine.shape); !fits.ok())
      return fail(fits);
    PlanEntry entry = entry_of(site, describe(mine.shape));
    if constexpr (std::is_same_v<Op, kernels::ExpertMlpChoice>) {
      if (site.part == "experts") {
        set_wire(mine.shape);
        say_dispatch(entry);
      }
    }
    Result<std::vector<BucketPlan>> buckets =
        choose_kernels(mine, entry.name, plan_.input, forced_name(entry.op));
    if (!buckets.ok()) return fail(buckets.status());
    op.kernels = mine.kernels;
    entry.buckets = std::move(*buckets);
    entry.scratch_bytes = mine.scratch_bytes(plan_.input.num_workers);
    plan_.scratch_bytes = std::max(plan_.scratch_bytes, entry.scratch_bytes);
    for (const std::string& text : site.substitutions)
      add_substitution(plan_.substitutions, parse_substitution(text));
    op.counts = finish(std::move(entry), site.layer);
  }

  void fail(Status status) {
    if (status_.ok()) status_ = std::move(status);
  }

  // Files the place under its entry; returns its counters.
  std::shared_ptr<kernels::OpCounts> finish(PlanEntry entry, int32_t layer) {
    plan_.weight_bytes += entry.weight_bytes;
    add_bytes(plan_.rank_bytes, entry.rank_bytes);
    size_t index = 0;
    while (index < plan_.entries.size() && !same_kind(plan_.entries[index], entry)) ++index;
    if (index < plan_.entries.size()) {
      PlanEntry& e = plan_.entries[index];
      e.layers.insert(e.layers.end(), entry.layers.begin(), entry.layers.end());
      e.weight_bytes += entry.weight_bytes;
      add_bytes(e.rank_bytes, entry.rank_bytes);
    } else {
      plan_.entries.push_back(std::move(entry));
    }
    auto counts = std::make_shared<kernels::OpCounts>();
    plan_.counts.push_back({index, layer, counts});
    return counts;
  }
  static void add_bytes(std::vector<int64_t>& to, const std::vector<int64_t>& more) {
    to.resize(more.size());
    for (size_t i = 0; i < more.size(); ++i) to[i] += more[i];
  }
  static bool same_kind(const PlanEntry& a, const PlanEntry& b) {
    return a.part == b.part && a.name == b.name && a.op == b.op && a.scheme == b.scheme &&
           a.shape == b.shape && a.layout == b.layout;
  }

  Plan& plan_;
  const Shards shards_;
  std::string wire_ = "none";  // of the last experts
  const std::vector<std::pair<std::string, std::string>>& forced_;
  std::vector<bool> used_;
  Status status_;
};

}  // namespace

std::string tokens_text(const BucketPlan& b) {
  if (b.first <= 1 && b.last < 0) return "all";
  return b.last < 0 ? format("{} and more", b.first) : format("{}-{}", b.first, b.last);
}

std::string_view BucketPlan::chosen_by() const {
  bool measured = false;
  for (const Candidate& c : candidates) {
    if (c.reason_class() == "flag") return "flag";
    measured = measured || (c.why_not.empty() && c.us > 0);
  }
  return measured ? "measured" : "order";
}

const BucketPlan* bucket_of(const std::vector<BucketPlan>& buckets, int32_t tokens) {
  for (const BucketPlan& b : buckets)
    if (tokens >= b.first && (b.last < 0 || tokens <= b.last)) return &b;
  return nullptr;
}

std::string PlanEntry::kernels_text() const {
  std::vector<std::string_view> names;
  for (const BucketPlan& b : buckets)
    if (std::find(names.begin(), names.end(), b.kernel) == names.end()) names.push_back(b.kernel);
  std::string text;
  for (const std::string_view n : names) text += format("{}{}", text.empty() ? "" : ", ", n);
  return text;
}

Result<Plan> make_plan(models::ModelSpec& spec, const PlanInput& input) {
  Plan plan;
  plan.input = input;
  plan.limits = spec.limits();
  plan.substitutions = input.substitutions;
  std::vector<std::pair<std::string, std::string>> forced;
  for (const std::string& f : input.forced_kernels) {
    const size_t eq = f.find('=');
    if (eq == std::string::npos || eq == 0 || eq + 1 == f.size())
      return invalid_argument(
          format("--kernel {}: expected op=name, for example linear=linear_int8_ref", f));
    forced.emplace_back(f.substr(0, eq), f.substr(eq + 1));
  }
  Chooser chooser(plan, forced);
  spec.visit(chooser);
  chooser.visit(OpSite{.part = "sampling",
                       .name = "passes over the logits",
                       .layer = -1,
                       .scheme = {},
                       .weights = {},
                       .activations = {}},
                plan.sampling);
  MOESTRO_TRY(chooser.status());
  plan.activation_bytes = spec.activation_bytes();
  const RankLayout& ranks = input.ranks;
  for (const models::LayerKvWidths& w : spec.kv_widths()) {
    const int64_t heads = int64_t{w.key + w.value} * ranks.shards.front().kv_heads.count /
                          std::max(ranks.kv_heads, 1);
    plan.kv_bytes_per_token += (heads + w.index) * (bits(input.kv_dtype) / 8);
  }
  plan.input.table = nullptr;
  plan.id = hex(fnv1a(json::dump(to_json(plan))));
  return plan;
}

}  // namespace moestro::plan
