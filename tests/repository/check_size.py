#!/usr/bin/env python3
"""check_size.py ROOT: tracked files stay under 45 MiB on disk, in blocks of 4 KiB. Exit 77 (skipped) outside a git checkout."""
import os
import subprocess
import sys

LIMIT = 45 << 20
root = sys.argv[1]
listed = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True)
if listed.returncode != 0:
    print("skipped: not a git checkout")
    sys.exit(77)
names = [n for n in listed.stdout.decode().split("\0") if n]
sizes = sorted(((-(-os.path.getsize(os.path.join(root, n)) // 4096) * 4096, n) for n in names if os.path.isfile(os.path.join(root, n))), reverse=True)
total = sum(s for s, _ in sizes)
print(f"{len(sizes)} tracked files, {total / 2**20:.1f} MiB of {LIMIT / 2**20:.0f}")
if total > LIMIT:
    print("the largest:", *(f"  {s / 2**20:6.1f} MiB  {n}" for s, n in sizes[:10]), sep="\n")
sys.exit(total > LIMIT)
