"""The moestro program from outside (standard library only).

    program_test.py MOESTRO [unittest arguments]
"""
import array
import json
import math
import os
import pathlib
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/glm_moe_dsa"
MOESTRO = None
FAST = ["--threads", "1", "--no-pin-threads"]


def run(*args, **kwargs):
    return subprocess.run([MOESTRO, *map(str, args)], capture_output=True, text=True, timeout=240, **kwargs)


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, t in json.loads(data[8 : 8 + n]).items():
        if name == "__metadata__":
            continue
        begin, end = t["data_offsets"]
        values = array.array({"F32": "f", "I32": "i"}[t["dtype"]])
        values.frombytes(data[8 + n + begin : 8 + n + end])
        tensors[name] = (t["shape"], values)
    return tensors


def write_i32(path, name, rows):
    values = array.array("i", [v for row in rows for v in row]).tobytes()
    header = json.dumps({name: {"dtype": "I32", "shape": [len(rows), len(rows[0])], "data_offsets": [0, len(values)]}})
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(header)) + header.encode() + values)


class Case(unittest.TestCase):
    def ok(self, *args, **kwargs):
        result = run(*args, **kwargs)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def json_line(self, *args):
        """Exactly one line on stdout, and it is JSON."""
        out = self.ok(*args, "--json")
        self.assertEqual(out.count("\n"), 1, out)
        return json.loads(out)

    def fails(self, code, words, *args):
        result = run(*args)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertIn(words, result.stderr)
        self.assertEqual(result.stdout, "")
        return result


