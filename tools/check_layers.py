#!/usr/bin/env python3
"""Checks every #include of src/ against cmake/layers.txt: a folder includes only base/, itself and the folders its line lists, all of a smaller
layer. Also: headers open with #pragma once and a comment, no file is longer than 800 lines. Exit status 1 with one line a finding."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAX_LINES = 800


def read_layers():
    layers = {}
    for line in (ROOT / "cmake/layers.txt").read_text().splitlines():
        m = re.match(r"(\d+) (\w+):(.*)", line)
        if m:
            layers[m[2]] = (int(m[1]), m[3].split())
    return layers


def main():
    layers, bad = read_layers(), []
    for folder, (number, allowed) in layers.items():
        for other in allowed:
            if other not in layers:
                bad.append(f"cmake/layers.txt: {folder} lists {other}, which has no line")
            elif layers[other][0] >= number:
                bad.append(f"cmake/layers.txt: {folder} (layer {number}) lists {other} (layer {layers[other][0]})")
    for path in sorted((ROOT / "src").rglob("*")):
        if path.suffix not in (".h", ".cpp", ".cu", ".cuh"):
            continue
        name, text = path.relative_to(ROOT), path.read_text()
        folder = path.relative_to(ROOT / "src").parts[0]
        if folder not in layers:
            bad.append(f"{name}: folder {folder} has no line in cmake/layers.txt")
            continue
        lines = text.splitlines()
        if len(lines) > MAX_LINES:
            bad.append(f"{name}: {len(lines)} lines; {MAX_LINES} is the limit")
        if path.suffix == ".h":
            if "#pragma once" not in text:
                bad.append(f"{name}: no #pragma once")
            if not lines or not lines[0].startswith("//"):
                bad.append(f"{name}: does not open with a comment that says what it is")
        for number, line in enumerate(lines, 1):
            m = re.match(r'\s*#include "([^"/]+)/', line)
            if m and m[1] in layers and m[1] not in ("base", folder) and m[1] not in layers[folder][1]:
                bad.append(f"{name}:{number}: {folder} may not include {m[1]} (cmake/layers.txt)")
            if re.match(r'\s*#include "\.', line):
                bad.append(f"{name}:{number}: includes are written from src/")
    print("\n".join(bad) if bad else "layers: ok")
    return 1 if bad else 0


sys.exit(main())
