// Flag rows: HTTP server and OpenAI API. Read by flags.cpp only.
#include "config/flag_rows.h"

namespace moestro::config {
namespace {

using enum Kind;

constexpr Flag kFrontend[] = {
    honoured("--max-connections", kInt, "4096", "Most open connections",
             MOESTRO_FIELD(server.max_connections))
        .ours()
        .range(1, 1e6),
    honoured("--max-body-bytes", kHumanInt, "33554432", "Longest request body",
             MOESTRO_FIELD(server.max_body_bytes))
        .ours()
        .range(1024, 1ll << 40),
    honoured("--max-json-depth", kInt, "64", "Deepest nesting of a request's JSON",
             MOESTRO_FIELD(server.max_json_depth))
        .ours()
        .range(4, 512),
    honoured("--request-timeout", kFloat, "0", "Seconds a request may take in all; 0 is no limit",
             MOESTRO_FIELD(server.request_timeout_s))
        .ours()
        .at_least(0),
    honoured("--read-timeout", kFloat, "30", "Seconds a client may take to send its request",
             MOESTRO_FIELD(server.read_timeout_s))
        .ours()
        .range(0.1, 1e6),
    honoured("--write-timeout", kFloat, "60", "Seconds a client may leave its answer untaken",
             MOESTRO_FIELD(server.write_timeout_s))
        .ours()
        .range(0.1, 1e6),
    honoured("--keep-alive-timeout", kFloat, "75", "Seconds an idle connection stays open",
             MOESTRO_FIELD(server.keep_alive_timeout_s))
        .ours()
        .range(0.1, 1e6),
    honoured("--io-threads", kInt, "1", "Threads that serve connections",
             MOESTRO_FIELD(server.io_threads))
        .ours()
        .range(1, 64),
    refused("--lora-modules", kWords, "",
            "Adapters to register at start, each name=path or a JSON object",
            "adapters are not supported")
        .nullable()
        .on(kFrontVerbs),
    honoured("--chat-template", kText, "",
             "Chat template in place of the model's: a file, or the Jinja text",
             MOESTRO_FIELD(server.chat_template))
        .on(kFrontVerbs | Verb::kChat)
        .nullable()
        .common(),
    honoured("--chat-template-content-format", kText, "auto",
             "Hand message content to the template as text (string) or as a list of parts (openai)",
             MOESTRO_FIELD(server.chat_template_content_format))
        .choices("auto|openai|string")
        .on(kFrontVerbs),
    honoured("--trust-request-chat-template", kPair, "false",
             "Let a request bring its own chat template",
             MOESTRO_FIELD(server.trust_request_chat_template))
        .on(kFrontVerbs),
    honoured("--default-chat-template-kwargs", kJson, "",
             "Template variables that hold unless a request sets them",
             MOESTRO_FIELD(server.default_chat_template_kwargs))
        .on(kFrontVerbs | Verb::kChat),
    honoured("--response-role", kText, "assistant", "Role of the messages the server writes",
             MOESTRO_FIELD(server.response_role))
        .on(kFrontVerbs),
    honoured("--return-tokens-as-token-ids", kPair, "false",
             "Write tokens in logprobs as token_id:N",
             MOESTRO_FIELD(server.return_tokens_as_token_ids))
        .on(kFrontVerbs),
    honoured("--enable-auto-tool-choice", kPair, "false",
             "Read tool calls out of answers to tool_choice=auto; without --tool-call-parser the "
             "model's own format",
             MOESTRO_FIELD(server.enable_auto_tool_choice))
        .on(kFrontVerbs),
    honoured("--exclude-tools-when-tool-choice-none", kPair, "false",
             "Hide the tools from the template when tool_choice is none",
             MOESTRO_FIELD(server.exclude_tools_when_tool_choice_none))
        .on(kFrontVerbs),
    honoured("--tool-call-parser", kText, "",
             "Name of the parser that turns model text into tool calls, or auto: the model's own",
             MOESTRO_FIELD(server.tool_call_parser))
        .nullable()
        .on(kFrontVerbs),
    refused("--tool-parser-plugin", kText, "", "Python file that registers further tool parsers",
            "Python plugins cannot be loaded")
        .on(kFrontVerbs),
    refused("--tool-server", kText, "",
            "Comma-separated host:port list of tool servers, or demo for built-in tools",
            "no built-in tools")
        .nullable()
        .on(kFrontVerbs),
    refused("--log-config-file", kText, "",
            "JSON logging configuration file; default comes from VLLM_LOGGING_CONFIG_PATH",
            "use --log-level and --log-json")
        .nullable()
        .on(kFrontVerbs),
    honoured("--max-log-len", kInt, "",
             "Cut prompts and answers in the log after so many characters; 1024 unless given",
             MOESTRO_FIELD(log.max_log_len))
        .at_least(0)
        .nullable()
        .on(kFrontVerbs),
    honoured("--enable-prompt-tokens-details", kPair, "false",
             "Put the number of cached tokens into usage",
             MOESTRO_FIELD(server.enable_prompt_tokens_details))
        .on(kFrontVerbs),
    refused("--enable-per-request-metrics", kPair, "false",
            "Add timing numbers to each response; conflicts with --disable-log-stats",
            "not built yet; /metrics has the sums")
        .on(kFrontVerbs),
    honoured("--enable-server-load-tracking", kPair, "false", "Count requests in flight at /load",
             MOESTRO_FIELD(server.enable_server_load_tracking))
        .on(kFrontVerbs),
    honoured("--enable-force-include-usage", kPair, "false",
             "Send usage with every answer, streams too",
             MOESTRO_FIELD(server.enable_force_include_usage))
        .on(kFrontVerbs),
    refused("--enable-tokenizer-info-endpoint", kPair, "false", "Offer /tokenizer_info",
            "there is no such endpoint")
        .on(kFrontVerbs),
    honoured("--enable-log-outputs", kPair, "false",
             "Log answers as well; needs --enable-log-requests",
             MOESTRO_FIELD(log.enable_log_outputs))
        .on(kFrontVerbs),
    no_effect("--enable-log-deltas", kPair, "true",
              "With output logging, also log every streamed piece",
              "answers are logged once, whole")
        .on(kFrontVerbs),
    no_effect("--cohere-is-reasoning-model", kPair, "true",
              "Cohere chat endpoint: show reasoning as thinking blocks (off: as tool plan)",
              "no Cohere endpoint")
        .on(kFrontVerbs),
    no_effect("--cohere-format", kText, "cmd4", "Cohere tokenizer mode: prompt format cmd4 or cmd3",
              "no Cohere endpoint")
        .on(kFrontVerbs),
    no_effect("--log-error-stack", kPair, "false",
              "Log stack traces of error responses; default follows VLLM_SERVER_DEV_MODE",
              "errors carry a message that names value and limit instead")
        .on(kFrontVerbs),
    refused("--tokens-only", kPair, "false",
            "Serve only the token-in, token-out endpoint (disaggregated deployments)",
            "the whole API is served")
        .on(kFrontVerbs),
    honoured("--fingerprint-mode", kText, "full",
             "What system_fingerprint tells: version and plan, version only, a fixed text, nothing",
             MOESTRO_FIELD(server.fingerprint_mode))
        .choices("custom|full|hash|none")
        .on(kFrontVerbs),
    honoured("--fingerprint-value", kText, "", "The text of --fingerprint-mode custom",
             MOESTRO_FIELD(server.fingerprint_value))
        .nullable()
        .on(kFrontVerbs),
    honoured("--host", kText, "127.0.0.1",
             "Address to listen on; 127.0.0.1 unless given, 0.0.0.0 for every interface",
             MOESTRO_FIELD(server.host))
        .common()
        .nullable(),
    honoured("--port", kInt, "8000", "TCP port; 0 takes a free one", MOESTRO_FIELD(server.port))
        .range(0, 65535)
        .common(),
    no_effect("--data-parallel-supervisor-port", kInt, "9256",
              "Port of the combined health endpoints in multi-port external balancing",
              "no data-parallel supervisor"),
    no_effect("--dp-supervisor-probe-interval-s", kFloat, "5",
              "Seconds between health probes of child servers", "no data-parallel supervisor"),
    no_effect("--dp-supervisor-probe-timeout-s", kFloat, "5",
              "Seconds between retries after a failed child probe", "no data-parallel supervisor"),
    no_effect("--dp-supervisor-probe-failure-threshold", kInt, "3",
              "Connection failures in a row before a child counts as dead",
              "no data-parallel supervisor"),
    honoured("--uds", kText, "", "Listen on this Unix socket instead of TCP",
             MOESTRO_FIELD(server.uds))
        .nullable(),
    no_effect("--uvicorn-log-level", kText, "info", "Log level of the HTTP server",
              "use --log-level")
        .choices("critical|debug|error|info|trace|warning"),
    honoured("--disable-uvicorn-access-log", kPair, "false", "No log line per HTTP request",
             MOESTRO_FIELD(log.disable_access_log)),
    honoured("--disable-access-log-for-endpoints", kCsv, "",
             "Paths whose requests are not logged, comma-separated",
             MOESTRO_FIELD(log.disable_access_log_for))
        .nullable(),
    honoured("--allow-credentials", kPair, "false", "CORS: allow credentials",
             MOESTRO_FIELD(server.allow_credentials)),
    honoured("--allowed-origins", kJson, "[\"*\"]", "CORS: origins as a JSON array",
             MOESTRO_FIELD(server.allowed_origins)),
    honoured("--allowed-methods", kJson, "[\"*\"]", "CORS: methods as a JSON array",
             MOESTRO_FIELD(server.allowed_methods)),
    honoured("--allowed-headers", kJson, "[\"*\"]", "CORS: headers as a JSON array",
             MOESTRO_FIELD(server.allowed_headers)),
    honoured("--api-key", kWords, "", "Bearer keys; a request to /v1 needs one of them",
             MOESTRO_FIELD(server.api_keys))
        .secret()
        .common(),
    refused("--ssl-keyfile", kText, "", "TLS private key file", "no TLS; put a proxy in front")
        .nullable(),
    refused("--ssl-certfile", kText, "", "TLS certificate file", "no TLS; put a proxy in front")
        .nullable(),
    refused("--ssl-ca-certs", kText, "", "TLS CA bundle", "no TLS; put a proxy in front")
        .nullable(),
    refused("--enable-ssl-refresh", kPair, "false", "Reload TLS files when they change",
            "no TLS; put a proxy in front"),
    refused("--ssl-cert-reqs", kInt, "0",
            "Client certificate policy: 0 none, 1 optional, 2 required",
            "no TLS; put a proxy in front"),
    refused("--ssl-ciphers", kText, "", "Cipher list for TLS 1.2 and older",
            "no TLS; put a proxy in front")
        .nullable(),
    honoured("--root-path", kText, "", "Prefix that a proxy leaves in front of the path",
             MOESTRO_FIELD(server.root_path))
        .nullable(),
    refused("--middleware", kAppend, "", "Import path of an ASGI middleware; repeat to add more",
            "Python middleware cannot be loaded"),
    no_effect("--enable-request-id-headers", kPair, "false", "Answer with X-Request-Id",
              "it is always sent"),
    no_effect("--disable-fastapi-docs", kPair, "false",
              "Remove the OpenAPI and documentation pages", "no documentation pages are served"),
    honoured("--h11-max-incomplete-event-size", kInt, "65536",
             "Most bytes of request line and headers; 65536 unless given",
             MOESTRO_FIELD(server.max_header_bytes))
        .range(1024, 1 << 30),
    honoured("--h11-max-header-count", kInt, "256", "Most header lines of a request",
             MOESTRO_FIELD(server.max_header_count))
        .range(1, 65536),
    no_effect("--enable-offline-docs", kPair, "false",
              "Serve documentation pages from bundled assets", "no documentation pages are served"),
    no_effect("--enable-flash-late-interaction", kPair, "true",
              "Compute late-interaction (MaxSim) scores on the GPU from the API process",
              "no scoring models"),
};

constexpr Flag kStructuredOutputs[] = {
    honoured(
        "--reasoning-parser", kText, "",
        "Name of the parser that separates reasoning from the answer, or auto: the model's own",
        MOESTRO_FIELD(server.reasoning_parser)),
    refused("--reasoning-parser-plugin", kText, "",
            "Python file that registers further reasoning parsers",
            "Python plugins cannot be loaded"),
};

}  // namespace

FlagGroup frontend_flags() { return {"frontend", "HTTP server", kServeVerbs, kFrontend}; }
FlagGroup structured_outputs_flags() {
  return {"structured-outputs", "Reasoning", kEngineVerbs, kStructuredOutputs};
}

}  // namespace moestro::config
