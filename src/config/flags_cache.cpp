// Flag rows: KV cache and weight offload. Read by flags.cpp only.
#include "config/flag_rows.h"

namespace moestro::config {
namespace {

using enum Kind;

constexpr Flag kCache[] = {
    honoured("--block-size", kInt, "", "Tokens in one page of the KV cache",
             MOESTRO_FIELD(cache.block_size))
        .range(1, 4096),
    honoured("--gpu-memory-utilization", kFloat, "0.92",
             "Most of this machine's memory that weights and KV cache may take together",
             MOESTRO_FIELD(cache.memory_utilization))
        .range(0.01, 1),
    honoured("--kv-cache-memory-bytes", kHumanInt, "",
             "Size of the KV cache, for example 8G; unset: at most 4 GiB, less if that holds every "
             "sequence",
             MOESTRO_FIELD(cache.kv_cache_memory_bytes))
        .at_least(1)
        .common()
        .nullable(),
    honoured("--kv-cache-dtype", kText, "auto", "Type of the KV cache; auto follows --dtype",
             MOESTRO_FIELD(cache.kv_cache_dtype))
        .common()
        .choices("auto|bfloat16|float32")
        .refuse_choices("float16|fp8|fp8_ds_mla|fp8_e4m3|fp8_e5m2|fp8_inc|fp8_per_token_head|"
                        "int4_per_token_head|int8_per_token_head|nvfp4|nvfp4_4over6|"
                        "turboquant_3bit_nc|turboquant_4bit_nc|turboquant_k3v4_nc|turboquant_k8v4",
                        "the KV cache is kept in bfloat16 or float32 so far"),
    honoured("--num-gpu-blocks-override", kInt, "", "Size of the KV cache in pages",
             MOESTRO_FIELD(cache.num_pages))
        .at_least(1)
        .nullable(),
    honoured("--enable-prefix-caching", kPair, "",
             "Reuse what is in the KV cache for prompts that begin alike; on unless switched off",
             MOESTRO_FIELD(cache.enable_prefix_caching)),
    no_effect("--prefix-caching-hash-algo", kText, "sha256", "Hash used for cached blocks",
              "pages are compared token by token, so no hash decides what is reused")
        .choices("sha256|sha256_cbor|xxhash|xxhash_cbor"),
    refused("--kv-cache-dtype-skip-layers", kWords, "",
            "Layer indices or kinds that keep the unquantized cache type",
            "all layers keep the same cache type"),
    no_effect("--kv-sharing-fast-prefill", kPair, "false",
              "Skip prefill work in layers that share another layer's cache",
              "no model with shared caches"),
    no_effect("--mamba-cache-dtype", kText, "auto", "Storage type of convolution and state caches",
              "no state-space models")
        .choices("auto|bfloat16|float16|float32"),
    no_effect("--mamba-ssm-cache-dtype", kText, "auto", "Storage type of the state alone",
              "no state-space models")
        .choices("auto|bfloat16|float16|float32"),
    no_effect("--mamba-block-size", kInt, "",
              "Tokens per state checkpoint; only with prefix caching", "no state-space models")
        .nullable(),
    refused("--prefix-match-unit", kInt, "",
            "Finest token boundary where a prefix hit may end; must divide every group's page size",
            "a hit ends with a whole page; for finer ones make pages smaller with --block-size")
        .nullable(),
    no_effect("--mamba-cache-mode", kText, "none",
              "Which state checkpoints are kept for prefix reuse", "no state-space models")
        .choices("align|all|none"),
    no_effect("--replayssm-buffer-len", kInt, "16", "Inputs buffered between state flushes",
              "no state-space models"),
    no_effect("--use-replayssm", kPair, "false",
              "Decode state-space layers from buffered inputs and flush state rarely",
              "no state-space models"),
    refused("--kv-offloading-size", kFloat, "",
            "Host memory in GiB (all ranks together) for evicted KV pages; unset is off",
            "the KV cache is in host memory already")
        .nullable(),
    no_effect("--kv-offloading-backend", kText, "native", "Implementation of KV offload",
              "the KV cache is in host memory already")
        .choices("lmcache|native"),
};

constexpr Flag kOffload[] = {
    refused("--offload-backend", kText, "auto",
            "Weight offload method; auto picks from the other offload options",
            "weights are in host memory already")
        .choices("auto|prefetch|uva"),
    refused("--cpu-offload-gb", kFloat, "0",
            "GiB of weights per GPU kept in host memory and read directly",
            "weights are in host memory already"),
    refused("--cpu-offload-params", kWords, "",
            "Only offload parameters whose names contain these segments",
            "weights are in host memory already"),
    refused("--offload-group-size", kInt, "0", "Layers per group for prefetch offload; 0 is off",
            "weights are in host memory already"),
    no_effect("--offload-num-in-group", kInt, "1", "Offloaded layers at the end of each group",
              "weights are in host memory already"),
    no_effect("--offload-prefetch-step", kInt, "1", "Layers fetched ahead",
              "weights are in host memory already"),
    refused("--offload-params", kWords, "",
            "Parameter name segments for prefetch offload; empty means all",
            "weights are in host memory already"),
};

}  // namespace

FlagGroup cache_flags() { return {"cache", "KV cache", kEngineVerbs, kCache}; }
FlagGroup offload_flags() { return {"offload", "Weight offload", kEngineVerbs, kOffload}; }

}  // namespace moestro::config
