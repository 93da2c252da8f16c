#include "plan/plan.h"

#include <algorithm>
#include <optional>

#include "base/format.h"
#include "plan/choose.h"

namespace moestro::plan {
namespace {

using models::OpSite;

struct Named {
  std::string op, shape, layout;
};

Named describe(const kernels::LinearShape& s) {
  return {"linear", format("n {}, k {}", s.total_n, s.k),
          std::string(tensor::packed_format_name(s.format))};
}
Named describe(const kernels::HeadLinearShape& s) {
  return {"head_linear", format("{} heads, n {}, k {}", s.heads, s.n, s.k),
          std::string(tensor::packed_format_name(s.format))};
}
Named describe(const kernels::ExpertMlpShape& s) {
  return {"expert_mlp", format("hidden {}, intermediate {}", s.hidden, s.intermediate),
          std::string(tensor::packed_format_name(s.format))};
}
Named describe(const kernels::GqaShape& s) {
  return {"gqa", format("{} heads, {} key/value heads of {}", s.heads, s.kv_heads, s.head_dim),
          format("kv {}", torch_name(s.kv_dtype))};
}
Named describe(const kernels::MlaShape& s) {
  return {"mla", format("{} heads, latent {}, rope {}", s.heads, s.latent, s.rope),
          format("kv {}", torch_name(s.kv_dtype))};
}
Named describe(const kernels::SparseIndexShape& s) {
  return {"sparse_index", format("{} heads of {}, top {}", s.heads, s.dim, s.topk),
          format("kv {}", torch_name(s.kv_dtype))};
}

auto candidates_of(const kernels::LinearShape& s) { return kernels::linear_kernels(s.format); }
auto candidates_of(const kernels::HeadLinearShape& s) {
  return kernels::head_linear_kernels(s.format);
}
auto candidates_of(const kernels::ExpertMlpShape& s) {
  return kernels::expert_mlp_kernels(s.format);
}
auto candidates_of(const kernels::GqaShape&) { return kernels::gqa_kernels(); }
auto candidates_of(const kernels::MlaShape&) { return kernels::mla_kernels(); }
auto candidates_of(const kernels::SparseIndexShape&) { return kernels::sparse_index_kernels(); }

std::string reasons(const std::vector<Candidate>& candidates) {
  std::string text;
  for (const Candidate& c : candidates)
    text += format("{}{} ({})", text.empty() ? "" : ", ", c.kernel, c.why_not);
  return text;
}

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

  void visit(const OpSite& site, const kernels::RowOps*& ops) override {
    PlanEntry entry = entry_of(site, {"row_ops", "", ""});
    const std::string_view forced = forced_name("row_ops");
    ops = nullptr;
    for (const kernels::RowOps& table : kernels::row_ops()) {
      std::string why_not;
      if (!plan_.input.isa.contains(table.needs))
        why_not = format("isa: needs {}", platform::isa_names(table.needs - plan_.input.isa));
      else if (!forced.empty() && table.name != forced)
        why_not = format("flag: --kernel asks for {}", forced);
      else if (ops)
        why_not = format("order: after {}", ops->name);
      else
        ops = &table;
      entry.candidates.push_back({std::string(table.name), std::move(why_not)});
    }
    finish(std::move(entry), ops ? ops->name : std::string_view{});
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
    if (site.part == "experts") e.dispatch = "local";
    e.weight_bytes = site.weight_bytes;
    return e;
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
    op.kernel = choose(candidates_of(op.shape), op.shape, plan_.input.isa, forced_name(entry.op),
                       entry.candidates);
    if (op.kernel)
      plan_.scratch_bytes =
          std::max(plan_.scratch_bytes, op.scratch_bytes(plan_.input.num_workers));
    finish(std::move(entry), op.kernel ? op.kernel->name : std::string_view{});
  }

  void finish(PlanEntry entry, std::string_view kernel) {
    if (kernel.empty()) {
      if (status_.ok())
        status_ = unsupported(format("no kernel can run {} ({}; {}): {}", entry.name, entry.op,
                                     entry.shape, reasons(entry.candidates)));
      return;
    }
    entry.kernel = kernel;
    plan_.weight_bytes += entry.weight_bytes;
    for (PlanEntry& e : plan_.entries) {
      if (e.part == entry.part && e.name == entry.name && e.op == entry.op &&
          e.scheme == entry.scheme && e.shape == entry.shape && e.layout == entry.layout) {
        e.layers.insert(e.layers.end(), entry.layers.begin(), entry.layers.end());
        e.weight_bytes += entry.weight_bytes;
        return;
      }
    }
    plan_.entries.push_back(std::move(entry));
  }

  Plan& plan_;
  const std::vector<std::pair<std::string, std::string>>& forced_;
  std::vector<bool> used_;
  Status status_;
};

uint64_t fnv1a(std::string_view text) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : text) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return h;
}

std::string hex(uint64_t v) {
  std::string s(16, '0');
  for (size_t i = 16; i-- > 0; v >>= 4) s[i] = "0123456789abcdef"[v & 15];
  return s;
}

}  // namespace

Result<Plan> make_plan(models::ModelSpec& spec, const PlanInput& input) {
  Plan plan;
  plan.input = input;
  plan.limits = spec.limits();
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
  MOESTRO_TRY(chooser.status());
  plan.activation_bytes = spec.activation_bytes();
  for (const models::LayerKvWidths& w : spec.kv_widths())
    plan.kv_bytes_per_token += (w.key + w.value + w.index) * int64_t{bits(input.kv_dtype) / 8};
  plan.id = hex(fnv1a(json::dump(to_json(plan))));
  return plan;
}

}  // namespace moestro::plan
