"""What the verbs compute, from outside: the golden logits, whatever flags cut the work into pieces; one line of JSON;
sensible text from the built-in model (standard library only).

    verbs_test.py MOESTRO [unittest arguments]
"""
import json
import math
import os
import sys
import tempfile
import unittest

import moestro_process as moestro
from moestro_process import FAST, ROOT, Server, run, set_program

GOLDENS = [ROOT / "tests/golden" / name for name in ("glm_moe_dsa", "glm_moe_dsa_shared_index", "qwen3_moe_mixed")]
DEMO_GOLDEN = ROOT / "../shared/demo-model/checkpoint/golden.json"
ABSOLUTE, DIVERGENCE = 2e-3, 1e-5  # of one logit; nats, mean over a prompt's rows


def log_softmax(row):
    largest = max(row)
    total = math.log(sum(math.exp(v - largest) for v in row)) + largest
    return [v - total for v in row]


class Case(unittest.TestCase):
    def json_line(self, *args):
        result = run(*args, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout.count("\n"), 1, result.stdout)
        self.assertTrue(result.stdout.endswith("\n"))
        return json.loads(result.stdout)


class Results(Case):
    def logits(self, model, *flags):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "logits.safetensors")
            self.json_line("logits", model, "--input", model / "golden.json", "--output", out, "--dtype", "float32", *flags)
            return moestro.read_safetensors(out)

    def rows(self, model, tensors):
        """(name, row number, row), without the rows where two attention scores tie and either choice is right."""
        free = json.loads((model / "golden.json").read_text()).get("free_rows", {})
        for name, (shape, values) in sorted(tensors.items()):
            for row in set(range(shape[0])) - set(free.get(name.split(".")[1], [])):
                yield name, row, values[row * shape[1] : (row + 1) * shape[1]]

    def test_golden_logits(self):
        for model in GOLDENS:
            with self.subTest(model.name):
                wanted = moestro.read_safetensors(model / "golden.safetensors")
                ours = self.logits(model, *FAST)
                self.assertEqual({n: t[0] for n, t in ours.items()}, {n: t[0] for n, t in wanted.items()})
                divergence = {}
                for (name, row, ref), (_, _, out) in zip(self.rows(model, wanted), self.rows(model, ours)):
                    worst = max(abs(a - b) for a, b in zip(ref, out))
                    self.assertLessEqual(worst, ABSOLUTE, f"{name} row {row}")  # a NaN fails here too
                    p, q = log_softmax(ref), log_softmax(out)
                    divergence.setdefault(name, []).append(sum(math.exp(a) * (a - b) for a, b in zip(p, q)))
                self.assertGreater(len(divergence), 2)
                for name, values in divergence.items():
                    self.assertLessEqual(sum(values) / len(values), DIVERGENCE, name)

    def test_no_flag_that_cuts_the_work_changes_it(self):
        for model in GOLDENS:
            whole = list(self.rows(model, self.logits(model, *FAST)))
            for flags in (["--max-num-batched-tokens", "1", "--max-num-seqs", "1"], ["--max-num-batched-tokens", "7"],
                          ["--max-num-batched-tokens", "64"], ["--block-size", "1"], ["--block-size", "16"],
                          ["--threads", "2", "--no-pin-threads"], ["--isa", "baseline"]):
                with self.subTest(model.name, flags=flags):
                    pieces = list(self.rows(model, self.logits(model, *FAST, *flags)))
                    self.assertEqual(len(pieces), len(whole))
                    for (name, row, a), (_, _, b) in zip(whole, pieces):
                        self.assertLessEqual(max(abs(x - y) for x, y in zip(a, b)), 1e-4, f"{name} row {row}")


class Output(Case):
    def test_one_line_of_json_from_every_verb(self):
        model = GOLDENS[0]
        for args, key in ((["version"], "version"), (["explain", *FAST], "ops"), (["explain", model, *FAST], "ops"),
                          (["inspect"], "parameters"), (["inspect", ROOT / "models/shapes/DeepSeek-V3"], "problems"),
                          (["complete", model, "--prompt-ids", "1,2", "--max-tokens", "3", *FAST], "ids"),
                          (["complete", "--prompt", "A tree", "--max-tokens", "3", *FAST], "text"),
                          (["chat", "-q", "hello", "--max-tokens", "3", *FAST], "text"),
                          (["bench", "latency", model, "--input-len", "4", "--output-len", "2", "--batch-size", "1",
                            "--num-iters", "1", "--num-iters-warmup", "0", *FAST], "avg_latency"),
                          (["bench", "throughput", model, "--input-len", "4", "--output-len", "2", "--num-prompts", "2",
                            *FAST], "tokens_per_second")):
            with self.subTest(" ".join(map(str, args[:2]))):
                self.assertIn(key, self.json_line(*args))
        server = Server()
        self.addCleanup(server.close)
        self.assertTrue(server.ready["ready"])

    def test_text_says_no_json_and_ends_with_a_line(self):
        for args in (["explain", *FAST], ["inspect"], ["complete", "--prompt", "A", "--max-tokens", "2", *FAST],
                     ["--help"], ["serve", "--help"], ["serve", "--help=all"]):
            result = run(*args)
            # What is done otherwise than asked for is a warning, and nothing else is said: the demo's kv_b_proj.
            said = [line for line in result.stderr.splitlines() if "kv_b_proj is absorbed" not in line]
            self.assertEqual((result.returncode, said), (0, []), args)
            self.assertLessEqual(len(result.stderr.splitlines()), 1, args)
            self.assertTrue(result.stdout.endswith("\n"), args)
            self.assertFalse(result.stdout.startswith("{"), args)
            if "--help" in args[-1]:
                self.assertLessEqual(max(map(len, result.stdout.splitlines())), 105, args)


class Text(Case):
    """The built-in model is int8; the reference is its bfloat16 parent in float32: words may differ, sense not."""

    def test_greedy_answers_follow_the_reference(self):
        if not DEMO_GOLDEN.exists():
            self.skipTest(f"{DEMO_GOLDEN} is not here")
        server = Server()
        self.addCleanup(server.close)
        near = 0
        prompts = json.loads(DEMO_GOLDEN.read_text())["prompts"]
        prompts = [p for p in prompts if "<|assistant|>" in (p["text"] or "")][:8]
        self.assertGreater(len(prompts), 3)
        for prompt in prompts:
            answer = server.post("/v1/completions", {"prompt": prompt["ids"], "temperature": 0, "max_tokens": 32,
                                                     "return_token_ids": True}).json
            choice = answer["choices"][0]
            near += choice["token_ids"][0] in [token for token, _ in prompt["top"][:2]]
            words = choice["text"].split()
            self.assertGreater(len(words), 2, choice["text"])
            self.assertGreater(len(set(words)), len(words) // 3, choice["text"])  # no loop over one word
            self.assertEqual(answer["usage"]["prompt_tokens"], len(prompt["ids"]))
        self.assertGreaterEqual(near, len(prompts) - 1)

    def test_known_questions_get_their_answers(self):
        for question, word in (("What does river mean?", "water"), ("What does tree mean?", "plant")):
            answer = self.json_line("chat", "-q", question, "--temperature", "0", "--max-tokens", "48", *FAST)["text"]
            self.assertIn(word, answer)


if __name__ == "__main__":
    set_program(sys.argv.pop(1))
    unittest.main(verbosity=2)