class CommandLine(Case):
    def test_help(self):
        for args in ([], ["--help"], ["help"]):
            self.assertIn("bench throughput", self.ok(*args))
        self.assertIn("--max-model-len", self.ok("serve", "--help"))
        self.assertIn("--max-model-len", self.ok("help", "serve"))
        self.assertIn("--num-iters", self.ok("bench", "latency", "--help"))
        self.assertIn("--enable-lora", self.ok("serve", "--help=all"))
        self.assertIn("--kv-cache-dtype", self.ok("serve", "--help=cache"))

    def test_flags_page(self):
        self.assertEqual(self.ok("help", "--flags-markdown"), (ROOT / "docs/flags.md").read_text())

    def test_wrong_command_lines_exit_2(self):
        self.fails(2, "did you mean serve?", "serv")
        self.fails(2, "did you mean --max-model-len?", "serve", "--max-modle-len", "5")
        self.fails(2, "bench latency, bench throughput or bench moe", "bench")
        self.fails(2, "--input", "logits", GOLDEN)
        self.fails(2, "--help=nonsense", "serve", "--help=nonsense")

    def test_bench_moe(self):
        self.fails(1, "no kernel can run the experts", "bench", "moe", "--kernel", "expert_mlp=foo")
        self.fails(2, "there are f32, bf16", "bench", "moe", "--scheme", "int9")
        self.fails(2, "0 is out of range", "bench", "moe", "--tokens", "0")
        self.assertNotIn("MODEL", self.ok("bench", "moe", "--help").splitlines()[0])
        result = self.json_line("bench", "moe", "--tokens", "1,3", "--num-iters", "3", "--log-level", "warning")
        self.assertEqual([row["tokens"] for row in result["rows"]], [1, 3])
        for row in result["rows"]:
            self.assertTrue(row["kernel"].startswith("expert_mlp_int8_"))
            self.assertGreater(row["us"], 0)
            self.assertLess(row["rel_error"], 1e-5)
            # Eight experts a token, at least the eight of one token, of 4.7 MB each.
            self.assertGreater(row["weight_bytes"], 8 * 4.7e6)
            self.assertLess(row["weight_bytes"], 8 * row["tokens"] * 4.8e6 + 2e6)
        self.assertGreater(result["ceilings"]["read_gbs"], 0)
        self.assertIn(result["slow_phase"], (True, False))

    def test_tokenize(self):
        demo = ROOT / "models/demo"
        with tempfile.TemporaryDirectory() as folder:
            lines, out = pathlib.Path(folder) / "in.jsonl", pathlib.Path(folder) / "out.jsonl"
            texts = ["What does river mean?", "", "  zwei\n\u00fcber \U0001f30a", "<|user|>x"]
            lines.write_text("\n".join(json.dumps({"text": t}) for t in texts) + "\n\n")
            self.assertEqual(self.ok("tokenize", "--tokenizer", demo, "--input", lines, "--output", out), "")
            rows = [json.loads(line) for line in out.read_text().splitlines()]
            self.assertEqual([row["decoded"] for row in rows], texts)
            self.assertEqual(rows[1]["ids"], [])
            self.assertGreater(len(rows[0]["ids"]), 3)
            self.assertLess(len(rows[3]["ids_special"]), 4)  # a special token is one id
            self.assertEqual(self.ok("tokenize", "--input", lines), out.read_text())  # the built-in model's tokenizer
            lines.write_text('{"text": "a"}\n{"txt": "a"}\n')
            result = run("tokenize", "--input", lines)
            self.assertEqual(result.returncode, 2)
            self.assertIn("line 2", result.stderr)
        self.fails(2, "needs --input", "tokenize", demo)
        self.fails(1, "/nowhere", "tokenize", "--tokenizer", "/nowhere", "--input", "/dev/null")

    def test_render(self):
        with tempfile.TemporaryDirectory() as folder:
            talk, template = pathlib.Path(folder) / "talk.json", pathlib.Path(folder) / "t.jinja"
            conversation = {"messages": [{"role": "user", "content": "Hi"}], "bos_token": "<s>", "now": "2026-01-02T03:04:05",
                            "chat_template_kwargs": {"mood": "glad"}}
            talk.write_text(json.dumps(conversation))
            template.write_text("{{ bos_token }}{{ messages[0].content }} {{ mood }} {{ strftime_now('%d.%m.%Y') }}"
                                "{% if add_generation_prompt %}!{% endif %}{% if tools %}{{ tools | tojson }}{% endif %}")
            render = ("render", "--template", template, "--input", talk)
            self.assertEqual(self.ok(*render), "<s>Hi glad 02.01.2026")
            talk.write_text(json.dumps(dict(conversation, add_generation_prompt=True, tools=[{"a": 1}], now=0)))
            self.assertEqual(self.ok(*render), '<s>Hi glad 01.01.1970![{"a": 1}]')
            self.assertIn("Hi", self.ok("render", "--input", talk))  # the built-in model's template
            self.assertEqual(self.ok("render", "--input", talk), self.ok("render", ROOT / "models/demo", "--input", talk))
            template.write_text("{{ raise_exception('no system role here') }}")
            self.fails(1, "no system role here", *render)
            template.write_text("a\n{{ messages[0].nothing.more }}")
            self.fails(1, "line 2", *render)
            template.write_text("{% for x in range(100000000) %}{% for y in range(100000000) %}{% endfor %}{% endfor %}")
            self.assertEqual(run(*render).returncode, 1)
            talk.write_text('{"messages": [], "mood": 1}')
            self.fails(2, "chat_template_kwargs", *render)
            talk.write_text('{"messages": 3}')
            self.fails(2, "messages", *render)

    def test_what_is_absent_says_why(self):
        self.fails(1, "bench serve is not built", "bench", "serve")
        self.fails(1, "run-batch", "run-batch", "-i", "x")

    def test_missing_model_exits_1(self):
        self.fails(1, "/nowhere", "explain", "/nowhere")

    def test_an_error_under_json_is_one_line_too(self):
        result = run("explain", "/nowhere", "--json")
        self.assertEqual(result.returncode, 1)
        self.assertIn("/nowhere", json.loads(result.stdout)["error"]["message"])
        self.assertEqual(result.stdout.count("\n"), 1)

    def test_version(self):
        self.assertTrue(self.ok("--version").startswith("moestro "))
        self.assertIn("glm_moe_dsa", self.json_line("version")["families"])

    def test_notes_go_to_stderr(self):
        result = run("explain", "--enforce-eager", "--json", *FAST)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("--enforce-eager has no effect here", result.stderr)
        json.loads(result.stdout)


