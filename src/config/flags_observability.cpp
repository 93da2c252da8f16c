// Flag rows: Logs, metrics, traces. Read by flags.cpp only.
#include "config/flag_rows.h"

namespace moestro::config {
namespace {

using enum Kind;

constexpr Flag kObservability[] = {
    honoured("--enable-log-requests", kPair, "false", "Write one line per request to the log",
             MOESTRO_FIELD(log.enable_log_requests))
        .on(kFrontVerbs)
        .common(),
    no_effect("--enable-log-requests", kPair, "false", "Write one line per request to the log",
              "there are no HTTP requests")
        .on(Verb::kBenchThroughput),
    no_effect("--show-hidden-metrics-for-version", kText, "",
              "Show metrics hidden since this version", "no metric is hidden")
        .nullable(),
    refused("--otlp-traces-endpoint", kText, "", "OpenTelemetry collector address", "no tracing")
        .nullable(),
    refused("--collect-detailed-traces", kWords, "",
            "Modules traced in detail; needs the collector", "no tracing")
        .choices(
            "all|model|worker|model,worker|model,all|worker,model|worker,all|all,model|all,worker")
        .nullable(),
    refused("--kv-cache-metrics", kPair, "false",
            "Measure block lifetime, idle time and reuse gaps", "not measured yet"),
    no_effect("--kv-cache-metrics-sample", kFloat, "0.01", "Share of blocks measured",
              "see --kv-cache-metrics"),
    no_effect("--cudagraph-metrics", kPair, "false", "Report graph padding and dispatch counts",
              "no graphs"),
    refused("--enable-layerwise-nvtx-tracing", kPair, "false", "Mark each layer for Nsight",
            "CPU only; use perf"),
    refused("--enable-mfu-metrics", kPair, "false", "Estimate FLOPs and bytes per GPU",
            "not measured yet"),
    refused("--enable-logging-iteration-details", kPair, "false",
            "Log the contents and time of every step", "not measured yet"),
    no_effect("--jit-monitor-mode", kText, "warn",
              "Warn or fail when a kernel is compiled after warm-up",
              "nothing is compiled at run time")
        .choices("error|warn"),
    no_effect("--jit-monitor-verbose", kPair, "false", "Log each such compilation in full",
              "nothing is compiled at run time"),
};

}  // namespace

FlagGroup observability_flags() {
  return {"observability", "Logs and metrics", kEngineVerbs, kObservability};
}

}  // namespace moestro::config
