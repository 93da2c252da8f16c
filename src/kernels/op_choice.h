// OpChoice: one place of a model where a kernel runs: what it must handle, and the kernel that
// plan/ chose for it. Specs of layers/ and moe/ hold them; models/ shows them to plan/ before any
// weight is read; the layer calls kernel->run.
#pragma once
#include "kernels/expert_mlp.h"
#include "kernels/gqa_attention.h"
#include "kernels/kernel_list.h"
#include "kernels/linear.h"
#include "kernels/mla_attention.h"
#include "kernels/sparse_index.h"

namespace moestro::kernels {

template <class Shape, class Args>
struct OpChoice {
  Shape shape{};
  const Kernel<Shape, Args>* kernel = nullptr;  // null until planned

  int64_t scratch_bytes(int num_workers) const { return kernel->scratch_bytes(shape, num_workers); }
};
using LinearChoice = OpChoice<LinearShape, LinearArgs>;
using HeadLinearChoice = OpChoice<HeadLinearShape, HeadLinearArgs>;
using ExpertMlpChoice = OpChoice<ExpertMlpShape, ExpertMlpArgs>;
using GqaChoice = OpChoice<GqaShape, GqaArgs>;
using MlaChoice = OpChoice<MlaShape, MlaArgs>;
using SparseIndexChoice = OpChoice<SparseIndexShape, SparseIndexArgs>;

}  // namespace moestro::kernels
