"""Prefix reuse and priorities as a client sees them: the same answers, cached tokens in the usage, salts, reset, flags.

    prefix_cache_test.py MOESTRO [unittest arguments]
"""
import sys
import unittest

from moestro_process import Server, set_program

WORDS = "The river runs past the old mill and the quiet town before it meets the sea. "


class Case(unittest.TestCase):
    flags = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--enable-prompt-tokens-details", "--block-size", "16", *cls.flags)
        cls.addClassCleanup(cls.server.close)

    def complete(self, prompt, **fields):
        """The answer's text and how many of its prompt's tokens were cached."""
        body = {"prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": True, **fields}
        answer = self.server.post("/v1/completions", body)
        self.assertEqual(answer.status, 200, answer.body)
        usage = answer.json["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        self.assertLess(cached, usage["prompt_tokens"])
        self.assertEqual(cached % 16, 0)
        return [c["text"] for c in answer.json["choices"]], cached


class On(Case):
    def test_the_second_time_is_cached_and_says_the_same(self):
        prompt = WORDS * 5
        first, cached = self.complete(prompt)
        self.assertEqual(cached, 0)
        second, cached = self.complete(prompt)
        self.assertGreater(cached, 48)
        self.assertEqual(second, first)
        self.assertGreaterEqual(self.server.metric("vllm:prefix_cache_hits_total"), cached)
        self.assertEqual(self.server.metric("vllm:kv_cache_usage_perc"), 0)

    def test_the_next_turn_finds_the_last(self):
        prompt = "In the beginning. " + WORDS * 3
        (answer,), _ = self.complete(prompt, max_tokens=40)
        _, alone = self.complete(prompt)
        _, cached = self.complete(prompt + answer + " And then?")
        self.assertGreater(cached, alone)

    def test_salts(self):
        prompt = "A secret: " + WORDS * 3
        self.complete(prompt)
        self.assertEqual(self.complete(prompt, cache_salt="mine")[1], 0)
        self.assertGreater(self.complete(prompt, cache_salt="mine")[1], 0)
        self.assertEqual(self.complete(prompt, cache_salt="yours")[1], 0)
        refused = self.server.post("/v1/completions", {"prompt": "a", "cache_salt": ""})
        self.assertEqual(refused.status, 400)
        self.assertIn("cache_salt", refused.message)

    def test_prompt_logprobs_compute_their_prompt(self):
        prompt = "Weigh each word: " + WORDS * 3
        self.complete(prompt)
        self.assertEqual(self.complete(prompt, prompt_logprobs=1)[1], 0)
        self.assertGreater(self.complete(prompt)[1], 0)

    def test_reset(self):
        prompt = "Forget this: " + WORDS * 3
        self.complete(prompt)
        self.assertEqual(self.server.post("/reset_prefix_cache", {}).status, 200)
        self.assertEqual(self.complete(prompt)[1], 0)

    def test_choices_compute_their_prompt_once(self):
        before = self.server.metric("vllm:prefix_cache_hits_total")
        prompt = "Choose: " + WORDS * 5
        texts, _ = self.complete(prompt, n=4)
        self.assertEqual(len(set(texts)), 1)
        self.assertGreater(self.server.metric("vllm:prefix_cache_hits_total") - before, 3 * 48)

    def test_priorities_are_refused_without_their_policy(self):
        answer = self.server.post("/v1/completions", {"prompt": "a", "priority": 1})
        self.assertEqual(answer.status, 400)
        self.assertIn("--scheduling-policy priority", answer.message)
        self.complete("a", priority=0)


class Off(Case):
    flags = ("--no-enable-prefix-caching", "--scheduling-policy", "priority", "--long-prefill-token-threshold", "32")

    def test_nothing_is_cached(self):
        prompt = WORDS * 5
        first, _ = self.complete(prompt, priority=3)
        self.assertEqual(self.complete(prompt, priority=-3), (first, 0))


if __name__ == "__main__":
    set_program(sys.argv.pop(1))
    unittest.main()
