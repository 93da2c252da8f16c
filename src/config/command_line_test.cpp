// The parsing rules, each with what must fail.
#include "config/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

namespace moestro::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Result<CommandLine> parse(Verb verb, const std::vector<std::string>& args) {
  return parse_command_line(verb, args);
}

Options serve(const std::vector<std::string>& args) {
  Result<CommandLine> line = parse(Verb::kServe, args);
  EXPECT_TRUE(line.ok()) << line.status().message();
  return line.ok() ? line->options : Options();
}

std::string error(const std::vector<std::string>& args, Verb verb = Verb::kServe) {
  const Result<CommandLine> line = parse(verb, args);
  EXPECT_FALSE(line.ok());
  if (line.ok()) return {};
  EXPECT_EQ(line.status().code(), Code::kInvalidArgument);
  return line.status().message();
}

TEST(CommandLine, ModelIsTheOnePositional) {
  EXPECT_EQ(serve({}).model.model, "");
  EXPECT_EQ(serve({"dir"}).model.model, "dir");
  EXPECT_EQ(serve({"--port", "1", "dir"}).model.model, "dir");
  EXPECT_EQ(serve({"--", "-dir"}).model.model, "-dir");
  EXPECT_THAT(error({"dir", "other"}), HasSubstr("'other'"));
}

TEST(CommandLine, ModelFlagIsDeprecatedUnderServeOnly) {
  const auto line = parse(Verb::kServe, {"--model", "dir"});
  ASSERT_TRUE(line.ok());
  EXPECT_EQ(line->options.model.model, "dir");
  EXPECT_THAT(line->notes, ElementsAre(HasSubstr("deprecated")));
  EXPECT_TRUE(parse(Verb::kBenchLatency, {"--model", "dir"})->notes.empty());
  EXPECT_THAT(error({"dir", "--model", "dir"}), HasSubstr("given twice"));
}

TEST(CommandLine, ListFlagThatSwallowsTheModelIsAnError) {
  EXPECT_THAT(error({"--api-key", "secret", "dir"}), HasSubstr("write the model first"));
  EXPECT_THAT(serve({"dir", "--api-key", "a", "b"}).server.api_keys, ElementsAre("a", "b"));
  EXPECT_EQ(serve({"--served-model-name", "demo"}).server.served_model_names.size(), 1u);
}

TEST(CommandLine, DashesAndUnderscoresAreEqual) {
  EXPECT_EQ(serve({"--max_num_seqs", "3"}).scheduler.max_num_seqs, 3);
  EXPECT_EQ(serve({"--max-num_seqs=3"}).scheduler.max_num_seqs, 3);
  EXPECT_EQ(serve({"--no_enable_chunked_prefill"}).scheduler.enable_chunked_prefill, false);
  EXPECT_EQ(serve({"--served-model-name", "a_b"}).server.served_model_names[0], "a_b");
}

TEST(CommandLine, UniquePrefixes) {
  EXPECT_EQ(serve({"--max-model", "5"}).model.max_model_len, 5);
  EXPECT_THAT(error({"--max-num", "5"}),
              HasSubstr("--max-num-batched-tokens, --max-num-scheduled-tokens, --max-num-seqs"));
  EXPECT_EQ(serve({"--host", "x"}).server.host, "x");  // exact, though other names begin so
  EXPECT_EQ(serve({"-t", "1"}).parallel.tensor_parallel_size, 1);
  EXPECT_THAT(error({"-d", "1"}), HasSubstr("could be any of"));
}

TEST(CommandLine, ShortNames) {
  EXPECT_EQ(serve({"-tp=1"}).parallel.tensor_parallel_size, 1);
  EXPECT_THAT(error({"-tp2"}), HasSubstr("-tp2"));
  EXPECT_EQ(serve({"-n1"}).parallel.tensor_parallel_size, 1);
  EXPECT_THAT(error({"-n2"}), HasSubstr("one machine"));
  EXPECT_EQ(*serve({"-q", "fp8"}).model.quantization, "fp8");
  EXPECT_EQ(*serve({"-qfp8"}).model.quantization, "fp8");
  EXPECT_EQ(*parse(Verb::kChat, {"-q", "hello"})->options.generate.prompt, "hello");
}

