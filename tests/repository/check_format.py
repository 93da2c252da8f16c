#!/usr/bin/env python3
"""check_format.py ROOT: C++ sources are as clang-format 14 leaves them. Exit 77 (skipped) when that version is not installed."""
import pathlib
import shutil
import subprocess
import sys

root = pathlib.Path(sys.argv[1])
tool = shutil.which("clang-format-14") or shutil.which("clang-format")
version = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout if tool else ""
if " 14." not in version:
    print("skipped: clang-format 14 is not installed")
    sys.exit(77)
files = [str(p) for d in ("src", "tests", "bench") for p in sorted((root / d).rglob("*")) if p.suffix in (".h", ".cpp", ".cu", ".cuh")]
run = subprocess.run([tool, "--dry-run", "-Werror", *files], capture_output=True, text=True)
bad = sorted({line.split(":")[0] for line in run.stderr.splitlines() if "error: code should be clang-formatted" in line})
print(*(f"{pathlib.Path(b).relative_to(root)}: run clang-format" for b in bad), sep="\n")
print(f"{len(files)} files, {len(bad)} not formatted")
sys.exit(bool(bad) or run.returncode)
