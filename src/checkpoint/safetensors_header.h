// The header of one safetensors file, checked whole. Called by the safetensors source for every
// shard, by inspect and by the fuzzer, on any thread. Format and checks: reference facts
// "safetensors" (layout and hardened reader).
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"

namespace moestro::checkpoint {

inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
inline constexpr size_t kMaxTensorNameBytes = 4096;
inline constexpr size_t kMaxTensorRank = 8;
inline constexpr int64_t kMaxTensorDimension = int64_t{1} << 53;

struct HeaderEntry {
  std::string name;
  std::string dtype_text;  // as written
  std::optional<DType>
      dtype;  // none: a type that we do not know; an error only when the tensor is asked for
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // bytes from the start of the file
};

// file: all bytes of the file; label: its name for messages. Entries come back sorted by begin and
// tile the data exactly. Any broken rule: kDataLoss naming file, tensor and rule.
Result<std::vector<HeaderEntry>> parse_safetensors_header(std::span<const std::byte> file,
                                                          std::string_view label);

}  // namespace moestro::checkpoint
