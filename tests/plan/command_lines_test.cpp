// Properties of every command line: it is refused in words that help, or it has a plan that is
// deterministic, complete, obeys the flags and says the same in JSON and in text; and what runs is
// what the plan says. Config-only models, so thousands take seconds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <numeric>

#include "app/explain_diff.h"
#include "app/model_host.h"
#include "base/deadline.h"
#include "base/format.h"
#include "base/log.h"
#include "base/strings.h"
#include "config/command_line.h"
#include "plan/executed.h"
#include "plan/generated_line.h"

namespace moestro::tests {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::string_view kClasses[] = {"isa",  "shape",  "scheme",   "parallel",
                                         "flag", "slower", "rounding", "order"};

// An error is one sentence that names something of what was asked, in the command line or in the
// model, and is long enough to say what to do.
void expect_helpful(const Status& status, const GeneratedLine& line) {
  const std::string message(status.message());
  EXPECT_GE(message.size(), 25u) << line.text();
  EXPECT_EQ(message.find('\n'), std::string::npos) << line.text() << "\n" << message;
  EXPECT_NE(status.code(), Code::kInternal) << line.text() << "\n" << message;
  bool names_something = message.find("config") != std::string::npos ||
                         message.find("model") != std::string::npos ||
                         message.find("--") != std::string::npos;
  for (size_t i = 1; i < line.words.size(); ++i)
    names_something = names_something || message.find(line.words[i]) != std::string::npos;
  EXPECT_TRUE(names_something) << line.text() << "\n" << message;
}

void expect_complete(const plan::Plan& p) {
  EXPECT_EQ(p.id.size(), 16u);
  for (const plan::PlanEntry& e : p.entries) {
    SCOPED_TRACE(e.part + ": " + e.name);
    ASSERT_FALSE(e.buckets.empty());
    EXPECT_EQ(e.buckets.front().first, 1);
    EXPECT_EQ(e.buckets.back().last, -1);
    for (size_t i = 1; i < e.buckets.size(); ++i)
      EXPECT_EQ(e.buckets[i].first, e.buckets[i - 1].last + 1);
    for (const plan::BucketPlan& b : e.buckets) {
      int chosen = 0;
      for (const plan::Candidate& c : b.candidates) {
        if (c.why_not.empty()) {
          ++chosen;
          EXPECT_EQ(c.kernel, b.kernel);
          continue;
        }
        EXPECT_THAT(kClasses, testing::Contains(c.reason_class())) << c.why_not;
        EXPECT_GT(c.why_not.size(), c.reason_class().size() + 4) << c.why_not;
      }
      EXPECT_EQ(chosen, 1);
    }
  }
}

void expect_obeyed(const plan::Plan& p, const config::Options& options) {
  for (const std::string& forced : options.moe.kernels) {
    const size_t eq = forced.find('=');
    bool first = true;  // of several for one op the first counts
    for (const std::string& other : options.moe.kernels) {
      if (&other == &forced) break;
      first = first && other.substr(0, other.find('=')) != forced.substr(0, eq);
    }
    if (!first) continue;
    for (const plan::PlanEntry& e : p.entries) {
      if (e.op == forced.substr(0, eq)) {
        EXPECT_EQ(e.kernels_text(), forced.substr(eq + 1)) << e.name;
      }
    }
  }
}

// Ranks: as many as asked for, every expert on one of them or sliced over all, every head in each
// replica once, and the dispatch fits.
void expect_ranks(const plan::Plan& p, const config::Options& options,
                  const checkpoint::ModelConfig& c) {
  const plan::RankLayout& l = p.input.ranks;
  const auto& asked = options.parallel;
  ASSERT_EQ(l.ranks(), asked.tensor_parallel_size * asked.data_parallel_size);
  ASSERT_EQ(p.rank_bytes.size(), l.shards.size());
  std::vector<int> holders(static_cast<size_t>(c.num_experts));
  int64_t heads = 0;
  for (const plan::RankShard& s : l.shards) {
    heads += s.heads.count;
    for (const int32_t e : s.experts) ++holders.at(static_cast<size_t>(e));
    EXPECT_LE(p.rank_bytes[static_cast<size_t>(s.rank)], p.weight_bytes) << "rank 0 has the most";
  }
  EXPECT_EQ(heads, int64_t{c.num_heads} * asked.data_parallel_size);
  for (const int n : holders) EXPECT_EQ(n, l.experts_are_sliced ? l.ranks() : 1);
  const bool crosses = asked.data_parallel_size > 1 && c.num_experts > 0;
  EXPECT_EQ(l.dispatch.crosses_ranks(), crosses);
  for (const plan::PlanEntry& e : p.entries)
    if (e.part == "experts") {
      EXPECT_EQ(e.dispatch, l.dispatch.name);
      EXPECT_EQ(e.wire.starts_with("none"), !crosses) << e.wire;
    }
}

// Every fact of the JSON stands in the text.
void expect_same_facts(const json::object& o, const std::string& text) {
  const auto shown = [&](std::string_view fact) {
    EXPECT_NE(text.find(fact), std::string::npos) << fact;
  };
  shown(json::view(o.at("plan_id").as_string()));
  size_t places = 0;
  for (const json::value& op : o.at("ops").as_array()) {
    const json::object& e = op.as_object();
    ++places;
    if (json::view(e.at("op").as_string()) == "dispatch") {
      shown(format("dispatch {}", json::view(e.at("kernel").as_string())));
      continue;
    }
    shown(json::view(e.at("name").as_string()));
    if (e.contains("layout")) shown(json::view(e.at("layout").as_string()));
    for (const json::value& bucket : e.at("buckets").as_array()) {
      const json::object& b = bucket.as_object();
      shown(json::view(b.at("kernel").as_string()));
      shown(json::view(b.at("tokens").as_string()));
      for (const json::value& loser : b.at("rejected").as_array()) {
        shown(format("not {}", json::view(loser.at("kernel").as_string())));
        shown(json::view(loser.at("why_not").as_string()));
      }
    }
  }
  EXPECT_GT(places, 3u);
  const json::object& bytes = o.at("bytes").as_object();
  for (const char* kind : {"weights", "activations", "scratch", "kv_per_token"})
    shown(human_bytes(static_cast<uint64_t>(bytes.at(kind).to_number<int64_t>())));
}

struct Tally {
  int planned = 0, refused = 0, several_ranks = 0;
  std::map<std::string, int> refusals;  // by the message's first words, for the log
};

// explain's line for serve: what serve refuses is what explain lists.
std::vector<std::string> serve_words(const GeneratedLine& line) {
  std::vector<std::string> words = line.words;
  const auto hardware = std::ranges::find(words, "--hardware");
  if (hardware != words.end()) words.erase(hardware, hardware + 2);
  return words;
}

void check(const GeneratedLine& line, bool thoroughly, Tally& tally) {
  SCOPED_TRACE(line.text());
  Result<config::CommandLine> parsed =
      config::parse_command_line(config::Verb::kExplain, line.words);
  if (!parsed.ok()) {
    ++tally.refused;
    ++tally.refusals["parse: " + parsed.status().message().substr(0, 60)];
    return expect_helpful(parsed.status(), line);
  }
  const Result<app::PlannedModel> planned = app::plan_model(parsed->options, {.plan_only = true});
  if (!planned.ok()) {
    ++tally.refused;
    ++tally.refusals[planned.status().message().substr(0, 60)];
    return expect_helpful(planned.status(), line);
  }
  ++tally.planned;
  expect_complete(planned->plan);
  expect_obeyed(planned->plan, parsed->options);
  expect_ranks(planned->plan, parsed->options, planned->model.config);
  tally.several_ranks += planned->plan.input.ranks.ranks() > 1;
  for (const std::string& refusal : parsed->refusals) expect_helpful(unsupported(refusal), line);
  EXPECT_EQ(parsed->refusals.empty(),
            config::parse_command_line(config::Verb::kServe, serve_words(line)).ok());
  if (parsed->options.moe.strict) {
    EXPECT_THAT(planned->plan.substitutions, IsEmpty());
  }
  if (!thoroughly) return;
  const Result<app::PlannedModel> again = app::plan_model(parsed->options, {.plan_only = true});
  ASSERT_TRUE(again.ok());
  // The longest length that fits, and what is said of it, follow the memory free at the moment.
  if (again->engine.max_model_len == planned->engine.max_model_len &&
      again->plan.substitutions == planned->plan.substitutions) {
    EXPECT_EQ(again->plan.id, planned->plan.id);
    EXPECT_EQ(plan::to_text(again->plan), plan::to_text(planned->plan));
  }
  const std::string dump = json::dump(app::explanation_json(*parsed, *planned));
  const Result<json::value> read = json::parse(dump);
  ASSERT_TRUE(read.ok()) << read.status().message();
  expect_same_facts(read->as_object(), app::explanation_text(*parsed, *planned));
}

void check_many(int lines, int thorough_every) {
  set_log_level(LogLevel::kOff);
  Tally tally;
  const Clock::time_point start = Clock::now();
  for (int seed = 0; seed < lines; ++seed) {
    check(generate_line(static_cast<uint64_t>(seed)), seed % thorough_every == 0, tally);
    if (testing::Test::HasFatalFailure() || testing::Test::HasNonfatalFailure()) break;
  }
  // Both sides are there in numbers, or the generator is worth nothing.
  EXPECT_GT(tally.planned, lines / 10);
  EXPECT_GT(tally.refused, lines / 10);
  EXPECT_GT(tally.several_ranks, lines / 20);
  std::printf(
      "%d command lines in %.1f s: %d planned (%d for several ranks), %d refused in %zu ways\n",
      lines, seconds_since(start), tally.planned, tally.several_ranks, tally.refused,
      tally.refusals.size());
  for (const auto& [text, n] : tally.refusals) std::printf("%6d  %s\n", n, text.c_str());
}

TEST(CommandLines, Sample) { check_many(400, 5); }
TEST(CommandLines, DISABLED_TenThousand) { check_many(10'000, 10); }

// Runs prompts of several lengths at once, so that steps of every size happen.
void run_requests(app::ModelHost& host) {
  std::mutex mutex;
  std::condition_variable changed;
  int left = 0;
  for (const int32_t tokens : {1, 7, 40}) {
    engine::Request request;
    request.prompt.resize(static_cast<size_t>(tokens));
    std::iota(request.prompt.begin(), request.prompt.end(), 3);
    request.sampling.max_tokens = 4;
    request.sampling.ignore_eos = true;
    request.on_event = [&](engine::TokenEvent&& event) {
      EXPECT_TRUE(event.error.ok()) << event.error.message();
      if (event.finish == engine::FinishReason::kNone) return;
      std::lock_guard lock(mutex);
      if (--left == 0) changed.notify_one();
    };
    {
      std::lock_guard lock(mutex);
      ++left;
    }
    const auto id = host.engine().submit(std::move(request));
    ASSERT_TRUE(id.ok()) << id.status().message();
  }
  std::unique_lock lock(mutex);
  ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(60), [&] { return left == 0; }));
}

TEST(CommandLines, WhatRunsIsWhatThePlanSays) {
  set_log_level(LogLevel::kOff);
  int ran = 0;
  for (uint64_t seed = 0; ran < 36 && seed < 120; ++seed) {
    const GeneratedLine line = generate_runnable_line(seed);
    SCOPED_TRACE(line.text());
    // serve's flags are explain's.
    Result<config::CommandLine> parsed =
        config::parse_command_line(config::Verb::kExplain, line.words);
    ASSERT_TRUE(parsed.ok()) << parsed.status().message();
    auto host = app::ModelHost::start(parsed->options);
    if (!host.ok()) {
      expect_helpful(host.status(), line);
      continue;
    }
    run_requests(**host);
    ++ran;
    const plan::Plan& p = (*host)->planned().plan;
    EXPECT_THAT(plan::mismatches(p), IsEmpty());
    // Everything that the plan names ran, and the metrics have it.
    std::vector<uint64_t> runs(p.entries.size());
    for (const plan::Execution& x : plan::executions(p)) runs[x.entry] += x.runs;
    for (size_t i = 0; i < runs.size(); ++i)
      EXPECT_GE(runs[i], std::max<size_t>(p.entries[i].layers.size(), 1)) << p.entries[i].name;
    EXPECT_THAT((*host)->metrics().expose(), HasSubstr("moestro_plan_mismatches 0"));
    // explain says the same before anything is loaded.
    const Result<app::PlannedModel> explained =
        app::plan_model(parsed->options, {.plan_only = true}, &(*host)->planned().times);
    ASSERT_TRUE(explained.ok());
    for (size_t i = 0; i < runs.size(); ++i)
      EXPECT_EQ(explained->plan.entries[i].kernels_text(), p.entries[i].kernels_text());
    if (HasFailure()) return;
  }
  EXPECT_GE(ran, 30);
}

plan::Plan plan_of(std::string_view shape, std::vector<std::string> more) {
  more.insert(more.begin(),
              {format("{}/models/shapes/{}", MOESTRO_SOURCE_DIR, shape), "--hf-overrides",
               R"({"num_hidden_layers":5})", "--kernel-table", "none"});
  const auto line = config::parse_command_line(config::Verb::kExplain, more);
  return app::plan_model(line->options, {.plan_only = true}).value().plan;
}
int64_t bytes_of(const plan::Plan& p, std::string_view part) {
  int64_t bytes = 0;
  for (const plan::PlanEntry& e : p.entries)
    if (e.part == part)
      for (const int64_t b : e.rank_bytes) bytes += b;
  return bytes;
}

TEST(CommandLines, TheRanksTogetherHoldTheModel) {
  const plan::Plan one = plan_of("GLM-5", {});
  const plan::Plan spread = plan_of("GLM-5", {"-dp", "8", "--enable-expert-parallel"});
  EXPECT_NE(one.id, spread.id);
  EXPECT_EQ(bytes_of(spread, "experts"), bytes_of(one, "experts"));
  EXPECT_EQ(bytes_of(spread, "attention"), 8 * bytes_of(one, "attention"));
  EXPECT_EQ(bytes_of(spread, "router"), 8 * bytes_of(one, "router"));
  const plan::Plan split = plan_of("GLM-5", {"-tp", "4"});
  EXPECT_EQ(bytes_of(split, "experts"), bytes_of(one, "experts"));
  EXPECT_EQ(bytes_of(split, "dense mlp"), bytes_of(one, "dense mlp"));
  EXPECT_EQ(bytes_of(split, "head"), bytes_of(one, "head"));
  // Latents and indexer are on every rank, heads on one.
  EXPECT_GT(bytes_of(split, "attention"), bytes_of(one, "attention"));
  EXPECT_LT(bytes_of(split, "attention"), 2 * bytes_of(one, "attention"));
  EXPECT_EQ(split.kv_bytes_per_token, one.kv_bytes_per_token) << "one latent for all heads";
  const plan::Plan qwen = plan_of("Qwen3-30B-A3B", {}),
                   halves = plan_of("Qwen3-30B-A3B", {"-tp", "2"});
  EXPECT_EQ(bytes_of(halves, "attention"), bytes_of(qwen, "attention"));
  EXPECT_EQ(2 * halves.kv_bytes_per_token, qwen.kv_bytes_per_token);
}

// The walk-through's line, but for program, path and length.
TEST(CommandLines, TheWalkThroughIsExplainedRankByRank) {
  const auto words = app::split_command(format(
      "moestro serve {}/models/demo --disable-log-requests -q slimquant_marlin --trust-remote-code "
      "-dp 8 -tp 1 --enable-expert-parallel --disable-custom-all-reduce --dtype bfloat16 "
      "--enable-chunked-prefill --max-model-len 4096 --max-num-batched-tokens 128 --max-num-seqs "
      "32 "
      "--enable-prefix-caching --block-size 64 --gpu-memory-utilization 0.88 --kv-cache-dtype "
      "fp8_ds_mla -cc '{{\"inductor_compile_config\":{{\"combo_kernels\": false}}}}' "
      "--speculative_config '{{\"method\":\"mtp\",\"num_speculative_tokens\":3,"
      "\"quantization\":\"slimquant_marlin\"}}'",
      MOESTRO_SOURCE_DIR));
  const auto line = config::parse_command_line(config::Verb::kExplain, *words);
  ASSERT_TRUE(line.ok()) << line.status().message();
  EXPECT_THAT(line->refusals,
              testing::UnorderedElementsAre(HasSubstr("--data-parallel-size"),
                                            HasSubstr("--kv-cache-dtype fp8_ds_mla"),
                                            HasSubstr("--speculative-config")));
  const app::PlannedModel planned = app::plan_model(line->options, {.plan_only = true}).value();
  const json::object o = app::explanation_json(*line, planned);
  const json::array& ranks = o.at("ranks").as_array();
  ASSERT_EQ(ranks.size(), 8u);
  for (size_t r = 0; r < 8; ++r) {
    const json::object& rank = ranks[r].as_object();
    EXPECT_EQ(json::view(rank.at("experts").as_string()), format("{}-{}", 3 * r, 3 * r + 2));
    bool found = false;
    for (const json::value& v : rank.at("layers").as_array()) {
      const json::object& layer = v.as_object();
      if (json::view(layer.at("part").as_string()) != "experts") continue;
      found = true;
      EXPECT_EQ(json::view(layer.at("dispatch").as_string()), "allgather");
      EXPECT_THAT(std::string(json::view(layer.at("wire").as_string())),
                  HasSubstr("int8 rows with scales (260 bytes a row)"));
    }
    EXPECT_TRUE(found);
  }
  const std::string text = app::explanation_text(*line, planned);
  for (int r = 0; r < 8; ++r) EXPECT_THAT(text, HasSubstr(format("\n  {}: rows → allgather", r)));
  EXPECT_FALSE(app::ModelHost::start(line->options).ok());
  EXPECT_FALSE(config::parse_command_line(config::Verb::kServe, *words).ok());
}

TEST(CommandLines, Diff) {
  const auto words =
      app::split_command(R"(vllm serve a\ b --hf-overrides '{"x": 1}' "c d" --flag="e \"f\"" '' \)"
                         "\n  last");
  ASSERT_TRUE(words.ok());
  EXPECT_THAT(*words, testing::ElementsAre("a b", "--hf-overrides", R"({"x": 1})", "c d",
                                           R"(--flag=e "f")", "", "last"));
  EXPECT_THAT(app::split_command("a 'b").status().message(), HasSubstr("not closed"));

