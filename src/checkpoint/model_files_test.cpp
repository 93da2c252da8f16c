#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "checkpoint/model_files.h"
#include "checkpoint/test_files.h"

namespace moestro::checkpoint {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TempDir;

TEST(ModelDirectory, ListsAndOpensPlainFiles) {
  TempDir dir;
  dir.write("config.json", "{}");
  dir.write("b.txt", "hello");
  dir.write("original/c.txt", "below");
  const auto files = dir.open();
  EXPECT_THAT(files->list(), ElementsAre("b.txt", "config.json"));
  EXPECT_TRUE(files->contains("b.txt"));
  EXPECT_FALSE(files->contains("original"));
  EXPECT_EQ((*files->open("b.txt"))->text(), "hello");
  const auto missing = files->open("no.txt");
  EXPECT_EQ(missing.status().code(), Code::kNotFound);
  EXPECT_THAT(missing.status().message(), HasSubstr("no.txt"));
}

TEST(ModelDirectory, SaysWhatIsMissing) {
  TempDir dir;
  EXPECT_THAT(open_model_directory(dir.path() / "nowhere").status().message(),
              HasSubstr("nowhere"));
  const auto empty = open_model_directory(dir.path());
  EXPECT_EQ(empty.status().code(), Code::kNotFound);
  EXPECT_THAT(empty.status().message(), HasSubstr("no config.json"));
  dir.write("file", "");
  EXPECT_THAT(open_model_directory(dir.path() / "file").status().message(),
              HasSubstr("not a directory"));
}

TEST(ModelDirectory, RefusesNamesThatAreNotPlain) {
  TempDir dir;
  dir.write("config.json", "{}");
  dir.write("sub/x", "");
  const auto files = dir.open();
  for (const std::string_view name :
       {std::string_view("../config.json"), std::string_view("sub/x"),
        std::string_view("/etc/passwd"), std::string_view(".."), std::string_view(""),
        std::string_view("a\\b"), std::string_view("a\0b", 3)}) {
    const auto opened = files->open(name);
    EXPECT_EQ(opened.status().code(), Code::kInvalidArgument) << name;
    EXPECT_THAT(opened.status().message(), HasSubstr("not a plain file name")) << name;
    EXPECT_FALSE(files->contains(name));
  }
}

TEST(ModelDirectory, RefusesALinkThatLeavesTheModel) {
  TempDir dir;
  dir.write("secret", "s");
  dir.write("model/config.json", "{}");
  dir.write("model/real.bin", "r");
  std::filesystem::create_symlink(dir.path() / "secret", dir.path() / "model/out.bin");
  std::filesystem::create_symlink("real.bin", dir.path() / "model/in.bin");
  std::filesystem::create_symlink("gone.bin", dir.path() / "model/dangling.bin");
  const auto files = dir.open("model");
  const auto out = files->open("out.bin");
  EXPECT_EQ(out.status().code(), Code::kInvalidArgument);
  EXPECT_THAT(out.status().message(),
              HasSubstr("out.bin is a symbolic link that leaves the model directory"));
  EXPECT_EQ((*files->open("in.bin"))->text(), "r");
  EXPECT_EQ(files->open("dangling.bin").status().code(), Code::kNotFound);
}

TEST(ModelDirectory, FollowsTheBlobsOfAModelCacheOnly) {
  TempDir dir;
  dir.write("hub/blobs/0123abcd", "{\"a\":1}");
  dir.write("hub/blobs/README", "not a hash");
  dir.write("elsewhere", "e");
  std::filesystem::create_directories(dir.path() / "hub/snapshots/rev");
  std::filesystem::create_symlink("../../blobs/0123abcd",
                                  dir.path() / "hub/snapshots/rev/config.json");
  std::filesystem::create_symlink("../../blobs/README",
                                  dir.path() / "hub/snapshots/rev/readme.txt");
  std::filesystem::create_symlink("../../../elsewhere",
                                  dir.path() / "hub/snapshots/rev/escape.txt");
  // A blob that is itself a link out of the cache.
  std::filesystem::create_symlink(dir.path() / "elsewhere", dir.path() / "hub/blobs/beef");
  std::filesystem::create_symlink("../../blobs/beef", dir.path() / "hub/snapshots/rev/hop.txt");
  const auto files = dir.open("hub/snapshots/rev");
  EXPECT_EQ((*files->open("config.json"))->text(), "{\"a\":1}");
  for (const char* name : {"readme.txt", "escape.txt", "hop.txt"})
    EXPECT_EQ(files->open(name).status().code(), Code::kInvalidArgument) << name;
}

TEST(ModelDirectory, DoesNotWaitForAPipe) {
  TempDir dir;
  dir.write("config.json", "{}");
  ASSERT_EQ(::mkfifo((dir.path() / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(dir.open()->open("pipe").status().message(), HasSubstr("not a regular file"));
}

TEST(EmbeddedModel, ServesItsFiles) {
  const auto files = embedded_model_files(
      "built-in model", {{"z", testing::as_bytes("zz")}, {"a", testing::as_bytes("aa")}});
  EXPECT_THAT(files->list(), ElementsAre("a", "z"));
  EXPECT_EQ((*files->open("z"))->text(), "zz");
  EXPECT_THAT(files->open("m").status().message(), HasSubstr("no m in built-in model"));
  EXPECT_EQ(files->open("../z").status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace moestro::checkpoint
