// The vector kernels of attention, sparse selection and row ops, one namespace an instruction set;
// named in cpu/lists_attention.cpp, called through the lists.
#pragma once
#include "kernels/gqa_attention.h"
#include "kernels/mla_attention.h"
#include "kernels/row_ops.h"
#include "kernels/sparse_index.h"

#define MOESTRO_ATTENTION_KERNELS                                             \
  bool mla_supports(const MlaShape& shape) noexcept;                          \
  int64_t mla_scratch_bytes(const MlaShape& shape, int num_workers) noexcept; \
  void mla_run(const MlaArgs& args, platform::Worker& worker) noexcept;       \
  bool gqa_supports(const GqaShape& shape) noexcept;                          \
  int64_t gqa_scratch_bytes(const GqaShape& shape, int num_workers) noexcept; \
  void gqa_run(const GqaArgs& args, platform::Worker& worker) noexcept;

namespace moestro::kernels::avx2 {
MOESTRO_ATTENTION_KERNELS
}
namespace moestro::kernels::avx512 {
MOESTRO_ATTENTION_KERNELS
}
#undef MOESTRO_ATTENTION_KERNELS
