// Machine descriptions: the published ones are read, wrong ones say which key is wrong.
#include "plan/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/format.h"
#include "plan/substitution.h"

namespace moestro::plan {
namespace {

using testing::HasSubstr;

std::string published(std::string_view name) {
  return format("{}/models/hardware/{}.json", MOESTRO_SOURCE_DIR, name);
}
std::string error_of(std::string_view text) {
  const auto parsed = parse_machine(json::parse(text).value());
  return parsed.ok() ? "" : std::string(parsed.status().message());
}

TEST(Machine, PublishedOnes) {
  const Machine amx = read_machine(published("amx-2-cores")).value();
  EXPECT_TRUE(amx.described);
  EXPECT_EQ(amx.cores, 2);
  EXPECT_TRUE(amx.isa.contains(platform::kAmxInt8Set));
  EXPECT_EQ(read_machine(published("amx-32-cores"))->cores, 32);
  EXPECT_EQ(read_machine(published("avx2-desktop"))->isa, platform::IsaSet(platform::Isa::kAvx2));
  const Machine node = read_machine(published("h100-node")).value();
  ASSERT_EQ(node.gpus.size(), 8u);
  EXPECT_EQ(node.gpus[7].compute_major, 9);
  EXPECT_EQ(node.gpus[7].shared_bytes, 227 << 10);
  EXPECT_EQ(read_machine(published("h100"))->gpus.size(), 1u);
  EXPECT_EQ(read_machine(published("amx-8-hosts"))->ranks, 8);
  EXPECT_FALSE(this_machine().described);
  EXPECT_GE(this_machine().cores, 1);
}

TEST(Machine, ErrorsNameTheKey) {
  EXPECT_THAT(read_machine("/nowhere.json").status().message(), HasSubstr("/nowhere.json"));
  EXPECT_THAT(error_of("[]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(error_of(R"({})"), HasSubstr("name is missing"));
  EXPECT_THAT(error_of(R"({"name":"n"})"), HasSubstr("cpu is missing"));
  EXPECT_THAT(error_of(R"({"name":"n","cpu":{"name":"c"}})"), HasSubstr("cpu.isa is missing"));
  EXPECT_THAT(error_of(R"({"name":"n","cpu":{"name":"c","isa":["mmx"],"cores":1,"memory_gib":1}})"),
              HasSubstr("cpu.isa"));
  EXPECT_THAT(error_of(R"({"name":"n","cpu":{"name":"c","isa":[],"cores":0,"memory_gib":1}})"),
              HasSubstr("cpu.cores: 0 is not a whole number from 1 to 1024"));
  EXPECT_THAT(
      error_of(R"({"name":"n","cpu":{"name":"c","isa":[],"cores":1,"memory_gib":1,"x":1}})"),
      HasSubstr("cpu.x: no such key"));
  const std::string cpu = R"({"name":"n","cpu":{"name":"c","isa":[],"cores":1,"memory_gib":1},)";
  EXPECT_EQ(error_of(cpu + R"("gpus":[],"ranks":1})"), "");
  EXPECT_EQ(error_of(cpu + R"("ranks":8})"), "");
  EXPECT_THAT(error_of(cpu + R"("ranks":0})"), HasSubstr("ranks: 0"));
  EXPECT_THAT(error_of(cpu + R"("gpu":[]})"), HasSubstr("gpu: no such key"));
  EXPECT_THAT(error_of(cpu + R"("gpus":[{"name":"g","compute":"nine"}]})"),
              HasSubstr("gpus[0].compute: \"nine\""));
  EXPECT_THAT(error_of(cpu + R"("gpus":[{"name":"g","compute":"9.0"}]})"),
              HasSubstr("gpus[0].memory_gib is missing"));
}

TEST(Substitution, OneFormForAll) {
  const Substitution s =
      parse_substitution("int4 x int8 -> bfloat16 activations, because no kernel; cost: slower");
  EXPECT_EQ(s.text(), "int4 x int8 → bfloat16 activations → no kernel → slower");
  EXPECT_EQ(parse_substitution("a -> b, because c").text(), "a → b → c → no cost");
  EXPECT_THAT(parse_substitution("something else").text(), HasSubstr("something else"));
  std::vector<Substitution> list;
  for (int i = 0; i < 2; ++i) add_substitution(list, s);
  EXPECT_EQ(list.size(), 1u);
}

}  // namespace
}  // namespace moestro::plan
