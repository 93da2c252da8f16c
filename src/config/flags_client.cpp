// Flag rows: chat, complete, run-batch, logits, perplexity: what is special to each. Read by
// flags.cpp only.
#include "config/flag_rows.h"

namespace moestro::config {
namespace {

using enum Kind;

constexpr Flag kClient[] = {
    honoured("--prompt", kText, "", "Text to complete", MOESTRO_FIELD(generate.prompt))
        .on(Verb::kComplete)
        .ours()
        .common(),
    honoured("--prompt-ids", kIntCsv, "", "Token ids to complete, comma-separated",
             MOESTRO_FIELD(generate.prompt_ids))
        .on(Verb::kComplete)
        .ours()
        .common(),
    honoured("--temperature", kFloat, "", "0 takes the likeliest token; unset: the model's default",
             MOESTRO_FIELD(generate.temperature))
        .on(kGenerateVerbs)
        .ours()
        .range(0, 100)
        .common(),
    honoured("--top-p", kFloat, "",
             "Sample from the likeliest tokens that together have this probability",
             MOESTRO_FIELD(generate.top_p))
        .on(kGenerateVerbs)
        .ours()
        .range(0, 1),
    honoured("--top-k", kInt, "", "Sample from this many tokens; 0 is all",
             MOESTRO_FIELD(generate.top_k))
        .on(kGenerateVerbs)
        .ours()
        .at_least(-1),
    honoured("--min-p", kFloat, "", "Leave out tokens less likely than this share of the best",
             MOESTRO_FIELD(generate.min_p))
        .on(kGenerateVerbs)
        .ours()
        .range(0, 1),
    honoured("--presence-penalty", kFloat, "",
             "Taken from the logit of every token already written",
             MOESTRO_FIELD(generate.presence_penalty))
        .on(kGenerateVerbs)
        .ours()
        .range(-2, 2),
    honoured("--frequency-penalty", kFloat, "", "The same, times how often it was written",
             MOESTRO_FIELD(generate.frequency_penalty))
        .on(kGenerateVerbs)
        .ours()
        .range(-2, 2),
    honoured("--repetition-penalty", kFloat, "",
             "Divides the logits of tokens in prompt and answer",
             MOESTRO_FIELD(generate.repetition_penalty))
        .on(kGenerateVerbs)
        .ours()
        .range(0.01, 100),
    honoured("--stop", kAppend, "", "Text that ends the answer; may be given again",
             MOESTRO_FIELD(generate.stop))
        .on(kGenerateVerbs)
        .ours(),
    honoured("--ignore-eos", kSwitch, "false", "Go on after the model's end token",
             MOESTRO_FIELD(generate.ignore_eos))
        .on(kGenerateVerbs)
        .ours(),
    refused("--input-file -i", kText, "", "Batch input: path or URL, JSON lines",
            "run-batch is not built yet")
        .nullable()
        .on(Verb::kRunBatch),
    refused("--output-file -o", kText, "", "Batch output: path or URL",
            "run-batch is not built yet")
        .nullable()
        .on(Verb::kRunBatch),
    refused("--output-tmp-dir", kText, "", "Where the output is kept before upload",
            "run-batch is not built yet")
        .nullable()
        .on(Verb::kRunBatch),
    refused("--enable-metrics", kSwitch, "false", "Start a metrics server beside the batch",
            "run-batch is not built yet")
        .on(Verb::kRunBatch),
    refused("--host", kText, "127.0.0.1", "Address of the metrics server",
            "run-batch is not built yet")
        .nullable()
        .on(Verb::kRunBatch),
    refused("--port", kInt, "8000", "Port of the metrics server", "run-batch is not built yet")
        .on(Verb::kRunBatch),
    refused("--url", kText, "0.0.0.0", "Deprecated address of the metrics server; use --host",
            "run-batch is not built yet")
        .deprecated("--host")
        .on(Verb::kRunBatch),
    no_effect("--url", kText, "http://localhost:8000/v1", "Address of the running server, with /v1",
              "runs the model in this process; ask a server with any OpenAI client")
        .on(Verb::kChat | Verb::kComplete),
    no_effect("--model-name", kText, "", "Model to ask for; unset takes the first listed one",
              "runs the model in this process; ask a server with any OpenAI client")
        .on(Verb::kChat | Verb::kComplete),
    no_effect("--api-key", kText, "", "Bearer key; else OPENAI_API_KEY",
              "runs the model in this process; ask a server with any OpenAI client")
        .on(Verb::kChat | Verb::kComplete),
    honoured("--system-prompt", kText, "", "System message at the head of the conversation",
             MOESTRO_FIELD(generate.system_prompt))
        .on(Verb::kChat),
    honoured("--quick -q", kText, "", "Answer this one message and exit",
             MOESTRO_FIELD(generate.prompt))
        .on(kGenerateVerbs),
    honoured("--stats", kSwitch, "false", "Print time to first token and tokens per second",
             MOESTRO_FIELD(generate.stats))
        .on(Verb::kChat | Verb::kComplete),
    honoured("--max-tokens", kInt, "", "Most tokens of the answer",
             MOESTRO_FIELD(generate.max_tokens))
        .on(kGenerateVerbs)
        .at_least(1)
        .common(),
};

constexpr Flag kTools[] = {
    honoured("--hardware", kText, "",
             "Plan for the machine that this JSON file describes; examples are in models/hardware",
             MOESTRO_FIELD(tool.hardware))
        .on(Verb::kExplain)
        .ours()
        .common(),
    honoured("--diff", kWords, "",
             "Two command lines, each quoted as one word: show only where their plans differ",
             MOESTRO_FIELD(tool.diff))
        .on(Verb::kExplain)
        .ours()
        .common(),
    honoured("--input", kText, "",
             "JSON file with prompts: a list of id lists, or of objects with ids",
             MOESTRO_FIELD(tool.input))
        .on(Verb::kLogits)
        .ours()
        .common(),
    honoured("--output", kText, "",
             "File for logits.<i>, float32 [tokens, vocabulary], as safetensors",
             MOESTRO_FIELD(tool.output))
        .on(Verb::kLogits)
        .ours()
        .common(),
    honoured("--tokenizer", kText, "",
             "Directory with tokenizer.json and its config, instead of the model's",
             MOESTRO_FIELD(model.tokenizer))
        .on(Verb::kTokenize)
        .ours()
        .common(),
    honoured("--input", kText, "",
             "File with an object a line, whose \"text\" is tokenized; - is stdin",
             MOESTRO_FIELD(tool.input))
        .on(Verb::kTokenize)
        .ours()
        .common(),
    honoured(
        "--output", kText, "",
        "File for an object a line: ids, ids_special (with what the post-processor adds), decoded "
        "(of ids, special tokens kept); without it, stdout",
        MOESTRO_FIELD(tool.output))
        .on(Verb::kTokenize)
        .ours()
        .common(),
    honoured("--template", kText, "",
             "Chat template in place of the model's: a file, or the Jinja text",
             MOESTRO_FIELD(server.chat_template))
        .on(Verb::kRender)
        .ours()
        .common(),
    honoured("--input", kText, "",
             "JSON file with messages and, if wanted, tools, documents, add_generation_prompt, "
             "chat_template_kwargs, bos_token, eos_token, now (the clock of strftime_now: Unix "
             "seconds or 2026-01-31T23:59:59); - is stdin",
             MOESTRO_FIELD(tool.input))
        .on(Verb::kRender)
        .ours()
        .common(),
    honoured("--tokens", kText, "", "Safetensors file of token windows, int32 [windows, tokens]",
             MOESTRO_FIELD(tool.tokens))
        .on(Verb::kPerplexity)
        .ours()
        .common(),
    honoured("--name", kText, "eval.text", "Tensor of that file", MOESTRO_FIELD(tool.tensor_name))
        .on(Verb::kPerplexity)
        .ours()
        .common(),
    honoured("OUT", kText, "", "Directory to write: not there yet, or empty",
             MOESTRO_FIELD(tool.out))
        .on(Verb::kQuantize)
        .ours()
        .common(),
    honoured("--scheme", kText, "",
             "How weights are stored: int8, fp8, fp8-block, int4-g32, int4-g128, int4-channel, "
             "w4a8-g128, mxfp4, nvfp4",
             MOESTRO_FIELD(tool.scheme))
        .on(Verb::kQuantize)
        .ours()
        .common(),
    honoured("--ignore", kAppend, "",
             "Regular expression of module names that stay as they are, beside the head and the "
             "routers; may be given again",
             MOESTRO_FIELD(tool.ignore))
        .on(Verb::kQuantize)
        .ours()
        .common(),
    honoured("--max-shard-size", kHumanInt, "5g", "Most bytes of one file",
             MOESTRO_FIELD(tool.max_shard_size))
        .on(Verb::kQuantize)
        .ours()
        .at_least(1),
    honoured("--verify", kSwitch, "false",
             "Check every weight of the packed cache that is there; write nothing",
             MOESTRO_FIELD(tool.verify))
        .on(Verb::kRepack)
        .ours()
        .common(),
};

}  // namespace

FlagGroup client_flags() { return {"client", "Prompts and sampling", kGenerateVerbs, kClient}; }
FlagGroup tools_flags() {
  return {"tools", "Logits, perplexity, tokenize, render, quantize, repack", kGenerateVerbs,
          kTools};
}

}  // namespace moestro::config
