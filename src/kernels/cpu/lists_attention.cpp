// Dispatch policy of attention, sparse selection and row ops on the CPU: best first, the reference
// last.
#include "kernels/cpu/attention_kernels.h"
#include "kernels/ref/attention_ref.h"

namespace moestro::kernels {
namespace {

using platform::Isa;
using platform::kAmxBf16Set;
using platform::kAvx512Base;
using platform::kBaseline;

constexpr MlaKernel kMla[] = {
    {"mla_bf16_amx", kAmxBf16Set, amx::mla_why_not, amx::mla_scratch_bytes, amx::mla_run},
    {"mla_avx512", kAvx512Base, avx512::mla_why_not, avx512::mla_scratch_bytes, avx512::mla_run},
    {"mla_avx2", Isa::kAvx2, avx2::mla_why_not, avx2::mla_scratch_bytes, avx2::mla_run},
    {"mla_ref", kBaseline, ref::mla_why_not, ref::mla_scratch_bytes, ref::mla_run},
};
constexpr GqaKernel kGqa[] = {
    {"gqa_bf16_amx", kAmxBf16Set, amx::gqa_why_not, amx::gqa_scratch_bytes, amx::gqa_run},
    {"gqa_avx512", kAvx512Base, avx512::gqa_why_not, avx512::gqa_scratch_bytes, avx512::gqa_run},
    {"gqa_avx2", Isa::kAvx2, avx2::gqa_why_not, avx2::gqa_scratch_bytes, avx2::gqa_run},
    {"gqa_ref", kBaseline, ref::gqa_why_not, ref::gqa_scratch_bytes, ref::gqa_run},
};
constexpr SparseIndexKernel kSparseIndex[] = {
    {"sparse_index_bf16_amx", kAmxBf16Set, amx::sparse_index_why_not,
     amx::sparse_index_scratch_bytes, amx::sparse_index_run},
    {"sparse_index_avx512", kAvx512Base, avx512::sparse_index_why_not,
     avx512::sparse_index_scratch_bytes, avx512::sparse_index_run},
    {"sparse_index_avx2", Isa::kAvx2, avx2::sparse_index_why_not, avx2::sparse_index_scratch_bytes,
     avx2::sparse_index_run},
    {"sparse_index_ref", kBaseline, ref::sparse_index_why_not, ref::sparse_index_scratch_bytes,
     ref::sparse_index_run},
};
constexpr RowOps kRowOps[] = {
    {"row_ops_avx512", kAvx512Base, avx512::norm, avx512::rope, avx512::embedding, avx512::store_kv,
     avx512::combine, avx512::logits_stats, avx512::sum_exp, avx512::gather_above, avx512::top_k},
    {"row_ops_avx2", Isa::kAvx2, avx2::norm, avx2::rope, avx2::embedding, avx2::store_kv,
     avx2::combine, avx2::logits_stats, avx2::sum_exp, avx2::gather_above, avx2::top_k},
    {"row_ops_ref", kBaseline, ref::norm, ref::rope, ref::embedding, ref::store_kv, ref::combine,
     ref::logits_stats, ref::sum_exp, ref::gather_above, ref::top_k},
};

}  // namespace

std::span<const MlaKernel> mla_kernels() { return kMla; }
std::span<const GqaKernel> gqa_kernels() { return kGqa; }
std::span<const SparseIndexKernel> sparse_index_kernels() { return kSparseIndex; }
std::span<const RowOps> row_ops() { return kRowOps; }

}  // namespace moestro::kernels
