// MoeLayer: router, dispatch, experts, combine: the one MoE pipeline. Built at load from a MoeSpec
// that plan/ filled; forward() runs on all workers. The shared expert is the caller's (a
// layers::Mlp), since it is an ordinary MLP.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "kernels/op_choice.h"
#include "kernels/row_ops.h"
#include "moe/dispatch/dispatch.h"
#include "moe/router.h"
#include "quant/load.h"

namespace moestro::moe {

struct ExpertModules {
  quant::ModuleSpec gate, up, down;
};

struct MoeSpec {
  RouterSpec router;
  quant::ModuleSpec gate;              // router weight [experts, hidden], packed float32
  std::string correction_bias;         // tensor name; "": none
  std::vector<ExpertModules> experts;  // one format for all
  int32_t hidden = 0, intermediate = 0;
  kernels::GatedActivation activation;
  DispatchChoice dispatch;
  kernels::LinearChoice gate_op;
  kernels::ExpertMlpChoice expert_op;

  int64_t packed_bytes() const;  // resident bytes of gate and experts
};

// Floats of workspace that forward() wants for max_tokens tokens.
int64_t moe_workspace_floats(const RouterSpec& router, int32_t hidden, int32_t max_tokens);

class MoeLayer {
 public:
  // dispatch: shared by the layers of one model, outlives them.
  static Result<std::unique_ptr<MoeLayer>> load(quant::LoadContext& context, const MoeSpec& spec,
                                                Dispatch& dispatch);
  // The same of matrices that somebody else packed and keeps; for benchmarks. bias: null or
  // [num_experts].
  static std::unique_ptr<MoeLayer> of_packed(const MoeSpec& spec, const tensor::PackedMatrix& gate,
                                             const float* bias,
                                             std::vector<tensor::PackedMatrix> gate_up,
                                             std::vector<tensor::PackedMatrix> down,
                                             Dispatch& dispatch);
  // out += sum of the chosen experts. x: [tokens, hidden]; scratch as for kernels. Does not end
  // with a barrier.
  void forward(const float* x, int64_t x_stride, int32_t tokens, float* out, int64_t out_stride,
               float* workspace, const kernels::RowOps& ops, std::byte* scratch,
               platform::Worker& worker) const noexcept;

 private:
  MoeSpec spec_;
  Dispatch* dispatch_ = nullptr;
  tensor::PackedMatrix gate_;
  const float* bias_ = nullptr;
  std::vector<tensor::PackedMatrix> gate_up_, down_;
};

}  // namespace moestro::moe
