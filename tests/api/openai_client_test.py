"""The official openai client against a running moestro.

    openai_client_test.py MOESTRO [--model DIR] [unittest arguments]

Without --model the built-in model is served. Needs the package openai (tests/requirements.txt).
"""
import concurrent.futures
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
import urllib.request

try:
    import openai
except ImportError:
    openai = None
try:
    import jsonschema
except ImportError:
    jsonschema = None

MOESTRO = None
MODEL = []
KEY = "test-key"


class Server:
    def __init__(self, *extra):
        command = [MOESTRO, "serve", *MODEL, "--port", "0", "--api-key", KEY, "--json", "--no-pin-threads", "--threads", "1", *extra]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.log = []
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self.reader.start()
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.reader.join()
            raise RuntimeError("moestro did not start:\n" + "".join(self.log))
        ready = json.loads(line)
        self.port, self.model = ready["port"], ready["model"]
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = openai.OpenAI(base_url=self.url + "/v1", api_key=KEY, max_retries=0, timeout=120)

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=30) as response:
            return response.read().decode()

    def metric(self, name):
        found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", self.get("/metrics"), re.M)
        return sum(map(float, found))

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return code


def eventually(what, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.05)
    return what()


MESSAGES = [{"role": "user", "content": "Tell me a story about a lion."}]
GREEDY = dict(temperature=0, max_tokens=24)


class Client(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.client, cls.model = cls.server.client, cls.server.model

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def chat(self, **more):
        return self.client.chat.completions.create(model=self.model, messages=MESSAGES, **{**GREEDY, **more})

    def complete(self, prompt="Once upon a time", **more):
        return self.client.completions.create(model=self.model, prompt=prompt, **{**GREEDY, **more})

    def test_models(self):
        self.assertEqual(self.client.models.list().data[0].id, self.model)
        self.assertEqual(self.client.models.retrieve(self.model).id, self.model)

    def test_chat_streamed_is_the_whole_answer(self):
        whole = self.chat()
        choice = whole.choices[0]
        self.assertIn(choice.finish_reason, ("stop", "length"))
        self.assertEqual(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens)
        text, usage, finish = "", None, None
        for chunk in self.chat(stream=True, stream_options={"include_usage": True}):
            for c in chunk.choices:
                text += c.delta.content or ""
                finish = c.finish_reason or finish
            usage = chunk.usage or usage
        self.assertEqual(text, choice.message.content)
        self.assertEqual(finish, choice.finish_reason)
        self.assertEqual(usage.completion_tokens, whole.usage.completion_tokens)

    def test_completion_streamed_is_the_whole_answer(self):
        whole = self.complete().choices[0].text
        self.assertTrue(whole)
        self.assertEqual("".join(c.choices[0].text for c in self.complete(stream=True)), whole)

    def test_n_and_seed(self):
        first, again = (self.complete(n=3, temperature=1.0, seed=5, max_tokens=12) for _ in range(2))
        self.assertEqual([c.index for c in first.choices], [0, 1, 2])
        self.assertEqual([c.text for c in first.choices], [c.text for c in again.choices])
        self.assertGreater(len({c.text for c in first.choices}), 1)

    def test_prompts(self):
        two = self.complete(prompt=["Once upon a time", "The dog"])
        self.assertEqual(two.choices[0].text, self.complete().choices[0].text)
        ids = self.complete(extra_body={"return_token_ids": True}).choices[0].prompt_token_ids
        self.assertEqual(self.complete(prompt=ids).choices[0].text, two.choices[0].text)

    def test_chat_logprobs(self):
        entries = self.chat(logprobs=True, top_logprobs=3, max_tokens=5).choices[0].logprobs.content
        self.assertTrue(entries)
        for e in entries:
            self.assertLessEqual(e.logprob, 0)
            self.assertEqual(len(e.top_logprobs), 3)
            self.assertEqual(e.top_logprobs[0].token, e.token)  # greedy: the best one
            self.assertEqual(bytes(e.bytes).decode(errors="replace"), e.token)

    def test_echo_scores_a_prompt(self):
        r = self.complete(echo=True, logprobs=1, max_tokens=0)
        self.assertEqual(r.choices[0].text, "Once upon a time")
        self.assertEqual(len(r.choices[0].logprobs.tokens), r.usage.prompt_tokens)
        self.assertIsNone(r.choices[0].logprobs.token_logprobs[0])
        self.assertTrue(all(x <= 0 for x in r.choices[0].logprobs.token_logprobs[1:]))

    def test_stop_string(self):
        text = self.complete(max_tokens=40).choices[0].text
        word = text.split()[2]
        cut = self.complete(max_tokens=40, stop=[word]).choices[0]
        self.assertEqual(cut.text, text[: text.index(word)])
        self.assertEqual(cut.finish_reason, "stop")

    def test_min_tokens_and_length(self):
        r = self.complete(max_tokens=10, extra_body={"ignore_eos": True})
        self.assertEqual((r.usage.completion_tokens, r.choices[0].finish_reason), (10, "length"))

    def test_errors_are_the_clients_own_types(self):
        for kwargs, word in [
            (dict(temperature=-1), "temperature"),
            (dict(n=0), "n"),
            (dict(max_tokens=10**8), "context length"),
            (dict(response_format={"type": "xml"}), "response_format"),
            (dict(tool_choice="required"), "tool_choice"),
            (dict(extra_body={"guided_json": {"not": {"type": "null"}}}), "not is not supported"),
        ]:
            with self.assertRaises(openai.BadRequestError) as caught:
                self.chat(**kwargs)
            self.assertIn(word, str(caught.exception))
        with self.assertRaises(openai.NotFoundError):
            self.client.chat.completions.create(model="no-such-model", messages=MESSAGES)
        with self.assertRaises(openai.BadRequestError):
            self.client.chat.completions.create(model=self.model, messages=[])
        with self.assertRaises(openai.AuthenticationError):
            openai.OpenAI(base_url=self.server.url + "/v1", api_key="wrong", max_retries=0).models.list()

    def test_64_streams_at_once_give_what_one_gives(self):
        prompts = [f"The {animal}" for animal in ("dog", "cat", "bird", "fish")]
        alone = {p: self.complete(prompt=p, max_tokens=12).choices[0].text for p in prompts}

        def one(i):
            p = prompts[i % len(prompts)]
            return p, "".join(c.choices[0].text for c in self.complete(prompt=p, max_tokens=12, stream=True))

        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            for p, text in pool.map(one, range(64)):
                self.assertEqual(text, alone[p])

    def test_disconnect_frees_pages(self):
        self.assertTrue(eventually(lambda: self.server.metric("vllm:num_requests_running") == 0))
        streams = [self.complete(stream=True, max_tokens=200, extra_body={"ignore_eos": True}) for _ in range(4)]
        for s in streams:
            next(iter(s))
        self.assertGreater(self.server.metric("vllm:kv_cache_usage_perc"), 0)
        for s in streams:
            s.close()
        # Whole answers too: the socket closes while the engine works.
        with socket.create_connection(("127.0.0.1", self.server.port)) as raw:
            body = json.dumps({"prompt": "a", "max_tokens": 200, "ignore_eos": True}).encode()
            raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                        b"Authorization: Bearer " + KEY.encode() + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.1)
        self.assertTrue(eventually(lambda: self.server.metric("vllm:num_requests_running") == 0))
        self.assertTrue(eventually(lambda: self.server.metric("vllm:kv_cache_usage_perc") == 0))

    def test_plan_and_health(self):
        self.assertEqual(json.loads(self.server.get("/health"))["status"], "ok")
        request = urllib.request.Request(self.server.url + "/v1/plan", headers={"Authorization": "Bearer " + KEY})
        self.assertTrue(json.load(urllib.request.urlopen(request)))


TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Weather of a city", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 1, "maximum": 14}},
        "required": ["city", "days"], "additionalProperties": False}}},
    {"type": "function", "function": {"name": "stop", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}},
]
SCHEMAS = [
    {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
                                      "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3}},
     "required": ["name", "age"], "additionalProperties": False},
    {"type": "array", "items": {"anyOf": [{"type": "number", "minimum": -2, "maximum": 2}, {"type": "null"}]}, "minItems": 1, "maxItems": 4},
    {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {
        "value": {"type": "boolean"}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 1}}, "required": ["value"],
        "additionalProperties": False}}},
    {"type": "object", "properties": {"date": {"type": "string", "format": "date"}, "code": {"type": "string", "pattern": "^[A-Z]{2}-\\d{3}$"}},
     "required": ["date", "code"], "additionalProperties": False},
    {"oneOf": [{"type": "object", "properties": {"kind": {"const": k}, k: {"type": "string", "maxLength": 5}}, "required": ["kind", k],
                "additionalProperties": False} for k in ("x", "y")]},
]


class Bound(unittest.TestCase):
    """Structured output and tool calls that the request forces: the built-in model writes none by itself."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
        cls.client, cls.model = cls.server.client, cls.server.model

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def chat(self, **more):
        return self.client.chat.completions.create(model=self.model, messages=MESSAGES, **{"max_tokens": 300, "temperature": 0.9, **more})

    def check_call(self, call):
        arguments = json.loads(call.function.arguments)
        tool = {t["function"]["name"]: t["function"] for t in TOOLS}[call.function.name]
        if jsonschema:
            jsonschema.validate(arguments, tool["parameters"])
        self.assertTrue(call.id)

    def streamed(self, **more):
        calls, finish, content = [], None, ""
        for chunk in self.chat(stream=True, **more):
            choice = chunk.choices[0]
            content += choice.delta.content or ""
            finish = choice.finish_reason or finish
            for d in choice.delta.tool_calls or []:
                if d.index == len(calls):
                    self.assertTrue(d.id and d.function.name)
                    calls.append([d.function.name, ""])
                else:
                    self.assertIsNone(d.function.name)
                calls[d.index][1] += d.function.arguments or ""
        return calls, finish, content

    def test_named_call(self):
        wanted = dict(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "get_weather"}}, seed=3)
        whole = self.chat(**wanted).choices[0]
        self.assertEqual(whole.finish_reason, "tool_calls")
        self.assertIsNone(whole.message.content)
        self.assertEqual(len(whole.message.tool_calls), 1)
        self.check_call(whole.message.tool_calls[0])
        calls, finish, content = self.streamed(**wanted)
        self.assertEqual((finish, content), ("tool_calls", ""))
        self.assertEqual(calls, [["get_weather", whole.message.tool_calls[0].function.arguments]])

    def test_required_calls(self):
        for seed in range(4):
            wanted = dict(tools=TOOLS, tool_choice="required", seed=seed, parallel_tool_calls=seed % 2 == 0, max_tokens=400)
            whole = self.chat(**wanted).choices[0]
            calls, finish, _ = self.streamed(**wanted)
            self.assertEqual(finish, whole.finish_reason)
            self.assertEqual(calls, [[c.function.name, c.function.arguments] for c in whole.message.tool_calls])
            if finish == "tool_calls":
                for call in whole.message.tool_calls:
                    self.check_call(call)

    def test_auto_leaves_text_alone(self):
        whole = self.chat(tools=TOOLS, max_tokens=24, temperature=0).choices[0]
        self.assertTrue(whole.message.content)
        self.assertFalse(whole.message.tool_calls)
        calls, finish, content = self.streamed(tools=TOOLS, max_tokens=24, temperature=0)
        self.assertEqual((calls, finish, content), ([], whole.finish_reason, whole.message.content))

    def test_json_schema_always_validates(self):
        finished = 0
        for number, schema in enumerate(SCHEMAS):
            wanted = dict(response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}, seed=number, n=6)
            for choice in self.chat(**wanted).choices:
                if choice.finish_reason != "stop":
                    continue
                finished += 1
                value = json.loads(choice.message.content)
                if jsonschema:
                    jsonschema.validate(value, schema)
            greedy = self.chat(**{**wanted, "n": 1, "temperature": 0, "logprobs": True}).choices[0]
            self.assertTrue(all(e.logprob <= 0 for e in greedy.logprobs.content))
            if greedy.finish_reason == "stop":
                json.loads(greedy.message.content)
        self.assertGreaterEqual(finished, len(SCHEMAS) * 4)

    def test_json_object_regex_choice_grammar(self):
        r = self.chat(response_format={"type": "json_object"}, n=4).choices
        for choice in r:
            if choice.finish_reason == "stop":
                self.assertIsInstance(json.loads(choice.message.content), dict)
        for body, pattern in [({"guided_regex": "[a-z]{3,6} (cat|dog)s?"}, "[a-z]{3,6} (cat|dog)s?"),
                              ({"structured_outputs": {"choice": ["yes", "no", "maybe"]}}, "yes|no|maybe"),
                              ({"guided_grammar": 'root ::= digit{2} ("+" digit)*\ndigit ::= [0-9]'}, "[0-9]{2}([+][0-9])*")]:
            for choice in self.chat(extra_body=body, n=4, max_tokens=60).choices:
                if choice.finish_reason == "stop":
                    self.assertRegex(choice.message.content, "^(" + pattern + ")$")
        text = self.client.completions.create(model=self.model, prompt="Once", max_tokens=20, extra_body={"guided_choice": ["left", "right"]})
        self.assertIn(text.choices[0].text, ("left", "right"))
        self.assertEqual(text.choices[0].finish_reason, "stop")


class Drain(unittest.TestCase):
    def test_sigterm_finishes_what_runs_and_refuses_what_comes(self):
        server = Server()
        try:
            stream = iter(server.client.completions.create(model=server.model, prompt="Once", max_tokens=300, temperature=0, stream=True,
                                                           extra_body={"ignore_eos": True}))
            first = next(stream)
            server.process.send_signal(signal.SIGTERM)
            refused = None
            for _ in range(100):  # until the signal arrives
                try:
                    server.client.completions.create(model=server.model, prompt="x", max_tokens=1)
                except (openai.InternalServerError, openai.APIConnectionError) as e:
                    refused = e
                    break
            self.assertIsNotNone(refused)
            chunks = [first, *stream]
            self.assertEqual(chunks[-1].choices[0].finish_reason, "length")
            self.assertEqual(server.process.wait(60), 0, "".join(server.log))
        finally:
            server.stop()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if not arguments:
        sys.exit(__doc__)
    MOESTRO = str(pathlib.Path(arguments.pop(0)).resolve())
    if arguments[:1] == ["--model"]:
        MODEL = [arguments[1]]
        del arguments[:2]
    if openai is None:
        print("SKIPPED: the package openai is not installed here (./test installs it)")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *arguments])
