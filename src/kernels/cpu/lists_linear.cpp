// The dispatch policy of linear, head_linear and expert_mlp on CPUs: best first, the reference
// last.
#include "kernels/cpu/expert_mlp_driver.h"
#include "kernels/cpu/linear_driver.h"
#include "kernels/ref/expert_mlp_ref.h"
#include "kernels/ref/linear_ref.h"

namespace moestro::kernels {
namespace {

using platform::Isa;
using platform::IsaSet;
using platform::kBaseline;
using tensor::PackedFormat;

template <const cpu::TileOps& ops>
constexpr LinearKernel linear(std::string_view name, IsaSet needs) {
  return {name, needs, cpu::linear_why_not,
          [](const LinearShape& s, int) noexcept { return cpu::linear_scratch_bytes(ops, s); },
          [](const LinearArgs& a, platform::Worker& w) noexcept { cpu::linear_run(ops, a, w); }};
}
template <const cpu::TileOps& ops>
constexpr HeadLinearKernel head_linear(std::string_view name, IsaSet needs) {
  return {name, needs, cpu::head_linear_why_not,
          [](const HeadLinearShape& s, int workers) noexcept {
            return cpu::head_linear_scratch_bytes(ops, s, workers);
          },
          [](const HeadLinearArgs& a, platform::Worker& w) noexcept {
            cpu::head_linear_run(ops, a, w);
          }};
}
template <const cpu::TileOps& ops>
constexpr ExpertMlpKernel expert_mlp(std::string_view name, IsaSet needs) {
  return {
      name, needs, cpu::expert_mlp_why_not,
      [](const ExpertMlpShape& s, int workers) noexcept {
        return cpu::expert_mlp_scratch_bytes(ops, s, workers);
      },
      [](const ExpertMlpArgs& a, platform::Worker& w) noexcept { cpu::expert_mlp_run(ops, a, w); }};
}
constexpr LinearKernel linear_ref(std::string_view name) {
  return {name, kBaseline, ref::linear_why_not, ref::linear_scratch_bytes, ref::linear_run};
}
constexpr HeadLinearKernel head_linear_ref(std::string_view name) {
  return {name, kBaseline, ref::head_linear_why_not, ref::head_linear_scratch_bytes,
          ref::head_linear_run};
}
constexpr ExpertMlpKernel expert_mlp_ref(std::string_view name) {
  return {name, kBaseline, ref::expert_mlp_why_not, ref::expert_mlp_scratch_bytes,
          ref::expert_mlp_run};
}

constexpr LinearKernel kLinearF32[] = {
    linear<cpu::kF32Avx512>("linear_f32_avx512", platform::kAvx512Base),
    linear<cpu::kF32Avx2>("linear_f32_avx2", Isa::kAvx2),
    linear_ref("linear_f32_ref"),
};
constexpr LinearKernel kLinearBf16[] = {
    linear<cpu::kBf16Amx>("linear_bf16_amx", platform::kAmxBf16Set),
    linear<cpu::kBf16Avx512Bf16>("linear_bf16_avx512_bf16", platform::kAvx512Bf16Set),
    linear<cpu::kBf16Avx2>("linear_bf16_avx2", Isa::kAvx2),
    linear_ref("linear_bf16_ref"),
};
constexpr LinearKernel kLinearInt8[] = {
    linear<cpu::kInt8Amx>("linear_int8_amx", platform::kAmxInt8Set),
    linear<cpu::kInt8Avx512Vnni>("linear_int8_avx512_vnni", platform::kAvx512VnniSet),
    linear<cpu::kInt8Avx2>("linear_int8_avx2", Isa::kAvx2),
    linear_ref("linear_int8_ref"),
};

constexpr HeadLinearKernel kHeadLinearF32[] = {
    head_linear<cpu::kF32Avx512>("head_linear_f32_avx512", platform::kAvx512Base),
    head_linear<cpu::kF32Avx2>("head_linear_f32_avx2", Isa::kAvx2),
    head_linear_ref("head_linear_f32_ref"),
};
constexpr HeadLinearKernel kHeadLinearBf16[] = {
    head_linear<cpu::kBf16Amx>("head_linear_bf16_amx", platform::kAmxBf16Set),
    head_linear<cpu::kBf16Avx512Bf16>("head_linear_bf16_avx512_bf16", platform::kAvx512Bf16Set),
    head_linear<cpu::kBf16Avx2>("head_linear_bf16_avx2", Isa::kAvx2),
    head_linear_ref("head_linear_bf16_ref"),
};

constexpr ExpertMlpKernel kExpertMlpF32[] = {
    expert_mlp<cpu::kF32Avx512>("expert_mlp_f32_avx512", platform::kAvx512Base),
    expert_mlp<cpu::kF32Avx2>("expert_mlp_f32_avx2", Isa::kAvx2),
    expert_mlp_ref("expert_mlp_f32_ref"),
};
constexpr ExpertMlpKernel kExpertMlpBf16[] = {
    expert_mlp<cpu::kBf16Amx>("expert_mlp_bf16_amx", platform::kAmxBf16Set),
    expert_mlp<cpu::kBf16Avx512Bf16>("expert_mlp_bf16_avx512_bf16", platform::kAvx512Bf16Set),
    expert_mlp<cpu::kBf16Avx2>("expert_mlp_bf16_avx2", Isa::kAvx2),
    expert_mlp_ref("expert_mlp_bf16_ref"),
};
constexpr ExpertMlpKernel kExpertMlpInt8[] = {
    expert_mlp<cpu::kInt8Amx>("expert_mlp_int8_amx", platform::kAmxInt8Set),
    expert_mlp<cpu::kInt8Avx512Vnni>("expert_mlp_int8_avx512_vnni", platform::kAvx512VnniSet),
    expert_mlp<cpu::kInt8Avx2>("expert_mlp_int8_avx2", Isa::kAvx2),
    expert_mlp_ref("expert_mlp_int8_ref"),
};

constexpr LinearKernel kLinearRef[] = {linear_ref("linear_ref")};
constexpr ExpertMlpKernel kExpertMlpRef[] = {expert_mlp_ref("expert_mlp_ref")};

}  // namespace

std::span<const LinearKernel> linear_kernels(const PackedFormat& format) {
  if (format == PackedFormat::kF32) return kLinearF32;
  if (format == PackedFormat::kBf16) return kLinearBf16;
  if (format == PackedFormat::kInt8) return kLinearInt8;
  return kLinearRef;
}

std::span<const HeadLinearKernel> head_linear_kernels(const PackedFormat& format) {
  if (format == PackedFormat::kF32) return kHeadLinearF32;
  if (format == PackedFormat::kBf16) return kHeadLinearBf16;
  return {};
}

std::span<const ExpertMlpKernel> expert_mlp_kernels(const PackedFormat& format) {
  if (format == PackedFormat::kF32) return kExpertMlpF32;
  if (format == PackedFormat::kBf16) return kExpertMlpBf16;
  if (format == PackedFormat::kInt8) return kExpertMlpInt8;
  return kExpertMlpRef;
}

}  // namespace moestro::kernels
