// config.json as the engine uses it: sizes, rotary embedding, router, layer kinds. Read and checked
// once at start; plain data. Keys, aliases, defaults and checks: reference facts "config.json" (one
// reader for all families; a family's file decides which of these fields it uses).
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/json.h"
#include "base/status.h"
#include "checkpoint/model_files.h"

namespace moestro::checkpoint {

enum class RopeType : uint8_t { kDefault, kLinear, kDynamic, kYarn, kLlama3 };

struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000;
  double factor = 1;
  int64_t original_max_position = 0;
  double beta_fast = 32, beta_slow = 1;
  double mscale = 0, mscale_all_dim = 0;             // 0: absent
  double attention_factor = 0;                       // 0: derive
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double partial_rotary_factor = 1;
  bool truncate = true;  // yarn
};

enum class ScoringFunc : uint8_t { kSoftmax, kSigmoid };
enum class TopkMethod : uint8_t { kGreedy, kGroupLimitedGreedy, kNoauxTc };
enum class AttentionKind : uint8_t { kFull, kSliding };

struct ModelConfig {
  std::string model_type;      // "glm_moe_dsa"
  std::string architecture;    // architectures[0], may be empty
  DType dtype = DType::kBF16;  // of the weights as declared
  int32_t vocab_size = 0, hidden_size = 0, num_layers = 0;
  int32_t intermediate_size = 0;                          // dense MLP
  int32_t num_heads = 0, num_kv_heads = 0, head_dim = 0;  // head_dim is meaningless for MLA
  int64_t max_position_embeddings = 0;
  float rms_norm_eps = 1e-6f;
  bool tie_word_embeddings = false;
  bool attention_bias = false, mlp_bias = false, use_qk_norm = false, attention_sinks = false;
  std::string hidden_act = "silu";
  RopeConfig rope;
  bool rope_interleave = false;                // MLA: true; grouped-query families: half split
  int32_t rotary_dim = 0;                      // values of a head that rotate
  std::vector<AttentionKind> attention_kinds;  // [num_layers]
  int32_t sliding_window = 0;                  // 0: none
  double clip_qkv = 0;                         // 0: none (olmoe)
  double swiglu_limit = 0;                     // 0: none (gpt_oss)

  // Multi-head latent attention; kv_lora_rank 0: not MLA.
  int32_t q_lora_rank = 0;  // 0: plain q_proj
  int32_t kv_lora_rank = 0, qk_nope_head_dim = 0, qk_rope_head_dim = 0, v_head_dim = 0;

  // DeepSeek sparse attention; index_topk 0: dense.
  int32_t index_n_heads = 0, index_head_dim = 0, index_topk = 0;
  bool indexer_rope_interleave = false;
  std::vector<bool> indexer_full;  // [num_layers] true: own indexer, false: shares the preceding
                                   // full layer's choice
  bool index_share_for_mtp_iteration = false;

  // Experts; num_experts 0: dense model.
  int32_t num_experts = 0, num_experts_per_tok = 0, moe_intermediate_size = 0;
  int32_t num_shared_experts = 0;
  int32_t shared_expert_intermediate_size = 0;  // width of the fused shared expert
  int32_t n_group = 1, topk_group = 1;
  ScoringFunc scoring = ScoringFunc::kSoftmax;
  TopkMethod topk_method = TopkMethod::kGreedy;
  bool norm_topk_prob = false;
  double routed_scaling_factor = 1;
  bool router_weight_on_input = false;  // apply_router_weight_on_input; one expert a token
  std::vector<bool> moe_layer;          // [num_layers]

  int32_t num_mtp_layers = 0;          // as declared; the tensors may be missing
  std::vector<int32_t> eos_token_ids;  // config.json and generation_config.json united
  int32_t bos_token_id = -1, pad_token_id = -1;
  json::object generation;  // generation_config.json: default sampling parameters; empty if absent
  json::object raw;         // config.json after overrides

  bool uses_mla() const { return kv_lora_rank > 0; }
  bool uses_dsa() const { return index_topk > 0; }
};

// overrides: --hf-overrides, merged key by key (nested objects too) before reading; may be empty.
// Unknown model_type, sizes that do not fit each other, unknown rope_type, hidden_act,
// scoring_func, topk_method: kInvalidArgument / kUnsupported naming key, value and what is allowed.
Result<ModelConfig> read_model_config(const ModelFiles& files, const json::object& overrides);
Result<ModelConfig> parse_model_config(json::object config, const json::object* generation_config);

}  // namespace moestro::checkpoint
