"""What `moestro quantize` writes is what other engines load: every scheme's tensors and config go through the
compressed-tensors library, which vLLM and transformers read such files with, and come back as the values that the formats'
definitions give (docs/quantization.md), exactly.

    other_engines_test.py MOESTRO [unittest arguments]

Exit status 77 where torch or compressed_tensors are not installed: the test counts as skipped.
"""
import json
import pathlib
import sys
import tempfile
import unittest

from moestro_process import run, set_program, split_safetensors, write_safetensors

try:
    import torch
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig
    from compressed_tensors.utils import match_named_modules
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

SCHEMES = ("int8", "fp8", "fp8-block", "int4-g32", "int4-g128", "int4-channel", "w4a8-g128", "mxfp4", "nvfp4")
TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "I8": torch.int8, "U8": torch.uint8, "I32": torch.int32,
         "I64": torch.int64, "F8_E4M3": torch.float8_e4m3fn}
torch.set_num_threads(1)
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def tensors_of(directory):
    found = {}
    for path in sorted(pathlib.Path(directory).glob("*.safetensors")):
        header, data = split_safetensors(path)
        for name, t in header.items():
            if name != "__metadata__":
                part = bytearray(data[slice(*t["data_offsets"])])
                found[name] = torch.frombuffer(part, dtype=TYPES[t["dtype"]]).reshape(t["shape"])
    return found


def nibbles(packed):
    """[n, k] codes from bytes, the low nibble first."""
    b = packed.contiguous().view(torch.uint8)
    return torch.stack((b & 15, b >> 4), -1).flatten(-2).long()


def spread(scale, shape):
    """A scale for each weight, from [n or blocks, groups or blocks]."""
    for dim in range(2):
        scale = scale.repeat_interleave(-(-shape[dim] // scale.shape[dim]), dim)
    return scale[: shape[0], : shape[1]]


def values(parts):
    """float32 weights by the definitions."""
    scale = parts["weight_scale"]
    if "weight" in parts:  # int8, float8; blocks are of 128, of which edges may be cut
        codes = parts["weight"].float()
        if scale.shape != (codes.shape[0], 1):
            scale = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)[: codes.shape[0], : codes.shape[1]]
        return codes * scale.float()
    if "weight_shape" in parts:  # int4
        n, k = parts["weight_shape"].tolist()
        return (nibbles(parts["weight_packed"])[:, :k] - 8).float() * spread(scale.float(), (n, k))
    codes = E2M1[nibbles(parts["weight_packed"])]
    if "weight_global_scale" in parts:  # nvfp4
        return codes * (spread(scale.float(), codes.shape) / parts["weight_global_scale"])
    return codes * spread(torch.exp2(scale.float() - 127), codes.shape)


def write_source(directory):
    """Two layers of qwen3_moe's names, wide enough for every scheme; the last inputs of a block are cut."""
    hidden, wide, heads, experts = 256, 128, 192, 3
    shapes = {"lm_head.weight": (320, hidden), "model.embed_tokens.weight": (320, hidden), "model.norm.weight": (hidden,)}
    for layer in range(2):
        p = f"model.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj"):
            shapes[f"{p}self_attn.{name}.weight"] = (heads if name == "q_proj" else heads // 3, hidden)
        shapes[f"{p}self_attn.o_proj.weight"] = (hidden, heads if layer else 128)
        shapes[f"{p}mlp.gate.weight"] = (experts, hidden)
        for e in range(experts):
            for name in ("gate_proj", "up_proj"):
                shapes[f"{p}mlp.experts.{e}.{name}.weight"] = (wide, hidden)
            shapes[f"{p}mlp.experts.{e}.down_proj.weight"] = (hidden, wide)
    generator = torch.Generator().manual_seed(5)
    header, data = {}, b""
    for name, shape in shapes.items():
        t = (torch.randn(shape, generator=generator) * 0.05).bfloat16()
        part = t.view(torch.int16).numpy().tobytes()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    directory.mkdir()
    write_safetensors(directory / "model.safetensors", header, data)
    (directory / "config.json").write_text(json.dumps({"model_type": "qwen3_moe"}))


class CompressedTensors(unittest.TestCase):
    def test_every_scheme(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            write_source(folder / "source")
            source = tensors_of(folder / "source")
            for scheme in SCHEMES:
                with self.subTest(scheme=scheme):
                    out = folder / scheme
                    result = run("quantize", folder / "source", out, "--scheme", scheme)
                    self.assertEqual(result.returncode, 0, result.stderr)
                    self.check(source, tensors_of(out), json.loads((out / "config.json").read_text()))

    def check(self, source, written, config):
        quantization = QuantizationConfig.model_validate(config["quantization_config"])
        (group,) = quantization.config_groups.values()
        compressor = BaseCompressor.get_value_from_registry(quantization.format)
        names = set(compressor.compression_param_names(group))
        # Which modules the library would treat as compressed: a Linear for every matrix of the source.
        modules = {name.removesuffix(".weight") for name, t in source.items()
                   if t.dim() == 2 and name.endswith(".weight") and "embed" not in name}
        tree = torch.nn.Module()
        for name in modules:
            parent = tree
            *path, last = name.split(".")
            for part in path:
                if part not in parent._modules:
                    parent.add_module(part, torch.nn.Module())
                parent = parent._modules[part]
            parent.add_module(last, torch.nn.Linear(1, 1, bias=False))
        matched = {name for name, _ in match_named_modules(tree, group.targets, quantization.ignore)}
        self.assertGreater(len(matched), 10)
        for module in sorted(modules):
            parts = {name[len(module) + 1 :]: t for name, t in written.items()
                     if name.rpartition(".")[0] == module}
            if module not in matched:
                self.assertEqual(set(parts), {"weight"}, module)
                self.assertTrue(torch.equal(parts["weight"], source[module + ".weight"]), module)
                continue
            self.assertEqual(set(parts), names, module)
            ours = values(parts)
            theirs = compressor.decompress(
                {name: t.float() if name == "weight_scale" and t.dtype == torch.bfloat16 else t
                 for name, t in parts.items()}, group)["weight"]
            self.assertEqual(theirs.shape, source[module + ".weight"].shape)
            self.assertTrue(torch.equal(theirs, ours.to(theirs.dtype)), module)
            # And they are the source's, as closely as four or eight bits allow.
            original = source[module + ".weight"].float()
            error = ((ours - original).norm() / original.norm()).item()
            self.assertLess(error, 0.04 if "weight" in parts else 0.3, module)
        others = {name for name in written if name.rpartition(".")[0] not in modules}
        self.assertEqual(others, {name for name in source if name.removesuffix(".weight") not in modules})


if __name__ == "__main__":
    set_program(sys.argv.pop(1))
    unittest.main()
