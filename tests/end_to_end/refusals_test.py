"""What the program refuses, from outside: damaged models, wrong command lines, hostile requests. Each refusal names the
thing and has the right exit code or status; requests never disturb another one (standard library only).

    refusals_test.py MOESTRO [unittest arguments]
"""
import json
import os
import pathlib
import shutil
import socket
import sys
import tempfile
import threading
import time
import unittest

import moestro_process as moestro
from moestro_process import FAST, ROOT, Server, run, set_program

GOLDEN = ROOT / "tests/golden/glm_moe_dsa"
DEMO = ROOT / "models/demo"
CHAT = "/v1/chat/completions"


class Case(unittest.TestCase):
    def refused(self, code, words, *args, timeout=60):
        """words: what stderr must name."""
        result = run(*args, timeout=timeout)
        self.assertEqual(result.returncode, code, result.stderr or result.stdout)
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertTrue(result.stderr.startswith(f"moestro {args[0]}: ") or "\nmoestro " in result.stderr, result.stderr)
        return result

    def folder(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return pathlib.Path(folder.name)


class DamagedModels(Case):
    """Copies of a small model, each broken in one way."""

    def copy(self, source=GOLDEN):
        model = self.folder() / "broken-model"
        shutil.copytree(source, model, ignore=shutil.ignore_patterns("golden.*"))
        return model

    def edit(self, model, change):
        """change(header, data) -> data of model.safetensors."""
        path = model / "model.safetensors"
        header, data = moestro.split_safetensors(path)
        moestro.write_safetensors(path, header, change(header, data) or data)

    def edit_config(self, model, **changes):
        path = model / "config.json"
        config = json.loads(path.read_text())
        for key, value in changes.items():
            if value is None:
                config.pop(key, None)
            else:
                config[key] = value
        path.write_text(json.dumps(config))

    def all_refuse(self, model, words, code=1, verbs=("complete", "explain"), inspected=True):
        """inspect refuses nothing: it shows what there is, and lists the rest as a problem."""
        words = [words] if isinstance(words, str) else words
        how = {"complete": ["complete", model, "--prompt-ids", "1,2,3", "--max-tokens", "2", *FAST],
               "explain": ["explain", model, *FAST]}
        for verb in verbs:
            with self.subTest(verb):
                self.refused(code, words, *how[verb])
        if not inspected:
            return
        with self.subTest("inspect"):
            result = run("inspect", model, "--json")
            self.assertEqual(result.returncode, 0, result.stderr)
            found = json.loads(result.stdout)
            self.assertFalse(found["runnable"], found)
            for word in words:
                self.assertIn(word, "\n".join(found["problems"]))

    def test_the_copy_itself_is_sound(self):
        result = run("complete", self.copy(), "--prompt-ids", "1,2,3", "--max-tokens", "2", "--json", *FAST)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_truncated_weights(self):
        model = self.copy()
        path = model / "model.safetensors"
        os.truncate(path, path.stat().st_size - 1000)
        self.all_refuse(model, "model.safetensors")

    def test_truncated_inside_the_header(self):
        model = self.copy()
        os.truncate(model / "model.safetensors", 500)
        self.all_refuse(model, "model.safetensors")

    def test_empty_weights(self):
        model = self.copy()
        os.truncate(model / "model.safetensors", 0)
        self.all_refuse(model, "model.safetensors")

    def test_overlapping_tensors(self):
        model = self.copy()

        def overlap(header, data):
            names = sorted((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"])
            first, second = header[names[0]], header[names[1]]
            length = second["data_offsets"][1] - second["data_offsets"][0]
            begin = first["data_offsets"][1] - 4
            second["data_offsets"] = [begin, begin + length]

        self.edit(model, overlap)
        self.all_refuse(model, "model.safetensors")

    def test_offsets_that_do_not_hold_the_shape(self):
        model = self.copy()
        self.edit(model, lambda header, data: header["model.norm.weight"].update(shape=[7]))
        self.all_refuse(model, ["model.safetensors", "model.norm.weight"])

    def test_header_longer_than_the_file_or_than_any_header(self):
        for length in (1 << 20, 1 << 40, (1 << 64) - 1):
            model = self.copy()
            path = model / "model.safetensors"
            path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
            started = time.monotonic()
            self.all_refuse(model, "model.safetensors", verbs=("complete",))
            self.assertLess(time.monotonic() - started, 20)

    def test_wrong_dtype(self):
        model = self.copy()

        def as_integers(header, data):
            t = header["model.norm.weight"]
            if t["dtype"] == "F32":
                t["dtype"] = "I32"
            else:
                t["dtype"] = "I16"

        self.edit(model, as_integers)
        self.all_refuse(model, ["model.norm.weight", "I"], verbs=("complete",), inspected=False)

    def test_unknown_dtype(self):
        model = self.copy()
        self.edit(model, lambda header, data: header["model.norm.weight"].update(dtype="Q3_X"))
        self.all_refuse(model, ["model.norm.weight", "Q3_X"], verbs=("complete",), inspected=False)

    def test_missing_tensor(self):
        for name in ("model.layers.1.self_attn.o_proj.weight", "model.norm.weight"):
            model = self.copy()

            def without(header, data):
                header["unrelated." + name] = header.pop(name)

            self.edit(model, without)
            self.all_refuse(model, name, verbs=("complete",), inspected=False)

    def test_wrong_shape(self):
        model = self.copy()

        def transposed(header, data):
            t = header["model.layers.0.self_attn.o_proj.weight"]
            t["shape"] = [t["shape"][0] // 2, t["shape"][1] * 2]

        self.edit(model, transposed)
        self.all_refuse(model, "model.layers.0.self_attn.o_proj.weight", verbs=("complete",), inspected=False)

    def test_missing_shard(self):
        model = self.copy()
        header, _ = moestro.split_safetensors(model / "model.safetensors")
        names = [n for n in header if n != "__metadata__"]
        (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
        where = {n: f"model-0000{1 if i else 2}-of-00002.safetensors" for i, n in enumerate(names)}
        (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
        self.all_refuse(model, "model-00002-of-00002.safetensors")
        (model / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../../etc/passwd"}}')
        self.all_refuse(model, "../../etc/passwd")
        (model / "model.safetensors.index.json").write_text('{"weight_map": [1]')
        self.all_refuse(model, "model.safetensors.index.json")

    def test_no_weights(self):
        model = self.copy()
        (model / "model.safetensors").unlink()
        self.all_refuse(model, ["broken-model", "safetensors"], verbs=("complete",))
        # A plan needs no weights; it says that there are none, unless they were asked for.
        self.assertTrue(json.loads(run("explain", model, "--json").stdout)["config_only"])
        self.refused(1, "safetensors", "explain", model, "--load-format", "safetensors")

    def test_unknown_architecture(self):
        model = self.copy()
        self.edit_config(model, model_type="gigantic_moe", architectures=["GiganticForCausalLM"])
        self.all_refuse(model, "gigantic_moe", inspected=False)
        self.assertFalse(json.loads(run("inspect", model, "--json").stdout)["runnable"])

    def test_bad_config(self):
        config = (GOLDEN / "config.json").read_text()
        for text, words in ((config[: len(config) // 2], "config.json"), ("", "config.json"), ("[1, 2]", "config.json"),
                            ("{" * 100000, "config.json"), ('{"a": "\xff"}', "config.json")):
            model = self.copy()
            (model / "config.json").write_bytes(text.encode("latin-1"))
            self.all_refuse(model, words, code=2, verbs=("complete",))
        (model / "config.json").unlink()
        self.all_refuse(model, "config.json", inspected=False)
        self.refused(1, "config.json", "inspect", model)

    def test_config_values(self):
        for key, value in (("num_hidden_layers", -3), ("num_hidden_layers", "two"), ("hidden_size", 0),
                           ("num_experts_per_tok", 10**6), ("vocab_size", 10**15), ("rms_norm_eps", "small"),
                           ("kv_lora_rank", -8), ("num_attention_heads", 0), ("n_routed_experts", -1)):
            with self.subTest(key, value=value):
                model = self.copy()
                self.edit_config(model, **{key: value})
                result = run("complete", model, "--prompt-ids", "1,2,3", "--max-tokens", "2", *FAST)
                self.assertIn(result.returncode, (1, 2), result.stderr)
                self.assertIn(key, result.stderr)

    def test_bad_tokenizer(self):
        model = self.folder() / "broken-model"
        model.mkdir()
        for file in DEMO.iterdir():
            if file.name != "tokenizer.json":
                (model / file.name).symlink_to(file)
        for text in ("", "{}", '{"model": {"type": "BPE", "vocab": 5}}', '{"model": {"type": "Dream"}}'):
            (model / "tokenizer.json").write_text(text)
            result = run("serve", model, "--port", "0", *FAST)
            self.assertIn(result.returncode, (1, 2), result.stderr)
            self.assertIn("tokenizer", result.stderr)

    def test_serve_says_it_too(self):
        model = self.folder() / "broken-model"
        shutil.copytree(DEMO, model)
        path = model / "model.safetensors"
        os.truncate(path, path.stat().st_size // 2)
        self.refused(1, "model.safetensors", "serve", model, "--port", "0", *FAST)


class CommandLines(Case):
    def test_unknown_flags_name_the_nearest(self):
        self.refused(2, "--max-num-seqs", "serve", "--max-nun-seqs", "4")
        self.refused(2, "--kv-cache-dtype", "serve", "--kv-cash-dtype", "auto")
        self.refused(2, "--temperature", "complete", "--prompt", "x", "--temprature", "1")
        self.refused(2, "--gibberish-xyz", "serve", "--gibberish-xyz")

    def test_bad_values(self):
        for words, args in ((["--port", "70000"], ["--port", "70000"]), (["--port", "http"], ["--port", "http"]),
                            (["--dtype", "int3"], ["--dtype", "int3"]), (["--threads", "0"], ["--threads", "0"]),
                            (["--max-num-seqs", "-4"], ["--max-num-seqs", "-4"]),
                            (["--max-model-len", "99999", "4096"], ["--max-model-len", "99999"]),
                            (["--kv-cache-memory-bytes", "lots"], ["--kv-cache-memory-bytes", "lots"]),
                            (["--isa", "avx1024"], ["--isa", "avx1024"]),
                            (["--hf-overrides"], ["--hf-overrides", "{broken"]),
                            (["--chat-template", "/nowhere.jinja"], ["--chat-template", "/nowhere.jinja"]),
                            (["--chat-template", "line 1"], ["--chat-template", "{% if %}"]),
                            (["--config", "/nowhere.yaml"], ["--config", "/nowhere.yaml"]),
                            (["--block-size"], ["--block-size", "0"]), (["--strict"], ["--strict=maybe"])):
            with self.subTest(" ".join(args)):
                self.refused(2, words, "serve", *args, *([] if "--port" in args else ["--port", "0"]))

    def test_what_a_verb_cannot_do_without(self):
        for words, args in (("--input", ["logits"]), ("--tokens", ["perplexity"]), ("--prompt", ["complete"])):
            self.refused(2, "moestro " + args[0] + ": needs " + words, *args)

    def test_missing_model(self):
        for verb in ("serve", "chat", "complete", "explain", "inspect"):
            extra = ["--prompt", "x"] if verb == "complete" else []
            self.refused(1, "/nowhere/at-all", verb, "/nowhere/at-all", *extra)
        self.refused(1, str(GOLDEN / "config.json"), "explain", GOLDEN / "config.json")
        self.refused(1, "config.json", "explain", self.folder())

    def test_port_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.refused(1, str(taken.getsockname()[1]), "serve", "--port", taken.getsockname()[1], *FAST)
        self.refused(2, "not-an-address", "serve", "--port", "0", "--host", "not-an-address", *FAST)

    def test_kv_cache_too_small(self):
        self.refused(1, ["KV cache", "--kv-cache-memory-bytes"], "serve", "--port", "0", "--kv-cache-memory-bytes", "1k")
        self.refused(1, ["4096 tokens", "--max-model-len"], "serve", "--port", "0", "--kv-cache-memory-bytes", "1M",
                     "--max-model-len", "4096")

    def test_prompt_longer_than_the_context(self):
        self.refused(2, ["64", "--max-model-len"], "complete", "--prompt-ids", ",".join(["5"] * 100), "--max-model-len",
                     "64", *FAST)

    def test_a_plan_that_does_not_fit_is_still_a_plan(self):
        started = time.monotonic()
        result = run("explain", ROOT / "models/shapes/GLM-5", "--load-format", "dummy")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("cannot run", result.stdout)
        self.assertIn("256 experts", result.stdout)
        self.assertLess(time.monotonic() - started, 20)  # half a second on a quiet machine
        self.refused(1, "memory", "complete", ROOT / "models/shapes/GLM-5", "--load-format", "dummy", "--prompt-ids", "1")


class Requests(Case):
    """Hostile requests; a well-behaved stream runs beside each and must lose nothing."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--max-model-len", "512", "--default-chat-template-kwargs", "{}")
        cls.addClassCleanup(cls.server.close)
        cls.expected = None

    def setUp(self):
        self.neighbour = {"prompt": "A river is", "max_tokens": 40, "temperature": 0, "ignore_eos": True}
        if Requests.expected is None:
            Requests.expected = self.server.post("/v1/completions", self.neighbour).json["choices"][0]["text"]
        self.result = None
        self.thread = threading.Thread(target=self.run_neighbour)
        self.thread.start()

    def run_neighbour(self):
        connection, events = self.server.stream("/v1/completions", self.neighbour)
        text, done = "", False
        with connection, events:
            for line in events:
                if line.startswith(b"data: [DONE]"):
                    done = True
                    break
                if line.startswith(b"data: "):
                    text += json.loads(line[6:])["choices"][0]["text"]
        self.result = (text, done)

    def tearDown(self):
        self.thread.join(60)
        self.assertEqual(self.result, (Requests.expected, True), "the neighbour lost something")
        self.assertEqual(self.server.request("GET", "/health").status, 200)
        self.assertIsNone(self.server.process.poll())

    def rejects(self, status, words, path, body, **kwargs):
        answer = self.server.post(path, body, **kwargs)
        self.assertEqual(answer.status, status, answer.body[:500])
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, answer.message)
        self.assertEqual(set(answer.json["error"]), {"message", "type", "param", "code"})
        return answer.json["error"]

    def test_prompt_longer_than_the_context(self):
        error = self.rejects(400, ["512", "600"], "/v1/completions", {"prompt": [5] * 600})
        self.assertEqual(error["code"], "context_length_exceeded")
        self.rejects(400, "512", CHAT, {"messages": [{"role": "user", "content": "word " * 3000}]})
        self.rejects(400, "512", "/v1/completions", {"prompt": "hello", "max_tokens": 600})

    def test_numbers(self):
        message = [{"role": "user", "content": "x"}]
        for field, value in (("max_tokens", -1), ("max_tokens", 1.5), ("max_tokens", 1e300), ("temperature", -0.1),
                             ("temperature", "hot"), ("top_p", 2), ("top_k", 0.5), ("n", 0), ("n", 10**9),
                             ("seed", "x"), ("presence_penalty", 5), ("min_p", -1), ("stop", 3), ("stop", [""] * 100),
                             ("logit_bias", {"x": 1}), ("logit_bias", {"99999999": 1}), ("top_logprobs", 10**6),
                             ("repetition_penalty", 0), ("stream", "yes"), ("min_tokens", 10**6)):
            with self.subTest(field, value=value):
                self.assertEqual(self.rejects(400, field, CHAT, {"messages": message, field: value})["param"].split(".")[0],
                                 field)

    def test_nan_and_infinity(self):
        for text in (b"NaN", b"Infinity", b"-Infinity", b"1e999"):
            with self.subTest(text):
                self.rejects(400, [], CHAT, b'{"messages": [{"role": "user", "content": "x"}], "temperature": ' + text + b"}")

    def test_invalid_utf8(self):
        for bad in (b"\xff\xfe", b"\xc3", b"\xed\xa0\x80"):
            self.rejects(400, "JSON", CHAT, b'{"messages": [{"role": "user", "content": "' + bad + b'"}]}')
        lone = self.server.post(CHAT, b'{"messages": [{"role": "user", "content": "\\ud800"}], "max_tokens": 2}')
        self.assertIn(lone.status, (200, 400))
        lone.body.decode()  # valid UTF-8 in either case

    def test_broken_json(self):
        for body in (b"", b"{", b"null", b"[]", b'"text"', b"{}", b'{"messages": "x"}', b'{"messages": [{}]}',
                     b'{"messages": [1]}', b'{"messages": [{"role": 5, "content": "x"}]}', b'{"a":1,"a":2}'):
            with self.subTest(body):
                self.rejects(400, [], CHAT, body)

    def test_deep_json(self):
        for opening in (b"[", b'{"a":'):
            body = b'{"messages": ' + opening * 10_000 + b"1"
            self.rejects(400, ["JSON", "deep"], CHAT, body)

    def test_a_body_of_100_mb_is_refused_before_it_is_read(self):
        size = 100 << 20
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as connection:
            connection.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                               f"Content-Length: {size}\r\n\r\n".encode())
            answer = connection.recv(65536).decode()  # not one byte of the body was sent
            self.assertTrue(answer.startswith("HTTP/1.1 413 "), answer)
            self.assertIn(str(size), answer)
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as connection:
            connection.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n".encode())
            sent, block = 0, b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
            try:
                while sent < size:  # a size that nobody announced
                    connection.sendall(block)
                    sent += 1 << 20
                refused = False
            except (BrokenPipeError, ConnectionResetError):
                refused = True
            self.assertTrue(refused and sent < size, sent)

    def test_http_that_is_none(self):
        for text in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n", b"GET\r\n\r\n",
                     b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
                     b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"a" * 200_000 + b"\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as connection:
                try:
                    connection.sendall(text)
                    answer = connection.recv(65536)
                except ConnectionResetError:
                    continue
                self.assertTrue(answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:100])

    def test_wrong_route_method_and_type(self):
        self.rejects(404, "/v1/chat/completions", "/v1/chat/completion", {})
        answer = self.server.request("GET", CHAT)
        self.assertEqual((answer.status, answer.headers["Allow"]), (405, "POST, OPTIONS"))
        self.rejects(415, "text/plain", CHAT, b"{}", headers={"Content-Type": "text/plain"})
        self.rejects(400, "--trust-request-chat-template", CHAT,
                     {"messages": [{"role": "user", "content": "x"}], "chat_template": "{{ 1 }}"})

    def test_a_hundred_slow_clients(self):
        slow = [socket.create_connection(("127.0.0.1", self.server.port), timeout=30) for _ in range(100)]
        for connection in slow:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Le")
        self.assertEqual(self.server.post("/v1/completions", {"prompt": "x", "max_tokens": 1}).status, 200)
        for connection in slow:
            connection.close()


class Templates(Case):
    """Templates that never end use up their budget, not the server."""

    def serve(self, template):
        path = self.folder() / "template.jinja"
        path.write_text(template)
        server = Server("--chat-template", path)
        self.addCleanup(server.close)
        return server

    def test_template_that_loops(self):
        endless = ("{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}"
                   "{% endfor %}{% endfor %}{% endfor %}")
        server = self.serve(endless)
        body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(server.post(CHAT, body))) for _ in range(3)]
        for thread in threads:
            thread.start()
        self.assertEqual(server.post("/v1/completions", {"prompt": "A", "max_tokens": 2}).status, 200)
        for thread in threads:
            thread.join(60)
        for answer in answers:
            self.assertEqual(answer.status, 400, answer.body)
            self.assertIn("template", answer.message)
        self.assertEqual(len(answers), 3)
        self.assertEqual(server.request("GET", "/health").status, 200)

    def test_template_that_grows(self):
        server = self.serve("{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}"
                            "{% endfor %}{{ ns.s }}")
        answer = server.post(CHAT, {"messages": [{"role": "user", "content": "x"}]})
        self.assertEqual(answer.status, 400, answer.body)
        self.assertIn("template", answer.message)

    def test_template_that_recurses_and_one_that_raises(self):
        server = self.serve("{% macro f(n) %}{{ f(n) }}{% endmacro %}{% if messages[0].content == 'deep' %}{{ f(1) }}"
                            "{% else %}{{ raise_exception('Only deep talk, please.') }}{% endif %}")
        deep = server.post(CHAT, {"messages": [{"role": "user", "content": "deep"}]})
        self.assertEqual(deep.status, 400, deep.body)
        raised = server.post(CHAT, {"messages": [{"role": "user", "content": "x"}]})
        self.assertEqual((raised.status, raised.message), (400, "Only deep talk, please."))


if __name__ == "__main__":
    set_program(sys.argv.pop(1))
    unittest.main(verbosity=2)
