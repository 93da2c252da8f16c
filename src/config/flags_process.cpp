// Flag rows: What runs, and how it talks: model argument, config file, output. Read by flags.cpp
// only.
#include "config/flag_rows.h"

namespace moestro::config {
namespace {

using enum Kind;

constexpr Flag kGeneral[] = {
    honoured("--json", kSwitch, "false", "Print the result as one line of JSON",
             MOESTRO_FIELD(json))
        .ours()
        .common(),
    honoured("--log-level", kText, "info", "Least important lines that are logged",
             MOESTRO_FIELD(log.level))
        .ours()
        .choices("debug|info|warning|error|off")
        .common(),
    honoured("--log-json", kPair, "false", "Log lines as JSON objects", MOESTRO_FIELD(log.json))
        .ours(),
};

constexpr Flag kProcess[] = {
    honoured("--config", kText, "",
             "YAML file of flags: --max-model-len 4k is the line max-model-len: 4k; the command "
             "line wins",
             nullptr)
        .on(kEngineVerbs)
        .common(),
    honoured("MODEL", kText, "",
             "Directory with config.json and safetensors files; without it the built-in demo model",
             MOESTRO_FIELD(model.model))
        .on(kModelVerbs | Verb::kQuantize | Verb::kTokenize | Verb::kRender)
        .common()
        .nullable(),
    refused("--headless", kSwitch, "false",
            "Start only engine processes on this node, no HTTP server (secondary nodes of a "
            "multi-node group)",
            "one machine only"),
    no_effect("--api-server-count -asc", kInt, "",
              "Number of HTTP front-end processes; unset means the data-parallel size (local size "
              "in hybrid mode, 1 in external mode, 0 when headless)",
              "one process serves all connections; see --io-threads"),
    refused("--grpc", kSwitch, "false",
            "Serve the gRPC protocol instead of HTTP (optional package)", "HTTP only"),
    honoured("--disable-log-stats", kSwitch, "false",
             "Leave out the line of throughput and cache numbers every ten seconds",
             MOESTRO_FIELD(log.disable_log_stats))
        .on(kEngineVerbs),
    no_effect("--aggregate-engine-logging", kSwitch, "false",
              "With data parallel, print one summed statistics line instead of one per engine",
              "there is one engine")
        .on(kEngineVerbs),
    no_effect("--fail-on-environ-validation", kPair, "false",
              "Treat unknown or bad VLLM_* environment variables as errors",
              "no environment variable changes what happens")
        .on(kEngineVerbs),
    honoured("--shutdown-timeout", kInt, "",
             "Seconds that running requests get when the server is told to stop; unset is 30, and "
             "0 cancels them at once",
             MOESTRO_FIELD(scheduler.shutdown_timeout_s))
        .at_least(0)
        .on(kEngineVerbs),
    no_effect("--gdn-prefill-backend", kText, "",
              "Prefill kernel for gated-delta-net layers; unset picks by platform",
              "no model with such layers is served")
        .choices("flashinfer|triton|cutedsl")
        .on(kEngineVerbs),
    no_effect("--kda-prefill-backend", kText, "",
              "Prefill kernel for Kimi delta-attention layers; unset picks by platform",
              "no model with such layers is served")
        .choices("auto|triton|flashkda")
        .on(kEngineVerbs),
};

}  // namespace

FlagGroup general_flags() {
  return {"general", "General",
          kModelVerbs | Verb::kBenchMoe | Verb::kQuantize | Verb::kTokenize | Verb::kRender,
          kGeneral};
}
FlagGroup process_flags() { return {"process", "Process", kServeVerbs, kProcess}; }

}  // namespace moestro::config
