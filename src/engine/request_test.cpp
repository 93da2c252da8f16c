// SamplingParams::validate: each field at and beyond its limits; the message names field and value.
#include "engine/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace moestro::engine {
namespace {

constexpr int32_t kVocab = 50;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

template <class Set, class Value>
void expect_valid(Set set, std::initializer_list<Value> values) {
  for (const Value value : values) {
    SamplingParams params;
    set(params, value);
    EXPECT_TRUE(params.validate(kVocab).ok()) << params.validate(kVocab).message();
  }
}

template <class Set, class Value>
void expect_invalid(const char* field, Set set, std::initializer_list<Value> values) {
  for (const Value value : values) {
    SamplingParams params;
    set(params, value);
    const Status status = params.validate(kVocab);
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << field << " = " << value;
    EXPECT_THAT(status.message(), testing::HasSubstr(field)) << value;
  }
}

TEST(SamplingParams, DefaultsAreValid) { EXPECT_TRUE(SamplingParams{}.validate(1).ok()); }

TEST(SamplingParams, RealFields) {
  const auto check = [](const char* field, double SamplingParams::*member,
                        std::initializer_list<double> good, std::initializer_list<double> bad) {
    const auto set = [member](SamplingParams& p, double v) { p.*member = v; };
    expect_valid(set, good);
    expect_invalid(field, set, bad);
    expect_invalid(field, set, {kNan, kInf, -kInf});
  };
  check("temperature", &SamplingParams::temperature, {0, 1e-9, 2, 100}, {-1e-9, -1});
  check("top_p", &SamplingParams::top_p, {1e-9, 0.5, 1}, {0, -0.1, 1.0001});
  check("min_p", &SamplingParams::min_p, {0, 0.5, 1}, {-0.001, 1.001});
  check("presence_penalty", &SamplingParams::presence_penalty, {-2, 0, 2}, {-2.01, 2.01});
  check("frequency_penalty", &SamplingParams::frequency_penalty, {-2, 0, 2}, {-2.01, 2.01});
  check("repetition_penalty", &SamplingParams::repetition_penalty, {1e-6, 1, 1.3, 1e6},
        {0, -1, 1e-7, 1e7});
}

TEST(SamplingParams, IntegerFields) {
  const auto check = [](const char* field, int32_t SamplingParams::*member,
                        std::initializer_list<int32_t> good, std::initializer_list<int32_t> bad) {
    const auto set = [member](SamplingParams& p, int32_t v) { p.*member = v; };
    expect_valid(set, good);
    expect_invalid(field, set, bad);
  };
  check("top_k", &SamplingParams::top_k, {0, 1, INT32_MAX}, {-1, INT32_MIN});
  check("max_tokens", &SamplingParams::max_tokens, {1, INT32_MAX}, {0, -1});
  check("min_tokens", &SamplingParams::min_tokens, {0, 16}, {-1, 17});  // max_tokens is 16
  check("logprobs", &SamplingParams::logprobs, {-1, 0, kMaxLogprobs}, {-2, kMaxLogprobs + 1});
  check("prompt_logprobs", &SamplingParams::prompt_logprobs, {-1, 0, kMaxLogprobs},
        {-2, kMaxLogprobs + 1});
}

TEST(SamplingParams, IdLists) {
  const auto stop = [](SamplingParams& p, int32_t id) { p.stop_token_ids = {3, id}; };
  const auto allowed = [](SamplingParams& p, int32_t id) { p.allowed_token_ids = {3, id}; };
  const auto bias_id = [](SamplingParams& p, int32_t id) {
    p.logit_bias = {{3, 1.0f}, {id, 1.0f}};
  };
  const auto bias = [](SamplingParams& p, float v) { p.logit_bias = {{3, v}}; };
  expect_valid(stop, {0, kVocab - 1});
  expect_valid(allowed, {0, kVocab - 1});
  expect_valid(bias_id, {0, kVocab - 1});
  expect_valid(bias, {-100.0f, 0.0f, 100.0f});
  expect_invalid("stop_token_ids", stop, {-1, kVocab});
  expect_invalid("allowed_token_ids", allowed, {-1, kVocab});
  expect_invalid("logit_bias", bias_id, {-1, kVocab});
  expect_invalid("logit_bias", bias, {-100.5f, 101.0f, std::nanf(""), static_cast<float>(kInf)});
  const auto many = [](auto member) {
    return [member](SamplingParams& p, size_t n) { (p.*member).resize(n); };
  };
  expect_valid(many(&SamplingParams::stop_token_ids), {size_t{kVocab}});
  expect_invalid("stop_token_ids", many(&SamplingParams::stop_token_ids), {size_t{kVocab} + 1});
  expect_invalid("allowed_token_ids", many(&SamplingParams::allowed_token_ids),
                 {size_t{kVocab} + 1});
  expect_invalid("logit_bias", many(&SamplingParams::logit_bias), {size_t{kVocab} + 1});
}

}  // namespace
}  // namespace moestro::engine
