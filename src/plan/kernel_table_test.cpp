// How measured times decide, and the file that keeps them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/format.h"
#include "plan/choose.h"
#include "plan/kernel_table_file.h"

namespace moestro::plan {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

KernelTimes times_of(std::vector<KernelTime> kernels) { return {std::move(kernels)}; }

std::vector<Candidate> candidates(std::initializer_list<const char*> names) {
  std::vector<Candidate> list;
  for (const char* name : names) list.push_back({name, {}});
  return list;
}

TEST(Pick, TheFastestOfABucketAndTheOthersSaySlowerByHowMuch) {
  const KernelTimes times = times_of({{"a", {10, 20, 30, 40}, 0}, {"b", {20, 10, 29.8, 20}, 0}});
  auto list = candidates({"a", "b", "ref"});
  EXPECT_EQ(pick(list, &times, 0), 0);
  EXPECT_THAT(list[1].why_not, StartsWith("slower: by 2.00 x"));
  EXPECT_EQ(list[1].reason_class(), "slower");
  EXPECT_THAT(list[2].why_not, StartsWith("order: not measured"));
  list = candidates({"a", "b"});
  EXPECT_EQ(pick(list, &times, 1), 1);
  EXPECT_THAT(list[0].why_not, StartsWith("slower: by 2.00 x"));
  list = candidates({"a", "b"});
  EXPECT_EQ(pick(list, &times, 2), 0) << "less than three per cent may be noise";
  EXPECT_THAT(list[1].why_not, StartsWith("order: faster by 1.01 x only"));
}

TEST(Pick, KernelsWithOtherLastBitsAreNeverMixed) {
  // c is the fastest for few tokens, a and b give equal bits and are faster over all.
  const KernelTimes times =
      times_of({{"a", {10, 10, 50, 50}, 0}, {"b", {20, 20, 10, 10}, 0}, {"c", {9, 9, 40, 40}, 2}});
  const std::vector<int> expected = {0, 0, 1, 1};
  for (int b = 0; b < kernels::kTokenBuckets; ++b) {
    auto list = candidates({"a", "b", "c"});
    EXPECT_EQ(pick(list, &times, b), expected[static_cast<size_t>(b)]);
    EXPECT_THAT(list[2].why_not,
                StartsWith(b < 2 ? "rounding: faster by 1.11 x" : "slower: by 4.00"));
  }
}

TEST(Pick, WithoutTwoTimesTheOrderDecides) {
  const KernelTimes times = times_of({{"b", {1, 1, 1, 1}, 0}});
  auto list = candidates({"a", "b"});
  EXPECT_EQ(pick(list, &times, 0), 0);
  EXPECT_EQ(list[1].why_not, "order: after a");
  list = candidates({"a", "b"});
  list[0].why_not = "isa: needs amx_int8";
  EXPECT_EQ(pick(list, nullptr, 0), 1);
  list[1].why_not = "flag: --kernel asks for c";
  EXPECT_EQ(pick(list, nullptr, 0), -1);
}

class TableFile : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::temp_directory_path() /
                 format("moestro-table-{}", reinterpret_cast<uintptr_t>(this));
    std::filesystem::remove_all(directory_);
    path_ = (directory_ / "deep" / "kernels.json").string();
    table_.set("linear n 1", times_of({{"a", {1.5, 2, 3, 4}, 0}, {"b", {2, 1, 0, 0}, 1}}));
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  void write(const std::string& text) {
    std::filesystem::create_directories(directory_ / "deep");
    std::ofstream(path_) << text;
  }

  std::filesystem::path directory_;
  std::string path_;
  KernelTable table_;
  const TableIdentity identity_{"cpu", "avx2", "build"};
};

TEST_F(TableFile, ComesBackAsItWas) {
  EXPECT_TRUE(read_table(path_, identity_)->empty());  // none yet
  ASSERT_TRUE(write_table(path_, identity_, table_).ok());
  const KernelTable read = read_table(path_, identity_).value();
  ASSERT_NE(read.find("linear n 1"), nullptr);
  const KernelTimes& times = *read.find("linear n 1");
  ASSERT_EQ(times.kernels.size(), 2u);
  EXPECT_THAT(times.find("a")->us, ElementsAre(1.5, 2, 3, 4));
  EXPECT_EQ(times.find("b")->results, 1);
  EXPECT_EQ(times.find("c"), nullptr);
}

TEST_F(TableFile, AnotherMachinesOrBuildsTimesAreNotUsed) {
  ASSERT_TRUE(write_table(path_, identity_, table_).ok());
  EXPECT_TRUE(read_table(path_, {"cpu", "avx2", "other"})->empty());
  EXPECT_TRUE(read_table(path_, {"cpu", "amx_int8", "build"})->empty());
  const TableIdentity here = TableIdentity::of_this_machine();
  EXPECT_FALSE(here.build.empty());
  EXPECT_EQ(here, TableIdentity::of_this_machine());
  EXPECT_NE(default_table_path(here), default_table_path(identity_));
}

TEST_F(TableFile, DamageIsNamed) {
  for (
      const char* text :
      {"", "{", "[]", R"({"format":1})", R"({"format":1,"cpu":3})",
       R"({"format":1,"cpu":"cpu","isa":"avx2","build":"build","times":[]})",
       R"({"format":1,"cpu":"cpu","isa":"avx2","build":"build","times":{"k":{"a":1}}})",
       R"({"format":1,"cpu":"cpu","isa":"avx2","build":"build","times":{"k":{"a":{"us":[1],"results":0}}}})",
       R"({"format":1,"cpu":"cpu","isa":"avx2","build":"build","times":{"k":{"a":{"us":[1,2,3,-4],"results":0}}}})",
       R"({"format":1,"cpu":"cpu","isa":"avx2","build":"build","times":{"k":{"a":{"us":[1,2,3,"x"],"results":0}}}})"}) {
    write(text);
    const auto read = read_table(path_, identity_);
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_THAT(read.status().message(), HasSubstr(path_));
  }
}

TEST_F(TableFile, CannotBeWritten) {
  std::filesystem::create_directories(directory_);
  std::ofstream(directory_ / "deep") << "a file where a directory should be";
  const Status status = write_table(path_, identity_, table_);
  EXPECT_THAT(status.message(), HasSubstr(path_));
}

}  // namespace
}  // namespace moestro::plan
