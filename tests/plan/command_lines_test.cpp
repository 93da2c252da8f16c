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
  int planned = 0, refused = 0;
  std::map<std::string, int> refusals;  // by the message's first words, for the log
};

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
  if (parsed->options.moe.strict) {
    EXPECT_THAT(planned->plan.substitutions, IsEmpty());
  }
  if (!thoroughly) return;
  const Result<app::PlannedModel> again = app::plan_model(parsed->options, {.plan_only = true});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->plan.id, planned->plan.id);
  EXPECT_EQ(plan::to_text(again->plan), plan::to_text(planned->plan));
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
  std::printf("%d command lines in %.1f s: %d planned, %d refused in %zu ways\n", lines,
              seconds_since(start), tally.planned, tally.refused, tally.refusals.size());
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

TEST(CommandLines, Diff) {
  const auto words =
      app::split_command(R"(vllm serve a\ b --hf-overrides '{"x": 1}' "c d" --flag="e \"f\"" '' \)"
                         "\n  last");
  ASSERT_TRUE(words.ok());
  EXPECT_THAT(*words, testing::ElementsAre("a b", "--hf-overrides", R"({"x": 1})", "c d",
                                           R"(--flag=e "f")", "", "last"));
  EXPECT_THAT(app::split_command("a 'b").status().message(), HasSubstr("not closed"));

  const auto plan_of = [](std::vector<std::string> more) {
    more.insert(more.begin(), {std::string(MOESTRO_SOURCE_DIR) + "/models/shapes/Qwen3-30B-A3B",
                               "--hf-overrides", R"({"num_hidden_layers":2})"});
    const auto line = config::parse_command_line(config::Verb::kExplain, more);
    return app::plan_model(line->options, {.plan_only = true}).value();
  };
  const auto amx = plan_of(
      {"--hardware", std::string(MOESTRO_SOURCE_DIR) + "/models/hardware/amx-2-cores.json"});
  const auto avx2 = plan_of(
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
