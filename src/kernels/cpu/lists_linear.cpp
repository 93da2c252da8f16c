// The dispatch policy of linear, head_linear and expert_mlp on CPUs: best first, the reference
// last.
#include "kernels/expert_mlp.h"
#include "kernels/linear.h"
#include "kernels/ref/expert_mlp_ref.h"
#include "kernels/ref/linear_ref.h"

namespace moestro::kernels {
namespace {

using platform::kBaseline;
using tensor::PackedFormat;

constexpr LinearKernel kLinearF32[] = {{"linear_f32_ref", kBaseline, ref::linear_supports,
                                        ref::linear_scratch_bytes, ref::linear_run}};
constexpr LinearKernel kLinearBf16[] = {{"linear_bf16_ref", kBaseline, ref::linear_supports,
                                         ref::linear_scratch_bytes, ref::linear_run}};
constexpr LinearKernel kLinearInt8[] = {{"linear_int8_ref", kBaseline, ref::linear_supports,
                                         ref::linear_scratch_bytes, ref::linear_run}};

constexpr HeadLinearKernel kHeadLinearF32[] = {
    {"head_linear_f32_ref", kBaseline, ref::head_linear_supports, ref::head_linear_scratch_bytes,
     ref::head_linear_run}};
constexpr HeadLinearKernel kHeadLinearBf16[] = {
    {"head_linear_bf16_ref", kBaseline, ref::head_linear_supports, ref::head_linear_scratch_bytes,
     ref::head_linear_run}};

constexpr ExpertMlpKernel kExpertMlpF32[] = {{"expert_mlp_f32_ref", kBaseline,
                                              ref::expert_mlp_supports,
                                              ref::expert_mlp_scratch_bytes, ref::expert_mlp_run}};
constexpr ExpertMlpKernel kExpertMlpBf16[] = {{"expert_mlp_bf16_ref", kBaseline,
                                               ref::expert_mlp_supports,
                                               ref::expert_mlp_scratch_bytes, ref::expert_mlp_run}};
constexpr ExpertMlpKernel kExpertMlpInt8[] = {{"expert_mlp_int8_ref", kBaseline,
                                               ref::expert_mlp_supports,
                                               ref::expert_mlp_scratch_bytes, ref::expert_mlp_run}};

}  // namespace

std::span<const LinearKernel> linear_kernels(PackedFormat format) {
  switch (format) {
    case PackedFormat::kF32:
      return kLinearF32;
    case PackedFormat::kBf16:
      return kLinearBf16;
    case PackedFormat::kInt8:
      break;
  }
  return kLinearInt8;
}

std::span<const HeadLinearKernel> head_linear_kernels(PackedFormat format) {
  switch (format) {
    case PackedFormat::kF32:
      return kHeadLinearF32;
    case PackedFormat::kBf16:
      return kHeadLinearBf16;
    case PackedFormat::kInt8:
      break;
  }
  return {};
}

std::span<const ExpertMlpKernel> expert_mlp_kernels(PackedFormat format) {
  switch (format) {
    case PackedFormat::kF32:
      return kExpertMlpF32;
    case PackedFormat::kBf16:
      return kExpertMlpBf16;
    case PackedFormat::kInt8:
      break;
  }
  return kExpertMlpInt8;
}

}  // namespace moestro::kernels
