// OpChoice: one place of a model where a kernel runs: what it must handle, and the kernel that
// plan/ chose for each token-count bucket. Specs of layers/ and moe/ hold them; models/ shows them
// to plan/ before any weight is read; layers run kernels through run() and in no other way, so that
// what is counted is what was called.
#pragma once
#include <algorithm>
#include <array>
#include <memory>

#include "kernels/expert_mlp.h"
#include "kernels/gqa_attention.h"
#include "kernels/kernel_list.h"
#include "kernels/linear.h"
#include "kernels/mla_attention.h"
#include "kernels/op_counts.h"
#include "kernels/row_ops.h"
#include "kernels/sparse_index.h"

namespace moestro::kernels {

// The tokens of a call, which choose its bucket.
inline int32_t tokens_of(const LinearArgs& a) { return a.rows; }
inline int32_t tokens_of(const HeadLinearArgs& a) { return a.rows; }
inline int32_t tokens_of(const ExpertMlpArgs& a) { return a.tokens; }
inline int32_t tokens_of(const GqaArgs& a) { return a.step->num_tokens; }
inline int32_t tokens_of(const MlaArgs& a) { return a.step->num_tokens; }
inline int32_t tokens_of(const SparseIndexArgs& a) { return a.step->num_tokens; }

template <class Shape, class Args>
struct OpChoice {
  using KernelType = Kernel<Shape, Args>;

  Shape shape{};
  std::array<const KernelType*, kTokenBuckets> kernels{};  // null until planned
  std::shared_ptr<OpCounts> counts;                        // null: nobody counts

  static OpChoice of(const Shape& shape, const KernelType& kernel) {
    OpChoice choice{.shape = shape, .kernels = {}, .counts = nullptr};
    choice.kernels.fill(&kernel);
    return choice;
  }
  int64_t scratch_bytes(int num_workers) const {
    int64_t bytes = 0;
    for (const KernelType* k : kernels)
      bytes = std::max(bytes, k->scratch_bytes(shape, num_workers));
    return bytes;
  }
  // As Kernel::run.
  void run(const Args& args, platform::Worker& worker) const noexcept {
    const int32_t tokens = tokens_of(args);
    const KernelType* kernel = kernels[static_cast<size_t>(token_bucket(tokens))];
    if (counts && worker.index() == 0) counts->add(kernel->name.data(), tokens);
    kernel->run(args, worker);
  }
};
using LinearChoice = OpChoice<LinearShape, LinearArgs>;
using HeadLinearChoice = OpChoice<HeadLinearShape, HeadLinearArgs>;
using ExpertMlpChoice = OpChoice<ExpertMlpShape, ExpertMlpArgs>;
using GqaChoice = OpChoice<GqaShape, GqaArgs>;
using MlaChoice = OpChoice<MlaShape, MlaArgs>;
using SparseIndexChoice = OpChoice<SparseIndexShape, SparseIndexArgs>;

// Row operations are many small calls a step; a step counts once.
struct RowOpsChoice {
  const RowOps* table = nullptr;  // null until planned
  std::shared_ptr<OpCounts> counts;

  void count_step(int32_t rows, const platform::Worker& worker) const noexcept {
    if (counts && worker.index() == 0) counts->add(table->name.data(), rows);
  }
};

}  // namespace moestro::kernels
