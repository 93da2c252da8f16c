#!/usr/bin/env python3
"""check_binary.py MOESTRO: the binary needs only glibc's libraries and is at most 60 MB, so it runs by copying."""
import os
import re
import subprocess
import sys

ALLOWED = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"}
LIMIT = 60_000_000
binary = sys.argv[1]
dynamic = subprocess.run(["readelf", "-d", binary], capture_output=True, text=True, check=True).stdout
needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
size = os.path.getsize(binary)
print(f"{size / 1e6:.1f} MB, NEEDED: {', '.join(sorted(needed))}")
bad = []
if not needed:
    bad.append("no NEEDED entry was read: is this a dynamic executable?")
if needed - ALLOWED:
    bad.append(f"needs {', '.join(sorted(needed - ALLOWED))}, which a bare system lacks; link it statically")
if size > LIMIT:
    bad.append(f"{size} bytes; {LIMIT} is the limit")
print(*bad, sep="\n")
sys.exit(bool(bad))
