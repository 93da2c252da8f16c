// Flag rows: LoRA and media inputs. Read by flags.cpp only.
#include "config/flag_rows.h"

namespace moestro::config {
namespace {

using enum Kind;

constexpr Flag kLora[] = {
    refused("--enable-lora", kPair, "", "Serve LoRA adapters; unset is off",
            "adapters are not supported"),
    no_effect("--max-loras", kInt, "1", "Adapters in one batch", "adapters are not supported"),
    no_effect("--max-lora-rank", kText, "16", "Largest adapter rank", "adapters are not supported")
        .choices("1|8|16|32|64|128|256|320|512"),
    no_effect("--lora-dtype", kText, "auto", "Adapter weight type; auto follows the model",
              "adapters are not supported"),
    no_effect("--enable-tower-connector-lora", kPair, "false",
              "Apply adapters to vision tower and connector", "adapters are not supported"),
    no_effect("--max-cpu-loras", kInt, "", "Adapters kept in host memory; unset equals --max-loras",
              "adapters are not supported")
        .nullable(),
    no_effect("--fully-sharded-loras", kPair, "false",
              "Shard both adapter factors over tensor ranks", "adapters are not supported"),
    no_effect("--lora-target-modules", kWords, "", "Only apply adapters to these modules",
              "adapters are not supported")
        .nullable(),
    refused("--default-mm-loras", kJson, "", "Adapter used by default for each media kind",
            "adapters are not supported")
        .nullable(),
    no_effect("--specialize-active-lora", kPair, "false",
              "Capture graphs per number of active adapters", "adapters are not supported"),
    no_effect("--enable-mixed-moe-lora-format", kPair, "false",
              "Accept 2-D and 3-D expert adapters together", "adapters are not supported"),
    no_effect("--enable-moe-shared-loras", kPair, "false",
              "Expert adapters share their outer factor", "adapters are not supported"),
};

constexpr Flag kMultimodal[] = {
    no_effect("--language-model-only", kPair, "false", "Set every media limit to zero",
              "text models only"),
    no_effect("--limit-mm-per-prompt", kJson, "{}", "Most media items of each kind in one prompt",
              "text models only"),
    refused("--enable-mm-embeds", kPair, "false", "Accept precomputed media embeddings",
            "text models only"),
    no_effect("--media-io-kwargs", kJson, "{}", "Options for media decoding, by kind",
              "text models only"),
    no_effect("--mm-processor-kwargs", kJson, "", "Options for the model's media processor",
              "text models only")
        .nullable(),
    no_effect("--mm-processor-cache-gb", kFloat, "4",
              "GiB per process for processed media; 0 is off", "text models only"),
    no_effect("--mm-processor-cache-type", kText, "lru",
              "Media cache: mirrored LRU or shared memory", "text models only")
        .choices("lru|shm"),
    no_effect("--mm-hasher-algorithm", kText, "blake3", "Hash that identifies media items",
              "text models only")
        .choices("blake3|sha256|sha512"),
    no_effect("--mm-shm-cache-max-object-size-mb", kInt, "128",
              "Largest object in the shared-memory cache, MiB", "text models only"),
    refused("--mm-encoder-only", kPair, "false", "Load only the media encoder", "text models only"),
    no_effect("--mm-encoder-tp-mode", kText, "weights", "Split the encoder by weights or by data",
              "text models only")
        .choices("data|weights"),
    no_effect("--mm-encoder-attn-backend", kText, "", "Attention kernel of the encoder",
              "text models only")
        .nullable(),
    no_effect("--mm-encoder-attn-dtype", kText, "", "fp8 attention in the encoder",
              "text models only")
        .choices("fp8")
        .nullable(),
    no_effect("--mm-encoder-fp8-scale-path", kText, "", "File of encoder fp8 scales to read",
              "text models only")
        .nullable(),
    no_effect("--mm-encoder-fp8-scale-save-path", kText, "",
              "File to write measured encoder fp8 scales to", "text models only")
        .nullable(),
    no_effect("--mm-encoder-fp8-scale-save-margin", kFloat, "1.5", "Safety factor on saved scales",
              "text models only"),
    no_effect("--interleave-mm-strings", kPair, "false",
              "Keep media placeholders in place with string templates", "text models only"),
    no_effect("--skip-mm-profiling", kPair, "false", "Do not measure encoder memory at start",
              "text models only"),
    no_effect("--video-pruning-rate", kFloat, "", "Share of video tokens to drop, 0 to below 1",
              "text models only")
        .nullable(),
    no_effect("--video-pruning-method", kText, "evs", "Algorithm that drops video tokens",
              "text models only")
        .choices("evs|vidcom2"),
    no_effect("--mm-tensor-ipc", kText, "direct_rpc",
              "How media tensors reach the engine: in the message or in shared memory",
              "text models only")
        .choices("direct_rpc|torch_shm"),
    no_effect("--mm-processor-device", kText, "auto", "Device that runs media transforms",
              "text models only")
        .choices("auto|cpu"),
    no_effect("--mm-ipc-gpu-memory-gb", kFloat, "0",
              "GiB of device memory reserved for media work in the API process",
              "text models only"),
    no_effect("--mm-device-do-normalize", kPair, "", "Normalize pixels on the device",
              "text models only"),
};

}  // namespace

FlagGroup lora_flags() { return {"lora", "LoRA", kEngineVerbs, kLora}; }
FlagGroup multimodal_flags() { return {"multimodal", "Media inputs", kEngineVerbs, kMultimodal}; }

}  // namespace moestro::config
