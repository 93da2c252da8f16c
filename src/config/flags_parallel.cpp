// Flag rows: Threads, ranks and expert parallelism. Read by flags.cpp only.
#include "config/flag_rows.h"

namespace moestro::config {
namespace {

using enum Kind;

constexpr Flag kParallel[] = {
    honoured("--threads", kInt, "",
             "Threads that compute; unset: one for each processor this process may use",
             MOESTRO_FIELD(parallel.threads))
        .ours()
        .on(kEngineVerbs | Verb::kBenchMoe | Verb::kQuantize)
        .range(1, 1024)
        .common(),
    honoured("--pin-threads", kPair, "true", "Bind each of them to a processor",
             MOESTRO_FIELD(parallel.pin_threads))
        .on(kEngineVerbs | Verb::kBenchMoe)
        .ours(),
    no_effect("--distributed-executor-backend", kText, "",
              "How workers are started: one process, multiprocessing, Ray, external launcher, or a "
              "class path; unset decides from world size",
              "with one rank nothing is exchanged")
        .nullable(),
    refused("--pipeline-parallel-size -pp", kInt, "1", "Number of pipeline stages",
            "one rank so far", MOESTRO_FIELD(parallel.pipeline_parallel_size)),
    no_effect("--master-addr", kText, "127.0.0.1",
              "Address of the first node for multi-node multiprocessing",
              "with one rank nothing is exchanged"),
    no_effect("--master-port", kInt, "29501",
              "Port of the first node for multi-node multiprocessing",
              "with one rank nothing is exchanged"),
    refused("--nnodes -n", kInt, "1", "Number of nodes for multi-node multiprocessing",
            "one machine only"),
    refused("--node-rank -r", kInt, "0", "Index of this node", "one machine only"),
    no_effect("--distributed-timeout-seconds", kInt, "",
              "Time limit of device collectives; unset uses the library's",
              "with one rank nothing is exchanged")
        .nullable(),
    no_effect("--cpu-distributed-timeout-seconds", kInt, "", "Time limit of CPU (Gloo) collectives",
              "with one rank nothing is exchanged")
        .nullable(),
    no_effect("--numa-bind", kPair, "false", "Pin each GPU worker to its NUMA node",
              "threads are pinned; see --pin-threads"),
    refused("--numa-bind-nodes", kInts, "", "NUMA node for each visible GPU",
            "use taskset or numactl; --threads follows the affinity mask")
        .nullable(),
    refused("--numa-bind-cpus", kWords, "", "CPU list for each visible GPU, instead of whole nodes",
            "use taskset or numactl; --threads follows the affinity mask")
        .nullable(),
    refused("--device-ids", kCsv, "",
            "Comma-separated GPU indices or UUIDs to use; ignored under Ray",
            "models run on the CPU"),
    refused("--tensor-parallel-size -tp", kInt, "1", "Number of tensor-parallel ranks",
            "one rank so far; explain plans more", MOESTRO_FIELD(parallel.tensor_parallel_size))
        .range(1, 1024),
    refused("--decode-context-parallel-size -dcp", kInt, "1",
            "Ranks that share the KV cache along the sequence in decode; reuses tensor ranks, adds "
            "no processes",
            "one rank so far"),
    no_effect("--dcp-comm-backend", kText, "ag_rs",
              "Exchange used by decode context parallel: gather+scatter or all-to-all",
              "with one rank nothing is exchanged")
        .choices("a2a|ag_rs"),
    no_effect("--dcp-kv-cache-interleave-size", kInt, "1",
              "Older name of --cp-kv-cache-interleave-size", "with one rank nothing is exchanged")
        .deprecated("--cp-kv-cache-interleave-size"),
    no_effect("--cp-kv-cache-interleave-size", kInt, "1",
              "Consecutive tokens stored on one context-parallel rank before the next",
              "with one rank nothing is exchanged"),
    refused("--prefill-context-parallel-size -pcp", kInt, "1",
            "Ranks that split a prompt in prefill", "one rank so far"),
    refused("--data-parallel-size -dp", kInt, "1",
            "Number of engine replicas; with experts they form one expert-parallel group",
            "one rank so far; explain plans more", MOESTRO_FIELD(parallel.data_parallel_size))
        .range(1, 1024),
    refused("--data-parallel-rank -dpn", kInt, "",
            "Rank of this instance; setting it selects external load balancing", "one rank so far"),
    refused("--data-parallel-start-rank -dpr", kInt, "",
            "First rank on a secondary node; setting it selects hybrid balancing",
            "one rank so far"),
    refused("--data-parallel-size-local -dpl", kInt, "", "Replicas run on this node",
            "one rank so far"),
    no_effect("--data-parallel-address -dpa", kText, "",
              "Address of the head node of the data-parallel group",
              "with one rank nothing is exchanged"),
    no_effect("--data-parallel-rpc-port -dpp", kInt, "",
              "Port for data-parallel control messages; unset uses 29550",
              "with one rank nothing is exchanged"),
    no_effect("--data-parallel-backend -dpb", kText, "mp", "How replicas are started: mp or ray",
              "with one rank nothing is exchanged"),
    refused("--data-parallel-hybrid-lb -dph", kPair, "false",
            "Balance inside each node, external balancer between nodes", "one rank so far"),
    refused("--data-parallel-external-lb -dpe", kPair, "false",
            "One endpoint per rank behind an external balancer", "one rank so far"),
    refused("--data-parallel-multi-port-external-lb -dpm", kSwitch, "false",
            "A supervisor starts one server per local rank and reports joint health",
            "one rank so far"),
    no_effect(
        "--enable-expert-parallel -ep", kPair, "false",
        "Spread experts over all tensor, data and prefill-context ranks instead of slicing each",
        "one rank holds every expert; explain plans more")
        .planned(MOESTRO_FIELD(parallel.expert_parallel)),
    no_effect("--enable-ep-weight-filter", kPair, "false",
              "Read only this rank's experts from disk", "with one rank nothing is exchanged"),
    no_effect("--all2all-backend", kText, "allgather_reducescatter",
              "Token exchange for expert parallel",
              "with one rank nothing is exchanged; explain plans more")
        .planned(MOESTRO_FIELD(parallel.all2all_backend))
        .choices("allgather_reducescatter|deepep_high_throughput|deepep_low_latency|deepep_v2|"
                 "flashinfer_all2allv|flashinfer_nvlink_one_sided|flashinfer_nvlink_two_sided|mori_"
                 "high_throughput|mori_low_latency|naive|nixl_ep|pplx"),
    refused("--enable-dbo", kPair, "false",
            "Overlap compute and communication with two micro-batches",
            "with one rank there is no communication to overlap"),
    refused("--ubatch-size", kInt, "0", "Number of micro-batches; 0 leaves it to --enable-dbo",
            "with one rank there is no communication to overlap"),
    refused("--enable-elastic-ep", kPair, "false",
            "Allow changing the number of expert-parallel ranks at run time", "one rank so far"),
    no_effect("--dbo-decode-token-threshold", kInt, "32",
              "Smallest decode batch that is split into micro-batches", "see --enable-dbo"),
    no_effect("--dbo-prefill-token-threshold", kInt, "512",
              "Smallest batch with prefill that is split into micro-batches", "see --enable-dbo"),
    no_effect("--disable-nccl-for-dp-synchronization", kPair, "",
              "Synchronize replicas over Gloo; unset means on with async scheduling",
              "with one rank nothing is exchanged"),
    refused("--enable-eplb", kPair, "false", "Rebalance experts at run time", "one rank so far"),
    refused("--eplb-config", kJson, "{}", "Settings of expert rebalancing", "one rank so far")
        .keys("window_size|step_interval|num_redundant_experts|log_balancedness|log_balancedness_"
              "interval|use_async|policy|communicator"),
    no_effect("--expert-placement-strategy", kText, "linear",
              "Expert to rank layout: contiguous blocks or round-robin",
              "with one rank nothing is exchanged; explain plans more")
        .planned(MOESTRO_FIELD(parallel.expert_placement))
        .choices("linear|round_robin"),
    no_effect("--max-parallel-loading-workers", kInt, "",
              "Load weights in batches of this many workers; accepted but ignored with a warning",
              "with one rank nothing is exchanged")
        .nullable(),
    no_effect("--ray-workers-use-nsight", kPair, "false", "Profile Ray workers with Nsight",
              "no Ray"),
    no_effect("--disable-custom-all-reduce", kPair, "false",
              "Use NCCL rather than the custom all-reduce kernel",
              "with one rank nothing is exchanged"),
    refused("--worker-cls", kText, "auto", "Worker class path; auto picks by platform",
            "Python classes cannot be loaded"),
    refused("--worker-extension-cls", kText, "",
            "Class mixed into the worker for extra RPC methods", "Python classes cannot be loaded"),
    refused("--enable-fault-tolerance", kPair, "false", "Detect and recover from failed ranks",
            "one rank so far"),
    refused("--fault-tolerance-config", kJson, "{}",
            "Settings of recovery; giving it turns fault tolerance on", "one rank so far")
        .keys("engine_recovery_timeout_sec"),
};

}  // namespace

FlagGroup parallel_flags() { return {"parallel", "Threads and ranks", kEngineVerbs, kParallel}; }

}  // namespace moestro::config
