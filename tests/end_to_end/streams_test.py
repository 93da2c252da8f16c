"""Many clients of one server: answers that depend on no neighbour, clients that leave, an orderly end. Through the
official openai client; what its single answers hold is tests/api/openai_client_test.py's.

    streams_test.py MOESTRO [unittest arguments]

Exit status 77 where the client is not installed: the test counts as skipped.
"""
import asyncio
import concurrent.futures
import socket
import sys
import threading
import time
import unittest

from moestro_process import ROOT, Server, set_program, wait_until

try:
    import openai
except ImportError:
    print("skipped: the openai client is not installed (pip install -r tests/requirements.txt)")
    sys.exit(77)

QUESTIONS = ["What does river mean?", "How do I list files?", "Define tree.", "hello", "What is a stone?",
             "How do I copy a directory?", "What does quick mean?", "Tell me about water."]


def chat(text):
    return [{"role": "user", "content": text}]


class Case(unittest.TestCase):
    server_flags = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.server_flags)
        cls.addClassCleanup(cls.server.close)
        cls.client = openai.OpenAI(base_url=cls.server.address + "/v1", api_key="none", max_retries=0, timeout=120)
        cls.addClassCleanup(cls.client.close)
        cls.model = cls.server.model

    def ask(self, text=QUESTIONS[0], **kwargs):
        return self.client.chat.completions.create(model=self.model, messages=chat(text),
                                                   **{"temperature": 0, "max_tokens": 24, **kwargs})

    def refused(self, error, words, call):
        with self.assertRaises(error) as caught:
            call()
        self.assertIn(words, caught.exception.body["message"])
        return caught.exception


class Keys(Case):
    server_flags = (ROOT / "models/demo", "--api-key", "right", "--served-model-name", "first", "second")

    def test_key_and_names(self):
        self.refused(openai.AuthenticationError, "API key", lambda: self.client.models.list())
        with self.client.with_options(api_key="right") as client:
            self.assertEqual([m.id for m in client.models.list().data], ["first", "second"])
            answer = client.completions.create(model="second", prompt="A", max_tokens=1)
            self.assertEqual(answer.model, "second")
        self.assertNotIn("right", self.server.log())


