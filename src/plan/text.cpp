// The plan as text for people.
#include <algorithm>

#include "base/format.h"
#include "base/strings.h"
#include "plan/plan.h"

namespace moestro::plan {
namespace {

std::string bytes_text(int64_t bytes) { return human_bytes(static_cast<uint64_t>(bytes)); }

std::string cell(std::string_view text, size_t width) {
  std::string s(text);
  s.append(std::max(width, s.size() + 1) - s.size(), ' ');
  return s;
}

void append_line(std::string& out, std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  out += line + "\n";
}

// "3-77"; "all 78" would hide which.
std::string layers_text(const PlanEntry& e) {
  if (e.layers.empty()) return {};
  return format("layer{} {}", e.layers.size() == 1 ? "" : "s", layer_ranges(e.layers));
}

std::string format_text(const PlanEntry& e) {
  if (e.layout.empty()) return {};
  if (e.activations.empty()) return e.layout;
  return format("{}, {}", e.layout, e.activations);
}

constexpr size_t kName = 44, kTokens = 13, kKernel = 30;

void append_entry(std::string& out, const PlanEntry& e, bool with_layers) {
  std::string name = e.name;
  if (with_layers && !e.layers.empty()) name += format(" ({})", layers_text(e));
  std::string facts = format_text(e);
  if (e.weight_bytes > 0) facts += format(" · {}", bytes_text(e.weight_bytes));
  append_line(out, facts.empty() ? "  " + name : "  " + cell(name, kName) + facts);
  for (const BucketPlan& b : e.buckets) {
    std::string time;
    for (const Candidate& c : b.candidates)
      if (c.why_not.empty() && c.us > 0) time = format("measured: {:.1f} us", c.us);
    append_line(out, "      " + cell(tokens_text(b), kTokens) + cell(b.kernel, kKernel) + time);
  }
  if (e.part != "experts") return;
  append_line(out, format("      scheme {} ({})", e.scheme, e.weights));
  append_line(out, format("      dispatch {}, on the wire {}", e.dispatch, e.wire));
  append_line(out, format("      placement {}", e.placement));
  append_line(out, format("      resident {}, transient {} of scratch", bytes_text(e.weight_bytes),
                          bytes_text(e.scratch_bytes)));
}

// One line a rank: what it holds, and the way of a token of the experts through it.
void append_ranks(std::string& out, const Plan& plan) {
  const RankLayout& layout = plan.input.ranks;
  const RankRequest& r = layout.request;
  if (layout.ranks() == 1) return;
  const PlanEntry* experts = nullptr;
  for (const PlanEntry& e : plan.entries)
    if (e.part == "experts") experts = &e;
  out += format("\nRanks: {} = {} data x {} tensor; planned, but this build runs one rank only\n",
                layout.ranks(), r.data, r.tensor);
  const bool channels = layout.experts_are_sliced;
  append_line(out, "  " + cell("rank", 6) + cell("data", 6) + cell("tensor", 8) + cell("heads", 9) +
                       cell("vocabulary", 16) +
                       (experts ? cell(channels ? "of every expert" : "experts", 20) : "") +
                       "resident");
  for (const RankShard& s : layout.shards) {
    std::string held =
        channels ? format("channels {}", range_text(s.expert_channels)) : layer_ranges(s.experts);
    if (held.size() > 19) held = format("{} experts", s.experts.size());
    append_line(out, "  " + cell(format("{}", s.rank), 6) + cell(format("{}", s.data_rank), 6) +
                         cell(format("{}", s.tensor_rank), 8) + cell(range_text(s.heads), 9) +
                         cell(range_text(s.vocab), 16) + (experts ? cell(held, 20) : "") +
                         bytes_text(plan.rank_bytes[static_cast<size_t>(s.rank)]));
  }
  if (experts == nullptr) return;
  out += "\n  The way to the experts, rank by rank\n";
  for (const RankShard& s : layout.shards)
    append_line(out, format("  {}: rows → {} → {} {} ({}) → {} → sums", s.rank, experts->dispatch,
                            channels ? "slices of" : "its",
                            channels ? format("{} experts", layout.num_experts)
                                     : format("{} experts", s.experts.size()),
                            experts->layout, experts->kernels_text()));
}

std::string part_title(std::string_view part) {
  if (part == "shared expert")
    return "shared expert (all workers, after the experts; added to their sum)";
  if (part == "rows") return "row operations";
  return std::string(part);
}

// Places whose candidates fared alike say it once.
struct Losers {
  const PlanEntry* entry;
  const BucketPlan* bucket;
  std::vector<std::string> places;
};

bool fared_alike(const BucketPlan& a, const BucketPlan& b) {
  const auto same = [](const Candidate& x, const Candidate& y) {
    return x.kernel == y.kernel && x.why_not == y.why_not;
  };
  return a.first == b.first && a.last == b.last &&
         std::equal(a.candidates.begin(), a.candidates.end(), b.candidates.begin(),
                    b.candidates.end(), same);
}

std::vector<Losers> losers_of(const Plan& plan) {
  std::vector<Losers> all;
  for (const PlanEntry& e : plan.entries)
    for (const BucketPlan& b : e.buckets) {
      if (b.candidates.size() < 2) continue;
      const auto known = std::find_if(all.begin(), all.end(),
                                      [&](const Losers& l) { return fared_alike(*l.bucket, b); });
      if (known == all.end())
        all.push_back({&e, &b, {e.part}});
      else if (std::find(known->places.begin(), known->places.end(), e.part) == known->places.end())
        known->places.push_back(e.part);
    }
  return all;
}

void append_losers(std::string& out, const Plan& plan) {
  for (const Losers& l : losers_of(plan)) {
    std::string places;
    for (const std::string& p : l.places) places += format("{}{}", places.empty() ? "" : ", ", p);
    const std::string tokens =
        tokens_text(*l.bucket) == "all" ? "" : format(", {} tokens", tokens_text(*l.bucket));
    append_line(out, format("  {} ({}{})", l.bucket->kernel, places, tokens));
    for (size_t i = 0; i < l.bucket->candidates.size(); ++i) {
      const Candidate& c = l.bucket->candidates[i];
      if (c.why_not.empty()) continue;
      append_line(out, "      not " + cell(c.kernel, kKernel) + c.why_not);
    }
  }
}

}  // namespace

std::string layer_ranges(const std::vector<int32_t>& layers) {
  std::string text;
  for (size_t i = 0; i < layers.size();) {
    size_t j = i;
    while (j + 1 < layers.size() && layers[j + 1] == layers[j] + 1) ++j;
    if (!text.empty()) text += ", ";
    text += i == j ? format("{}", layers[i]) : format("{}-{}", layers[i], layers[j]);
    i = j + 1;
  }
  return text;
}

std::string to_text(const Plan& plan) {
  std::string out =
      format("Plan {}: {}, computed in {}, KV cache in {}, {} worker{}\n", plan.id,
             plan.input.model_type, torch_name(plan.input.compute), torch_name(plan.input.kv_dtype),
             plan.input.num_workers, plan.input.num_workers == 1 ? "" : "s");
  std::vector<std::string_view> parts;
  for (const PlanEntry& e : plan.entries)
    if (std::find(parts.begin(), parts.end(), e.part) == parts.end()) parts.push_back(e.part);
  // What every layer shares comes last, before sampling.
  std::stable_partition(parts.begin(), parts.end(),
                        [](std::string_view p) { return p != "rows" && p != "sampling"; });
  for (const std::string_view part : parts) {
    if (part == "dispatch") continue;  // said with the experts
    const PlanEntry* first = nullptr;
    bool alike = true;
    for (const PlanEntry& e : plan.entries) {
      if (e.part != part) continue;
      if (first == nullptr) first = &e;
      alike = alike && e.layers == first->layers;
    }
    out += "\n" + part_title(part);
    if (alike && !first->layers.empty()) out += ", " + layers_text(*first);
    out += "\n";
    for (const PlanEntry& e : plan.entries)
      if (e.part == part) append_entry(out, e, !alike);
  }
  out += format(
      "\nResident{}: {} of weights. KV cache: {} a token.\nTransient: {} of step memory, {} of "
      "scratch.\n",
      plan.input.ranks.ranks() > 1 ? ", rank 0" : "", bytes_text(plan.weight_bytes),
      bytes_text(plan.kv_bytes_per_token), bytes_text(plan.activation_bytes),
      bytes_text(plan.scratch_bytes));
  append_ranks(out, plan);
  out += "\nWhat was not chosen, and why\n";
  append_losers(out, plan);
  return out;
}

}  // namespace moestro::plan