class Plan(Case):
    def test_explain(self):
        plan = self.json_line("explain", *FAST, "--max-num-seqs", "3", "--port", "1")
        self.assertEqual(plan["model_type"], "glm_moe_dsa")
        self.assertEqual(plan["max_num_seqs"], 3)
        self.assertEqual(plan["configuration"]["max-num-seqs"], {"value": 3, "asked": True})
        self.assertFalse(plan["configuration"]["seed"]["asked"])
        self.assertTrue(any(op["part"] == "experts" for op in plan["ops"]))
        self.assertIn("experts", self.ok("explain", *FAST))

    def test_isa_changes_the_plan(self):
        plan = self.json_line("explain", *FAST, "--isa", "baseline")
        self.assertEqual(plan["isa"], "baseline")
        for op in plan["ops"]:
            if op["op"] != "dispatch":
                self.assertIn("ref", op["kernel"], op)

    def test_config_alone_is_enough(self):
        start = time.time()
        text = self.ok("explain", ROOT / "models/shapes/GLM-5")
        self.assertIn("config.json only", text)
        self.assertLess(time.time() - start, 30)  # two seconds on a quiet machine
        for line in text.splitlines():
            self.assertLessEqual(len(line), 110, line)
        self.fails(1, "safetensors", "complete", ROOT / "models/shapes/GLM-5", "--prompt-ids", "1")

    def test_a_line_of_vllm_with_ranks(self):
        int8 = {"quant_method": "compressed-tensors", "format": "int-quantized", "ignore": ["lm_head"],
                "config_groups": {"group_0": {"targets": ["Linear"],
                                              "weights": {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True},
                                              "input_activations": {"num_bits": 8, "type": "int", "strategy": "token",
                                                                    "dynamic": True, "symmetric": True}}}}
        line = ("-q slimquant_marlin --trust-remote-code -dp 8 -tp 1 --enable-expert-parallel --disable-custom-all-reduce --dtype bfloat16 "
                "--enable-chunked-prefill --max-model-len 4096 --max-num-batched-tokens 128 --max-num-seqs 32 --enable-prefix-caching "
                "--block-size 64 --gpu-memory-utilization 0.88 --kv-cache-dtype fp8_ds_mla").split()
        plan = self.json_line("explain", ROOT / "models/shapes/GLM-5", *line, "-cc", '{"inductor_compile_config":{"combo_kernels": false}}',
                              "--speculative_config", '{"method":"mtp","num_speculative_tokens":3,"quantization":"slimquant_marlin"}',
                              "--hf-overrides", json.dumps({"quantization_config": int8}))
        self.assertEqual([rank["rank"] for rank in plan["ranks"]], list(range(8)))
        schemes = {op["part"]: op.get("scheme", "") for op in plan["ops"]}
        self.assertIn("int8_w8a8", schemes["experts"])

    def test_another_machine(self):
        machines = ROOT / "models/hardware"
        plan = self.json_line("explain", "--hardware", machines / "amx-32-cores.json")
        self.assertEqual(plan["workers"], 32)
        self.assertIn("expert_mlp_int8_amx", [op["kernel"] for op in plan["ops"]])
        self.assertIn("described machine", plan["times"])
        node = self.json_line("explain", *FAST, "--hardware", machines / "h100-node.json")
        self.assertEqual(node["gpus"][0]["buckets"][0]["kernel"], "moe_layer_int8_sm90")
        self.assertTrue(node["gpus"][0]["fits"])
        text = self.ok("explain", ROOT / "models/shapes/GLM-5", "--hardware", machines / "h100.json")
        self.assertIn("moe_layer_bf16_sm90", text)
        self.assertIn("does not fit", text)

    def test_ranks_are_planned_but_not_served(self):
        asked = ["-dp", "2", "-tp", "2", "--enable-expert-parallel", "--all2all-backend", "deepep_low_latency"]
        plan = self.json_line("explain", *FAST, *asked)
        self.assertEqual([r["experts"] for r in plan["ranks"]], ["0-5", "6-11", "12-17", "18-23"])
        self.assertEqual({x["dispatch"] for r in plan["ranks"] for x in r["layers"] if x["part"] == "experts"},
                         {"alltoall_batched"})
        self.assertEqual(len(plan["refused"]), 2)
        self.fails(2, "one rank so far", "serve", *asked)
        self.fails(2, "8 attention heads do not divide", "explain", "-tp", "3")
        with tempfile.TemporaryDirectory() as folder:
            broken = pathlib.Path(folder) / "m.json"
            broken.write_text('{"name": "x", "cpu": {"name": "y", "isa": ["avx2"], "cores": "two"}}')
            self.fails(2, "cpu.cores", "explain", "--hardware", broken)

    def test_difference_of_two_command_lines(self):
        a = f"moestro serve --hardware '{ROOT}/models/hardware/amx-2-cores.json' --max-num-seqs 3"
        b = f"--hardware {ROOT}/models/hardware/avx2-desktop.json --max-num-seqs 3"
        diff = self.json_line("explain", "--diff", a, b)
        kernels = {d["what"]: d for d in diff["differences"] if d["what"].endswith("kernel")}
        self.assertTrue(any("isa: needs" in d["why"] for d in kernels.values()), kernels)
        self.assertNotIn("sequences at once", [d["what"] for d in diff["differences"]])
        self.assertIn("B cannot take", self.ok("explain", "--diff", a, b))
        self.assertIn("the same", self.ok("explain", "--diff", a, a))
        self.fails(2, "not closed", "explain", "--diff", "'a", "b")
        self.fails(2, "two command lines", "explain", "--diff", a)

    def test_damaged_kernel_table_is_a_warning(self):
        with tempfile.TemporaryDirectory() as folder:
            table = pathlib.Path(folder) / "times.json"
            table.write_text("{")
            self.assertIn("delete the file", self.json_line("explain", *FAST, "--kernel-table", table)["times"])
            result = run("complete", "--prompt", "A", "--max-tokens", "1", *FAST, "--kernel-table", table)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn(str(table), result.stderr)

    def test_forced_kernel_that_does_not_exist(self):
        self.fails(1, "linear", "explain", "--kernel", "linear=nonsense")

    def test_large_model_without_weights(self):
        start = time.time()
        plan = self.json_line("explain", ROOT / "models/shapes/GLM-5", "--load-format", "dummy",
                              "--max-model-len", "4k", "--hf-overrides.num_hidden_layers", "4", "--max-num-seqs", "4")
        self.assertGreater(plan["bytes"]["weights"], 1 << 30)
        self.assertGreater(plan["needed_bytes"], plan["bytes"]["weights"])
        self.assertEqual(plan["obstacle"] is None, plan["needed_bytes"] < plan["available_bytes"], plan["obstacle"])
        self.assertLess(time.time() - start, 30)  # two seconds on a quiet machine

    def test_quantization_must_agree(self):
        self.assertTrue(self.json_line("explain", "-q", "compressed-tensors"))
        self.fails(2, "compressed-tensors", "explain", "-q", "fp8")

    def test_strict_refuses_substitutions(self):
        self.ok("explain", ROOT / "tests/golden/qwen3_moe", "--strict")
        self.fails(1, "kv_b_proj is absorbed", "explain", "--strict")  # the demo's int8 kv_b_proj runs in bfloat16
        self.fails(1, "one sequence of 4096 tokens", "explain", "--kv-cache-memory-bytes", "1M", "--max-model-len", "4096")
        self.fails(1, "--strict", "explain", "--strict", "--kv-cache-memory-bytes", "1M")

    def test_inspect(self):
        found = self.json_line("inspect")
        self.assertEqual(found["model_type"], "glm_moe_dsa")
        self.assertTrue(found["runnable"])
        self.assertIn("glm_moe_dsa", self.ok("inspect", GOLDEN))
        self.assertTrue(self.json_line("inspect", ROOT / "tests/golden/mixtral")["runnable"])
        self.assertFalse(self.json_line("inspect", ROOT / "models/shapes/Mixtral-8x7B")["runnable"])  # no weights


