// Every setting of moestro as plain data, one struct a concern, gathered in Options. Filled once at
// start by config::parse_command_line (flag table: config/flags.h), then read only. std::nullopt
// means "not given: whoever uses it decides".
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace moestro::config {

// Which model, and how its files are read.
struct ModelOptions {
  std::string model;                          // directory; empty: the built-in demo model
  std::optional<std::string> tokenizer;       // another directory for tokenizer files
  std::optional<std::string> hf_config_path;  // another directory for config.json
  std::string dtype = "auto";                 // auto, bfloat16, float32 (float), float16 (half)
  std::optional<std::string> quantization;    // must agree with what the checkpoint declares
  std::string load_format = "auto";           // auto, safetensors, dummy
  json::object hf_overrides;                  // merged into config.json
  std::string generation_config =
      "auto";  // auto: the model's, vllm: engine defaults, or a directory
  json::object override_generation_config;
  std::optional<int64_t> max_model_len;  // tokens; -1: the most that fits the KV cache
  int64_t max_logprobs = 20;             // -1: no limit
  int64_t seed = 0;
  bool show_load_progress = true;
  std::string packed_cache = "auto";      // of moestro repack: auto, none, or a directory
  std::string packed_cache_mode = "map";  // map, copy
};

// KV cache.
struct CacheOptions {
  std::optional<int64_t> block_size;  // tokens a page
  std::optional<int64_t> kv_cache_memory_bytes;
  double memory_utilization = 0.92;  // upper share of the memory that weights and KV cache may take
  std::string kv_cache_dtype = "auto";        // auto, bfloat16, float32
  std::optional<int64_t> num_pages;           // --num-gpu-blocks-override
  std::optional<bool> enable_prefix_caching;  // unset: on
};

struct SchedulerOptions {
  std::optional<int64_t> max_num_batched_tokens;  // tokens of one step
  std::optional<int64_t> max_num_seqs;            // running requests
  int64_t max_waiting = 1024;                     // queued requests before the server answers 429
  std::optional<bool> enable_chunked_prefill;     // unset: on
  int64_t long_prefill_token_threshold = 0;       // tokens of one prompt in a step; 0: no limit
  std::string policy = "fcfs";                    // fcfs, priority
  // What running requests get when the server is told to stop; unset: kDefaultDrainSeconds.
  std::optional<int64_t> shutdown_timeout_s;
};

// Ranks and threads. One rank runs today: other sizes are refused while parsing, but explain plans
// them.
struct ParallelOptions {
  int64_t tensor_parallel_size = 1;
  int64_t data_parallel_size = 1;
  int64_t pipeline_parallel_size = 1;
  bool expert_parallel = false;
  std::string all2all_backend = "allgather_reducescatter";  // vLLM's name
  std::string expert_placement = "linear";                  // or round_robin
  std::optional<int64_t> threads;  // unset: every processor this process may use
  bool pin_threads = true;
};

// Which kernels may be chosen, for experts and for everything else.
struct MoeOptions {
  std::string isa = "auto";  // auto: what the processor has; else a comma list that limits it
  std::vector<std::string> kernels;      // "op=name", force one kernel of an op
  std::string kernel_table = "measure";  // measured times: measure, none, or the file to keep them
  bool strict = false;                   // a substitution is an error
};

// HTTP front end.
struct ServerOptions {
  std::string host = "127.0.0.1";
  int64_t port = 8000;                   // 0: any free port
  std::optional<std::string> uds;        // serve on this Unix socket instead
  std::vector<std::string> api_keys;     // any of them is accepted as bearer key; empty: open
  std::optional<std::string> root_path;  // URL prefix to strip
  std::vector<std::string>
      served_model_names;          // empty: the model's own name; the first one is reported
  bool allow_credentials = false;  // CORS
  std::vector<std::string> allowed_origins = {"*"};
  std::vector<std::string> allowed_methods = {"*"};
  std::vector<std::string> allowed_headers = {"*"};

  std::optional<std::string> chat_template;           // a file, or the template text
  std::string chat_template_content_format = "auto";  // auto, openai, string
  json::object default_chat_template_kwargs;
  bool trust_request_chat_template = false;
  std::string response_role = "assistant";
  bool exclude_tools_when_tool_choice_none = false;
  bool enable_auto_tool_choice = false;
  std::optional<std::string> tool_call_parser;  // a name, or auto: by the model
  std::string reasoning_parser;                 // a name, or auto; empty: none but for gpt-oss
  bool return_tokens_as_token_ids = false;
  bool enable_prompt_tokens_details = false;
  bool enable_force_include_usage = false;
  bool enable_server_load_tracking = false;
  std::string fingerprint_mode = "full";  // full, hash, custom, none
  std::optional<std::string> fingerprint_value;

  // Limits. Bodies, headers and JSON above them are refused with 413, 431 and 400.
  int64_t max_body_bytes = 32ll << 20;
  int64_t max_header_bytes = 64ll << 10;
  int64_t max_header_count = 256;
  int64_t max_json_depth = 64;
  int64_t max_connections = 4096;
  double request_timeout_s = 0;      // whole request; 0: none
  double read_timeout_s = 30;        // a client that sends its request too slowly
  double write_timeout_s = 60;       // a client that does not take its answer
  double keep_alive_timeout_s = 75;  // an idle connection
  int64_t io_threads = 1;
  int64_t text_threads = 2;  // templates, tokenizing, JSON (--renderer-num-workers)
};

struct LogOptions {
  std::string level = "info";  // debug, info, warning, error, off
  bool json = false;           // one JSON object a line
  bool enable_log_requests = false;
  bool enable_log_outputs = false;
  std::optional<int64_t> max_log_len;  // characters of a prompt or output in the log
  bool disable_log_stats = false;
  bool disable_access_log = false;
  std::vector<std::string> disable_access_log_for;  // paths
};

// chat and complete.
struct GenerateOptions {
  std::optional<std::string> prompt;  // complete: --prompt, chat: --quick
  std::vector<int64_t> prompt_ids;
  std::optional<std::string> system_prompt;
  std::optional<int64_t> max_tokens;  // unset: 256 for complete, up to the context for chat
  std::optional<double> temperature, top_p, min_p;
  std::optional<int64_t> top_k;
  std::optional<double> presence_penalty, frequency_penalty, repetition_penalty;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  bool stats = false;  // print time to first token and tokens per second
};

// bench latency, bench throughput.
struct BenchOptions {
  std::optional<int64_t> input_len,
      output_len;  // tokens; latency 32 / 128, throughput the data set's
  int64_t batch_size = 8;
  int64_t num_iters = 30;
  int64_t num_iters_warmup = 10;
  int64_t num_prompts = 1000;
  int64_t num_warmups = 0;
  int64_t random_input_len = 1024;
  int64_t random_output_len = 128;
  double random_range_ratio = 0;
  int64_t random_prefix_len = 0;
  std::optional<std::string> output_json;  // result file
  // bench moe
  std::string moe_shape = "qwen3-30b-a3b", moe_device = "cpu";
  std::vector<int64_t> moe_tokens{1, 8, 32, 128, 512, 2048};
  std::vector<std::string> moe_schemes{"int8"};
  bool moe_all_kernels = false;
  int64_t moe_iters = 15;
};

// logits, perplexity, explain, inspect, quantize, repack.
struct ToolOptions {
  std::optional<std::string> hardware;  // explain: a machine description
  std::vector<std::string> diff;        // explain: two command lines
  // logits: prompts in, safetensors out; tokenize: lines in, lines out; render: a conversation in
  std::optional<std::string> input, output;
  std::optional<std::string> tokens;  // perplexity: safetensors file
  std::string tensor_name = "eval.text";
  // quantize
  std::optional<std::string> out, scheme;
  std::vector<std::string> ignore;  // modules that stay, beside the default list
  int64_t max_shard_size = 5'000'000'000;
  bool verify = false;  // repack: check, do not write
};

struct Options {
  ModelOptions model;
  CacheOptions cache;
  SchedulerOptions scheduler;
  ParallelOptions parallel;
  MoeOptions moe;
  ServerOptions server;
  LogOptions log;
  GenerateOptions generate;
  BenchOptions bench;
  ToolOptions tool;
  bool json = false;  // exactly one line of JSON on stdout
};

inline constexpr int64_t kDefaultDrainSeconds = 30;

}  // namespace moestro::config