class Many(Case):
    def test_choices_of_one_request_arrive_interleaved(self):
        wild = {"n": 3, "temperature": 2.0, "top_p": 1.0, "seed": 5, "max_tokens": 12}
        answer = self.ask(**wild)
        self.assertEqual(sorted(c.index for c in answer.choices), [0, 1, 2])
        self.assertGreater(len({c.message.content for c in answer.choices}), 1)
        again = self.ask(**wild)
        self.assertEqual([c.message.content for c in again.choices], [c.message.content for c in answer.choices])
        pieces = {}
        for chunk in self.ask(**wild, stream=True):
            index = chunk.choices[0].index
            pieces[index] = pieces.get(index, "") + (chunk.choices[0].delta.content or "")
        self.assertEqual([pieces[i] for i in range(3)], [c.message.content for c in answer.choices])

    def test_async_client(self):
        async def both():
            async with openai.AsyncOpenAI(base_url=self.server.address + "/v1", api_key="none") as client:
                stream = await client.chat.completions.create(model=self.model, messages=chat(QUESTIONS[0]),
                                                              temperature=0, max_tokens=8, stream=True)
                return "".join([c.choices[0].delta.content or "" async for c in stream])

        self.assertEqual(asyncio.run(both()), self.ask(max_tokens=8).choices[0].message.content)

    def test_64_streams_say_what_each_says_alone(self):
        prompts = [f"{QUESTIONS[i % len(QUESTIONS)]} {'Please. ' * (i // len(QUESTIONS))}" for i in range(64)]
        lengths = [4 + i % 13 for i in range(64)]

        def streamed(i):
            chunks = list(self.ask(prompts[i], max_tokens=lengths[i], stream=True,
                                   stream_options={"include_usage": True}))
            self.assertTrue(chunks[-2].choices[0].finish_reason, chunks[-2])
            return ("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), chunks[-1].usage)

        alone = [self.ask(prompts[i], max_tokens=lengths[i]) for i in range(64)]
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            together = list(pool.map(streamed, range(64)))
        for i in range(64):
            self.assertEqual(together[i][0], alone[i].choices[0].message.content, prompts[i])
            self.assertEqual(together[i][1], alone[i].usage)
        self.assertEqual(self.server.metric("vllm:num_requests_running"), 0)
        self.assertEqual(self.server.metric("vllm:kv_cache_usage_perc"), 0)


LONG = {"messages": chat("hello"), "max_tokens": 3000, "ignore_eos": True, "temperature": 0}


class Leaving(Case):
    def metrics_become(self, running, used):
        """Within a few seconds, while the machine is busy; what a step later means is measured below."""
        def there():
            return (self.server.metric("vllm:num_requests_running") == running
                    and (self.server.metric("vllm:kv_cache_usage_perc") > 0) == used)
        self.assertTrue(wait_until(there, 10))

    def test_pages_of_clients_that_left_are_free(self):
        connections = [self.server.stream("/v1/chat/completions", LONG) for _ in range(3)]
        for connection, events in connections:
            self.addCleanup(connection.close)
            while not events.readline().startswith(b"data: "):
                pass
        self.metrics_become(running=3, used=True)
        with_three = self.server.metric("vllm:kv_cache_usage_perc")
        for connection, events in connections[1:]:
            events.close()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
            connection.close()
        self.metrics_become(running=1, used=True)
        self.assertLess(self.server.metric("vllm:kv_cache_usage_perc"), with_three)
        connections[0][1].close()  # and a farewell
        connections[0][0].close()
        self.metrics_become(running=0, used=False)

    def test_a_client_that_left_costs_a_step(self):
        # Counted from outside: steps of less than a millisecond go by between the questions, and the best of some
        # tries shows the rest. The whole answer would take 3000.
        costs = []
        for _ in range(8):
            stream = self.client.chat.completions.create(model=self.model, messages=LONG["messages"], max_tokens=3000,
                                                         stream=True, extra_body={"ignore_eos": True})
            for _ in zip(range(3), stream):
                pass
            before = self.server.steps()
            stream.close()
            self.metrics_become(running=0, used=False)
            costs.append(self.server.steps() - before)
        self.assertLess(min(costs), 30, costs)
        steps = self.server.steps()
        time.sleep(0.3)
        self.assertEqual(self.server.steps(), steps)


class Ending(Case):
    server_flags = ("--shutdown-timeout", "120")

    def test_terminate_finishes_what_runs_and_refuses_what_is_new(self):
        tokens = 1500  # about two seconds on a fast machine: long enough to ask meanwhile
        results, begun = {}, threading.Barrier(5)

        def streamed(i):
            parts, usage = [], None
            for chunk in self.ask(QUESTIONS[i], max_tokens=tokens, stream=True, stream_options={"include_usage": True},
                                  extra_body={"ignore_eos": True}):
                if chunk.choices:
                    parts.append(chunk)
                    if len(parts) == 1:
                        begun.wait(30)
                usage = chunk.usage or usage
            results[i] = (parts[-1].choices[0].finish_reason, usage.completion_tokens)

        threads = [threading.Thread(target=streamed, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        begun.wait(30)
        self.server.terminate()
        self.assertTrue(wait_until(lambda: "stopping" in self.server.log(), 10))
        error = self.refused(openai.InternalServerError, "shutting down", lambda: self.ask(max_tokens=1))
        self.assertEqual(error.status_code, 503)
        self.assertEqual(self.server.request("GET", "/health").status, 503)
        for thread in threads:
            thread.join(60)
        self.assertEqual(results, {i: ("length", tokens) for i in range(4)})
        self.assertEqual(self.server.process.wait(30), 0, self.server.log())


if __name__ == "__main__":
    set_program(sys.argv.pop(1))
    unittest.main(verbosity=2)
