// The vector kernels of attention, sparse selection and row ops, one namespace an instruction set;
// named in cpu/lists_attention.cpp, called through the lists.
#pragma once
#include "kernels/gqa_attention.h"
#include "kernels/mla_attention.h"
#include "kernels/row_ops.h"
#include "kernels/sparse_index.h"

#define MOESTRO_ATTENTION_KERNELS                                             \
  std::string_view mla_why_not(const MlaShape& shape) noexcept;               \
  int64_t mla_scratch_bytes(const MlaShape& shape, int num_workers) noexcept; \
  void mla_run(const MlaArgs& args, platform::Worker& worker) noexcept;       \
  std::string_view gqa_why_not(const GqaShape& shape) noexcept;               \
  int64_t gqa_scratch_bytes(const GqaShape& shape, int num_workers) noexcept; \
  void gqa_run(const GqaArgs& args, platform::Worker& worker) noexcept;
#define MOESTRO_SPARSE_INDEX_KERNELS                                                           \
  std::string_view sparse_index_why_not(const SparseIndexShape& shape) noexcept;               \
  int64_t sparse_index_scratch_bytes(const SparseIndexShape& shape, int num_workers) noexcept; \
  void sparse_index_run(const SparseIndexArgs& args, platform::Worker& worker) noexcept;
#define MOESTRO_ROW_OPS                                                                            \
  void norm(const NormArgs& args, platform::Worker& worker) noexcept;                              \
  void rope(const RopeArgs& args, platform::Worker& worker) noexcept;                              \
  void embedding(const EmbeddingArgs& args, platform::Worker& worker) noexcept;                    \
  void store_kv(const StoreKvArgs& args, platform::Worker& worker) noexcept;                       \
  void combine(const CombineArgs& args, platform::Worker& worker) noexcept;                        \
  LogitsStats logits_stats(const float* row, int32_t n) noexcept;                                  \
  double sum_exp(const float* row, int32_t n, float shift, float scale, float threshold) noexcept; \
  int32_t gather_above(const float* row, int32_t n, float threshold, int32_t* indices,             \
                       int32_t capacity) noexcept;                                                 \
  int32_t top_k(const float* row, int32_t n, int32_t k, int32_t* indices,                          \
                std::byte* scratch) noexcept;

namespace moestro::kernels::avx2 {
MOESTRO_ATTENTION_KERNELS
MOESTRO_SPARSE_INDEX_KERNELS
MOESTRO_ROW_OPS
}  // namespace moestro::kernels::avx2
namespace moestro::kernels::avx512 {
MOESTRO_ATTENTION_KERNELS
MOESTRO_SPARSE_INDEX_KERNELS
MOESTRO_ROW_OPS
}  // namespace moestro::kernels::avx512
namespace moestro::kernels::amx {
MOESTRO_ATTENTION_KERNELS
MOESTRO_SPARSE_INDEX_KERNELS
}  // namespace moestro::kernels::amx
#undef MOESTRO_ATTENTION_KERNELS
#undef MOESTRO_SPARSE_INDEX_KERNELS
#undef MOESTRO_ROW_OPS
