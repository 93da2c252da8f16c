"""What `moestro quantize` writes loses no more than the scheme must: perplexity of the demo model's quantised copies beside
figures of an independent reference (tools/demo_model/quant_eval.py: PyTorch in float32, weights through quantize.py's files
and back, activations rounded as a server rounds them).

    perplexity_test.py MOESTRO [unittest arguments]

Exit status 77 where the bfloat16 checkpoint of Whole is not there. demo_windows.xz: 48 windows of 1024 ids of held-out text, then 48 of conversations, uint16.
"""
import json
import lzma
import pathlib
import sys
import tempfile
import unittest

from moestro_process import FAST, ROOT, run, set_program, write_safetensors

BFLOAT16 = ROOT.parent / "shared/demo-model/checkpoint"
WINDOWS, LENGTH = 48, 1024
TOLERANCE = 0.005
# Dense attention. Of the bfloat16 checkpoint, all windows: shared/demo-model/checkpoint/quant_table.json.
FROM_BFLOAT16 = {
    "int8": {"text": 25.287573507412965, "chat": 1.8781883938428992},
    "fp8": {"text": 25.702369464997872, "chat": 1.910522173638165},
    "fp8-block": {"text": 25.6641498978094, "chat": 1.9112978437281443},
    "int4-g32": {"text": 29.778683598327383, "chat": 2.198199518876532},
    "int4-g128": {"text": 34.66406151737783, "chat": 2.434178985352382},
}
# Of the built-in int8 model, dequantised: the first four windows. (Other roundings than above, so other figures.)
FROM_BUILT_IN = {
    "int8": {"chat": 1.53339},
    "fp8": {"chat": 1.55602},
    "fp8-block": {"chat": 1.55550},
    "int4-g32": {"chat": 1.80248},
    "int4-g128": {"chat": 2.00683},
}


def windows(name, count):
    """A safetensors header and its bytes: the first `count` windows as int32."""
    data = lzma.decompress((pathlib.Path(__file__).parent / "demo_windows.xz").read_bytes())
    begin = 2 * LENGTH * WINDOWS * ("text", "chat").index(name)
    wide = b"".join(data[i : i + 2] + b"\0\0" for i in range(begin, begin + 2 * LENGTH * count, 2))
    return {f"eval.{name}": {"dtype": "I32", "shape": [count, LENGTH], "data_offsets": [0, len(wide)]}}, wide


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)

    def perplexity(self, model, name, count):
        tokens = self.folder / f"{name}.safetensors"
        if not tokens.exists():
            write_safetensors(tokens, *windows(name, count))
        result = run("perplexity", model, "--tokens", tokens, "--name", f"eval.{name}", "--hf-overrides",
                     '{"index_topk":1024}', "--json", *FAST, timeout=600)
        self.assertEqual(result.returncode, 0, result.stderr)
        answer = json.loads(result.stdout)
        self.assertEqual(answer["tokens"], count * (LENGTH - 1))
        return answer["perplexity"]

    def check(self, source, figures, count):
        for scheme, wanted in figures.items():
            copy = self.folder / scheme
            result = run("quantize", source, copy, "--scheme", scheme)
            self.assertEqual(result.returncode, 0, result.stderr)
            for name, figure in wanted.items():
                with self.subTest(scheme=scheme, data=name):
                    ratio = self.perplexity(copy, name, count) / figure
                    print(f"{scheme:10} {name}: {ratio:.4f} of the reference", file=sys.stderr)
                    self.assertLess(abs(ratio - 1), TOLERANCE)


class Sample(Case):
    def test_copies_of_the_built_in_model(self):
        self.check(ROOT / "models/demo", FROM_BUILT_IN, 4)


class Whole(Case):
    @unittest.skipUnless(BFLOAT16.exists(), f"{BFLOAT16} is not there")
    def test_copies_of_the_bfloat16_model(self):
        self.check(BFLOAT16, FROM_BFLOAT16, WINDOWS)


if __name__ == "__main__":
    set_program(sys.argv.pop(1))
    if sys.argv[1:] == ["Whole"] and not BFLOAT16.exists():
        print(f"skipped: {BFLOAT16} is not there")
        sys.exit(77)
    unittest.main()
