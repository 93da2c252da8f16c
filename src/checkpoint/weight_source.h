// WeightSource: where quant/ gets tensors from while a model loads: safetensors shards, or made-up
// values (--load-format dummy). Header facts (find, names) are known without reading weights, so
// plan/ uses the same object. Reading is thread-safe.
#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "checkpoint/model_config.h"
#include "checkpoint/model_files.h"
#include "checkpoint/quant_config.h"

namespace moestro::checkpoint {

struct TensorInfo {
  DType dtype = DType::kBF16;
  std::vector<int64_t> shape;
  uint64_t bytes = 0;
};

// Row-major little-endian bytes, possibly unaligned; valid until the source is destroyed (mapped
// file) or, for made-up values, as long as `owner` lives.
struct TensorView {
  DType dtype = DType::kBF16;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;

  int64_t num_elements() const {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return n;
  }
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual bool has(std::string_view name) const = 0;
  // Header facts, or null. Dummy sources answer for tensors they are sure of only through get().
  virtual const TensorInfo* find(std::string_view name) const = 0;
  virtual std::vector<std::string> names() const = 0;
  // The tensor, checked against the shape (empty: a scalar; -1: any size) and the accepted types,
  // in order of preference (a dummy source makes the first). Missing, wrong shape or type:
  // kDataLoss naming tensor, file, found and wanted.
  virtual Result<TensorView> get(std::string_view name, std::span<const int64_t> shape,
                                 std::span<const DType> accepted) const = 0;
  Result<TensorView> get(std::string_view name, std::initializer_list<int64_t> shape,
                         std::initializer_list<DType> accepted) const {
    return get(name, std::span(shape.begin(), shape.size()),
               std::span(accepted.begin(), accepted.size()));
  }
  // Part i of a tensor whose first dimension counts parts (experts); shape: of one part.
  virtual Result<TensorView> get_part(std::string_view name, int64_t i,
                                      std::span<const int64_t> shape,
                                      std::span<const DType> accepted) const;
  Result<TensorView> get_part(std::string_view name, int64_t i,
                              std::initializer_list<int64_t> shape,
                              std::initializer_list<DType> accepted) const {
    return get_part(name, i, std::span(shape.begin(), shape.size()),
                    std::span(accepted.begin(), accepted.size()));
  }
  // The tensor has been repacked; its pages may go. A hint.
  virtual void drop(const TensorView& tensor) const = 0;
  virtual uint64_t total_bytes() const = 0;  // of all tensors; 0 if unknown (dummy)
  // Changes whenever the tensors may have: a digest of the files' names, sizes, times and headers.
  // Empty: nothing to recognise them by (made-up values, the built-in model).
  virtual std::string identity() const { return {}; }
};

// Opens every shard's header (index file, model.safetensors, or all *.safetensors) and checks it
// whole: damaged, truncated, overlapping, oversized or missing files: kDataLoss / kNotFound naming
// file, byte and rule.
Result<std::unique_ptr<WeightSource>> open_safetensors(std::shared_ptr<const ModelFiles> files);

// Random values of a sensible size, the same for the same name and seed, made on demand in get().
// Scales exist where quant says so.
std::unique_ptr<WeightSource> dummy_weights(const ModelConfig& config, const QuantConfig& quant,
                                            uint64_t seed);

}  // namespace moestro::checkpoint
