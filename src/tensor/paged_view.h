// A paged cache array as kernels see it: num_blocks pages of page_size tokens with `width` values
// each. Borrowed; the engine owns the memory. Token position p of a sequence lies in page
// block_table[p / page_size] at offset p % page_size.
#pragma once
#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace moestro::tensor {

struct PagedView {
  std::byte* data = nullptr;
  DType dtype = DType::kF32;  // kF32 or kBF16
  int32_t page_size = 0;      // tokens
  int32_t width = 0;          // values a token; 0: this cache does not exist for the layer
  int64_t row_bytes = 0;      // from one token to the next inside a page
  int64_t block_bytes = 0;    // from one page to the next

  std::byte* row(int32_t block, int32_t offset) const {
    return data + block * block_bytes + offset * row_bytes;
  }
};

}  // namespace moestro::tensor
