// The packed cache: what is written comes back; anything else in the file, or another key, is
// refused with its reason; files appear whole or not at all.
#include "quant/packed_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/digest.h"
#include "checkpoint/test_files.h"
#include "kernels/pack.h"

namespace moestro::quant {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

PackedCacheKey key() {
  return {"checkpoint 1",
          {{"a", "f32 [3]", 12}, {"b", "panel32-int8 [2, 3]", 5000}, {"c", "f32 [1]", 4}}};
}

// Bytes of weight i, as packing would write them.
void fill(size_t i, std::byte* out, uint64_t bytes) {
  for (uint64_t at = 0; at < bytes; ++at) out[at] = static_cast<std::byte>(17 * i + at + at / 256);
}

class PackedCacheTest : public testing::Test {
 protected:
  Status write(const PackedCacheKey& k, const std::string& path) {
    auto writer = PackedCacheWriter::create(path, k);
    MOESTRO_TRY(writer.status());
    for (size_t i = 0; i < k.weights.size(); ++i) {
      const ListedWeight& w = k.weights[i];
      MOESTRO_ASSIGN(const WeightStore::Place place, (*writer)->place(w.name, w.contents, w.bytes));
      fill(i, place.fill, w.bytes);
    }
    return (*writer)->finish(gang_, {});
  }
  void write() {
    const Status s = write(key(), path_);
    ASSERT_TRUE(s.ok()) << s.message();
  }
  std::string bytes() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void put(const std::string& bytes) const {
    fs::remove(path_);  // a mapped file is replaced, never written over
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  std::string refusal(const PackedCacheKey& k = key()) const {
    const auto cache = PackedCache::open(path_, k);
    return cache.ok() ? "" : cache.status().message();
  }
  void expect_weights(PackedCache& cache) const {
    for (size_t i = 0; i < key().weights.size(); ++i) {
      const ListedWeight w = key().weights[i];
      const WeightStore::Place place = cache.place(w.name, w.contents, w.bytes).value();
      EXPECT_EQ(place.fill, nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(place.data) % 64, 0u);
      std::vector<std::byte> wanted(w.bytes);
      fill(i, wanted.data(), w.bytes);
      EXPECT_EQ(std::memcmp(place.data, wanted.data(), w.bytes), 0) << w.name;
    }
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& e : fs::directory_iterator(directory_.path()))
      names.push_back(e.path().filename().native());
    return names;
  }

  const checkpoint::testing::TempDir directory_;
  const std::string path_ = (directory_.path() / "m.packed").native();
  platform::Gang gang_{2, false};
};

TEST_F(PackedCacheTest, GivesBackWhatWasWritten) {
  write();
  EXPECT_THAT(files(), ElementsAre("m.packed"));
  auto cache = PackedCache::open(path_, key()).value();
  EXPECT_EQ(cache->weight_bytes(), 5016u);
  expect_weights(*cache);
  uint64_t seen = 0;
  std::mutex mutex;
  const ByteProgress progress = [&](uint64_t n) {
    const std::scoped_lock lock(mutex);
    seen += n;
  };
  EXPECT_TRUE(cache->verify(gang_, progress).ok());
  EXPECT_EQ(seen, cache->weight_bytes());
  cache->populate(gang_, {});
  expect_weights(*cache);
  ASSERT_TRUE(cache->copy_to_memory(gang_, {}).ok());
  expect_weights(*cache);
  EXPECT_FALSE(cache->place("a", "f32 [4]", 16).ok());
  EXPECT_FALSE(cache->place("d", "f32 [3]", 12).ok());
}

TEST_F(PackedCacheTest, EveryTruncationIsSeen) {
  write();
  const std::string whole = bytes();
  for (const size_t size : {size_t{0}, size_t{7}, size_t{63}, size_t{64}, size_t{200},
                            whole.size() / 2, whole.size() - 1}) {
    put(whole.substr(0, size));
    EXPECT_THAT(refusal(), HasSubstr("damaged")) << size;
  }
  put(whole + "x");
  EXPECT_THAT(refusal(), HasSubstr("damaged"));
  fs::remove(path_);
  EXPECT_EQ(PackedCache::open(path_, key()).status().code(), Code::kNotFound);
}

TEST_F(PackedCacheTest, EveryByteOfHeaderAndIndexCounts) {
  write();
  const std::string whole = bytes();
  uint64_t index_bytes;
  std::memcpy(&index_bytes, whole.data() + 24, 8);
  ASSERT_LT(index_bytes, 1000u);
  for (size_t at = 0; at < 64 + index_bytes; ++at) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 4);
    put(changed);
    EXPECT_THAT(refusal(), HasSubstr("damaged")) << at;
  }
}

