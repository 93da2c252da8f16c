// Plans for GPUs, made without one: formats find their kernel, others say what to do.
#include "plan/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/format.h"

namespace moestro::plan {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

Gpu h100() {
  return read_machine(format("{}/models/hardware/h100-node.json", MOESTRO_SOURCE_DIR))
      .value()
      .gpus.front();
}
DeviceExperts qwen(const tensor::PackedFormat& format) {
  return {.format = format,
          .shape =
              {.max_tokens = 2048, .experts = 128, .top_k = 8, .hidden = 2048, .intermediate = 768},
          .held = 128,
          .layers = 48};
}

TEST(Device, EachFormatFindsItsKernelAndTheOthersSayWhatTheyTake) {
  const DevicePlan p = plan_device(h100(), qwen(tensor::PackedFormat::kInt8), 0);
  ASSERT_TRUE(p.runs());
  ASSERT_EQ(p.buckets.size(), 4u);
  EXPECT_EQ(p.layout, "blocks256-int8");
  for (const BucketPlan& b : p.buckets) {
    EXPECT_EQ(b.kernel, "moe_layer_int8_sm90");
    for (const Candidate& c : b.candidates)
      if (c.kernel != b.kernel) {
        EXPECT_THAT(c.why_not, StartsWith("scheme: takes "));
      }
  }
  EXPECT_THAT(p.tiles,
              ElementsAre("8 rows a tile", "8 rows a tile", "32 rows a tile", "160 rows a tile"));
  // 128 experts of 3 x 2048 x 768 bytes and their scales, 48 layers.
  EXPECT_EQ(p.expert_bytes, int64_t{48} * 128 * (3 * 2048 * 768 + 4 * (2 * 768 + 2048)));
  EXPECT_GT(p.workspace_bytes, 0);
  EXPECT_TRUE(p.fits());
  EXPECT_EQ(p.least_ranks, 1);
  EXPECT_EQ(plan_device(h100(), qwen(tensor::PackedFormat::kBf16), 0).buckets[0].kernel,
            "moe_layer_bf16_sm90");
  const tensor::PackedFormat block{
      tensor::WeightType::kFp8, tensor::ActivationType::kFp8, 128, DType::kF32, false, 128, false};
  EXPECT_EQ(plan_device(h100(), qwen(block), 0).buckets[0].kernel, "moe_layer_fp8_block_sm90");
  const tensor::PackedFormat int4{tensor::WeightType::kInt4, tensor::ActivationType::kBf16, 128,
                                  DType::kBF16};
  const DevicePlan four = plan_device(h100(), qwen(int4), 0);
  EXPECT_EQ(four.buckets[0].kernel, "moe_layer_int4_bf16_sm90");
  EXPECT_LT(four.expert_bytes, p.expert_bytes * 6 / 10);
}

TEST(Device, AFormatWithoutKernelHasARemedy) {
  const tensor::PackedFormat int4{tensor::WeightType::kInt4, tensor::ActivationType::kBf16, 32,
                                  DType::kBF16};
  const DevicePlan p = plan_device(h100(), qwen(int4), 0);
  EXPECT_FALSE(p.runs());
  EXPECT_THAT(p.remedy, HasSubstr("panel32-int4-g32; convert the model, moestro quantize"));
  for (const Candidate& c : p.buckets[0].candidates)
    EXPECT_THAT(c.why_not, StartsWith("scheme: takes "));
}

TEST(Device, OtherGpusAndShapesAreRefusedInWords) {
  Gpu gpu = h100();
  gpu.compute_major = 8;
  EXPECT_THAT(
      plan_device(gpu, qwen(tensor::PackedFormat::kInt8), 0).buckets[0].candidates[0].why_not,
      StartsWith("isa: needs compute 9.0, this GPU has 8.0"));
  DeviceExperts odd = qwen(tensor::PackedFormat::kInt8);
  odd.shape.hidden = 2044;
  EXPECT_THAT(plan_device(h100(), odd, 0).buckets[0].candidates[0].why_not,
              StartsWith("shape: CUDA MoE layer: hidden size 2044"));
  odd = qwen(tensor::PackedFormat::kInt8);
  odd.plain_silu = false;
  EXPECT_THAT(plan_device(h100(), odd, 0).buckets[0].candidates[0].why_not,
              StartsWith("shape: computes SwiGLU"));
}

TEST(Device, SaysHowManyRanksWouldHoldIt) {
  DeviceExperts glm = qwen(tensor::PackedFormat::kInt8);
  glm.shape = {
      .max_tokens = 2048, .experts = 256, .top_k = 8, .hidden = 6144, .intermediate = 2048};
  glm.held = 256;
  glm.layers = 75;
  const int64_t other = int64_t{30} << 30;
  const DevicePlan one = plan_device(h100(), glm, other);
  EXPECT_FALSE(one.fits());
  ASSERT_GT(one.least_ranks, 8);
  glm.held = (256 + one.least_ranks - 1) / one.least_ranks;
  EXPECT_TRUE(plan_device(h100(), glm, other).fits() || 256 % one.least_ranks != 0);
  EXPECT_EQ(plan_device(h100(), glm, int64_t{100} << 30).least_ranks, 0);
}

}  // namespace
}  // namespace moestro::plan