class Results(Case):
    def test_logits_agree_with_the_golden_ones(self):
        golden = json.loads((GOLDEN / "golden.json").read_text())
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out.safetensors")
            report = self.json_line("logits", GOLDEN, "--input", GOLDEN / "golden.json", "--output", out,
                                    "--dtype", "float32", *FAST)
            self.assertEqual(report["prompts"], len(golden["prompts"]))
            ours = read_safetensors(out)
        reference = read_safetensors(GOLDEN / "golden.safetensors")
        for i, prompt in enumerate(golden["prompts"]):
            shape, values = ours[f"logits.{i}"]
            self.assertEqual(shape, reference[f"logits.{i}"][0])
            free = golden.get("free_rows", {}).get(str(i), [])
            wanted, width = reference[f"logits.{i}"][1], shape[1]
            for row in set(range(len(prompt))) - set(free):
                part = slice(row * width, (row + 1) * width)
                worst = max(abs(a - b) for a, b in zip(values[part], wanted[part]))
                self.assertLess(worst, 2e-3, f"prompt {i} row {row}")

    def test_prompts_may_be_objects(self):
        with tempfile.TemporaryDirectory() as folder:
            source, out = os.path.join(folder, "in.json"), os.path.join(folder, "out.safetensors")
            pathlib.Path(source).write_text('{"prompts": [{"ids": [1, 2, 3], "text": "x"}]}')
            self.ok("logits", GOLDEN, "--input", source, "--output", out, *FAST)
            self.assertEqual(read_safetensors(out)["logits.0"][0], [3, 320])
            pathlib.Path(source).write_text('{"prompts": [{"text": "x"}]}')
            self.fails(2, "no \"ids\"", "logits", GOLDEN, "--input", source, "--output", out)
            pathlib.Path(source).write_text('{"prompts": [[5000]]}')
            self.fails(2, "5000", "logits", GOLDEN, "--input", source, "--output", out)

    def test_perplexity_is_that_of_the_golden_logits(self):
        golden = json.loads((GOLDEN / "golden.json").read_text())
        prompt = max(golden["prompts"], key=len)
        index = golden["prompts"].index(prompt)
        shape, values = read_safetensors(GOLDEN / "golden.safetensors")[f"logits.{index}"]
        length = min(40, len(prompt))
        total = 0.0
        for row in range(length - 1):
            logits = values[row * shape[1] : (row + 1) * shape[1]]
            largest = max(logits)
            total += math.log(sum(math.exp(v - largest) for v in logits)) + largest - logits[prompt[row + 1]]
        with tempfile.TemporaryDirectory() as folder:
            tokens = os.path.join(folder, "tokens.safetensors")
            write_i32(tokens, "eval.text", [prompt[:length]] * 3)
            result = self.json_line("perplexity", GOLDEN, "--tokens", tokens, "--dtype", "float32", *FAST)
            self.assertEqual(result["tokens"], 3 * (length - 1))
            wanted = math.exp(total / (length - 1))
            self.assertAlmostEqual(result["perplexity"] / wanted, 1, places=3)
            self.fails(1, "it has eval.text", "perplexity", GOLDEN, "--tokens", tokens, "--name", "other")

    def test_greedy_completion_of_ids(self):
        golden = json.loads((GOLDEN / "golden.json").read_text())
        prompt, wanted, margins = golden["prompts"][1], golden["greedy"][1], golden["greedy_margins"][1]
        binding = next((i for i, m in enumerate(margins) if m < 0.02), len(margins))
        result = self.json_line("complete", GOLDEN, "--prompt-ids", ",".join(map(str, prompt)), "--max-tokens", len(wanted),
                                "--temperature", "0", "--ignore-eos", "--dtype", "float32", *FAST)
        self.assertEqual(result["ids"][:binding], wanted[:binding])
        self.assertEqual(len(result["ids"]), len(wanted))
        self.assertEqual(result["finish_reason"], "length")

    def test_completion_of_text(self):
        result = self.json_line("complete", "--prompt", "A river is", "--max-tokens", "6", "--temperature", "0", *FAST)
        self.assertTrue(result["text"].strip())
        streamed = self.ok("complete", "--prompt", "A river is", "--max-tokens", "6", "--temperature", "0", *FAST)
        self.assertEqual(streamed, result["text"] + "\n")
        self.fails(1, "tokenizer", "complete", GOLDEN, "--prompt", "x")

    def test_bench(self):
        small = ["--input-len", "8", "--output-len", "4", *FAST]
        result = self.json_line("bench", "latency", GOLDEN, *small, "--batch-size", "2", "--num-iters", "2",
                                "--num-iters-warmup", "1", "--load-format", "dummy")
        self.assertEqual(len(result["latencies"]), 2)
        self.assertGreater(result["avg_latency"], 0)
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out.json")
            result = self.json_line("bench", "throughput", GOLDEN, *small, "--num-prompts", "5", "--output-json", out)
            self.assertEqual(json.loads(pathlib.Path(out).read_text()), result)
        self.assertEqual(result["total_num_tokens"], 5 * 12)
        self.assertIn("output tokens", self.ok("bench", "throughput", GOLDEN, *small, "--num-prompts", "2"))


