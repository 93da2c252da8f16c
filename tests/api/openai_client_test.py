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
            (dict(response_format={"type": "json_object"}), "response_format"),
            (dict(tool_choice="required", tools=[{"type": "function", "function": {"name": "f"}}]), "tool_choice"),
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