TEST(CommandLine, UnknownFlagNamesTheNearest) {
  EXPECT_THAT(error({"--max-modle-len", "5"}), HasSubstr("did you mean --max-model-len?"));
  EXPECT_THAT(error({"--zzzzzzzzzzzzzz"}), HasSubstr("--help=all"));
  EXPECT_THAT(error({"--batch-size", "5"}), HasSubstr("not a flag of serve, but of bench latency"));
}

TEST(CommandLine, RepeatedScalarTakesTheLastAndSaysSo) {
  const auto line = parse(Verb::kServe, {"--port", "1", "--port", "2"});
  ASSERT_TRUE(line.ok());
  EXPECT_EQ(line->options.server.port, 2);
  EXPECT_THAT(line->notes, ElementsAre(HasSubstr("--port is given more than once")));
  EXPECT_THAT(serve({"d", "--api-key", "a", "b", "--api-key", "c"}).server.api_keys,
              ElementsAre("c"));
  EXPECT_THAT(serve({"--kernel", "a=b", "--kernel", "c=d"}).moe.kernels, ElementsAre("a=b", "c=d"));
}

TEST(CommandLine, Booleans) {
  EXPECT_EQ(serve({"--enable-chunked-prefill"}).scheduler.enable_chunked_prefill, true);
  EXPECT_EQ(serve({}).scheduler.enable_chunked_prefill, std::nullopt);
  EXPECT_EQ(serve({"--strict", "--no-strict"}).moe.strict, false);
  EXPECT_THAT(error({"--strict=true"}), HasSubstr("takes no value; write --strict or --no-strict"));
  EXPECT_THAT(error({"--strict", "true", "dir"}), HasSubstr("'dir'"));
  EXPECT_THAT(error({"--no-headless"}), HasSubstr("unknown flag"));
  EXPECT_TRUE(parse(Verb::kServe, {"-ep"}).ok());
}

TEST(CommandLine, NullableWords) {
  EXPECT_EQ(serve({"--tokenizer", "None"}).model.tokenizer, "None");  // not nullable in vLLM either
  EXPECT_EQ(serve({"--uds", "None"}).server.uds, std::nullopt);
  EXPECT_EQ(serve({"--kv-cache-memory-bytes", ""}).cache.kv_cache_memory_bytes, std::nullopt);
  EXPECT_EQ(serve({"--host", "None"}).server.host, "127.0.0.1");
}

TEST(CommandLine, HumanIntegersOnlyWhereAllowed) {
  EXPECT_EQ(serve({"--max-model-len", "1k"}).model.max_model_len, 1000);
  EXPECT_EQ(serve({"--max-model-len", "1K"}).model.max_model_len, 1024);
  EXPECT_EQ(serve({"--max-model-len", "25.6k"}).model.max_model_len, 25600);
  EXPECT_EQ(serve({"--max-model-len", "AUTO"}).model.max_model_len, -1);
  EXPECT_EQ(serve({"--max-model-len", "-1"}).model.max_model_len, -1);
  EXPECT_EQ(serve({"--kv-cache-memory-bytes", "2G"}).cache.kv_cache_memory_bytes, 2ll << 30);
  EXPECT_THAT(error({"--max-model-len", "1.5K"}), HasSubstr("1.5K"));
  EXPECT_THAT(error({"--max-model-len", "1e3"}), HasSubstr("1e3"));
  EXPECT_THAT(error({"--max-num-seqs", "1k"}), HasSubstr("not a whole number"));
  EXPECT_THAT(error({"--max-model-len", "0"}), HasSubstr("--max-model-len"));
  EXPECT_THAT(error({"--max-model-len", "99999999999999999999"}), HasSubstr("whole number"));
}

TEST(CommandLine, ChoicesAndRanges) {
  EXPECT_THAT(error({"--dtype", "BFLOAT16"}), HasSubstr("auto, bfloat16"));
  EXPECT_EQ(serve({"--dtype", "float"}).model.dtype, "float32");
  EXPECT_TRUE(parse(Verb::kServe, {"--moe-backend", "AUTO"}).ok());
  EXPECT_THAT(error({"--moe-backend", "deep-gemm"}), HasSubstr("--kernel forces one"));
  EXPECT_THAT(error({"--port", "65536"}), HasSubstr("0 to 65535"));
  EXPECT_THAT(error({"--port", "x"}), HasSubstr("'x' is not a whole number"));
  EXPECT_THAT(error({"--gpu-memory-utilization", "nan"}), HasSubstr("not a number"));
  EXPECT_THAT(error({"--port"}), HasSubstr("needs a value"));
  EXPECT_THAT(error({"--port", "--json"}), HasSubstr("looks like a flag"));
}

