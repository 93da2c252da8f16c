#include "config/yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moestro::config {
namespace {

std::string as_json(std::string_view text) {
  const auto entries = parse_yaml(text);
  EXPECT_TRUE(entries.ok()) << entries.status().message();
  if (!entries.ok()) return {};
  json::object object;
  for (const YamlEntry& entry : *entries) object[entry.key] = entry.value;
  return json::dump(json::value(object));
}

TEST(Yaml, Scalars) {
  EXPECT_EQ(
      as_json("a: 1\nb: -2.5\nc: yes\nd: 'it''s # not'\ne: \"x\\n\"\nf: ~\ng: plain words # "
              "comment\nh: 4k\n"),
      R"({"a":1,"b":-2.5,"c":true,"d":"it's # not","e":"x\n","f":null,"g":"plain words","h":"4k"})");
  EXPECT_EQ(parse_yaml("a: 0.90")->front().text, "0.90");
}

TEST(Yaml, Nesting) {
  EXPECT_EQ(as_json("a:\n  b:\n    - 1\n    - c: 2\n      d: 3\n    -\n      - x\ne:\n- 4\n- 5\nf: "
                    "[1, {g: 'h', i: []}, \"j\"]\n"),
            R"({"a":{"b":[1,{"c":2,"d":3},["x"]]},"e":[4,5],"f":[1,{"g":"h","i":[]},"j"]})");
  EXPECT_EQ(as_json("---\nurl: http://x:80/y#z\n"), R"({"url":"http://x:80/y#z"})");
  EXPECT_EQ(as_json(""), "{}");
}

TEST(Yaml, ErrorsNameTheLine) {
  const auto message = [](std::string_view text) {
    const auto entries = parse_yaml(text);
    EXPECT_FALSE(entries.ok()) << text;
    return entries.ok() ? std::string() : entries.status().message();
  };
  EXPECT_THAT(message("a: 1\na: 2"), testing::HasSubstr("line 2: 'a' is given twice"));
  EXPECT_THAT(message("a: 1\n  b: 2"), testing::HasSubstr("line 2"));
  EXPECT_THAT(message("a: &x 1"), testing::HasSubstr("anchors"));
  EXPECT_THAT(message("a: |\n  text"), testing::HasSubstr("block text"));
  EXPECT_THAT(message("a: [1, 2"), testing::HasSubstr("bracket"));
  EXPECT_THAT(message("a: 'x"), testing::HasSubstr("quote"));
  EXPECT_THAT(message("just words"), testing::HasSubstr("key: value"));
  EXPECT_THAT(message("\ta: 1"), testing::HasSubstr("tab"));
  EXPECT_THAT(message("- 1"), testing::HasSubstr("list item"));
  EXPECT_THAT(message("a: 1\n---\nb: 2"), testing::HasSubstr("one document"));
  std::string deep = "a: ";
  for (int i = 0; i < 100; ++i) deep += "[";
  EXPECT_THAT(message(deep), testing::HasSubstr("deeper"));
}

}  // namespace
}  // namespace moestro::config
