// The experts on a GPU: which CUDA kernel would run them and in which layout, why the others would
// not, and what they take of its memory. From the lists of kernels/cuda, which every build has, so
// that a laptop can plan for a server. Pure functions; printed by explain --hardware.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/model_config.h"
#include "kernels/cuda/moe_layer.h"
#include "plan/machine.h"
#include "plan/plan.h"
#include "tensor/packed_matrix.h"

namespace moestro::plan {

// Experts of one format and shape.
struct DeviceExperts {
  tensor::PackedFormat format;
  kernels::cuda::DeviceMoeShape shape;  // max_tokens: of the largest step
  int32_t held = 0;                     // experts on the rank, of shape.experts
  int32_t layers = 0;
  bool plain_silu = true;  // false: a clamped activation, or biases of experts
};
// The experts of a model as rank 0 holds them, one entry a format; empty: it has none.
std::vector<DeviceExperts> device_experts(models::ModelSpec& spec,
                                          const checkpoint::ModelConfig& config, const Plan& plan);

struct DevicePlan {
  std::string gpu;
  int64_t memory_bytes = 0;         // of the GPU
  std::string layout, activations;  // of the kernel that takes the format
  std::vector<BucketPlan> buckets;  // kernel empty: none of the candidates
  std::vector<std::string> tiles;   // of each bucket: "8 rows a tile"
  std::string remedy;               // where nothing takes the experts
  int64_t expert_bytes = 0;         // all layers, scales as well
  int64_t workspace_bytes = 0;      // shared by the layers
  int64_t other_bytes = 0;          // everything else, as the CPU plan packs it, and the KV cache
  int32_t least_ranks = 0;          // ranks with a GPU each that would hold it; 0: cannot be

  bool runs() const { return !buckets.empty() && !buckets.front().kernel.empty(); }
  int64_t needed_bytes() const { return expert_bytes + workspace_bytes + other_bytes; }
  bool fits() const;
};
// other_bytes: what a rank needs beside its experts.
DevicePlan plan_device(const Gpu& gpu, const DeviceExperts& experts, int64_t other_bytes);

json::object to_json(const DevicePlan& plan);

}  // namespace moestro::plan
