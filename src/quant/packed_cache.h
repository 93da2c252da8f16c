// The packed cache: all weights of a model as they lie in memory, in one file that the next start
// maps instead of reading and packing the checkpoint. Written by `moestro repack`, opened by app/'s
// model host; a file that does not fit is refused with the reason, and the checkpoint is read.
//
// Little-endian. A header of 64 bytes: magic, version of this format, kernels::kPackingVersion,
// bytes of the file, bytes of the index, first byte of the data, digest of the index, digest of the
// header before it. The index: the checkpoint's identity, then name, contents, place, size and
// digest of every weight. The data: from a multiple of 2 MiB on, weights 64-byte aligned.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "platform/gang.h"
#include "platform/memory_map.h"
#include "platform/output_file.h"
#include "quant/weight_store.h"

namespace moestro::quant {

// What a cache must have been made from. checkpoint: changes with the checkpoint's bytes and with
// what config.json makes of them.
struct PackedCacheKey {
  std::string checkpoint;
  std::vector<ListedWeight> weights;

  // Of the weights' names, contents and sizes: different plans keep different files.
  uint64_t layout_digest() const;
};

using ByteProgress = std::function<void(uint64_t bytes)>;  // since the last call; may be empty

struct CachedWeight {
  std::string name, contents;
  uint64_t bytes = 0, offset = 0;  // in the file
  uint64_t digest = 0;
};

// An opened cache: a store whose places come filled.
class PackedCache final : public WeightStore {
 public:
  // Reads header and index only. No file: kNotFound. Damaged: kDataLoss. Made from something else
  // (another version, checkpoint or plan): kInvalidArgument. Messages start with the path.
  static Result<std::shared_ptr<PackedCache>> open(const std::string& path,
                                                   const PackedCacheKey& key);
  Result<Place> place(std::string_view name, std::string_view contents, size_t bytes) override;
  uint64_t file_bytes() const { return map_.bytes().size(); }
  uint64_t weight_bytes() const;

  // Reads the file and maps it whole, on all workers: steps then fault no page in. Without it pages
  // come when they are first used.
  void populate(platform::Gang& gang, const ByteProgress& progress) const;
  // The weights move to huge pages of this process; the file is then read no more.
  Status copy_to_memory(platform::Gang& gang, const ByteProgress& progress);
  // Every weight's digest: kDataLoss naming the first that differs.
  Status verify(platform::Gang& gang, const ByteProgress& progress) const;

 private:
  Status read_header(const PackedCacheKey& key);
  Status read_index(std::string_view index, const PackedCacheKey& key);

  std::string path_;
  platform::MemoryMap map_;
  platform::Buffer memory_;          // instead of the map, after copy_to_memory
  const std::byte* base_ = nullptr;  // where the file's bytes from base_offset_ on are
  uint64_t base_offset_ = 0, data_begin_ = 0;
  std::vector<CachedWeight> weights_;
  std::map<std::string_view, size_t> index_;  // by name
};

// A store whose places lie in a new cache file.
class PackedCacheWriter final : public WeightStore {
 public:
  // Takes the disk space. Errors of platform::OutputFile.
  static Result<std::shared_ptr<PackedCacheWriter>> create(const std::string& path,
                                                           const PackedCacheKey& key);
  Result<Place> place(std::string_view name, std::string_view contents, size_t bytes) override;
  uint64_t file_bytes() const { return file_.size(); }
  // All places are filled: digests, index and header, and the file gets its name.
  Status finish(platform::Gang& gang, const ByteProgress& progress);

 private:
  explicit PackedCacheWriter(platform::OutputFile file) : file_(std::move(file)) {}

  platform::OutputFile file_;
  std::string checkpoint_;
  std::vector<CachedWeight> weights_;
  std::map<std::string_view, size_t> index_;
  uint64_t data_begin_ = 0;
};

}  // namespace moestro::quant
