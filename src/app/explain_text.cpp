#include "app/explain_text.h"

#include <algorithm>

#include "base/format.h"
#include "base/strings.h"
#include "config/help.h"
#include "plan/measure.h"

namespace moestro::app {
namespace {

constexpr size_t kColumns = 100, kLabel = 10;

std::string join(const std::vector<std::string>& words, std::string_view separator) {
  std::string text;
  for (const std::string& w : words) text += format("{}{}", text.empty() ? "" : separator, w);
  return text;
}

void add_once(std::vector<std::string>& list, std::string text) {
  if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(std::move(text));
}

// Long values (JSON) are cut; --json has them whole.
std::string flag_text(const config::CommandLine& line) {
  constexpr size_t kLongest = 80;
  std::vector<std::string> flags;
  for (const json::value& v : config::asked_flags(line)) {
    std::string flag(json::view(v.get_string()));
    if (flag.size() > kLongest) flag = repair_utf8(flag.substr(0, kLongest)) + "…";
    flags.push_back(std::move(flag));
  }
  return flags.empty() ? "nothing asked for: defaults, and what the checkpoint says"
                       : join(flags, ", ");
}

std::string config_text(const checkpoint::ModelConfig& c) {
  std::string text =
      format("{}: {} layers of hidden size {}", c.model_type, c.num_layers, c.hidden_size);
  if (c.num_experts > 0) {
    std::vector<int32_t> moe;
    for (size_t l = 0; l < c.moe_layer.size(); ++l)
      if (c.moe_layer[l]) moe.push_back(static_cast<int32_t>(l));
    text += format("; layers {} have {} experts of {}, {} a token", plan::layer_ranges(moe),
                   c.num_experts, c.moe_intermediate_size, c.num_experts_per_tok);
    if (c.num_shared_experts > 0)
      text += format(", and {} shared one{} of {}", c.num_shared_experts,
                     c.num_shared_experts == 1 ? "" : "s", c.shared_expert_intermediate_size);
  } else {
    text += ", no experts";
  }
  if (c.uses_mla())
    text += format("; latent attention, {} heads, latent {}", c.num_heads, c.kv_lora_rank);
  else
    text += format("; attention with {} heads, {} of keys and values", c.num_heads, c.num_kv_heads);
  if (c.uses_dsa()) text += format(", sparse beyond {} positions (DSA)", c.index_topk);
  return text;
}

std::string scheme_text(const PlannedModel& planned) {
  const checkpoint::QuantConfig& q = planned.model.quant;
  std::string text;
  if (q.method == checkpoint::QuantMethodName::kNone) {
    text = format("no quantization_config: {} weights", torch_name(planned.model.config.dtype));
  } else {
    std::vector<std::string> groups;
    for (const checkpoint::QuantGroup& g : q.groups) add_once(groups, checkpoint::describe(g));
    text = format("{} says {}: {}", q.config_key, q.method_text, join(groups, "; "));
    if (!q.ignore.empty())
      text += format("; {} module{} left out", q.ignore.size(),
                     q.ignore.size() == 1 ? "" : "s or patterns");
  }
  return text + "; " +
         (planned.model.asked_quantization.empty() ? std::string("no -q: the checkpoint decides")
                                                   : planned.model.asked_quantization);
}

// "int8_w8a8 reads attention, experts; w16a16 reads router"
std::string method_text(const plan::Plan& p) {
  std::vector<std::pair<std::string, std::vector<std::string>>> methods;
  for (const plan::PlanEntry& e : p.entries) {
    if (e.scheme.empty()) continue;
    auto at = std::find_if(methods.begin(), methods.end(),
                           [&](const auto& m) { return m.first == e.scheme; });
    if (at == methods.end()) at = methods.insert(at, {e.scheme, {}});
    add_once(at->second, e.part);
  }
  std::vector<std::string> texts;
  for (const auto& [method, parts] : methods)
    texts.push_back(format("{} for {}", method, join(parts, ", ")));
  return join(texts, "; ") + " (by the tensors in the headers)";
}

std::string layout_text(const plan::Plan& p) {
  std::vector<std::string> texts;
  for (const plan::PlanEntry& e : p.entries) {
    if (e.scheme.empty()) continue;
    add_once(texts,
             format("{} ({}) → {}, activations {}", e.scheme, e.weights, e.layout, e.activations));
  }
  return join(texts, "; ");
}

// "the fastest measured: expert_mlp → a; first of its list that can run: linear → b, gqa → c"
std::string kernel_text(const plan::Plan& p) {
  std::vector<std::string> forced, measured, by_order;
  for (const plan::PlanEntry& e : p.entries) {
    if (e.part != "experts" && e.part != "attention" && e.part != "dense mlp") continue;
    for (const plan::BucketPlan& b : e.buckets) {
      const std::string_view by = b.chosen_by();
      add_once(by == "flag"       ? forced
               : by == "measured" ? measured
                                  : by_order,
               format("{} → {}", e.op, b.kernel));
    }
  }
  std::vector<std::string> texts;
  if (!forced.empty()) texts.push_back("as --kernel asks: " + join(forced, ", "));
  if (!measured.empty()) texts.push_back("the fastest measured: " + join(measured, ", "));
  if (!by_order.empty()) texts.push_back("first of its list that can run: " + join(by_order, ", "));
  return join(texts, "; ");
}

// Tensor x data ranks, and what becomes of --all2all-backend.
std::string ranks_text(const PlannedModel& planned) {
  const plan::RankLayout& layout = planned.plan.input.ranks;
  const plan::RankRequest& r = layout.request;
  if (layout.ranks() == 1) return "one: nothing is split";
  std::string text = format("{} data x {} tensor", r.data, r.tensor);
  if (r.tensor > 1)
    text += format("; a tensor rank has {} of {} heads", layout.shards.front().heads.count,
                   planned.model.config.num_heads);
  if (planned.model.config.num_experts > 0) text += format("; {}", layout.placement_text());
  return text + "; planned, not runnable yet: this build's serve is one rank";
}

std::string dispatch_text(const PlannedModel& planned) {
  const checkpoint::ModelConfig& c = planned.model.config;
  const plan::RankLayout& layout = planned.plan.input.ranks;
  for (const plan::PlanEntry& e : planned.plan.entries) {
    if (e.part != "experts") continue;
    std::string text = layout.asked_backend.empty() ? "" : layout.asked_backend + "; ";
    text +=
        format("{}, since {}: rows are sorted by expert, ", e.dispatch, layout.dispatch.because);
    text += layout.dispatch.crosses_ranks() || layout.dispatch.all_reduce
                ? format("on the wire {}", e.wire)
                : std::string("nothing goes over a wire");
    if (c.num_shared_experts > 0) text += "; the shared expert runs after them on the same threads";
    return text;
  }
  return "none: no layer has experts";
}

}  // namespace

std::vector<ChainStep> decision_chain(const config::CommandLine& line,
                                      const PlannedModel& planned) {
  return {{"flag", flag_text(line)},
          {"config", config_text(planned.model.config)},
          {"scheme", scheme_text(planned)},
          {"method", method_text(planned.plan)},
          {"layout", layout_text(planned.plan)},
          {"kernel", kernel_text(planned.plan)},
          {"ranks", ranks_text(planned)},
          {"dispatch", dispatch_text(planned)}};
}

std::vector<plan::DevicePlan> device_plans(const PlannedModel& planned) {
  std::vector<plan::DevicePlan> plans;
  const std::vector<plan::DeviceExperts> experts =
      plan::device_experts(*planned.spec, planned.model.config, planned.plan);
  int64_t held = 0;
  for (const plan::PlanEntry& e : planned.plan.entries)
    if (e.part == "experts") held += e.weight_bytes;
  for (const plan::Gpu& gpu : planned.machine.gpus) {
    const bool known = std::ranges::any_of(plans, [&](const auto& p) { return p.gpu == gpu.name; });
    if (known) continue;
    for (const plan::DeviceExperts& e : experts)
      plans.push_back(plan::plan_device(gpu, e, planned.needed_bytes - held));
  }
  return plans;
}

namespace {

std::string device_memory_text(const plan::DevicePlan& p, const plan::RankLayout& ranks) {
  const auto size = [](int64_t bytes) { return human_bytes(static_cast<uint64_t>(bytes)); };
  std::string text = format(
      "{} for experts, {} of workspace, {} for the rest and the KV cache, of {}",
      size(p.expert_bytes), size(p.workspace_bytes), size(p.other_bytes), size(p.memory_bytes));
  if (ranks.ranks() > 1) text = "of each rank: " + text;
  if (p.fits()) return text + ": fits";
  if (p.least_ranks == 0) return text + ": does not fit, however many ranks share the experts";
  return text + format(": does not fit; {} ranks would hold it (-dp {} --enable-expert-parallel){}",
                       p.least_ranks, p.least_ranks,
                       ranks.ranks() > 1 ? format(", {} are asked for", ranks.ranks()) : "");
}

}  // namespace

std::string devices_text(const PlannedModel& planned) {
  const std::vector<plan::Gpu>& gpus = planned.machine.gpus;
  if (gpus.empty()) return {};
  std::string out =
      "\nOn the GPU (planned only: this build's serve runs models on the CPU; attention, norms "
      "and\n"
      "sampling have no CUDA kernels yet)\n";
  const std::vector<plan::DevicePlan> plans = device_plans(planned);
  if (plans.empty()) out += "  nothing: no layer has experts\n";
  for (const plan::DevicePlan& p : plans) {
    const auto same = std::ranges::count_if(gpus, [&](const auto& g) { return g.name == p.gpu; });
    out += format("  {} x {}\n", same, p.gpu);
    const plan::BucketPlan& first = p.buckets.front();
    if (!p.runs()) {
      out += labelled("      none", p.remedy);
    } else {
      out += format("      experts       {}, activations {}\n", p.layout, p.activations);
      for (size_t i = 0; i < p.buckets.size(); ++i)
        out += format("      {:<14}{:<30}{}\n", plan::tokens_text(p.buckets[i]),
                      p.buckets[i].kernel, p.tiles[i]);
      out += labelled("      memory", device_memory_text(p, planned.plan.input.ranks));
    }
    for (const plan::Candidate& c : first.candidates)
      if (!c.why_not.empty()) out += format("      not {:<26}{}\n", c.kernel, c.why_not);
  }
  return out;
}

std::string times_text(const PlannedModel& planned) {
  const KernelTimesState& times = planned.times;
  if (!times.why_not.empty())
    return format("not measured ({}): the order of the kernel lists decides", times.why_not);
  plan::PlanInput input = planned.plan.input;
  const auto walk = [&planned](models::OpVisitor& visitor) { planned.spec->visit(visitor); };
  const int missing = plan::count_unmeasured(walk, input, times.table);
  if (missing > 0)
    return format(
        "{} shapes are not measured yet: there the order of the kernel lists decides; the "
        "first serve measures them",
        missing);
  bool any = false;
  for (const plan::PlanEntry& e : planned.plan.entries)
    for (const plan::BucketPlan& b : e.buckets)
      for (const plan::Candidate& c : b.candidates) any = any || c.us > 0;
  return any ? format("measured on this machine, kept in {}", times.path)
             : std::string("one fast kernel a place, so nothing to measure: the order decides");
}

std::string labelled(std::string_view label, std::string_view text) {
  std::string out(label);
  out.append(std::max(kLabel, label.size() + 1) - label.size(), ' ');
  size_t column = std::max(kLabel, label.size() + 1);
  bool first = true;
  for (const std::string_view word : split(text, ' ')) {
    size_t width = 0;  // in characters, not bytes
    for (const char c : word) width += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    if (!first && column + 1 + width > kColumns) {
      out += "\n" + std::string(kLabel, ' ');
      column = kLabel;
      first = true;
    }
    if (!first) out += ' ', ++column;
    out += word;
    column += width;
    first = false;
  }
  return out + "\n";
}

}  // namespace moestro::app
