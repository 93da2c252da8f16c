#include "app/explain_diff.h"

#include <algorithm>
#include <utility>

#include "app/explain_text.h"
#include "app/print.h"
#include "base/format.h"
#include "base/strings.h"

namespace moestro::app {
namespace {

std::string bytes_text(int64_t bytes) { return human_bytes(static_cast<uint64_t>(bytes)); }

std::string substitutions_text(const plan::Plan& p) {
  std::string text;
  for (const plan::Substitution& s : p.substitutions)
    text += format("{}{}", text.empty() ? "" : "; ", s.text());
  return text.empty() ? "none" : text;
}

const plan::PlanEntry* same_place(const plan::Plan& p, const plan::PlanEntry& e) {
  for (const plan::PlanEntry& other : p.entries)
    if (other.part == e.part && other.op == e.op && other.name == e.name &&
        (other.layers == e.layers || e.layers.empty()))
      return &other;
  return nullptr;
}

std::string reason_for(const plan::BucketPlan& bucket, std::string_view kernel) {
  for (const plan::Candidate& c : bucket.candidates)
    if (c.kernel == kernel) return c.why_not;
  return {};
}

// Why one side does not run what the other does.
std::string why(const plan::BucketPlan& a, const plan::BucketPlan& b) {
  std::string text;
  if (const std::string r = reason_for(b, a.kernel); !r.empty())
    text = format("B cannot take {}: {}", a.kernel, r);
  if (const std::string r = reason_for(a, b.kernel); !r.empty())
    text += format("{}A cannot take {}: {}", text.empty() ? "" : "; ", b.kernel, r);
  return text;
}

class Differ {
 public:
  void fact(std::string_view what, std::string a, std::string b, std::string reason = {}) {
    if (a != b) found.push_back({std::string(what), std::move(a), std::move(b), std::move(reason)});
  }
  void place(const plan::PlanEntry& a, const plan::PlanEntry& b) {
    const std::string where = format("{}: {}", a.part, a.name);
    fact(where + ", scheme", a.scheme, b.scheme);
    fact(where + ", weights", a.weights, b.weights);
    fact(where + ", layout", a.layout, b.layout);
    fact(where + ", activations", a.activations, b.activations);
    fact(where + ", shape", a.shape, b.shape);
    for (int i = 0; i < kernels::kTokenBuckets; ++i) {
      const int32_t tokens = kernels::first_of_bucket(i);
      const plan::BucketPlan *x = a.bucket_of(tokens), *y = b.bucket_of(tokens);
      if (!x || !y || x->kernel == y->kernel) continue;
      // One line where neighbouring buckets agree on both sides.
      if (x->first < tokens && y->first < tokens) continue;
      fact(format("{}, {} and more tokens, kernel", where, tokens), x->kernel, y->kernel,
           why(*x, *y));
    }
    fact(where + ", resident", bytes_text(a.weight_bytes), bytes_text(b.weight_bytes));
  }
  std::vector<Difference> found;
};

Result<config::CommandLine> parse(std::string_view side, const std::string& text) {
  const Result<std::vector<std::string>> words = split_command(text);
  if (!words.ok()) return words.status().with(format("--diff, {}", side));
  Result<config::CommandLine> line = config::parse_command_line(config::Verb::kExplain, *words);
  if (!line.ok()) return line.status().with(format("--diff, {}", side));
  if (line->help || !line->options.tool.diff.empty())
    return invalid_argument(format("--diff, {}: a command line without --help and --diff", side));
  return line;
}

}  // namespace

Result<std::vector<std::string>> split_command(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  bool inside = false;
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote == '\'') {
      if (c == '\'')
        quote = 0;
      else
        word += c;
    } else if (c == '\\' && i + 1 < text.size() &&
               (quote == 0 || text[i + 1] == '"' || text[i + 1] == '\\')) {
      if (text[++i] != '\n') word += text[i], inside = true;
    } else if (quote == '"') {
      if (c == '"')
        quote = 0;
      else
        word += c;
    } else if (c == '\'' || c == '"') {
      quote = c;
      inside = true;
    } else if (c == ' ' || c == '\t' || c == '\n') {
      if (inside) words.push_back(std::exchange(word, {}));
      inside = false;
    } else {
      word += c;
      inside = true;
    }
  }
  if (quote != 0) return invalid_argument(format("a quote is not closed: {}", text));
  if (inside) words.push_back(std::move(word));
  static constexpr std::string_view kPrograms[] = {"moestro", "vllm"},
                                    kVerbs[] = {"serve", "explain"};
  const auto drop = [&](auto& names) {
    if (!words.empty() &&
        std::find(std::begin(names), std::end(names), words.front()) != std::end(names))
      words.erase(words.begin());
  };
  drop(kPrograms);
  drop(kVerbs);
  return words;
}

