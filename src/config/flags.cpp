#include "config/flags.h"

#include "base/strings.h"
#include "config/flag_rows.h"

namespace moestro::config {
namespace {

struct VerbText {
  Verb verb;
  std::string_view name;
  std::string_view summary;  // of a verb that is built
  std::string_view absent;   // why it is not
};

constexpr VerbText kVerbs[] = {
    {Verb::kServe, "serve", "Serve a model over the OpenAI API", {}},
    {Verb::kChat, "chat", "Talk to a model in the terminal", {}},
    {Verb::kComplete, "complete", "Complete one prompt", {}},
    {Verb::kExplain, "explain", "Print the plan of a command line without reading weights", {}},
    {Verb::kInspect, "inspect", "Show what a model directory holds", {}},
    {Verb::kBenchLatency, "bench latency", "Time one batch from prompt to last token", {}},
    {Verb::kBenchThroughput, "bench throughput", "Time many requests", {}},
    {Verb::kBenchMoe, "bench moe", "Time one MoE layer against the machine's ceilings", {}},
    {Verb::kLogits, "logits", "Write the logits of given prompts to a file", {}},
    {Verb::kPerplexity, "perplexity", "Perplexity over windows of tokens", {}},
    {Verb::kTokenize, "tokenize", "Turn lines of text into token ids and back", {}},
    {Verb::kRender, "render", "Print a conversation as the chat template renders it", {}},
    {Verb::kQuantize, "quantize", "Write a quantised copy of a model", {}},
    {Verb::kRepack, "repack", "Write packed weights to a file that the next start maps", {}},
    {Verb::kRunBatch,
     "run-batch",
     {},
     "run-batch is not built yet; send the requests to moestro serve"},
    {Verb::kBenchServe,
     "bench serve",
     {},
     "bench serve is not built; any OpenAI load generator works against moestro serve"},
    {Verb::kBenchStartup,
     "bench startup",
     {},
     "bench startup is not built; serve logs how long loading took"},
};

}  // namespace

std::string_view verb_name(Verb verb) {
  for (const VerbText& text : kVerbs) {
    if (text.verb == verb) return text.name;
  }
  CHECK(false, "verb without a name");
}

std::string_view verb_summary(Verb verb) {
  for (const VerbText& text : kVerbs) {
    if (text.verb == verb) return text.summary;
  }
  return {};
}

bool is_built(Verb verb) { return !verb_summary(verb).empty(); }

std::string_view absent_verb_reason(std::string_view name) {
  for (const VerbText& text : kVerbs) {
    if (text.name == name) return text.absent;
  }
  if (name == "launch")
    return "launch render is not built; moestro render prints a prompt, serve renders its own";
  if (name == "collect-env")
    return "collect-env is not built; moestro version prints what matters here";
  return {};
}

std::vector<Verb> built_verbs() {
  std::vector<Verb> verbs;
  for (const VerbText& text : kVerbs) {
    if (!text.summary.empty()) verbs.push_back(text.verb);
  }
  return verbs;
}

std::string_view state_name(State state) {
  switch (state) {
    case State::kHonoured:
      return "honoured";
    case State::kNoEffect:
      return "no effect here";
    case State::kRefused:
      return "refused";
    case State::kRemoved:
      return "removed";
  }
  return {};
}

std::span<const FlagGroup> flag_groups() {
  // client_flags() stands before model_flags(): in chat and complete -q is --quick, as in vLLM.
  static const FlagGroup groups[] = {
      process_flags(),       client_flags(),         tools_flags(),    bench_flags(),
      model_flags(),         load_flags(),           cache_flags(),    offload_flags(),
      scheduler_flags(),     parallel_flags(),       kernel_flags(),   attention_flags(),
      compilation_flags(),   mamba_flags(),          frontend_flags(), structured_outputs_flags(),
      observability_flags(), config_objects_flags(), lora_flags(),     multimodal_flags(),
      general_flags(),       removed_flags(),
  };
  return groups;
}

std::vector<std::string_view> names_of(const Flag& flag) { return split(flag.names, ' '); }

std::string negated_name(const Flag& flag) {
  return flag.kind == Kind::kPair ? "--no-" + std::string(flag.name().substr(2)) : std::string();
}

}  // namespace moestro::config
