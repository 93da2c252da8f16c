#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "checkpoint/safetensors_header.h"
#include "checkpoint/test_files.h"
#include "checkpoint/weight_source.h"

namespace moestro::checkpoint {
namespace {

using ::testing::AllOf;
using testing::as_bytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Made;
using testing::safetensors_file;
using testing::safetensors_of;
using testing::TempDir;

std::string header_of_one(std::string_view dtype, std::string_view shape,
                          std::string_view offsets) {
  return format("{}\"w\":{}\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":{}{}{}", "{", "{", dtype,
                shape, offsets, "}", "}");
}

struct Damage {
  std::string what;
  std::string file;
  std::string rule;  // part of the message
};

std::vector<Damage> damages() {
  const std::string eight(8, '\1');
  const auto one = [&](std::string_view dtype, std::string_view shape, std::string_view offsets) {
    return safetensors_file(header_of_one(dtype, shape, offsets), eight);
  };
  const auto two = [&](std::string_view a, std::string_view b) {
    return safetensors_file(format("{}\"a\":{}\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":{}{},"
                                   "\"b\":{}\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":{}{}{}",
                                   "{", "{", a, "}", "{", b, "}", "}"),
                            eight);
  };
  const std::string good = header_of_one("F32", "[2]", "[0,8]");
  return {
      {"empty file", "", "too few for the 8-byte header length"},
      {"seven bytes", std::string(7, '\0'), "too few for the 8-byte header length"},
      {"truncated in the header", safetensors_file(good, "").substr(0, 20),
       "the file is truncated"},
      {"truncated in the data", safetensors_file(good, eight.substr(0, 7)),
       "past the 7 bytes of data"},
      {"oversized header", safetensors_file(good, eight, 100'000'001),
       "more than the limit of 100000000"},
      {"header length that overflows", safetensors_file(good, eight, INT64_MAX),
       "more than the limit of 100000000"},
      {"no header", safetensors_file("", ""), "must begin with '{'"},
      {"white space first", safetensors_file(" " + good, eight), "must begin with '{'"},
      {"new line last", safetensors_file(good + "\n", eight), "must end with '}'"},
      {"array", safetensors_file("[]", ""), "must begin with '{'"},
      {"not JSON", safetensors_file("{\"w\":}", ""), "JSON is not valid at byte"},
      {"text after the object", safetensors_file("{} {}", ""), "extra text"},
      {"bad UTF-8",
       safetensors_file("{\"w\xff\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
                        eight),
       "JSON is not valid at byte"},
      {"duplicate tensor",
       safetensors_file("{\"w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"w\":{"
                        "\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
                        eight),
       "\"w\" twice"},
      {"duplicate by escape",
       safetensors_file("{\"w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                        "\"\\u0077\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
                        eight),
       "\"w\" twice"},
      {"duplicate field",
       safetensors_file(
           "{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
           eight),
       "\"dtype\" twice"},
      {"deep JSON",
       safetensors_file("{\"w\":" + std::string(100000, '[') + std::string(100000, ']') + "}", ""),
       "nested deeper than 4"},
      {"entry is a list", safetensors_file("{\"w\":[1]}", ""), "must be an object, not an array"},
      {"no dtype", safetensors_file("{\"w\":{\"shape\":[2],\"data_offsets\":[0,8]}}", eight),
       "\"dtype\" is missing"},
      {"no shape", safetensors_file("{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", eight),
       "\"shape\" is missing"},
      {"no offsets", safetensors_file("{\"w\":{\"dtype\":\"F32\",\"shape\":[2]}}", eight),
       "\"data_offsets\" is missing"},
      {"dtype is a number",
       safetensors_file("{\"w\":{\"dtype\":3,\"shape\":[2],\"data_offsets\":[0,8]}}", eight),
       "\"dtype\" must be a string"},
      {"negative shape", one("F32", "[-2]", "[0,8]"), "non-negative integer"},
      {"two negative dimensions", one("F32", "[-1,-2]", "[0,8]"), "non-negative integer"},
      {"float shape", one("F32", "[2.0]", "[0,8]"), "non-negative integer"},
      {"exponent shape", one("F32", "[2e0]", "[0,8]"), "non-negative integer"},
      {"huge dimension", one("U8", "[9007199254740993]", "[0,8]"), "limit of 2^53"},
      {"dimension of 2^64", one("U8", "[18446744073709551616]", "[0,8]"), "non-negative integer"},
      {"overflowing shape", one("F32", "[4294967296,4294967296,4]", "[0,8]"), "overflows 64 bits"},
      {"shape that wraps to the right size", one("U8", "[4503599627370496,512,8,2]", "[0,0]"),
       "overflows 64 bits"},
      {"rank 9", one("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), "limit of 8"},
      {"too small", one("F32", "[1]", "[0,8]"), "need 4 bytes but \"data_offsets\" give 8"},
      {"wrong dtype", one("F64", "[2]", "[0,8]"), "need 16 bytes but \"data_offsets\" give 8"},
      {"F4 of odd length", one("F4", "[15]", "[0,8]"), "not whole bytes"},
      {"F6 of odd length", one("F6_E2M3", "[6]", "[0,5]"), "not whole bytes"},
      {"begin after end", one("F32", "[2]", "[8,0]"), "begin 8 is after end 0"},
      {"end past the data", one("F32", "[4]", "[0,16]"), "past the 8 bytes of data"},
      {"offset of 2^64-1", one("U8", "[8]", "[18446744073709551607,18446744073709551615]"),
       "past the 8 bytes of data"},
      {"offset of 2^64", one("U8", "[8]", "[0,18446744073709551616]"), "two non-negative integers"},
      {"negative offset", one("F32", "[2]", "[-8,0]"), "two non-negative integers"},
      {"three offsets", one("F32", "[2]", "[0,4,8]"), "array of two integers"},
      {"overlap", two("[0,4]", "[3,7]"), "overlap at byte 3"},
      {"same bytes twice", two("[0,4]", "[0,4]"), "overlap at byte 0"},
      {"hole",
       safetensors_file("{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},\"b\":{"
                        "\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
                        eight),
       "no tensor covers bytes 3 to 4"},
      {"hole at the start",
       safetensors_file("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}", eight),
       "no tensor covers bytes 0 to 4"},
      {"trailing bytes", safetensors_file(header_of_one("U8", "[4]", "[0,4]"), eight),
       "4 trailing bytes"},
      {"trailing bytes without tensors", safetensors_file("{}", eight), "8 trailing bytes"},
      {"metadata of numbers", safetensors_file("{\"__metadata__\":{\"n\":1}}", ""),
       "\"n\" must be a string"},
      {"metadata list", safetensors_file("{\"__metadata__\":[]}", ""),
       "__metadata__: must be an object"},
      {"endless name",
       safetensors_file("{\"" + std::string(5000, 'n') +
                            "\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
                        eight),
       "limit of 4096"},
  };
}

TEST(SafetensorsHeader, EveryDamageIsNamed) {
  for (const Damage& d : damages()) {
    const auto parsed = parse_safetensors_header(as_bytes(d.file), "x.safetensors");
    ASSERT_FALSE(parsed.ok()) << d.what;
    EXPECT_EQ(parsed.status().code(), Code::kDataLoss) << d.what;
    EXPECT_THAT(parsed.status().message(), AllOf(HasSubstr("x.safetensors"), HasSubstr(d.rule)))
        << d.what;
  }
}

TEST(SafetensorsHeader, DamageReachesTheCallerOfTheSource) {
  for (const Damage& d : damages()) {
    TempDir dir;
    dir.write("config.json", "{}");
    dir.write("model.safetensors", d.file);
    const auto source = open_safetensors(dir.open());
    ASSERT_FALSE(source.ok()) << d.what;
    EXPECT_THAT(source.status().message(),
                AllOf(HasSubstr("/model.safetensors"), HasSubstr(d.rule)))
        << d.what;
  }
}

TEST(SafetensorsHeader, ReadsPaddingZeroElementsAndSubByteTypes) {
  const std::string header =
      "{\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},\"z\":{\"dtype\":\"BF16\","
      "\"shape\":[0,7],\"data_offsets\":[4,4]},"
      "\"f4\":{\"dtype\":\"F4\",\"shape\":[3,2],\"data_offsets\":[4,7]},\"f6\":{\"dtype\":\"F6_"
      "E3M2\",\"shape\":[4],\"data_offsets\":[7,10]},"
      "\"new\":{\"dtype\":\"F8_FUTURE\",\"shape\":[5],\"data_offsets\":[10,13],\"extra\":1},"
      "\"end\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[13,13]}}   ";
  const std::string file = safetensors_file(header, std::string(13, 'x'));
  const auto parsed = parse_safetensors_header(as_bytes(file), "x");
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  ASSERT_EQ(parsed->size(), 6u);
  EXPECT_EQ((*parsed)[0].name, "s");
  EXPECT_EQ((*parsed)[0].begin, 8 + header.size());
  EXPECT_EQ((*parsed)[1].name, "z");
  EXPECT_EQ((*parsed)[2].dtype, DType::kF4);
  EXPECT_EQ((*parsed)[3].dtype, DType::kF6E3M2);
  EXPECT_FALSE((*parsed)[4].dtype.has_value());
  EXPECT_EQ((*parsed)[5].end, file.size());
}

std::unique_ptr<WeightSource> source_of(const TempDir& dir) {
  auto source = open_safetensors(dir.open());
  CHECK(source.ok(), source.status().message());
  return std::move(source).value();
}

TEST(Safetensors, GivesViewsOfUnalignedTensors) {
  TempDir dir;
  dir.write("config.json", "{}");
  dir.write("model.safetensors", safetensors_of({{"odd", "U8", "[3]", "abc"},
                                                 {"half", "BF16", "[1,2]", "0123"},
                                                 {"none", "F32", "[0]", ""}}));
  const auto source = source_of(dir);
  EXPECT_THAT(source->names(), ElementsAre("half", "none", "odd"));
  EXPECT_EQ(source->total_bytes(), 7u);
  ASSERT_NE(source->find("half"), nullptr);
  EXPECT_THAT(source->find("half")->shape, ElementsAre(1, 2));
  const auto view = source->get("half", {1, -1}, {DType::kF32, DType::kBF16});
  ASSERT_TRUE(view.ok()) << view.status().message();
  EXPECT_EQ(view->dtype, DType::kBF16);
  EXPECT_EQ(view->num_elements(), 2);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(view->bytes.data()), view->bytes.size()),
            "0123");
  EXPECT_EQ(source->get("none", {0}, {DType::kF32})->bytes.size(), 0u);
  source->drop(*view);  // a hint: the bytes stay readable
  EXPECT_EQ(static_cast<char>(view->bytes[0]), '0');
}

TEST(Safetensors, NamesTensorFileFoundAndWanted) {
  TempDir dir;
  dir.write("config.json", "{}");
  dir.write("model.safetensors",
            safetensors_of({{"w", "BF16", "[1,2]", "0123"}, {"new", "F8_FUTURE", "[4]", "abcd"}}));
  const auto source = source_of(dir);
  EXPECT_THAT(source->get("w", {2, 1}, {DType::kBF16}).status().message(),
              AllOf(HasSubstr("tensor w in"), HasSubstr("/model.safetensors"),
                    HasSubstr("shape [1, 2], wanted [2, 1]")));
  EXPECT_THAT(source->get("w", {-1}, {DType::kBF16}).status().message(), HasSubstr("wanted [any]"));
  EXPECT_THAT(source->get("w", {1, 2}, {DType::kF32, DType::kF16}).status().message(),
              HasSubstr("type \"BF16\", wanted F32 or F16"));
  const auto missing = source->get("v", {1}, {DType::kBF16});
  EXPECT_EQ(missing.status().code(), Code::kDataLoss);
  EXPECT_THAT(missing.status().message(), HasSubstr("tensor v is missing from"));
  // A type that nobody knows hurts only who asks for it.
  EXPECT_TRUE(source->has("new"));
  EXPECT_EQ(source->find("new"), nullptr);
  EXPECT_THAT(source->get("new", {4}, {DType::kU8}).status().message(),
              HasSubstr("type \"F8_FUTURE\", wanted U8"));
}

TempDir& two_shards(TempDir& dir, std::string_view index) {
  dir.write("config.json", "{}");
  dir.write("model-1.safetensors",
            safetensors_of({{"a", "U8", "[1]", "a"}, {"b", "U8", "[1]", "b"}}));
  dir.write("model-2.safetensors", safetensors_of({{"c", "U8", "[1]", "c"}}));
  if (!index.empty()) dir.write("model.safetensors.index.json", index);
  return dir;
}

TEST(SafetensorsIndex, FindsShardsAndIgnoresSurplusTensors) {
  TempDir dir;
  const auto source = source_of(two_shards(
      dir,
      R"({"metadata":{"total_size":99},"weight_map":{"a":"model-1.safetensors","c":"model-2.safetensors"}})"));
  EXPECT_THAT(source->names(), ElementsAre("a", "c"));
  EXPECT_EQ(static_cast<char>(source->get("c", {1}, {DType::kU8})->bytes[0]), 'c');
}

TEST(SafetensorsIndex, EveryDamageIsNamed) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"weight_map":{"a":"../model-1.safetensors"}})",
       "the file of \"a\" is \"../model-1.safetensors\", which is not a plain file name"},
      {R"({"weight_map":{"a":"/etc/passwd"}})", "not a plain file name"},
      {R"({"weight_map":{"a":"model-1.safetensors\u0000"}})", "not a plain file name"},
      {R"({"weight_map":{"a":"..\\model-1.safetensors"}})", "not a plain file name"},
      {R"({"weight_map":{"a":1}})", "must be a string, not an integer"},
      {R"({"weight_map":{}})", "\"weight_map\" must be an object"},
      {R"({"weight_map":[]})", "\"weight_map\" must be an object"},
      {R"([])", "\"weight_map\" must be an object"},
      {R"({"weight_map":{"a":"model-1.safetensors","a":"model-2.safetensors"}})", "\"a\" twice"},
      {R"({"weight_map":{"a":"model-3.safetensors"}})", "no model-3.safetensors in"},
      {R"({"weight_map":{"a":"model-2.safetensors"}})",
       "tensor \"a\" is not in model-2.safetensors"},
      {R"({"weight_map":{"a":"model-1.safetensors","zz":"model-1.safetensors"}})",
       "tensor \"zz\" is not in model-1.safetensors"},
      {"{", "JSON is not valid at byte 1"},
      {std::string(50, '['), "nested deeper"},
  };
  for (const auto& [index, rule] : cases) {
    TempDir dir;
    const auto source = open_safetensors(two_shards(dir, index).open());
    ASSERT_FALSE(source.ok()) << index;
    EXPECT_THAT(source.status().message(),
                AllOf(HasSubstr("model.safetensors.index.json"), HasSubstr(rule)))
        << index;
  }
}

