// Flag rows: Which requests share a step. Read by flags.cpp only.
#include "config/flag_rows.h"

namespace moestro::config {
namespace {

using enum Kind;

constexpr Flag kScheduler[] = {
    honoured("--max-queued-requests", kInt, "1024",
             "Requests that may wait; more are answered with 429",
             MOESTRO_FIELD(scheduler.max_waiting))
        .ours()
        .range(1, 1e6)
        .common(),
    honoured("--max-num-batched-tokens", kHumanInt, "", "Most tokens computed in one step",
             MOESTRO_FIELD(scheduler.max_num_batched_tokens))
        .at_least(1)
        .common(),
    refused(
        "--max-num-scheduled-tokens", kHumanInt, "",
        "Tokens the scheduler may hand out per step when drafts add more; unset equals the budget",
        "use --max-num-batched-tokens")
        .nullable(),
    honoured("--max-num-seqs", kInt, "", "Most requests that run at once",
             MOESTRO_FIELD(scheduler.max_num_seqs))
        .range(1, 65536)
        .common(),
    honoured("--long-prefill-token-threshold", kInt, "0",
             "Most tokens of one prompt in a step, which leaves room for others; 0 is no limit",
             MOESTRO_FIELD(scheduler.long_prefill_token_threshold))
        .range(0, 2147483647),
    honoured("--scheduling-policy", kText, "fcfs",
             "Who runs first and is preempted last: the first to arrive, or by each request's "
             "priority (lower is first)",
             MOESTRO_FIELD(scheduler.policy))
        .choices("fcfs|priority"),
    honoured("--enable-chunked-prefill", kPair, "",
             "Split a long prompt over steps; on unless switched off",
             MOESTRO_FIELD(scheduler.enable_chunked_prefill)),
    no_effect("--disable-chunked-mm-input", kPair, "false",
              "Never split one media item over two steps", "text models only"),
    refused("--scheduler-cls", kText, "", "Scheduler class path", "Python classes cannot be loaded")
        .nullable(),
    refused("--scheduler-reserve-full-isl", kPair, "true",
            "Admit a request only if its whole prompt fits in free cache",
            "a prompt that did not fit would be thrown out half done"),
    refused("--watermark", kFloat, "0", "Share of cache pages kept free on admission",
            "admission keeps free what running requests need for their next 16 tokens"),
    refused("--prefill-schedule-interval", kInt, "1",
            "Admit new prompts every N steps, aligned over data-parallel ranks", "not built yet"),
    no_effect("--disable-hybrid-kv-cache-manager", kPair, "",
              "One cache layout for all layers; unset decides by model and connectors",
              "one cache layout"),
    no_effect("--async-scheduling", kPair, "",
              "Schedule the next step while the device works; unset is on where supported",
              "the engine decides"),
    refused("--stream-interval", kInt, "1", "Tokens gathered before a stream message",
            "every token is sent as it comes"),
};

}  // namespace

FlagGroup scheduler_flags() { return {"scheduler", "Scheduler", kEngineVerbs, kScheduler}; }

}  // namespace moestro::config
