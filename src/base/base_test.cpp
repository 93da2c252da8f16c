#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/deadline.h"
#include "base/dtype.h"
#include "base/format.h"
#include "base/json.h"
#include "base/metrics.h"
#include "base/status.h"
#include "base/strings.h"

namespace moestro {
namespace {

using testing::HasSubstr;

TEST(Format, FollowsFmt) {
  EXPECT_EQ(format("{} of {:.1f} {}", 3, 2.25, std::string("x")), "3 of 2.2 x");
  EXPECT_EQ(format("no arguments"), "no arguments");
}

TEST(Format, PythonReprOfDoubles) {
  EXPECT_EQ(python_repr(1.0), "1.0");
  EXPECT_EQ(python_repr(0.1), "0.1");
  EXPECT_EQ(python_repr(1e-7), "1e-07");
  EXPECT_EQ(python_repr(1e16), "1e+16");
  EXPECT_EQ(python_repr(123456789012345.0), "123456789012345.0");
  EXPECT_EQ(python_repr(1e15), "1000000000000000.0");
  EXPECT_EQ(python_repr(-1.5e-10), "-1.5e-10");
  EXPECT_EQ(python_repr(0.0001), "0.0001");
  EXPECT_EQ(python_repr(1e22), "1e+22");
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* bad :
       {"", "{", "{\"a\":1,}", "[1 2]", "nul", "\"\xff\"", "{\"a\":1}x", "01", "NaN"})
    EXPECT_FALSE(json::parse(bad).ok()) << bad;
  EXPECT_THAT(json::parse("{\"a\":1,\"a\":2}").status().message(), HasSubstr("\"a\" twice"));
  EXPECT_THAT(json::parse(std::string(10000, '[')).status().message(), HasSubstr("deeper than 64"));
}

TEST(Json, DuplicateKeysAreFoundAcrossNesting) {
  EXPECT_TRUE(json::parse("{\"a\":{\"a\":1},\"b\":{\"a\":2}}").ok());
  EXPECT_FALSE(json::parse("{\"x\":{\"k\":1,\"\\u006b\":1}}").ok());
}

TEST(Json, DumpsLikePython) {
  const auto v = json::parse("{\"b\":[1,2.0,\"\\u00e9\\n\"],\"a\":{}}").value();
  EXPECT_EQ(json::dump(v), "{\"b\":[1,2.0,\"é\\n\"],\"a\":{}}");
  EXPECT_EQ(
      json::dump(
          v,
          {.item_separator = ", ", .key_separator = ": ", .ensure_ascii = true, .sort_keys = true}),
      "{\"a\": {}, \"b\": [1, 2.0, \"\\u00e9\\n\"]}");
  EXPECT_EQ(json::dump(v, {.indent = 2, .item_separator = ", ", .key_separator = ": "}),
            "{\n  \"b\": [\n    1,\n    2.0,\n    \"é\\n\"\n  ],\n  \"a\": {}\n}");
}

TEST(Json, TypedGettersNameTheKey) {
  const auto v = json::parse("{\"n\":1.5,\"s\":null}").value();
  EXPECT_THAT(json::get_int(v.get_object(), "n", 0).status().message(),
              HasSubstr("\"n\" must be an integer"));
  EXPECT_EQ(json::get_string(v.get_object(), "s", "d").value(), "d");
}

TEST(Strings, RepairsUtf8ByMaximalParts) {
  EXPECT_EQ(repair_utf8("a\xe2\x82z"), "a\xef\xbf\xbdz");
  EXPECT_EQ(repair_utf8("\xf0\x80\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_FALSE(is_valid_utf8("\xed\xa0\x80"));
  EXPECT_TRUE(is_valid_utf8("h\xc3\xa9 \xf0\x9f\x8e\x89"));
}

TEST(Strings, SuggestsTheNearestWord) {
  EXPECT_EQ(nearest("--max-model-length", {"--max-num-seqs", "--max-model-len"}),
            "--max-model-len");
  EXPECT_EQ(nearest("--zzzz", {"--max-num-seqs"}), std::nullopt);
}

TEST(Status, CarriesContext) {
  EXPECT_EQ(invalid_argument("bad").with("config.json").message(), "config.json: bad");
  EXPECT_EQ(http_status(Code::kResourceExhausted), 429);
}

TEST(Metrics, ExposesPrometheusText) {
  MetricsRegistry registry;
  registry.counter("vllm:generation_tokens", "Tokens", {{"model_name", "a\"b"}}).add(3);
  registry.histogram("h", "H", {1, 2}).observe(1.5);
  const std::string text = registry.expose();
  EXPECT_THAT(text, HasSubstr("vllm:generation_tokens_total{model_name=\"a\\\"b\"} 3.0\n"));
  EXPECT_THAT(text,
              HasSubstr("h_bucket{le=\"2.0\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1.5\nh_count 1\n"));
}

TEST(DTypes, NamesRoundTrip) {
  EXPECT_EQ(from_safetensors("F8_E4M3"), DType::kF8E4M3);
  EXPECT_EQ(from_torch("half"), DType::kF16);
  EXPECT_EQ(bits(DType::kF4), 4);
}

}  // namespace
}  // namespace moestro