TEST(SafetensorsIndex, RefusesAShardThatIsALinkOutOfTheModel) {
  TempDir dir;
  dir.write("elsewhere.safetensors", safetensors_of({{"a", "U8", "[1]", "a"}}));
  dir.write("m/config.json", "{}");
  dir.write("m/model.safetensors.index.json", R"({"weight_map":{"a":"x.safetensors"}})");
  std::filesystem::create_symlink("../elsewhere.safetensors", dir.path() / "m/x.safetensors");
  EXPECT_THAT(open_safetensors(dir.open("m")).status().message(),
              HasSubstr("x.safetensors is a symbolic link that leaves"));
}

TEST(SafetensorsWithoutIndex, ReadsAllShardsButForeignOnes) {
  TempDir dir;
  dir.write("consolidated.00.safetensors", "broken, and never read");
  dir.write("adapter_model.safetensors", "broken, and never read");
  EXPECT_THAT(source_of(two_shards(dir, ""))->names(), ElementsAre("a", "b", "c"));
  dir.write("model-3.safetensors", safetensors_of({{"b", "U8", "[1]", "x"}}));
  EXPECT_THAT(
      open_safetensors(dir.open()).status().message(),
      AllOf(HasSubstr("tensor \"b\" is in model-1.safetensors and again in model-3.safetensors")));
}