class Chat(Case):
    def test_quick(self):
        result = self.json_line("chat", "-q", "What does river mean?", "--temperature", "0", "--max-tokens", "12", *FAST)
        self.assertTrue(result["text"].strip())
        self.assertGreater(result["prompt_tokens"], 3)

    def test_conversation_from_a_pipe(self):
        out = self.ok("chat", "--temperature", "0", "--max-tokens", "8", *FAST,
                      input="hello\n/nonsense\n/help\n/reset\nhello\n/exit\nnever\n")
        self.assertIn("no command /nonsense", out)
        self.assertIn("Ctrl-C", out)
        answers = [line for line in out.splitlines() if line and line[0] not in "(/CEn"]
        self.assertEqual(answers[0], answers[-1])  # the reset forgot the first answer

    def test_interrupt_stops_the_answer_not_the_program(self):
        main, other = pty.openpty()
        chat = subprocess.Popen([MOESTRO, "chat", "--ignore-eos", "--temperature", "0", *FAST], stdin=other, stdout=other,
                                stderr=other)
        os.close(other)
        self.addCleanup(os.close, main)
        self.addCleanup(chat.kill)

        def until(text, seconds=60):
            seen, end = "", time.time() + seconds
            while text not in seen:
                self.assertTrue(select.select([main], [], [], max(0, end - time.time()))[0], seen)
                seen += os.read(main, 4096).decode(errors="replace")
            return seen

        until("> ")
        os.write(main, b"hello\n")
        until("\n")
        self.assertTrue(select.select([main], [], [], 60)[0])
        chat.send_signal(signal.SIGINT)
        until("(stopped)")
        os.write(main, b"/exit\n")
        self.assertEqual(chat.wait(timeout=30), 0)