TEST_F(PackedCacheTest, DamagedWeightsAreFoundByVerify) {
  write();
  std::string changed = bytes();
  changed[changed.size() - 200] = static_cast<char>(changed[changed.size() - 200] ^ 1);  // in b
  put(changed);
  const auto cache = PackedCache::open(path_, key()).value();
  const Status s = cache->verify(gang_, {});
  EXPECT_EQ(s.code(), Code::kDataLoss);
  EXPECT_THAT(s.message(), HasSubstr("weight b is not as written"));
}

TEST_F(PackedCacheTest, AnotherKeyOrVersionIsStale) {
  write();
  PackedCacheKey other = key();
  other.checkpoint = "checkpoint 2";
  EXPECT_THAT(refusal(other), HasSubstr("another state of the checkpoint"));
  other = key();
  other.weights[1].contents = "panel32-bf16 [2, 3]";
  EXPECT_THAT(refusal(other), HasSubstr("made for another plan: b is panel32-int8 [2, 3] there"));
  EXPECT_NE(other.layout_digest(), key().layout_digest());
  other = key();
  other.weights.pop_back();
  EXPECT_THAT(refusal(other), HasSubstr("made for another plan: 3 weights"));

  std::string older = bytes();  // as an older program would have written it
  const uint32_t version = kernels::kPackingVersion + 1;
  std::memcpy(older.data() + 12, &version, sizeof version);
  const uint64_t digest = digest_of(std::as_bytes(std::span(older).first(56)));
  std::memcpy(older.data() + 56, &digest, sizeof digest);
  put(older);
  EXPECT_THAT(refusal(), HasSubstr("another version"));
}

TEST_F(PackedCacheTest, NothingIsLeftWhereItCannotBeWritten) {
  PackedCacheKey large = key();
  large.weights[0].bytes = uint64_t{1} << 50;
  const Status s = PackedCacheWriter::create(path_, large).status();
  EXPECT_EQ(s.code(), Code::kResourceExhausted);
  EXPECT_THAT(s.message(), HasSubstr("are free there"));
  EXPECT_THAT(files(), ElementsAre());
  directory_.write("file", "");
  EXPECT_EQ(write(key(), (directory_.path() / "file/m.packed").native()).code(),
            Code::kUnavailable);
  { const auto unfinished = PackedCacheWriter::create(path_, key()).value(); }
  EXPECT_THAT(files(), ElementsAre("file"));
}

TEST_F(PackedCacheTest, LeftOversGoButNotThoseOfTheLiving) {
  directory_.write("m.packed.partial-1-1", "of a process that was killed");
  directory_.write("n.packed.partial-1-1", "of another file");
  const auto living = PackedCacheWriter::create(path_, key()).value();
  EXPECT_EQ(files().size(), 2u);
  write();
  EXPECT_THAT(files(), testing::UnorderedElementsAre("n.packed.partial-1-1", "m.packed",
                                                     testing::StartsWith("m.packed.partial-")));
}

TEST_F(PackedCacheTest, ProcessesMayWriteTheSameFileAtOnce) {
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      platform::Gang gang(1, false);
      bool ok = true;
      for (int round = 0; round < 5 && ok; ++round) {
        auto writer = PackedCacheWriter::create(path_, key());
        ok = writer.ok();
        for (size_t w = 0; ok && w < key().weights.size(); ++w) {
          const ListedWeight weight = key().weights[w];
          fill(w, (*writer)->place(weight.name, weight.contents, weight.bytes).value().fill,
               weight.bytes);
        }
        ok = ok && (*writer)->finish(gang, {}).ok();
      }
      ::_exit(ok ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  EXPECT_THAT(files(), ElementsAre("m.packed"));
  const auto cache = PackedCache::open(path_, key()).value();
  EXPECT_TRUE(cache->verify(gang_, {}).ok());
  expect_weights(*cache);
}

TEST(WeightListTest, AWeightIsTheSameWhereverItIsAskedFor) {
  WeightList list;
  EXPECT_EQ(list.place("a", "f32 [2]", 8).value().data, nullptr);
  EXPECT_TRUE(list.place("b", "f32 [3]", 12).ok());
  EXPECT_TRUE(list.place("a", "f32 [2]", 8).ok());
  EXPECT_FALSE(list.place("a", "bf16 [4]", 8).ok());
  EXPECT_EQ(list.total_bytes(), 20u);
  EXPECT_EQ(list.weights().size(), 2u);
}

}  // namespace
}  // namespace moestro::quant
