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

// Why a kernel cannot do a format of its list; empty: it can.
using WhyNotFormat = std::string_view (*)(const PackedFormat&) noexcept;

std::string_view any_groups(const PackedFormat&) noexcept { return ""; }
// The AVX2 kernels add stretches of 64 values of k, or of 16 or 32 where these are the groups.
std::string_view groups_of_64(const PackedFormat& f) noexcept {
  return f.group_k % 64            ? "weight groups that are not a multiple of 64"
         : f.activation_group % 64 ? "activation groups that are not a multiple of 64"
                                   : "";
}
std::string_view groups_of_16(const PackedFormat& f) noexcept {
  if (f.group_k == 16 || f.group_k == 32) return f.activation_group % 64 ? groups_of_64(f) : "";
  return f.group_k % 64 ? "weight groups that are not 16, 32 or a multiple of 64" : groups_of_64(f);
}

// AMX adds stretches of 32 (bfloat16) or 64 (bytes) values of k, AVX-512 any multiple of 16; sums
// of activations for zero points go by group of weights.
template <int32_t values, bool sums>
std::string_view tile_groups(const PackedFormat& f) noexcept {
  static_assert(values == 16 || values == 32 || values == 64);
  const bool decoded = f.weight == tensor::WeightType::kFp4 && f.group_scale == DType::kF8E4M3;
  if (f.group_k % (decoded ? 16 : values))
    return values == 64   ? "weight groups that are not a multiple of 64"
           : values == 32 ? "weight groups that are not a multiple of 32"
                          : "weight groups that are not a multiple of 16";
  if (f.activation_group % values)
    return values == 64   ? "activation groups that are not a multiple of 64"
           : values == 32 ? "activation groups that are not a multiple of 32"
                          : "activation groups that are not a multiple of 16";
  if (sums && f.activation_group && (!f.group_k || f.activation_group % f.group_k))
    return "activation groups that are not whole weight groups";
  return "";
}

