#!/usr/bin/env python3
"""Every honoured flag has a reader: the field it sets is used outside src/config.

Usage: check_flags.py SOURCE_DIR. Exit 1 and the list if a flag is called honoured and nothing looks at its value.
"""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1]) / "src"
rows = "\n".join(p.read_text() for p in sorted((root / "config").glob("flags_*.cpp")))
readers = "\n".join(p.read_text() for folder in ("app", "server", "engine") for p in sorted((root / folder).rglob("*"))
                    if p.suffix in (".cpp", ".h") and "_test" not in p.name)
words = set(re.findall(r"\w+", readers))

honoured = re.findall(r'\bhonoured\(\s*"([^"]+)".*?MOESTRO_FIELD\(([\w.]+)\)', rows, re.S)
unread = [f"{names.split()[0]} sets {field}" for names, field in honoured if field.split(".")[-1] not in words]
if len(honoured) < 60:
    sys.exit(f"only {len(honoured)} honoured flags found: has the form of the rows changed?")
if unread:
    sys.exit("honoured, but nothing reads the value:\n  " + "\n  ".join(unread))
print(f"{len(honoured)} honoured flags, all read")
