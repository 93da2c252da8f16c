// One function a verb. main.cpp has parsed the command line; a verb does its work, prints its
// result to stdout and returns. A Status becomes the message on stderr and the exit code.
#pragma once
#include "base/status.h"
#include "config/command_line.h"

namespace moestro::app {

Status run_serve(const config::CommandLine& line);
Status run_chat(const config::CommandLine& line);
Status run_complete(const config::CommandLine& line);
Status run_bench_latency(const config::CommandLine& line);
Status run_bench_throughput(const config::CommandLine& line);
Status run_bench_moe(const config::CommandLine& line);
Status run_explain(const config::CommandLine& line);
Status run_inspect(const config::CommandLine& line);
Status run_logits(const config::CommandLine& line);
Status run_perplexity(const config::CommandLine& line);
Status run_tokenize(const config::CommandLine& line);
Status run_render(const config::CommandLine& line);
Status run_quantize(const config::CommandLine& line);
Status run_repack(const config::CommandLine& line);
Status run_version(bool json);

}  // namespace moestro::app