template <const cpu::TileOps& ops, WhyNotFormat why_not = any_groups>
constexpr LinearKernel linear(std::string_view name, IsaSet needs) {
  return {name, needs,
          [](const LinearShape& s) noexcept {
            const std::string_view reason = why_not(s.format);
            return reason.empty() ? cpu::linear_why_not(s) : reason;
          },
          [](const LinearShape& s, int workers) noexcept {
            return cpu::linear_scratch_bytes(ops, s, workers);
          },
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
template <const cpu::TileOps& ops, WhyNotFormat why_not = any_groups>
constexpr ExpertMlpKernel expert_mlp(std::string_view name, IsaSet needs) {
  return {
      name, needs,
      [](const ExpertMlpShape& s) noexcept {
        const std::string_view reason = why_not(s.format);
        return reason.empty() ? cpu::expert_mlp_why_not(s) : reason;
      },
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
constexpr LinearKernel kLinearInt8Block[] = {
    linear<cpu::kInt8BlockAmx, tile_groups<64, false>>("linear_int8_block_amx",
                                                       platform::kAmxInt8Set),
    linear<cpu::kInt8BlockAvx512Vnni, tile_groups<16, true>>("linear_int8_block_avx512_vnni",
                                                             platform::kAvx512VnniSet),
    linear<cpu::kInt8BlockAvx2, groups_of_64>("linear_int8_block_avx2", Isa::kAvx2),
    linear_ref("linear_int8_block_ref"),
};
constexpr LinearKernel kLinearFp8[] = {
    linear<cpu::kFp8Amx, tile_groups<32, false>>("linear_fp8_amx", platform::kAmxBf16Set),
    linear<cpu::kFp8Avx512, tile_groups<16, false>>("linear_fp8_avx512", platform::kAvx512Base),
    linear<cpu::kFp8Avx2, groups_of_16>("linear_fp8_avx2", Isa::kAvx2),
    linear_ref("linear_fp8_ref"),
};
constexpr LinearKernel kLinearFp8Bf16[] = {
    linear<cpu::kFp8Amx, tile_groups<32, false>>("linear_fp8_bf16_amx", platform::kAmxBf16Set),
    linear<cpu::kFp8Avx512, tile_groups<16, false>>("linear_fp8_bf16_avx512",
                                                    platform::kAvx512Base),
    linear<cpu::kFp8Bf16Avx2, groups_of_16>("linear_fp8_bf16_avx2", Isa::kAvx2),
    linear_ref("linear_fp8_bf16_ref"),
};
constexpr LinearKernel kLinearInt4[] = {
    linear<cpu::kInt4Int16Amx, tile_groups<64, false>>("linear_int4_int16_amx",
                                                       platform::kAmxInt8Set),
    linear<cpu::kInt4Amx, tile_groups<32, true>>("linear_int4_amx", platform::kAmxBf16Set),
    linear<cpu::kInt4Int16Avx512Vnni, tile_groups<64, false>>("linear_int4_int16_avx512_vnni",
                                                              platform::kAvx512VnniSet),
    linear<cpu::kInt4Avx512, tile_groups<16, true>>("linear_int4_avx512", platform::kAvx512Base),
    linear<cpu::kInt4Avx2, groups_of_16>("linear_int4_avx2", Isa::kAvx2),
    linear_ref("linear_int4_ref"),
};
constexpr LinearKernel kLinearInt4Int8[] = {
    linear<cpu::kInt4Int8Amx, tile_groups<64, true>>("linear_int4_int8_amx", platform::kAmxInt8Set),
    linear<cpu::kInt4Amx, tile_groups<32, true>>("linear_int4_int8_amx_bf16",
                                                 platform::kAmxBf16Set),
    linear<cpu::kInt4Int8Avx512Vnni, tile_groups<16, true>>("linear_int4_int8_avx512_vnni",
                                                            platform::kAvx512VnniSet),
    linear<cpu::kInt4Int8Avx2, groups_of_16>("linear_int4_int8_avx2", Isa::kAvx2),
    linear_ref("linear_int4_int8_ref"),
};
constexpr LinearKernel kLinearFp4[] = {
    linear<cpu::kFp4Amx, tile_groups<32, true>>("linear_fp4_amx", platform::kAmxBf16Set),
    linear<cpu::kFp4Avx512, tile_groups<16, true>>("linear_fp4_avx512", platform::kAvx512Base),
    linear<cpu::kFp4Avx2, groups_of_16>("linear_fp4_avx2", Isa::kAvx2),
    linear_ref("linear_fp4_ref"),
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
constexpr ExpertMlpKernel kExpertMlpInt8Block[] = {
    expert_mlp<cpu::kInt8BlockAmx, tile_groups<64, false>>("expert_mlp_int8_block_amx",
                                                           platform::kAmxInt8Set),
    expert_mlp<cpu::kInt8BlockAvx512Vnni, tile_groups<16, true>>(
        "expert_mlp_int8_block_avx512_vnni", platform::kAvx512VnniSet),
    expert_mlp<cpu::kInt8BlockAvx2, groups_of_64>("expert_mlp_int8_block_avx2", Isa::kAvx2),
    expert_mlp_ref("expert_mlp_int8_block_ref"),
};
constexpr ExpertMlpKernel kExpertMlpFp8[] = {
    expert_mlp<cpu::kFp8Amx, tile_groups<32, false>>("expert_mlp_fp8_amx", platform::kAmxBf16Set),
    expert_mlp<cpu::kFp8Avx512, tile_groups<16, false>>("expert_mlp_fp8_avx512",
                                                        platform::kAvx512Base),
    expert_mlp<cpu::kFp8Avx2, groups_of_16>("expert_mlp_fp8_avx2", Isa::kAvx2),
    expert_mlp_ref("expert_mlp_fp8_ref"),
};
constexpr ExpertMlpKernel kExpertMlpFp8Bf16[] = {
    expert_mlp<cpu::kFp8Amx, tile_groups<32, false>>("expert_mlp_fp8_bf16_amx",
                                                     platform::kAmxBf16Set),
    expert_mlp<cpu::kFp8Avx512, tile_groups<16, false>>("expert_mlp_fp8_bf16_avx512",
                                                        platform::kAvx512Base),
    expert_mlp<cpu::kFp8Bf16Avx2, groups_of_16>("expert_mlp_fp8_bf16_avx2", Isa::kAvx2),
    expert_mlp_ref("expert_mlp_fp8_bf16_ref"),
};
constexpr ExpertMlpKernel kExpertMlpInt4[] = {
    expert_mlp<cpu::kInt4Int16Amx, tile_groups<64, false>>("expert_mlp_int4_int16_amx",
                                                           platform::kAmxInt8Set),
    expert_mlp<cpu::kInt4Amx, tile_groups<32, true>>("expert_mlp_int4_amx", platform::kAmxBf16Set),
    expert_mlp<cpu::kInt4Int16Avx512Vnni, tile_groups<64, false>>(
        "expert_mlp_int4_int16_avx512_vnni", platform::kAvx512VnniSet),
    expert_mlp<cpu::kInt4Avx512, tile_groups<16, true>>("expert_mlp_int4_avx512",
                                                        platform::kAvx512Base),
    expert_mlp<cpu::kInt4Avx2, groups_of_16>("expert_mlp_int4_avx2", Isa::kAvx2),
    expert_mlp_ref("expert_mlp_int4_ref"),
};
constexpr ExpertMlpKernel kExpertMlpInt4Int8[] = {
    expert_mlp<cpu::kInt4Int8Amx, tile_groups<64, true>>("expert_mlp_int4_int8_amx",
                                                         platform::kAmxInt8Set),
    expert_mlp<cpu::kInt4Amx, tile_groups<32, true>>("expert_mlp_int4_int8_amx_bf16",
                                                     platform::kAmxBf16Set),
    expert_mlp<cpu::kInt4Int8Avx512Vnni, tile_groups<16, true>>("expert_mlp_int4_int8_avx512_vnni",
                                                                platform::kAvx512VnniSet),
    expert_mlp<cpu::kInt4Int8Avx2, groups_of_16>("expert_mlp_int4_int8_avx2", Isa::kAvx2),
    expert_mlp_ref("expert_mlp_int4_int8_ref"),
};
constexpr ExpertMlpKernel kExpertMlpFp4[] = {
    expert_mlp<cpu::kFp4Amx, tile_groups<32, true>>("expert_mlp_fp4_amx", platform::kAmxBf16Set),
    expert_mlp<cpu::kFp4Avx512, tile_groups<16, true>>("expert_mlp_fp4_avx512",
                                                       platform::kAvx512Base),
    expert_mlp<cpu::kFp4Avx2, groups_of_16>("expert_mlp_fp4_avx2", Isa::kAvx2),
    expert_mlp_ref("expert_mlp_fp4_ref"),
};

constexpr LinearKernel kLinearRef[] = {linear_ref("linear_ref")};
constexpr ExpertMlpKernel kExpertMlpRef[] = {expert_mlp_ref("expert_mlp_ref")};

// The lists of one op by weight and activation type.
template <class K>
struct Lists {
  std::span<const K> f32, bf16, int8, int8_block, fp8, fp8_bf16, int4, int4_int8, fp4, others;

  constexpr std::span<const K> of(const PackedFormat& f) const {
    using tensor::ActivationType;
    const bool groups = f.group_k || f.activation_group;
    switch (f.weight) {
      case tensor::WeightType::kF32:
        return f == PackedFormat::kF32 ? f32 : others;
      case tensor::WeightType::kBf16:
        return f == PackedFormat::kBf16 ? bf16 : others;
      case tensor::WeightType::kInt8:
        return f.activation != ActivationType::kInt8 ? others : groups ? int8_block : int8;
      case tensor::WeightType::kFp8:
        return f.activation == ActivationType::kFp8    ? fp8
               : f.activation == ActivationType::kBf16 ? fp8_bf16
                                                       : others;
      case tensor::WeightType::kInt4:
        return f.activation == ActivationType::kBf16   ? int4
               : f.activation == ActivationType::kInt8 ? int4_int8
                                                       : others;
      case tensor::WeightType::kFp4:
        return f.activation == ActivationType::kBf16 ? fp4 : others;
    }
    return others;
  }
};
constexpr Lists<LinearKernel> kLinear = {kLinearF32, kLinearBf16,    kLinearInt8, kLinearInt8Block,
                                         kLinearFp8, kLinearFp8Bf16, kLinearInt4, kLinearInt4Int8,
                                         kLinearFp4, kLinearRef};
constexpr Lists<ExpertMlpKernel> kExpertMlp = {
    kExpertMlpF32,     kExpertMlpBf16, kExpertMlpInt8,     kExpertMlpInt8Block, kExpertMlpFp8,
    kExpertMlpFp8Bf16, kExpertMlpInt4, kExpertMlpInt4Int8, kExpertMlpFp4,       kExpertMlpRef};

}  // namespace

std::span<const LinearKernel> linear_kernels(const PackedFormat& format) {
  return kLinear.of(format);
}

std::span<const HeadLinearKernel> head_linear_kernels(const PackedFormat& format) {
  if (format == PackedFormat::kF32) return kHeadLinearF32;
  if (format == PackedFormat::kBf16) return kHeadLinearBf16;
  return {};
}

std::span<const ExpertMlpKernel> expert_mlp_kernels(const PackedFormat& format) {
  return kExpertMlp.of(format);
}

}  // namespace moestro::kernels
