"""A whole model in activation-ordered int4 (compressed-tensors' weight_g_idx) gives what its dequantised weights give.

    activation_order_test.py MOESTRO [unittest arguments]
"""
import json
import math
import pathlib
import random
import statistics
import sys
import tempfile
import unittest

from moestro_process import FAST, ROOT, read_safetensors, run, set_program, split_safetensors, write_safetensors

GOLDEN = ROOT / "tests/golden/qwen3_moe"
GROUP = 32


def reorder(packed, columns, order):
    """Rows of int4 codes, the low nibble first, with column i what order[i] was."""
    out = bytearray()
    for begin in range(0, len(packed), columns // 2):
        row = packed[begin : begin + columns // 2]
        codes = [row[c // 2] >> 4 if c % 2 else row[c // 2] & 15 for c in order]
        out += bytes(low | high << 4 for low, high in zip(codes[::2], codes[1::2]))
    return bytes(out)


def with_activation_order(source, target):
    """A copy whose matrices have their columns shuffled, and the index that says which groups they are of."""
    header, data = split_safetensors(source / "model.safetensors")
    header.pop("__metadata__", None)
    shuffle, orders = random.Random(3), {}
    new_header, new_data = {}, b""

    def add(name, dtype, shape, part):
        nonlocal new_data
        new_header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(new_data), len(new_data) + len(part)]}
        new_data += part

    for name, t in header.items():
        part = data[slice(*t["data_offsets"])]
        if name.endswith(".weight_packed"):
            module = name.removesuffix(".weight_packed")
            columns = t["shape"][1] * 8
            # gate and up see one input, so a calibration gives them one order.
            order = orders.setdefault(module.replace("gate_proj", "up_proj"), shuffle.sample(range(columns), columns))
            part = reorder(part, columns, order)
            index = b"".join((c // GROUP).to_bytes(4, "little") for c in order)
            add(f"{module}.weight_g_idx", "I32", [columns], index)
        add(name, t["dtype"], t["shape"], part)
    target.mkdir()
    write_safetensors(target / "model.safetensors", new_header, new_data)
    config = json.loads((source / "config.json").read_text())
    for group in config["quantization_config"]["config_groups"].values():
        group["weights"]["actorder"] = "group"
    (target / "config.json").write_text(json.dumps(config))


class ActivationOrder(unittest.TestCase):
    def test_int4_gives_what_floats_give(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            result = run("quantize", GOLDEN, folder / "plain", "--scheme", "int4-g32")
            self.assertEqual(result.returncode, 0, result.stderr)
            with_activation_order(folder / "plain", folder / "ordered")

            def logits(model, *flags):
                out = folder / "logits.safetensors"
                result = run("logits", model, "--input", GOLDEN / "golden.json", "--output", out, *flags, *FAST)
                self.assertEqual(result.returncode, 0, result.stderr)
                rows = []
                for (_, width), values in read_safetensors(out).values():
                    rows += [values[i : i + width] for i in range(0, len(values), width)]
                return rows, result.stderr

            def distance(a, b):
                """The median over tokens: a few change their experts by the last bits of bfloat16."""
                return statistics.median(
                    math.sqrt(sum((x - y) ** 2 for x, y in zip(r, s)) / sum(x * x for x in r)) for r, s in zip(a, b))

            floats, said = logits(folder / "ordered", "--dtype", "float32")
            self.assertIn("float32", said)  # dequantised, and said so
            ordered, said = logits(folder / "ordered")
            self.assertNotIn("→", said)  # nothing is substituted
            plain, _ = logits(folder / "plain")
            self.assertLess(distance(floats, ordered), 0.03)  # bfloat16 activations
            result = run("repack", folder / "ordered", "--packed-cache", folder / "cache", *FAST)
            self.assertEqual(result.returncode, 0, result.stderr)
            packed, said = logits(folder / "ordered", "--packed-cache", folder / "cache", "--log-level", "info")
            self.assertIn("weights from the packed cache", said)
            self.assertEqual(packed, ordered)  # the order is kept with the weights
            in_floats, said = logits(folder / "ordered", "--hf-overrides.quantization_config.actorder_in_floats", "true")
            self.assertIn("4 times the memory", said)
            self.assertLess(distance(floats, in_floats), 0.03)
            self.assertGreater(distance(floats, plain), 0.3)  # the order matters
            result = run("explain", folder / "ordered", *FAST)
            self.assertIn("columns in activation order", result.stdout)


if __name__ == "__main__":
    set_program(sys.argv.pop(1))
    unittest.main()