std::vector<Difference> differences(const PlannedModel& a, const PlannedModel& b) {
  Differ d;
  const plan::Plan &p = a.plan, &q = b.plan;
  d.fact("model", a.model.name, b.model.name);
  d.fact("model type", p.input.model_type, q.input.model_type);
  d.fact("machine", a.machine.cpu, b.machine.cpu);
  d.fact("instruction sets", platform::isa_names(p.input.isa), platform::isa_names(q.input.isa));
  d.fact("workers", format("{}", p.input.num_workers), format("{}", q.input.num_workers));
  d.fact("compute type", std::string(torch_name(p.input.compute)),
         std::string(torch_name(q.input.compute)));
  d.fact("KV cache type", std::string(torch_name(p.input.kv_dtype)),
         std::string(torch_name(q.input.kv_dtype)));
  d.fact("longest sequence", format("{}", a.engine.max_model_len),
         format("{}", b.engine.max_model_len));
  d.fact("sequences at once", format("{}", a.engine.max_num_seqs),
         format("{}", b.engine.max_num_seqs));
  d.fact("tokens of a step", format("{}", p.limits.max_tokens), format("{}", q.limits.max_tokens));
  d.fact("KV cache", bytes_text(a.engine.kv_cache_bytes), bytes_text(b.engine.kv_cache_bytes));
  d.fact("resident weights", bytes_text(p.weight_bytes), bytes_text(q.weight_bytes));
  d.fact("step memory", bytes_text(p.activation_bytes), bytes_text(q.activation_bytes));
  d.fact("scratch", bytes_text(p.scratch_bytes), bytes_text(q.scratch_bytes));
  d.fact("instead", substitutions_text(p), substitutions_text(q));
  for (const plan::PlanEntry& e : p.entries) {
    const plan::PlanEntry* other = same_place(q, e);
    if (other == nullptr)
      d.fact(format("{}: {}", e.part, e.name), e.kernels_text(), "not there");
    else
      d.place(e, *other);
  }
  for (const plan::PlanEntry& e : q.entries)
    if (same_place(p, e) == nullptr)
      d.fact(format("{}: {}", e.part, e.name), "not there", e.kernels_text());
  return std::move(d.found);
}

Status explain_difference(const std::string& a, const std::string& b, bool as_json) {
  MOESTRO_ASSIGN(const config::CommandLine line_a, parse("A", a));
  MOESTRO_ASSIGN(const config::CommandLine line_b, parse("B", b));
  MOESTRO_ASSIGN(const PlannedModel planned_a, plan_model(line_a.options, {.plan_only = true}));
  MOESTRO_ASSIGN(const PlannedModel planned_b, plan_model(line_b.options, {.plan_only = true}));
  const std::vector<Difference> found = differences(planned_a, planned_b);
  if (as_json) {
    json::array list;
    for (const Difference& d : found)
      list.push_back(json::object{{"what", d.what}, {"a", d.a}, {"b", d.b}, {"why", d.why}});
    print_json(json::object{{"a", explanation_json(line_a, planned_a)},
                            {"b", explanation_json(line_b, planned_b)},
                            {"differences", std::move(list)}});
    return {};
  }
  std::string out = labelled("A", a) + labelled("B", b) + "\n";
  if (found.empty()) out += "The plans are the same.\n";
  for (const Difference& d : found) {
    out += d.what + "\n" + labelled("      A", d.a) + labelled("      B", d.b);
    if (!d.why.empty()) out += labelled("      why", d.why);
  }
  print(out);
  return {};
}

}  // namespace moestro::app