  const auto model_of = [](std::vector<std::string> more) {
    more.insert(more.begin(), {std::string(MOESTRO_SOURCE_DIR) + "/models/shapes/Qwen3-30B-A3B",
                               "--hf-overrides", R"({"num_hidden_layers":2})"});
    const auto line = config::parse_command_line(config::Verb::kExplain, more);
    return app::plan_model(line->options, {.plan_only = true}).value();
  };
  const auto amx = model_of(
      {"--hardware", std::string(MOESTRO_SOURCE_DIR) + "/models/hardware/amx-2-cores.json"});
  const auto avx2 = model_of(
      {"--hardware", std::string(MOESTRO_SOURCE_DIR) + "/models/hardware/avx2-desktop.json"});
  EXPECT_THAT(app::differences(amx, amx), IsEmpty());
  bool found = false;
  for (const app::Difference& d : app::differences(amx, avx2)) {
    EXPECT_NE(d.a, d.b) << d.what;
    if (!d.what.starts_with("experts:") || !d.what.ends_with("kernel")) continue;
    found = true;
    EXPECT_EQ(d.a, "expert_mlp_bf16_amx");
    EXPECT_EQ(d.b, "expert_mlp_bf16_avx2");
    EXPECT_THAT(d.why, HasSubstr("B cannot take expert_mlp_bf16_amx: isa: needs"));
  }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace moestro::tests