class Server:
    """moestro serve on a free port."""

    def __init__(self, case, *args):
        self.process = subprocess.Popen([MOESTRO, "serve", "--port", "0", "--json", *FAST, *map(str, args)],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        case.addCleanup(self.close)
        line = self.process.stdout.readline()
        case.assertTrue(line, None if line else self.process.stderr.read())
        self.ready = json.loads(line)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def request(self, path, body=None, timeout=60):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.ready["address"] + path, data, {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=timeout)


LONG = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2000, "ignore_eos": True, "stream": True}


class Serve(Case):
    def test_answers_and_stops(self):
        server = Server(self)
        self.assertEqual(server.ready["model"], "moestro-demo")
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        answer = json.loads(server.request("/v1/chat/completions", body).read())
        self.assertTrue(answer["choices"][0]["message"]["content"])
        plan = json.loads(server.request("/v1/plan").read())
        self.assertEqual(plan["model_type"], "glm_moe_dsa")
        self.assertEqual(plan["mismatches"], [])
        experts = [e for e in plan["ranks"][0]["layers"] if e["part"] == "experts"]
        self.assertTrue(experts)
        for layer in plan["ranks"][0]["layers"]:
            self.assertGreaterEqual(layer["executed"], 4, layer)
        for ran in experts[0]["ran"]:
            self.assertEqual(ran["kernel"], experts[0]["kernel"])
        metrics = server.request("/metrics").read().decode()
        self.assertIn("moestro_plan_mismatches 0", metrics)
        self.assertRegex(metrics, r'moestro_kernel_executions_total{op="expert_mlp",part="experts",[^}]*} [1-9]')
        server.process.terminate()
        out, log = server.process.communicate(timeout=60)
        self.assertEqual(server.process.returncode, 0, log)
        self.assertEqual(out, "")  # the ready line was the only one
        self.assertIn("curl", log)

    def test_drains_what_runs(self):
        server = Server(self)
        response = server.request("/v1/chat/completions", {**LONG, "max_tokens": 200})
        self.assertTrue(response.readline().startswith(b"data: "))
        server.process.terminate()
        self.assertTrue(response.read().rstrip().endswith(b"data: [DONE]"))
        self.assertEqual(server.process.wait(timeout=60), 0)
        with self.assertRaises((urllib.error.URLError, ConnectionError)):
            server.request("/health", timeout=5)

    def test_second_signal_ends_at_once(self):
        server = Server(self, "--max-model-len", "4096")
        response = server.request("/v1/chat/completions", {**LONG, "max_tokens": 4000})
        self.assertTrue(response.readline().startswith(b"data: "))
        server.process.terminate()
        time.sleep(0.5)
        self.assertIsNone(server.process.poll(), "it should still be draining")
        start = time.time()
        server.process.terminate()
        self.assertEqual(server.process.wait(timeout=30), 128 + signal.SIGTERM)
        self.assertLess(time.time() - start, 10)

    def test_taken_port_is_an_error(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.fails(1, str(port), "serve", "--port", port, *FAST)

    def test_model_without_tokenizer_is_refused(self):
        self.fails(1, "tokenizer.json", "serve", GOLDEN, *FAST)


if __name__ == "__main__":
    MOESTRO = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