TEST(CommandLine, JsonTextAndDottedKeysMerge) {
  const json::object a = serve({"--hf-overrides", R"({"a":1,"b":{"c":2}})"}).model.hf_overrides;
  EXPECT_EQ(a.at("b").at("c").as_int64(), 2);
  const json::object b = serve({"--hf_overrides.rope_theta", "1e4", "--hf-overrides.n=2k",
                                "--hf-overrides.s", "text", "--hf-overrides", R"({"a":1})"})
                             .model.hf_overrides;
  EXPECT_EQ(b.at("rope_theta").as_double(), 1e4);
  EXPECT_EQ(b.at("n").as_int64(), 2000);
  EXPECT_EQ(b.at("s").as_string(), "text");
  EXPECT_EQ(b.at("a").as_int64(), 1);
  const json::object c =
      serve({"--hf-overrides.list+", "1,x", "--hf-overrides.list+=2", "--hf-overrides.a.b=true"})
          .model.hf_overrides;
  EXPECT_EQ(json::dump(json::value(c)), R"({"list":[1,"x",2],"a":{"b":true}})");
  EXPECT_THAT(error({"--hf-overrides", "{bad}"}), HasSubstr("--hf-overrides"));
  EXPECT_THAT(error({"--hf-overrides", "{bad"}), HasSubstr("--hf-overrides"));
  EXPECT_THAT(error({"--hf-overrides", "text"}), HasSubstr("--hf-overrides"));
  EXPECT_THAT(error({"--hf-overrides..x", "1"}), HasSubstr("empty key"));
  EXPECT_THAT(error({"--port.x", "1"}), HasSubstr("has no keys"));
}

