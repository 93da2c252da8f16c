// Flag rows: Benchmarks. Rows of bench serve and bench startup are there to be refused by name.
// Read by flags.cpp only.
#include "config/flag_rows.h"

namespace moestro::config {
namespace {

using enum Kind;

constexpr std::string_view kNoClient =
    "bench serve is not built; any OpenAI load generator works against moestro serve";
constexpr std::string_view kNoStartup =
    "bench startup is not built; serve logs how long loading took";
constexpr std::string_view kNoDataSet = "only random token ids, without a data set";

constexpr Flag kBench[] = {
    refused("--trust-remote-code", kSwitch, "false", "Run Python code shipped with the tokenizer",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--seed", kInt, "0", "Random seed of the workload", kNoClient).on(kBenchServeVerb),
    honoured("--num-prompts", kInt, "1000", "Requests", MOESTRO_FIELD(bench.num_prompts))
        .on(Verb::kBenchThroughput | Verb::kBenchServe)
        .range(1, 1e7)
        .common(),
    refused("--dataset-name", kText, "", "Kind of workload", kNoClient)
        .choices("sharegpt|burstgpt|sonnet|random|random-mm|random-rerank|hf|custom|custom_audio|"
                 "custom_image|prefix_repetition|spec_bench|speed_bench|timed_trace")
        .on(kBenchServeVerb),
    refused("--no-stream", kSwitch, "false", "Do not stream the hub data set", kNoClient)
        .on(kBenchServeVerb),
    refused("--dataset-path", kText, "", "File or hub id of the data set", kNoDataSet)
        .on(Verb::kBenchServe | Verb::kBenchThroughput),
    refused("--no-oversample", kSwitch, "false",
            "Do not repeat samples when the data set is too small", kNoDataSet)
        .on(Verb::kBenchServe | Verb::kBenchThroughput),
    refused("--skip-chat-template", kSwitch, "false", "Send prompts without a chat template",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--enable-multimodal-chat", kSwitch, "false", "Turn media samples into chat messages",
            kNoDataSet)
        .on(Verb::kBenchServe | Verb::kBenchThroughput),
    refused("--disable-shuffle", kSwitch, "false", "Keep the data set's order", kNoClient)
        .on(kBenchServeVerb),
    refused("--label", kText, "", "Name prefix of the result; unset uses the backend name",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--backend", kText, "openai",
            "Request protocol (serve) or engine entry (throughput) to measure", kNoClient)
        .choices("vllm|openai|openai-chat|openai-audio|openai-embeddings|openai-embeddings-chat|"
                 "openai-embeddings-clip|openai-embeddings-vlm2vec|infinity-embeddings|infinity-"
                 "embeddings-clip|vllm-pooling|vllm-rerank")
        .on(kBenchServeVerb),
    refused("--base-url", kText, "", "Server address, instead of host and port", kNoClient)
        .on(kBenchServeVerb),
    refused("--host", kText, "127.0.0.1", "Server host", kNoClient).on(kBenchServeVerb),
    refused("--port", kInt, "8000", "Server port", kNoClient).on(kBenchServeVerb),
    refused("--endpoint", kText, "/v1/completions", "Request path", kNoClient).on(kBenchServeVerb),
    refused("--header", kWords, "", "KEY=VALUE headers for each request", kNoClient)
        .on(kBenchServeVerb),
    refused("--max-concurrency", kInt, "", "Most requests in flight; unset is unlimited", kNoClient)
        .on(kBenchServeVerb),
    refused("--model", kText, "", "Model name; unset asks the server", kNoClient)
        .on(kBenchServeVerb),
    refused("--input-len", kInt, "", "Prompt tokens; in serve it fills the data set's own option",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--output-len", kInt, "", "Output tokens; in serve it fills the data set's own option",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--tokenizer", kText, "", "Tokenizer path or id", kNoClient).on(kBenchServeVerb),
    refused("--tokenizer-mode", kText, "auto", "Tokenizer implementation", kNoClient)
        .on(kBenchServeVerb),
    refused("--use-beam-search", kSwitch, "false", "Use beam search", "no beam search")
        .on(Verb::kBenchServe | Verb::kBenchLatency),
    refused("--logprobs", kInt, "", "Logprobs per token to ask for", kNoClient).on(kBenchServeVerb),
    refused("--request-rate", kFloat, "inf", "Requests per second; inf sends all at once",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--burstiness", kFloat, "1", "Shape of arrival gaps; 1 is Poisson, smaller is burstier",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--probe-request-rate", kFloat, "0",
            "Rate of extra one-token probes reported separately; 0 is off", kNoClient)
        .on(kBenchServeVerb),
    refused("--disable-tqdm", kSwitch, "false", "No progress bar", kNoClient).on(kBenchServeVerb),
    honoured("--num-warmups", kInt, "0", "Requests before measuring",
             MOESTRO_FIELD(bench.num_warmups))
        .on(Verb::kBenchThroughput | Verb::kBenchServe)
        .at_least(0),
    refused("--profile", kSwitch, "false", "Trigger the server's profiler around the run",
            "use perf")
        .on(Verb::kBenchServe | Verb::kBenchLatency | Verb::kBenchThroughput),
    refused("--save-result", kSwitch, "false", "Write results as JSON", kNoClient)
        .on(kBenchServeVerb),
    refused("--save-detailed", kSwitch, "false", "Also write per-request data", kNoClient)
        .on(kBenchServeVerb),
    refused("--append-result", kSwitch, "false", "Append to an existing result file", kNoClient)
        .on(kBenchServeVerb),
    refused("--metadata", kWords, "", "KEY=VALUE pairs stored with the result", kNoClient)
        .on(kBenchServeVerb),
    refused("--result-dir", kText, "", "Folder for results", kNoClient).on(kBenchServeVerb),
    refused("--result-filename", kText, "", "Result file name", kNoClient).on(kBenchServeVerb),
    refused("--ignore-eos", kSwitch, "false", "Ask the server to ignore end-of-sequence", kNoClient)
        .on(kBenchServeVerb),
    refused("--self-timed", kPair, "",
            "Take send times from the trace; unset depends on the data set", kNoClient)
        .on(kBenchServeVerb),
    refused(
        "--percentile-metrics", kText, "",
        "Metrics to report percentiles for: ttft, tpot, itl, e2el; unset depends on the backend",
        kNoClient)
        .on(kBenchServeVerb),
    refused("--metric-percentiles", kText, "99", "Percentiles to report, comma-separated",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--goodput", kWords, "", "KEY:VALUE targets in ms (ttft, tpot, e2el)", kNoClient)
        .on(kBenchServeVerb),
    refused("--request-id-prefix", kText, "bench-<8 random hex>-", "Prefix of request ids",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--served-model-name", kText, "", "Model name used in requests", kNoClient)
        .on(kBenchServeVerb),
    refused("--lora-modules", kWords, "", "Adapter names to spread requests over", kNoClient)
        .on(kBenchServeVerb),
    refused("--lora-assignment", kText, "random", "How adapters are assigned to requests",
            kNoDataSet)
        .choices("random|round-robin")
        .on(Verb::kBenchServe | Verb::kBenchThroughput),
    refused("--ramp-up-strategy", kText, "", "Raise the request rate linearly or exponentially",
            kNoClient)
        .choices("linear|exponential")
        .on(kBenchServeVerb),
    refused("--ramp-up-start-rps", kInt, "", "Rate at the start of the ramp", kNoClient)
        .on(kBenchServeVerb),
    refused("--ramp-up-end-rps", kInt, "", "Rate at the end of the ramp", kNoClient)
        .on(kBenchServeVerb),
    refused("--ready-check-timeout-sec", kInt, "0",
            "Seconds to wait for the server; 0 skips the check", kNoClient)
        .on(kBenchServeVerb),
    refused("--chat-template-kwargs", kJson, "",
            "Template variables for prompts rendered in the client", kNoClient)
        .on(kBenchServeVerb),
    refused("--extra-body", kJson, "", "JSON merged into every request body", kNoClient)
        .on(kBenchServeVerb),
    refused("--skip-tokenizer-init", kSwitch, "false", "Run without a tokenizer", kNoClient)
        .on(kBenchServeVerb),
    refused("--insecure", kSwitch, "false", "Do not verify TLS certificates", kNoClient)
        .on(kBenchServeVerb),
    refused("--plot-timeline", kSwitch, "false", "Write an HTML timeline of requests", kNoClient)
        .on(kBenchServeVerb),
    refused("--timeline-itl-thresholds", kText, "25,50",
            "Two inter-token limits in ms for the timeline's colours", kNoClient)
        .on(kBenchServeVerb),
    refused("--plot-dataset-stats", kSwitch, "false", "Draw token length histograms", kNoClient)
        .on(kBenchServeVerb),
    refused("--custom-output-len", kInt, "256",
            "Output tokens for custom data; -1 keeps the data set's", kNoClient)
        .on(kBenchServeVerb),
    refused("--custom-ensure-client-side-data", kSwitch, "false",
            "Send media inline rather than by reference", kNoClient)
        .on(kBenchServeVerb),
    refused("--spec-bench-output-len", kInt, "256", "Output tokens, spec_bench", kNoClient)
        .on(kBenchServeVerb),
    refused("--spec-bench-category", kText, "", "Category, spec_bench; unset is all", kNoClient)
        .on(kBenchServeVerb),
    refused("--sonnet-input-len", kInt, "550", "Prompt tokens, sonnet", kNoClient)
        .on(kBenchServeVerb),
    refused("--sonnet-output-len", kInt, "150", "Output tokens, sonnet", kNoClient)
        .on(kBenchServeVerb),
    refused("--sonnet-prefix-len", kInt, "200", "Shared prefix tokens, sonnet", kNoClient)
        .on(kBenchServeVerb),
    refused("--sharegpt-output-len", kInt, "",
            "Output tokens, sharegpt; unset keeps the data set's", kNoClient)
        .on(kBenchServeVerb),
    refused("--timed-trace-chunk-hash-size", kInt, "16", "Tokens per hash in the trace", kNoClient)
        .on(kBenchServeVerb),
    refused("--timed-trace-sec-multiplier", kFloat, "1", "Factor from trace time to seconds",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--timed-trace-label-timestamp", kText, "timestamp", "Trace key of the time", kNoClient)
        .on(kBenchServeVerb),
    refused("--timed-trace-label-input-length", kText, "input_length",
            "Trace key of the prompt length", kNoClient)
        .on(kBenchServeVerb),
    refused("--timed-trace-label-output-length", kText, "output_length",
            "Trace key of the output length", kNoClient)
        .on(kBenchServeVerb),
    refused("--timed-trace-label-hash-ids", kText, "hash_ids", "Trace key of the prompt hashes",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--blazedit-min-distance", kFloat, "0", "Smallest edit distance, blazedit", kNoClient)
        .on(kBenchServeVerb),
    refused("--blazedit-max-distance", kFloat, "1", "Largest edit distance, blazedit", kNoClient)
        .on(kBenchServeVerb),
    refused("--asr-max-audio-len-sec", kFloat, "inf", "Longest audio clip in seconds", kNoDataSet)
        .on(Verb::kBenchServe | Verb::kBenchThroughput),
    refused("--asr-min-audio-len-sec", kFloat, "0", "Shortest audio clip in seconds", kNoDataSet)
        .on(Verb::kBenchServe | Verb::kBenchThroughput),
    honoured("--random-input-len", kInt, "1024", "Prompt tokens, if --input-len is not given",
             MOESTRO_FIELD(bench.random_input_len))
        .on(Verb::kBenchThroughput | Verb::kBenchServe)
        .range(1, 1e9),
    honoured("--random-output-len", kInt, "128", "Tokens to generate, if --output-len is not given",
             MOESTRO_FIELD(bench.random_output_len))
        .on(Verb::kBenchThroughput | Verb::kBenchServe)
        .range(1, 1e9),
    honoured("--random-range-ratio", kFloat, "0",
             "Spread of the lengths: uniform within this share around them",
             MOESTRO_FIELD(bench.random_range_ratio))
        .on(Verb::kBenchThroughput | Verb::kBenchServe)
        .range(0, 0.999),
    honoured("--random-prefix-len", kInt, "0",
             "Tokens that every prompt begins with, the same for all",
             MOESTRO_FIELD(bench.random_prefix_len))
        .on(Verb::kBenchThroughput | Verb::kBenchServe)
        .at_least(0),
    refused("--random-batch-size", kInt, "1", "Inputs per embedding request", kNoDataSet)
        .on(Verb::kBenchServe | Verb::kBenchThroughput),
    refused("--no-reranker", kSwitch, "false", "Model has no native reranking", kNoDataSet)
        .on(Verb::kBenchServe | Verb::kBenchThroughput),
    refused("--random-mm-base-items-per-request", kInt, "1", "Media items per request, random-mm",
            kNoDataSet)
        .on(Verb::kBenchServe | Verb::kBenchThroughput),
    refused("--random-mm-num-mm-items-range-ratio", kFloat, "0", "Spread around that count",
            kNoDataSet)
        .on(Verb::kBenchServe | Verb::kBenchThroughput),
    refused("--random-mm-limit-mm-per-prompt", kJson, "{\"image\": 255, \"video\": 1}",
            "Most media items per kind", kNoDataSet)
        .on(Verb::kBenchServe | Verb::kBenchThroughput),
    refused("--random-mm-bucket-config", kJson,
            "{\"(256, 256, 1)\": 0.5, \"(720, 1280, 1)\": 0.5, \"(720, 1280, 16)\": 0.0}",
            "Map of (height, width, frames) to probability", kNoDataSet)
        .on(Verb::kBenchServe | Verb::kBenchThroughput),
    refused("--hf-subset", kText, "", "Subset of the hub data set", kNoDataSet)
        .on(Verb::kBenchServe | Verb::kBenchThroughput),
    refused("--hf-split", kText, "", "Split of the hub data set", kNoDataSet)
        .on(Verb::kBenchServe | Verb::kBenchThroughput),
    refused("--hf-name", kText, "", "Hub name when the path is local", kNoDataSet)
        .on(Verb::kBenchServe | Verb::kBenchThroughput),
    refused("--hf-output-len", kInt, "", "Output tokens for hub data", kNoClient)
        .on(kBenchServeVerb),
    refused("--bfcl-categories", kCsv, "", "Comma-separated function-calling categories", kNoClient)
        .on(kBenchServeVerb),
    refused("--prefix-repetition-prefix-len", kInt, "256", "Prefix tokens, prefix_repetition",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--prefix-repetition-suffix-len", kInt, "256", "Suffix tokens, prefix_repetition",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--prefix-repetition-num-prefixes", kInt, "10", "Distinct prefixes, prefix_repetition",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--prefix-repetition-output-len", kInt, "128", "Output tokens, prefix_repetition",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--speed-bench-dataset-subset", kText, "qualitative", "Subset of SPEED-Bench",
            kNoClient)
        .choices(
            "throughput_32k|throughput_2k|throughput_1k|throughput_8k|throughput_16k|qualitative")
        .on(kBenchServeVerb),
    refused("--speed-bench-output-len", kInt, "4096", "Output tokens, speed_bench", kNoClient)
        .on(kBenchServeVerb),
    refused("--speed-bench-category", kText, "", "Category, speed_bench; unset is all", kNoClient)
        .on(kBenchServeVerb),
    refused("--top-p", kFloat, "", "Sampling top-p, OpenAI-style backends", kNoClient)
        .on(kBenchServeVerb),
    refused("--top-k", kInt, "", "Sampling top-k, OpenAI-style backends", kNoClient)
        .on(kBenchServeVerb),
    refused("--min-p", kFloat, "", "Sampling min-p, OpenAI-style backends", kNoClient)
        .on(kBenchServeVerb),
    refused("--temperature", kFloat, "", "Sampling temperature; unset leaves it to the server",
            kNoClient)
        .on(kBenchServeVerb),
    refused("--frequency-penalty", kFloat, "", "Frequency penalty", kNoClient).on(kBenchServeVerb),
    refused("--presence-penalty", kFloat, "", "Presence penalty", kNoClient).on(kBenchServeVerb),
    refused("--repetition-penalty", kFloat, "", "Repetition penalty", kNoClient)
        .on(kBenchServeVerb),
    honoured("--input-len", kInt, "", "Prompt tokens of each sequence; 32 unless given",
             MOESTRO_FIELD(bench.input_len))
        .on(Verb::kBenchLatency)
        .range(1, 1e9)
        .common(),
    honoured("--output-len", kInt, "", "Tokens to generate for each sequence; 128 unless given",
             MOESTRO_FIELD(bench.output_len))
        .on(Verb::kBenchLatency)
        .range(1, 1e9)
        .common(),
    honoured("--batch-size", kInt, "8", "Sequences run together", MOESTRO_FIELD(bench.batch_size))
        .range(1, 65536)
        .common()
        .on(Verb::kBenchLatency),
    refused("--n", kInt, "1", "Sequences per prompt", "one sequence a prompt")
        .on(Verb::kBenchLatency | Verb::kBenchThroughput),
    honoured("--num-iters-warmup", kInt, "10", "Runs before measuring",
             MOESTRO_FIELD(bench.num_iters_warmup))
        .at_least(0)
        .common()
        .on(Verb::kBenchLatency),
    honoured("--num-iters", kInt, "30", "Measured runs", MOESTRO_FIELD(bench.num_iters))
        .at_least(1)
        .common()
        .on(Verb::kBenchLatency),
    honoured("--output-json", kText, "", "File to write the result to as JSON",
             MOESTRO_FIELD(bench.output_json))
        .on(kBenchVerbs | kBenchStartupVerb | Verb::kBenchMoe)
        .common(),
    no_effect("--disable-detokenize", kSwitch, "false", "Leave out turning ids into text",
              "benchmarks never do")
        .on(kBenchVerbs),
    refused("--backend", kText, "vllm",
            "Request protocol (serve) or engine entry (throughput) to measure", "this engine only")
        .choices("vllm|hf|mii|vllm-chat")
        .on(Verb::kBenchThroughput),
    no_effect("--dataset-name", kText, "random", "Workload", kNoDataSet)
        .choices("random")
        .on(Verb::kBenchThroughput),
    refused("--dataset", kText, "", "Older name for a ShareGPT file path (deprecated)", kNoDataSet)
        .deprecated("--dataset-path")
        .on(Verb::kBenchThroughput),
    refused("--custom-output-len", kInt, "",
            "Output tokens for custom data; -1 keeps the data set's", kNoDataSet)
        .on(Verb::kBenchThroughput),
    honoured("--input-len", kInt, "",
             "Prompt tokens of each sequence; the --random flag's unless given",
             MOESTRO_FIELD(bench.input_len))
        .on(Verb::kBenchThroughput)
        .range(1, 1e9)
        .common(),
    honoured("--output-len", kInt, "",
             "Tokens to generate for each sequence; the --random flag's unless given",
             MOESTRO_FIELD(bench.output_len))
        .on(Verb::kBenchThroughput)
        .range(1, 1e9)
        .common(),
    refused("--hf-max-batch-size", kInt, "", "Batch size of the hf backend", kNoDataSet)
        .on(Verb::kBenchThroughput),
    refused("--hf-enable-torch-compile", kSwitch, "false", "Compile the hf backend", kNoDataSet)
        .on(Verb::kBenchThroughput),
    no_effect("--async-engine", kSwitch, "false", "Use the asynchronous engine",
              "there is one engine")
        .on(Verb::kBenchThroughput),
    no_effect("--prequeue-requests", kSwitch, "false",
              "Queue all requests before scheduling starts",
              "requests are queued before the first step anyway")
        .on(Verb::kBenchThroughput),
    refused("--lora-path", kText, "", "Adapter path", kNoDataSet).on(Verb::kBenchThroughput),
    refused("--prefix-len", kInt, "0", "Fixed prefix tokens", kNoDataSet)
        .on(Verb::kBenchThroughput),
    refused("--prefix-repetition-prefix-len", kInt, "", "Prefix tokens, prefix_repetition",
            kNoDataSet)
        .on(Verb::kBenchThroughput),
    refused("--prefix-repetition-suffix-len", kInt, "", "Suffix tokens, prefix_repetition",
            kNoDataSet)
        .on(Verb::kBenchThroughput),
    refused("--prefix-repetition-num-prefixes", kInt, "", "Distinct prefixes, prefix_repetition",
            kNoDataSet)
        .on(Verb::kBenchThroughput),
    refused("--prefix-repetition-output-len", kInt, "", "Output tokens, prefix_repetition",
            kNoDataSet)
        .on(Verb::kBenchThroughput),
    honoured("--shape", kText, "qwen3-30b-a3b", "Model whose MoE layer is timed",
             MOESTRO_FIELD(bench.moe_shape))
        .ours()
        .choices("glm-5|deepseek-v3|qwen3-30b-a3b|glm-4.5-air|mixtral-8x7b|gpt-oss-120b")
        .on(Verb::kBenchMoe)
        .common(),
    honoured("--tokens", kIntCsv, "1,8,32,128,512,2048", "Tokens a step, one row of the table each",
             MOESTRO_FIELD(bench.moe_tokens))
        .ours()
        .range(1, 16384)
        .on(Verb::kBenchMoe)
        .common(),
    honoured("--scheme", kCsv, "int8",
             "Schemes of the weights: f32, bf16, int8, int8-block, fp8, fp8-block, int4-g32, "
             "int4-g64, int4-g128, w4a8-g128, mxfp4, nvfp4",
             MOESTRO_FIELD(bench.moe_schemes))
        .ours()
        .on(Verb::kBenchMoe)
        .common(),
    honoured("--device", kText, "cpu", "What computes", MOESTRO_FIELD(bench.moe_device))
        .ours()
        .choices("cpu|cuda")
        .on(Verb::kBenchMoe)
        .common(),
    honoured("--all-kernels", kSwitch, "false",
             "Time every kernel that can run, in turns, and say how the planned one compares",
             MOESTRO_FIELD(bench.moe_all_kernels))
        .ours()
        .on(Verb::kBenchMoe)
        .common(),
    honoured("--num-iters", kInt, "15", "Measured runs of each row", MOESTRO_FIELD(bench.moe_iters))
        .at_least(3)
        .common()
        .on(Verb::kBenchMoe),
    refused("--num-iters-cold", kInt, "3", "Cold start iterations", kNoStartup)
        .on(Verb::kBenchStartup),
    refused("--num-iters-warmup", kInt, "1", "Warm-up iterations", kNoStartup)
        .on(Verb::kBenchStartup),
    refused("--num-iters-warm", kInt, "3", "Warm start iterations", kNoStartup)
        .on(Verb::kBenchStartup),
};

}  // namespace

FlagGroup bench_flags() { return {"bench", "Benchmarks", kBenchVerbs, kBench}; }

}  // namespace moestro::config
