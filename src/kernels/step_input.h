// One step's batch as kernels, layers and models see it: flat arrays, no request, no flag. The
// engine owns the arrays; they are constant during the step. Tokens of a sequence are contiguous
// and in order of position.
#pragma once
#include <cstdint>

#include "tensor/paged_view.h"

namespace moestro::kernels {

struct StepInput {
  int32_t num_tokens = 0;
  int32_t num_seqs = 0;
  const int32_t* token_ids = nullptr;    // [num_tokens]
  const int32_t* positions = nullptr;    // [num_tokens] in their sequence, from 0
  const int32_t* token_seq = nullptr;    // [num_tokens] index of the sequence, ascending
  const int32_t* query_start = nullptr;  // [num_seqs + 1] first token of each sequence
  const int32_t* block_tables =
      nullptr;  // [num_seqs, block_table_stride] page of position p: entry p / page_size
  int32_t block_table_stride = 0;
  const int32_t* logits_rows =
      nullptr;  // [num_logits_rows] token indices whose logits are wanted, ascending
  int32_t num_logits_rows = 0;

  int32_t block_of(int32_t token, int32_t position, int32_t page_size) const {
    return block_tables[static_cast<int64_t>(token_seq[token]) * block_table_stride +
                        position / page_size];
  }
};

}  // namespace moestro::kernels
