// One MoE layer on a Hopper GPU: route, permute and quantise; gate and up with SwiGLU; requantise;
// down; weighted sum. One launch up to 8 tokens, three for a decode batch, five for prefill
// (decode.cuh, prefill.cuh), all on one stream and capturable in a CUDA graph: grids depend on the
// shape alone, sizes are read from device memory, nothing is allocated. Called by tests/cuda and
// bench/ today, by moe/ once a plan can name a device; on the thread that owns the stream. This
// header needs no CUDA header.
//
// Arithmetic, with int8 (any batch, any order of tokens gives the same bits for a token):
// - x is quantised per token: s = absmax / 127, q = round_half_even(x * (1 / s));
// - gate and up are exact int32 sums * s * channel scale in float32; h = silu(gate) * up is rounded
//   to bfloat16 and quantised per row like x;
// - down is exact int32 sums * scales, rounded to bfloat16, one row a (token, expert) pair;
// - out is the sum over the token's experts in slot order in float32, rounded to bfloat16.
// fp8: e4m3 with the power of two at or above absmax / 448, sums of 128 values on the tensor cores
// and their sum in float32; with blocks the weights' scales are those of 128 x 128 of them. bf16:
// no scales, float32 sums on the tensor cores; int4: bfloat16 with weights round(code * scale).
// Where a float32 sum is cut depends on the batch (two runs of one batch give the same bits).
#pragma once
#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/device_layout.h"

struct CUstream_st;

namespace moestro::kernels::cuda {

inline constexpr int32_t kMaxDeviceExperts = 512;
inline constexpr int32_t kMaxDeviceTopK = 32;
inline constexpr int32_t kMaxDeviceWidth = 16384;          // of hidden and intermediate
inline constexpr int32_t kDecodeSharedBytes = 216 * 1024;  // operands of the decode kernel

// As moe/router.h's RouterSpec, whose results the routing kernel gives.
struct DeviceRouter {
  bool sigmoid = false;             // else softmax over all experts
  bool softmax_after_topk = false;  // softmax over the chosen logits only
  bool noaux_tc = false;            // a group counts its two best experts, else its best
  int32_t n_group = 1, topk_group = 1;
  bool renormalize = false;
  float scaling = 1;
};

struct DeviceMoeShape {
  int32_t max_tokens = 0;  // of one launch; the count itself is in device memory
  int32_t experts = 0, top_k = 0, hidden = 0, intermediate = 0;
  int32_t value_bytes = 1;   // of a weight and of an activation in a product
  bool step_scales = false;  // weights have scales for blocks of 128 x 128
  bool int4 = false;         // weights of 4 bits with a scale for 64 of them or more; value_bytes 2
  DeviceRouter router;
  int32_t row_tile = 0;  // rows of an expert that share one pass over its weights: 8, 16, 32, 64
                         // (decode kernel), 160 (prefill kernel, at most); 0: by max_tokens
};

// Packed as device_layout.h says, expert after expert.
struct DeviceMoeWeights {
  const void* gate_up = nullptr;  // [experts] matrices of gate_up_matrix(hidden, intermediate, …)
  const float* gate_up_scales = nullptr;  // [experts, padded_n], packed order, or step_scales()
  const void* down = nullptr;             // [experts] matrices {hidden, intermediate, …}
  const float* down_scales = nullptr;     // likewise
};

// Device pointers, 16-byte aligned, with room for max_tokens tokens (what lies behind the last
// token may be read). Either logits or both of ids and weights.
struct DeviceMoeArgs {
  const int32_t* num_tokens = nullptr;  // one value; beyond max_tokens is cut off
  const void* x = nullptr;              // bfloat16 [tokens, hidden]
  const float* logits = nullptr;        // [tokens, experts]
  const float* bias = nullptr;          // [experts] or null: added for the choice only
  const int32_t* ids = nullptr;    // [tokens, top_k]; outside [0, experts): no work, weight ignored
  const float* weights = nullptr;  // [tokens, top_k]
  void* out = nullptr;             // bfloat16 [tokens, hidden]
  std::byte* workspace = nullptr;  // moe_workspace_bytes, 1024-byte aligned, prepared once
};

// Unsupported, with the reason, unless every kernel of the layer can run the shape.
Status check_moe_shape(const DeviceMoeShape& shape);
// The rows a tile that a launch with this shape uses.
int32_t moe_row_tile(const DeviceMoeShape& shape);
int64_t moe_workspace_bytes(const DeviceMoeShape& shape, int32_t num_sms);

// Sets the counters and flags of a workspace; once, before its first launch. Runs leave them so.
Status prepare_moe_workspace(const DeviceMoeShape& shape, int32_t num_sms, std::byte* workspace,
                             CUstream_st* stream);
// Enqueues the layer. Layers that share a workspace must share the stream.
Status launch_moe_int8(const DeviceMoeShape& shape, int32_t num_sms,
                       const DeviceMoeWeights& weights, const DeviceMoeArgs& args,
                       CUstream_st* stream);
Status launch_moe_fp8(const DeviceMoeShape& shape, int32_t num_sms, const DeviceMoeWeights& weights,
                      const DeviceMoeArgs& args, CUstream_st* stream);
Status launch_moe_fp8_block(const DeviceMoeShape& shape, int32_t num_sms,
                            const DeviceMoeWeights& weights, const DeviceMoeArgs& args,
                            CUstream_st* stream);
Status launch_moe_int4(const DeviceMoeShape& shape, int32_t num_sms,
                       const DeviceMoeWeights& weights, const DeviceMoeArgs& args,
                       CUstream_st* stream);
Status launch_moe_bf16(const DeviceMoeShape& shape, int32_t num_sms,
                       const DeviceMoeWeights& weights, const DeviceMoeArgs& args,
                       CUstream_st* stream);

}  // namespace moestro::kernels::cuda
