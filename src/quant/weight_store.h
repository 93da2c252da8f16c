// WeightStore: where packed weights lie. Loading asks it for a place for every matrix and vector by
// name; a place that comes filled (a packed cache) is used as it is, any other is filled from the
// checkpoint. Layers see pointers only, and whoever holds the store keeps them valid. place() may
// be called by several loader threads at once.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "platform/arena.h"

namespace moestro::quant {

class WeightStore {
 public:
  struct Place {
    const std::byte* data = nullptr;  // 64-byte aligned; null: nothing is loaded, only listed
    std::byte* fill = nullptr;        // the same bytes, zeroed, to be written; null: they are there
  };
  virtual ~WeightStore() = default;
  // name: of one weight of the model. contents: what its bytes are ("panel32-int8 [768, 2048]");
  // the same name has the same contents and size wherever it is asked for. The places of one store
  // all come filled, or none does.
  virtual Result<Place> place(std::string_view name, std::string_view contents, size_t bytes) = 0;
};

// In memory of this process: a bump allocator over large huge-page buffers, freed as a whole.
class WeightArena final : public WeightStore {
 public:
  // No memory: kResourceExhausted naming what was asked for and what is held.
  Result<Place> place(std::string_view name, std::string_view contents, size_t bytes) override;
  size_t allocated_bytes() const { return allocated_; }

 private:
  // Memory that nothing was placed in is never touched, so a large chunk costs addresses only.
  static constexpr size_t kChunkBytes = size_t{256} << 20;
  std::mutex mutex_;
  std::vector<platform::Buffer> chunks_;
  size_t used_in_last_ = 0;
  size_t allocated_ = 0;
};

struct ListedWeight {
  std::string name, contents;
  uint64_t bytes = 0;

  friend bool operator==(const ListedWeight&, const ListedWeight&) = default;
};

// Nowhere: it lists what loading would place, and nothing is read.
class WeightList final : public WeightStore {
 public:
  Result<Place> place(std::string_view name, std::string_view contents, size_t bytes) override;
  const std::vector<ListedWeight>& weights() const { return weights_; }  // in the order of loading
  uint64_t total_bytes() const;

 private:
  std::mutex mutex_;
  std::vector<ListedWeight> weights_;
  std::map<std::string, size_t, std::less<>> index_;  // by name
};

}  // namespace moestro::quant
