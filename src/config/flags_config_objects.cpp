// Flag rows: Options that are JSON objects. Read by flags.cpp only.
#include "config/flag_rows.h"

namespace moestro::config {
namespace {

using enum Kind;

constexpr Flag kConfigObjects[] = {
    refused("--speculative-config -sc", kJson, "",
            "Speculative decoding settings; checked after parsing",
            "speculative decoding is not built yet")
        .keys(
            "enforce_eager|num_speculative_tokens|model|method|draft_tensor_parallel_size|tensor_"
            "parallel_size|quantization|moe_backend|attention_backend|kv_cache_dtype|max_model_len|"
            "revision|code_revision|disable_padded_drafter_batch|use_local_argmax_reduction|use_"
            "heterogeneous_vocab|prompt_lookup_max|prompt_lookup_min|parallel_drafting|num_"
            "speculative_tokens_per_batch_size|suffix_decoding_max_tree_depth|suffix_decoding_max_"
            "cached_requests|suffix_decoding_max_spec_factor|suffix_decoding_min_token_prob|draft_"
            "load_config|rejection_sample_method|synthetic_acceptance_rates|synthetic_acceptance_"
            "length|enable_adaptive_verification|draft_sample_method|dspark_draft_topk")
        .nullable(),
    refused("--spec-method", kText, "", "Shortcut for method in the speculative config",
            "speculative decoding is not built yet")
        .choices("bailing_hybrid_mtp|bailing_hybrid_v3_mtp|custom_class|deepseek_mtp|dflash|dots3_"
                 "note_mtp|draft_model|dspark|eagle|eagle3|ernie_mtp|exaone4_5_mtp|exaone_moe_mtp|"
                 "extract_hidden_states|gemma4_mtp|glm4_moe_lite_mtp|glm4_moe_mtp|glm_ocr_mtp|hy_"
                 "v3_mtp|inkling_mtp|kimi_k3_mtp|longcat_flash_mtp|medusa|mimo_mtp|mimo_v2_mtp|"
                 "minimax_m3_mtp|mlp_speculator|mtp|nemotron_h_mtp|ngram|ngram_gpu|pangu_ultra_moe_"
                 "mtp|qwen3_5_mtp|qwen3_next_mtp|step3p5_mtp|suffix")
        .nullable(),
    refused("--spec-model", kText, "", "Shortcut for model in the speculative config",
            "speculative decoding is not built yet")
        .nullable(),
    refused("--spec-tokens", kInt, "",
            "Shortcut for num_speculative_tokens in the speculative config",
            "speculative decoding is not built yet"),
    refused("--diffusion-config -dc", kJson, "", "Settings of diffusion language models",
            "no diffusion models")
        .keys("canvas_length|max_denoising_steps")
        .nullable(),
    refused("--kv-transfer-config", kJson, "",
            "KV cache transfer between instances (disaggregation, offload connectors)",
            "no transfer between instances")
        .keys("kv_connector|engine_id|kv_buffer_device|kv_buffer_size|kv_role|kv_rank|kv_parallel_"
              "size|kv_ip|kv_port|kv_connector_extra_config|kv_connector_module_path|enable_"
              "permute_local_kv|kv_load_failure_policy")
        .nullable(),
    refused("--kv-events-config", kJson, "", "Publish cache block events",
            "no transfer between instances")
        .keys("enable_kv_cache_events|publisher|endpoint|replay_endpoint|buffer_steps|hwm|max_"
              "queue_size|topic")
        .nullable(),
    refused("--ec-transfer-config", kJson, "", "Encoder cache transfer between instances",
            "no transfer between instances")
        .keys("ec_connector|engine_id|ec_buffer_device|ec_buffer_size|ec_role|ec_rank|ec_parallel_"
              "size|ec_ip|ec_port|ec_connector_extra_config|ec_connector_module_path")
        .nullable(),
    refused("--ec-manager-config", kJson, "{}", "Custom encoder cache manager",
            "no transfer between instances")
        .keys("encoder_cache_manager_cls|manager_config"),
    no_effect("--compilation-config -cc", kJson, "{}", "Compilation and CUDA graph settings",
              "there is no compiler and there are no graphs")
        .keys(
            "mode|debug_dump_path|cache_dir|compile_cache_save_format|backend|custom_ops|ir_enable_"
            "torch_wrap|splitting_ops|compile_mm_encoder|cudagraph_mm_encoder|encoder_cudagraph_"
            "token_budgets|encoder_cudagraph_max_vision_items_per_batch|encoder_cudagraph_max_"
            "frames_per_batch|compile_sizes|compile_ranges_endpoints|inductor_compile_config|"
            "inductor_passes|cudagraph_mode|cudagraph_num_of_warmups|cudagraph_capture_sizes|"
            "cudagraph_copy_inputs|cudagraph_specialize_lora|use_inductor_graph_partition|pass_"
            "config|max_cudagraph_capture_size|dynamic_shapes_config|fast_moe_cold_start"),
    no_effect("--attention-config -ac", kJson, "{}", "Attention kernel settings",
              "the plan chooses attention kernels; see explain, and --kernel to force one")
        .keys("backend|minimax_m3_msa_decode_backend|backend_per_kind|flash_attn_version|use_"
              "prefill_decode_attention|flash_attn_max_num_splits_for_cuda_graph|tq_max_kv_splits_"
              "for_cuda_graph|use_trtllm_attention|disable_flashinfer_q_quantization|mla_prefill_"
              "backend|use_prefill_query_quantization|use_fp4_indexer_cache|indexer_kv_dtype|use_"
              "non_causal|sparse_mla_force_mqa|flex_attn_block_m|flex_attn_block_n|flex_attn_q_"
              "block_size|flex_attn_kv_block_size"),
    no_effect("--reasoning-config", kJson, "", "Reasoning markers for thinking budgets",
              "there are no thinking budgets; see --reasoning-parser")
        .keys("reasoning_parser|reasoning_start_str|reasoning_end_str")
        .nullable(),
    no_effect("--kernel-config", kJson, "{}", "Kernel selection and warm-up settings",
              "the plan chooses kernels; see explain")
        .keys("ir_op_priority|enable_flashinfer_autotune|enable_cutedsl_warmup|enable_jit_warmup|"
              "enable_bf16x3_router_gemm|moe_backend|linear_backend"),
    refused("--additional-config", kJsonText, "{}", "Free settings for platform plugins",
            "no platform plugins"),
    no_effect("--structured-outputs-config", kJson, "{}", "Structured output settings",
              "there is one grammar engine, always on; reasoning comes before it")
        .keys("backend|disable_any_whitespace|disable_additional_properties|reasoning_parser|"
              "reasoning_parser_plugin|enable_in_reasoning"),
    refused("--profiler-config", kJson, "{}", "Profiler settings", "use perf")
        .keys("profiler|torch_profiler_dir|proton_profiler_dir|proton_context|proton_data|proton_"
              "backend|proton_mode|proton_hook|proton_output_format|torch_profiler_with_stack|"
              "torch_profiler_with_flops|torch_profiler_use_gzip|torch_profiler_dump_cuda_time_"
              "total|torch_profiler_record_shapes|torch_profiler_with_memory|capture_torch_"
              "profiler|detailed_trace_annotation|ignore_frontend|delay_iterations|max_iterations|"
              "warmup_iterations|active_iterations|wait_iterations"),
    no_effect("--optimization-level -O", kText, "2",
              "Preset 0 (fast start) to 3; also written -O3, -O 3 or -O=3",
              "there is no compiler and there are no graphs")
        .choices("0|1|2|3"),
    no_effect("--performance-mode", kText, "balanced",
              "Tune defaults for latency or throughput; throughput doubles default batch limits",
              "defaults suit a CPU; set --max-num-seqs and --max-num-batched-tokens")
        .choices("balanced|interactivity|throughput"),
    refused("--weight-transfer-config", kJson, "",
            "Weight update channel for reinforcement learning", "no transfer between instances")
        .keys("backend")
        .nullable(),
};

}  // namespace

FlagGroup config_objects_flags() {
  return {"config-objects", "Configuration objects", kEngineVerbs, kConfigObjects};
}

}  // namespace moestro::config
