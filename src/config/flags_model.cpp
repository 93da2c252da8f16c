// Flag rows: The model and its files. Read by flags.cpp only.
#include "config/flag_rows.h"

namespace moestro::config {
namespace {

using enum Kind;

constexpr std::string_view kNoServer = "there are no requests over HTTP";
constexpr std::string_view kNoSampling = "tokens are not sampled, or greedily";
constexpr VerbSet kNoSamplingVerbs =
    kBenchVerbs | kBenchStartupVerb | Verb::kLogits | Verb::kPerplexity;
constexpr VerbSet kNoServerVerbs = kGenerateVerbs | kNoSamplingVerbs;

constexpr Flag kModel[] = {
    honoured("--model", kText, "", "The model, as the positional argument",
             MOESTRO_FIELD(model.model))
        .on(kServeVerbs | Verb::kRunBatch)
        .deprecated("the model as the first argument"),
    honoured("--model", kText, "", "The model, as the positional argument",
             MOESTRO_FIELD(model.model))
        .on(kGenerateVerbs | kBenchVerbs | kBenchStartupVerb | Verb::kLogits | Verb::kPerplexity |
            Verb::kInspect | Verb::kTokenize | Verb::kRender),
    refused("--runner", kText, "auto",
            "Kind of work the model does: generate, pooling, draft; auto reads the config",
            "generation only")
        .choices("auto|draft|generate|pooling"),
    refused("--convert", kText, "auto",
            "Adapt a generative model to pooling: embed or classify; auto decides from the runner",
            "generation only")
        .choices("auto|classify|embed|none"),
    honoured("--tokenizer", kText, "",
             "Directory to take the tokenizer files from, instead of the model's",
             MOESTRO_FIELD(model.tokenizer)),
    no_effect("--tokenizer-mode", kText, "auto",
              "Tokenizer implementation; other registered names are accepted too",
              "there is one tokenizer; it reads tokenizer.json"),
    no_effect("--trust-remote-code", kPair, "false", "Run Python code that ships with the model",
              "no Python is run; families are built in"),
    honoured("--dtype", kText, "auto", "Type of activations; auto follows the checkpoint",
             MOESTRO_FIELD(model.dtype))
        .common()
        .choices("auto|bfloat16|float|float16|float32|half"),
    honoured("--seed", kInt, "0",
             "Seed of dummy weights, and of sampling where a request gives none",
             MOESTRO_FIELD(model.seed))
        .common(),
    honoured("--hf-config-path", kText, "",
             "Directory to take config.json from, instead of the model's",
             MOESTRO_FIELD(model.hf_config_path))
        .nullable(),
    no_effect("--allowed-local-media-path", kText, "",
              "Directory from which requests may read local media", "no media inputs"),
    no_effect("--allowed-media-domains", kWords, "", "Only fetch media URLs from these domains",
              "no media inputs")
        .nullable(),
    refused("--revision", kText, "", "Branch, tag or commit of the model",
            "nothing is downloaded; give a directory")
        .nullable(),
    refused("--code-revision", kText, "", "Branch, tag or commit of the model's remote code",
            "nothing is downloaded; give a directory")
        .nullable(),
    refused("--tokenizer-revision", kText, "", "Branch, tag or commit of the tokenizer",
            "nothing is downloaded; give a directory")
        .nullable(),
    honoured("--max-model-len", kLength, "",
             "Longest prompt plus answer in tokens; auto is the most that the KV cache holds",
             MOESTRO_FIELD(model.max_model_len))
        .at_least(-1)
        .common(),
    honoured("--quantization -q", kText, "",
             "Quantisation of the checkpoint: the method that its config.json declares, or a name "
             "of kernels for the same tensors (slimquant_marlin, gptq_marlin, awq_marlin)",
             MOESTRO_FIELD(model.quantization))
        .nullable()
        .common(),
    refused("--quantization-config", kJson, "",
            "Per-layer-kind online quantization spec; only with an online method or none",
            "weights are not quantised while loading; quantise the checkpoint")
        .keys("linear|moe|ignore")
        .nullable(),
    no_effect("--allow-deprecated-quantization", kPair, "false",
              "Accept quantization methods marked for removal", "the checkpoint decides"),
    no_effect("--enforce-eager", kPair, "false", "No compilation and no CUDA graphs",
              "there is no compiler and there are no graphs"),
    refused("--enable-return-routed-experts", kPair, "false",
            "Return the expert ids each token used", "not in the responses"),
    refused("--return-sampling-mask", kPair, "false",
            "Return which tokens survived sampling filters", "not in the responses"),
    honoured("--max-logprobs", kInt, "20", "Most logprobs a request may ask for; -1 is no limit",
             MOESTRO_FIELD(model.max_logprobs))
        .at_least(-1),
    refused("--logprobs-mode", kText, "raw_logprobs",
            "Report logprobs or logits, before or after sampling processors",
            "log-probabilities of the raw logits only")
        .choices("processed_logits|processed_logprobs|raw_logits|raw_logprobs"),
    refused("--use-fp64-gumbel", kPair, "false", "Draw sampling noise in double precision",
            "sampling draws by inversion, without Gumbel noise"),
    refused("--disable-sliding-window", kPair, "false",
            "Ignore sliding-window attention and cap the length at the window",
            "the layers' own windows are always used"),
    refused("--disable-cascade-attn", kPair, "true",
            "Do not use cascade (shared-prefix) attention; on by default, turn off to allow it",
            "there is no cascade attention"),
    refused("--skip-tokenizer-init", kPair, "false",
            "Run without a tokenizer; requests carry token ids", "the server needs its tokenizer"),
    refused("--enable-prompt-embeds", kPair, "false", "Accept prompt embeddings as input",
            "prompts are text or token ids"),
    honoured("--served-model-name", kWords, "",
             "Names that requests may use; the first is the one reported",
             MOESTRO_FIELD(server.served_model_names))
        .on(kFrontVerbs)
        .common()
        .nullable(),
    no_effect("--config-format", kText, "auto",
              "Format of the model config file; other registered names are accepted",
              "config.json only"),
    no_effect("--hf-token", kOptionalText, "",
              "Hub access token; the bare flag uses the stored login", "nothing is downloaded")
        .nullable(),
    honoured("--hf-overrides", kJson, "{}", "JSON merged over config.json",
             MOESTRO_FIELD(model.hf_overrides))
        .common(),
    refused("--model-class-overrides", kJson, "{}", "Map architecture name to module:class",
            "families are built in"),
    refused("--pooler-config", kJson, "",
            "Pooling behaviour of embedding and classification models", "no pooling models")
        .keys("task|pooling_type|seq_pooling_type|tok_pooling_type|use_activation|dimensions|"
              "enable_chunked_processing|max_embed_len|logit_mean|logit_sigma|step_tag_id|returned_"
              "token_ids")
        .nullable(),
    honoured("--generation-config", kText, "auto",
             "Default sampling: auto takes the model's generation_config.json, vllm none, else a "
             "directory",
             MOESTRO_FIELD(model.generation_config))
        .on(kFrontVerbs | kGenerateVerbs),
    honoured("--override-generation-config", kJson, "{}",
             "JSON of default sampling values, over --generation-config",
             MOESTRO_FIELD(model.override_generation_config))
        .on(kFrontVerbs | kGenerateVerbs),
    refused("--enable-sleep-mode", kPair, "false",
            "Allow releasing GPU memory through the sleep endpoints", "not built"),
    no_effect("--enable-cumem-allocator", kPair, "false",
              "Use the virtual-memory GPU allocator (implied by sleep mode)", "no GPU allocator"),
    refused("--model-impl", kText, "auto",
            "Model implementation: native, transformers or terratorch; auto prefers native",
            "native implementations only"),
    refused("--override-attention-dtype", kText, "", "Data type for attention only",
            "attention computes in float32 on the CPU")
        .nullable(),
    refused("--logits-processors", kWords, "", "Import paths of custom logits processors",
            "Python plugins cannot be loaded")
        .nullable(),
    refused("--io-processor-plugin", kText, "", "Name of an input/output processor plugin",
            "Python plugins cannot be loaded")
        .nullable(),
    honoured("--renderer-num-workers", kInt, "2", "Threads for JSON, templates and tokenizing",
             MOESTRO_FIELD(server.text_threads))
        .on(kServeVerbs)
        .range(1, 256),
    no_effect("--served-model-name", kWords, "", "Names that requests may use", kNoServer)
        .on(kNoServerVerbs)
        .nullable(),
    no_effect("--renderer-num-workers", kInt, "1", "Threads for JSON, templates and tokenizing",
              kNoServer)
        .on(kNoServerVerbs | Verb::kRunBatch),
    no_effect("--generation-config", kText, "auto", "Default sampling", kNoSampling)
        .on(kNoSamplingVerbs),
    no_effect("--override-generation-config", kJson, "{}", "JSON of default sampling values",
              kNoSampling)
        .on(kNoSamplingVerbs),
};

constexpr Flag kLoad[] = {
    honoured("--load-format", kText, "auto",
             "safetensors, or dummy for made-up weights without files; auto is safetensors",
             MOESTRO_FIELD(model.load_format))
        .common()
        .choices("auto|safetensors|dummy"),
    no_effect("--download-dir", kText, "", "Directory for downloaded weights",
              "nothing is downloaded")
        .nullable(),
    no_effect(
        "--safetensors-load-strategy", kText, "",
        "How safetensors files are read; unset maps lazily and prefetches on network file systems",
        "files are mapped, and their pages dropped once repacked")
        .choices("eager|lazy|prefetch|torchao")
        .nullable(),
    no_effect("--safetensors-prefetch-num-threads", kInt, "8", "Threads of the prefetch strategy",
              "files are mapped, and their pages dropped once repacked"),
    no_effect("--safetensors-prefetch-block-size", kHumanInt, "16777216", "Bytes per prefetch read",
              "files are mapped, and their pages dropped once repacked"),
    refused("--model-loader-extra-config", kJsonText, "{}", "Options passed to the chosen loader",
            "there is one loader, without options"),
    no_effect("--ignore-patterns", kWords, "original/**/*", "File patterns not to load or download",
              "nothing is downloaded"),
    honoured("--use-tqdm-on-load", kPair, "true",
             "Progress bar while loading, if stderr is a terminal",
             MOESTRO_FIELD(model.show_load_progress)),
    honoured(
        "--packed-cache", kText, "auto",
        "Where moestro repack keeps packed weights, which every start maps that they fit: auto "
        "is ~/.cache/moestro; none always reads the checkpoint; else a directory",
        MOESTRO_FIELD(model.packed_cache))
        .ours()
        .common(),
    honoured("--packed-cache-mode", kText, "map",
             "How a packed cache is used: map shares its pages with other processes, copy reads it "
             "into huge pages of this one",
             MOESTRO_FIELD(model.packed_cache_mode))
        .ours()
        .choices("map|copy"),
    no_effect("--pt-load-map-location", kJsonText, "cpu",
              "Device (or device map) for loading PyTorch files", "no PyTorch files are read"),
};

}  // namespace

FlagGroup model_flags() { return {"model", "Model", kModelVerbs, kModel}; }
FlagGroup load_flags() { return {"load", "Loading", kModelVerbs, kLoad}; }

}  // namespace moestro::config