TEST(CommandLine, StructuredJsonRejectsUnknownKeysAndTakesSuffixes) {
  EXPECT_TRUE(parse(Verb::kServe, {"-cc", R"({"mode":3,"max_cudagraph_capture_size":1k})"}).ok());
  EXPECT_TRUE(parse(Verb::kServe, {"-cc.mode", "3"}).ok());
  EXPECT_THAT(error({"-cc", R"({"levle":3})"}), HasSubstr("unknown key 'levle'"));
  EXPECT_THAT(error({"-cc", "3"}), HasSubstr("not a JSON object"));
  EXPECT_THAT(serve({"--allowed-origins", R"(["https://a"])"}).server.allowed_origins,
              ElementsAre("https://a"));
  EXPECT_THAT(error({"--allowed-origins", "*"}), HasSubstr("--allowed-origins"));
  EXPECT_THAT(error({"--allowed-origins", "[1]"}), HasSubstr("array of strings"));
}

TEST(CommandLine, OptimizationLevel) {
  for (const char* form : {"-O3", "-O=3", "--optimization-level=3"})
    EXPECT_TRUE(parse(Verb::kServe, {form}).ok()) << form;
  EXPECT_TRUE(parse(Verb::kServe, {"-O", "3"}).ok());
  EXPECT_THAT(error({"-O"}), HasSubstr("needs a value"));
  EXPECT_THAT(error({"-O4"}), HasSubstr("not one of"));
}

TEST(CommandLine, EveryStateDoesWhatItSays) {
  const auto none = parse(Verb::kServe, {"--enforce-eager", "--no-fail-on-environ-validation"});
  ASSERT_TRUE(none.ok());
  EXPECT_THAT(none->notes, ElementsAre(HasSubstr("--enforce-eager has no effect here: ")));
  EXPECT_THAT(error({"--enable-lora"}), HasSubstr("not supported: adapters"));
  EXPECT_THAT(error({"--enable-eplb"}), HasSubstr("not supported"));
  EXPECT_TRUE(parse(Verb::kServe, {"--no-enable-eplb"}).ok());
  EXPECT_TRUE(parse(Verb::kServe, {"-tp", "1", "-pp", "1", "--nnodes", "1"}).ok());
  EXPECT_THAT(error({"-tp", "2"}), HasSubstr("one rank"));
  EXPECT_THAT(error({"--use-dummy-weights"}), HasSubstr("is gone; use --load-format dummy"));
  EXPECT_TRUE(parse(Verb::kServe, {"--disable-log-requests"})->notes.empty());
}

TEST(CommandLine, ChecksBetweenFlags) {
  EXPECT_THAT(error({"--enable-log-outputs"}), HasSubstr("needs --enable-log-requests"));
  EXPECT_THAT(error({"--max-num-seqs", "8", "--max-num-batched-tokens", "4"}),
              HasSubstr("less than --max-num-seqs"));
  EXPECT_THAT(error({"--api-key="}), HasSubstr("empty"));
  EXPECT_THAT(error({}, Verb::kComplete), HasSubstr("--prompt"));
  EXPECT_THAT(parse(Verb::kComplete, {"--prompt-ids", "1, 2,3"})->options.generate.prompt_ids,
              ElementsAre(1, 2, 3));
  EXPECT_THAT(error({"--input", "a"}, Verb::kLogits), HasSubstr("--output"));
}

TEST(CommandLine, ExplainTakesWhatServeTakes) {
  EXPECT_EQ(parse(Verb::kExplain, {"dir", "--port", "9", "--max-num-seqs", "2", "--json"})
                ->options.server.port,
            9);
}

TEST(CommandLine, HelpWins) {
  EXPECT_EQ(*parse(Verb::kServe, {"--help=cache"})->help, "cache");
  EXPECT_EQ(*parse(Verb::kComplete, {"-h"})->help, "");
}

class ConfigFile : public testing::Test {
 protected:
  std::string write(std::string_view text, const char* name = "flags.yaml") {
    const auto path = std::filesystem::path(testing::TempDir()) / (std::to_string(getpid()) + name);
    std::ofstream(path) << text;
    files_.push_back(path);
    return path.string();
  }
  ~ConfigFile() override {
    for (const auto& file : files_) std::filesystem::remove(file);
  }
  std::vector<std::filesystem::path> files_;
};

TEST_F(ConfigFile, StandsBelowTheCommandLine) {
  const std::string file = write(R"(# flags
model: dir   # the model
port: 9000
max_num_seqs: 4
max-model-len: 4k
enable-chunked-prefill: false
served-model-name: [a, "b c"]
api-key:
  - k1
  - k2
uds: null
hf-overrides:
  rope_scaling: {factor: 2.5}
)");
  const Options o = serve({"--config", file, "--port", "9001", "--hf-overrides.x", "1"});
  EXPECT_EQ(o.model.model, "dir");
  EXPECT_EQ(o.server.port, 9001);
  EXPECT_EQ(o.scheduler.max_num_seqs, 4);
  EXPECT_EQ(o.model.max_model_len, 4000);
  EXPECT_EQ(o.scheduler.enable_chunked_prefill, false);
  EXPECT_THAT(o.server.served_model_names, ElementsAre("a", "b c"));
  EXPECT_THAT(o.server.api_keys, ElementsAre("k1", "k2"));
  EXPECT_EQ(json::dump(json::value(o.model.hf_overrides)),
            R"({"rope_scaling":{"factor":2.5},"x":1})");
  EXPECT_EQ(serve({"--config=" + file, "other"}).model.model, "other");
}

TEST_F(ConfigFile, ErrorsNameFileAndLine) {
  EXPECT_THAT(error({"--config", write("port: 1\nprot: 2\n")}),
              testing::AllOf(HasSubstr("line 2"), HasSubstr("--port")));
  EXPECT_THAT(error({"--config", write("strict: maybe\n")}), HasSubstr("true or false"));
  EXPECT_THAT(error({"--config", "/nowhere/x.yaml"}), HasSubstr("cannot read"));
  EXPECT_THAT(error({"--config", "x.txt"}), HasSubstr(".yaml"));
  EXPECT_THAT(error({"--config", "a.yaml", "--config", "b.yaml"}), HasSubstr("once"));
}

}  // namespace
}  // namespace moestro::config