TEST(SafetensorsWithoutIndex, SaysWhatWasLookedFor) {
  TempDir dir;
  dir.write("config.json", "{}");
  const auto source = open_safetensors(dir.open());
  EXPECT_EQ(source.status().code(), Code::kNotFound);
  EXPECT_THAT(
      source.status().message(),
      HasSubstr("looked for model.safetensors.index.json, model.safetensors and *.safetensors"));
}

TEST(Safetensors, StripsThePrefixOfAMultimodalWrapper) {
  TempDir dir;
  dir.write("config.json", "{}");
  dir.write("model.safetensors",
            safetensors_of({{"language_model.lm_head.weight", "U8", "[1]", "a"},
                            {"model.language_model.norm.weight", "U8", "[1]", "b"},
                            {"vision.patch", "U8", "[1]", "c"}}));
  EXPECT_THAT(source_of(dir)->names(),
              ElementsAre("lm_head.weight", "model.norm.weight", "vision.patch"));
}

TEST(Safetensors, ReadsFromManyThreads) {
  TempDir dir;
  std::vector<Made> tensors;
  for (int i = 0; i < 200; ++i)
    tensors.push_back({format("t{}", i), "U8", "[64]", std::string(64, static_cast<char>(i))});
  dir.write("config.json", "{}");
  dir.write("model.safetensors", safetensors_of(tensors));
  const auto source = source_of(dir);
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        const auto view = source->get(format("t{}", i), {64}, {DType::kU8});
        if (view.ok() && view->bytes[63] == static_cast<std::byte>(i)) ++right;
        if (view.ok()) source->drop(*view);
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(right, 800);
}

}  // namespace
}  // namespace moestro::checkpoint
