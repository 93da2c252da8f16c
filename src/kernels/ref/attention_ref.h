// The scalar truth of attention, sparse selection and row ops: always built, last in every list,
// what the vector kernels are tested against. Sums in double. Called through the lists in
// cpu/lists_attention.cpp.
#pragma once
#include "kernels/gqa_attention.h"
#include "kernels/mla_attention.h"
#include "kernels/row_ops.h"
#include "kernels/sparse_index.h"

namespace moestro::kernels::ref {

std::string_view mla_why_not(const MlaShape& shape) noexcept;
int64_t mla_scratch_bytes(const MlaShape& shape, int num_workers) noexcept;
void mla_run(const MlaArgs& args, platform::Worker& worker) noexcept;

std::string_view gqa_why_not(const GqaShape& shape) noexcept;
int64_t gqa_scratch_bytes(const GqaShape& shape, int num_workers) noexcept;
void gqa_run(const GqaArgs& args, platform::Worker& worker) noexcept;

std::string_view sparse_index_why_not(const SparseIndexShape& shape) noexcept;
int64_t sparse_index_scratch_bytes(const SparseIndexShape& shape, int num_workers) noexcept;
void sparse_index_run(const SparseIndexArgs& args, platform::Worker& worker) noexcept;

void norm(const NormArgs& args, platform::Worker& worker) noexcept;
void rope(const RopeArgs& args, platform::Worker& worker) noexcept;
void embedding(const EmbeddingArgs& args, platform::Worker& worker) noexcept;
void store_kv(const StoreKvArgs& args, platform::Worker& worker) noexcept;
void combine(const CombineArgs& args, platform::Worker& worker) noexcept;
LogitsStats logits_stats(const float* row, int32_t n) noexcept;
double sum_exp(const float* row, int32_t n, float shift, float scale, float threshold) noexcept;
int32_t gather_above(const float* row, int32_t n, float threshold, int32_t* indices,
                     int32_t capacity) noexcept;
int32_t top_k(const float* row, int32_t n, int32_t k, int32_t* indices,
              std::byte* scratch) noexcept;

}  // namespace moestro::kernels::ref
