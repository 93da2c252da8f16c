"""moestro repack from outside: the same logits bit by bit from the packed cache as from the checkpoint, and from the
checkpoint with one line of warning where the cache is stale, damaged or another plan's (standard library only).

    packed_cache_test.py MOESTRO [unittest arguments]
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import moestro_process as moestro
from moestro_process import FAST, ROOT, run, set_program

WARNING = "weights are read from the checkpoint"


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="moestro_packed_"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.cache = self.folder / "cache"

    def golden(self, name, scheme=None):
        model = self.folder / name
        shutil.copytree(ROOT / "tests/golden" / name, model)
        if scheme:
            result = run("quantize", model, self.folder / scheme, "--scheme", scheme, "--threads", "1")
            self.assertEqual(result.returncode, 0, result.stderr)
            shutil.copy(model / "golden.json", self.folder / scheme)
            model = self.folder / scheme
        return model

    def ok(self, *args):
        result = run(*args, *FAST)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result

    def logits(self, model, *flags):
        """The bytes of the logits, and the log."""
        out = self.folder / "logits.safetensors"
        log = self.ok("logits", model, "--input", model / "golden.json", "--output", out, "--log-level", "info",
                      "--kernel-table", "none", *flags).stderr
        return out.read_bytes(), log

    def repack(self, model, *flags):
        return json.loads(self.ok("repack", model, "--packed-cache", self.cache, "--json", *flags).stdout)

    def explained(self, model, *flags):
        return json.loads(self.ok("explain", model, "--packed-cache", self.cache, "--json", *flags).stdout)["packed_cache"]


class Same(Case):
    def check(self, model, *flags):
        plain, log = self.logits(model, *flags, "--packed-cache", self.cache)
        self.assertNotIn("packed cache", log)
        self.assertIn("moestro repack writes", self.explained(model, *flags))
        report = self.repack(model, *flags)
        self.assertEqual(os.path.getsize(report["path"]), report["bytes"])
        self.assertEqual(self.repack(model, *flags, "--verify")["result"], "checked")
        self.assertIn(report["path"], self.explained(model, *flags))
        for mode in ("map", "copy"):
            packed, log = self.logits(model, *flags, "--packed-cache", self.cache, "--packed-cache-mode", mode)
            self.assertIn("weights from the packed cache " + report["path"], log)
            self.assertEqual(packed, plain, mode)
        unused, log = self.logits(model, *flags, "--packed-cache", "none")
        self.assertNotIn("packed cache", log)
        self.assertEqual(unused, plain)

    def test_golden_models(self):
        for name, flags in (("glm_moe_dsa", ["--dtype", "float32"]), ("qwen3_moe_mixed", []), ("qwen2_moe", [])):
            with self.subTest(name):
                self.check(self.golden(name), *flags)

    def test_quantised_models(self):
        for scheme in ("int8", "int4-g32"):
            with self.subTest(scheme):
                self.check(self.golden("qwen3_moe", scheme))
                shutil.rmtree(self.folder / "qwen3_moe")  # the next one copies it again

    def test_two_processes_at_once(self):
        model = self.golden("qwen3_moe")
        command = [moestro._program, "repack", str(model), "--packed-cache", str(self.cache), *FAST]
        both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
        for process in both:
            self.assertEqual(process.wait(120), 0, process.stderr.read())
            process.stderr.close()
        self.assertEqual(len(list(self.cache.iterdir())), 1)
        self.repack(model, "--verify")


class Refused(Case):
    def setUp(self):
        super().setUp()
        self.model = self.golden("qwen3_moe")
        self.path = pathlib.Path(self.repack(self.model)["path"])
        self.plain, _ = self.logits(self.model, "--packed-cache", "none")

    def expect_checkpoint(self, reason):
        values, log = self.logits(self.model, "--packed-cache", self.cache)
        lines = [line for line in log.splitlines() if WARNING in line]
        self.assertEqual(len(lines), 1, log)
        self.assertIn(reason, lines[0])
        self.assertEqual(values, self.plain)
        self.assertIn(reason, self.explained(self.model))
        self.assertEqual(self.path, pathlib.Path(self.repack(self.model)["path"]))  # and once more, anew
        self.assertIn("come packed from", self.explained(self.model))

    def replace(self, data):
        self.path.unlink()  # what is mapped is never written over
        self.path.write_bytes(data)

    def test_truncated(self):
        data = self.path.read_bytes()
        for size in (0, 40, 4096, len(data) - 1):
            self.replace(data[:size])
            self.expect_checkpoint("damaged")

    def test_header_and_index(self):
        data = self.path.read_bytes()
        for at in (0, 13, 30, 60, 100, 700):
            self.replace(data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])
            self.expect_checkpoint("damaged")

    def test_weights_are_checked_on_demand(self):
        data = self.path.read_bytes()
        self.replace(data[:-200] + bytes([data[-200] ^ 1]) + data[-199:])
        result = run("repack", self.model, "--packed-cache", self.cache, "--verify", *FAST)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("is not as written", result.stderr)

    def test_changed_checkpoint(self):
        os.utime(self.model / "model.safetensors", ns=(1, 1))
        self.expect_checkpoint("another state of the checkpoint")
        config = json.loads((self.model / "config.json").read_text())
        config["rms_norm_eps"] = config.get("rms_norm_eps", 1e-6) * 1.0000001
        (self.model / "config.json").write_text(json.dumps(config))
        self.plain, _ = self.logits(self.model, "--packed-cache", "none")
        self.expect_checkpoint("another state of the checkpoint")

    def test_another_plan_has_another_file(self):
        self.assertIn("no " + str(self.cache), self.explained(self.model, "--dtype", "float32"))
        other = self.repack(self.model, "--dtype", "float32")["path"]
        self.assertNotEqual(other, str(self.path))
        shutil.copy(other, self.folder / "other")
        self.replace((self.folder / "other").read_bytes())
        self.expect_checkpoint("made for another plan")

    def test_places_that_cannot_be_written(self):
        result = run("repack", self.model, "--packed-cache", self.model / "config.json", *FAST)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("--packed-cache DIR names another place", result.stderr)
        result = run("repack", self.model, "--packed-cache", "none", *FAST)
        self.assertEqual(result.returncode, 2, result.stderr)
        for flags in ([], [self.model, "--load-format", "dummy"]):
            result = run("repack", *flags, "--packed-cache", self.cache, *FAST)
            self.assertEqual(result.returncode, 1, result.stderr)
        self.assertEqual(list(self.cache.iterdir()), [self.path])


if __name__ == "__main__":
    set_program(sys.argv.pop(1))
    unittest.main()
