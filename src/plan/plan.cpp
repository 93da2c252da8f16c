#include "plan/plan.h"

#include <algorithm>

#include "base/format.h"
#include "plan/choose.h"
#include "plan/hash.h"
#include "plan/ops.h"

namespace moestro::plan {
namespace {

using models::OpSite;

class Chooser final : public models::OpVisitor {
 public:
  Chooser(Plan& plan, const std::vector<std::pair<std::string, std::string>>& forced)
      : plan_(plan), forced_(forced), used_(forced.size(), false) {}
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
    say_local(entry);
    BucketPlan all;
    all.kernel = dispatch.name;
    all.candidates.push_back({all.kernel, {}});
    for (const std::string_view other : {"allgather", "alltoall", "alltoall_batched"})
      all.candidates.push_back(
          {std::string(other), "parallel: one rank has nothing to exchange; not built yet either"});
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
  static PlanEntry entry_of(const OpSite& site, const Named& named) {
    PlanEntry e{.part = site.part,
                .name = site.name,
                .op = named.op,
                .scheme = site.scheme,
                .weights = site.weights,
                .activations = site.activations,
                .layout = named.layout,
                .shape = named.shape};
    if (site.layer >= 0) e.layers.push_back(site.layer);
    if (site.part == "experts") {
      say_local(e);
    }
    e.weight_bytes = site.weight_bytes;
    return e;
  }

  static void say_local(PlanEntry& e) {
    e.dispatch = "local";
    e.wire = "none";
    e.placement = "linear, every expert on rank 0";
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
    PlanEntry entry = entry_of(site, describe(op.shape));
    Result<std::vector<BucketPlan>> buckets =
        choose_kernels(op, entry.name, plan_.input, forced_name(entry.op));
    if (!buckets.ok()) return fail(buckets.status());
    entry.buckets = std::move(*buckets);
    entry.scratch_bytes = op.scratch_bytes(plan_.input.num_workers);
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
    size_t index = 0;
    while (index < plan_.entries.size() && !same_kind(plan_.entries[index], entry)) ++index;
    if (index < plan_.entries.size()) {
      PlanEntry& e = plan_.entries[index];
      e.layers.insert(e.layers.end(), entry.layers.begin(), entry.layers.end());
      e.weight_bytes += entry.weight_bytes;
    } else {
      plan_.entries.push_back(std::move(entry));
    }
    auto counts = std::make_shared<kernels::OpCounts>();
    plan_.counts.push_back({index, layer, counts});
    return counts;
  }
  static bool same_kind(const PlanEntry& a, const PlanEntry& b) {
    return a.part == b.part && a.name == b.name && a.op == b.op && a.scheme == b.scheme &&
           a.shape == b.shape && a.layout == b.layout;
  }

  Plan& plan_;
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
  for (const models::LayerKvWidths& w : spec.kv_widths())
    plan.kv_bytes_per_token += (w.key + w.value + w.index) * int64_t{bits(input.kv_dtype) / 8};
  plan.input.table = nullptr;
  plan.id = hex(fnv1a(json::dump(to_json(plan))));
  return plan;
}

}  // namespace moestro::plan
