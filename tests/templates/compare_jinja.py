#!/usr/bin/env python3
"""Renders random and chosen templates with python3-jinja2, set up as transformers does, and with render_driver, and
compares the bytes. Exit 77 (skipped) when jinja2 is not installed.

    compare_jinja.py --driver PATH [--count 2000] [--seed 1] [--show 10]
    compare_jinja.py --write constructs.jsonl      # the chosen templates with Python's results, for the unit test

Where Python refuses, the driver must refuse too, and the other way round. Left out of the comparison: what Jinja2 shows
as an address, and integers beyond 64 bits.
"""
import argparse
import datetime
import json
import random
import subprocess
import sys
import warnings

warnings.filterwarnings("ignore", category=SyntaxWarning)  # of the Python that Jinja2 makes

try:
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import SandboxedEnvironment
except ImportError:
    print("SKIPPED: python3-jinja2 is not installed")
    sys.exit(77)

NOW = 1767323045


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def environment():
    # Not the immutable sandbox: the driver lets a template change its own lists, and is checked in that too.
    env = SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(
        tzinfo=None).strftime(f)
    return env


CONTEXT = {
    "messages": [
        {"role": "system", "content": "Be  kind.\n"},
        {"role": "user", "content": " Grüße, 世界! 😀 <|user|> \"q\" 'x' \\ & <tag>\t"},
        {"role": "assistant", "content": None, "reasoning_content": "Two\nlines", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": {"a": 1, "b": [1.5, None, True], "ü": "é"}}}]},
        {"role": "tool", "content": [{"type": "text", "text": "part one"}, {"type": "image"}], "name": "f"},
        {"role": "user", "content": "<think>why</think>\n\nbye"},
    ],
    "n": 7, "m": -3, "zero": 0, "big": 9007199254740993, "f": 2.5, "g": -0.1, "tiny": 1e-07, "huge": 1e+16, "t": True, "no": False,
    "none_value": None, "empty": "", "s": "Hello, World", "u": "straße ÉCOLE ǆ ﬁn Σίσυφος ΟΔΟΣ", "lines": "one\ntwo\r\nthree\n\nfive",
    "blank": " \n\t ", "num": " 42 ", "fnum": "3.75", "words": "the quick-brown fox (jumps) over", "l": [3, 1, 2, 10, -5], "names": ["bob", "Alice", "carol", "alice", "Bob"],
    "nested": [[1, 2], [3, [4, 5]], []], "e": [], "d": {"b": 2, "a": 1, "C": [1, {"x": "y"}], "items": "own", "1": None}, "ed": {},
    "rows": [{"k": "x", "v": 1, "in": {"z": 3}}, {"k": "y", "v": 2, "in": {"z": 1}}, {"k": "X", "v": 3}, {"k": "x", "v": 0, "in": {"z": 2}}],
    "floats": [0.5, 1.5, 2.675, -1.005, 100.0, 1e22, 123456789.123], "mixed": [1, "a", None, 2.0, True, [1], {"q": 1}],
    "ctl": "\u0000\u0001\u007f\u00a0\u2028\u200b\ud7ff end",
}

STRINGS = ["s", "u", "lines", "blank", "num", "fnum", "words", "empty", "'a,b,,c'", "'xxabxx'", "\"it's\"", "messages[1].content", "messages[4].content",
           "ctl", "'%'", "'{}'", "names[0]", "'A' 'b'", "'\\n\\t\\\\ \\x41 \\u00e9 \\q'", "messages[0]['role']"]
INTS = ["n", "m", "zero", "3", "-2", "1", "0", "2", "10", "l[0]", "l|length", "s|length", "big", "t", "5 // 2", "messages|length"]
FLOATS = ["f", "g", "tiny", "huge", "1.0", "0.1", "2.675", "1e3", "floats[0]", "n / 2", "3.0"]
LISTS = ["l", "names", "nested", "e", "rows", "floats", "mixed", "[1, 'two', 3.0]", "(1, 2)", "('x',)", "range(4)", "range(5, 0, -2)", "messages",
         "s.split(', ')", "lines.splitlines()", "d.keys()|list", "d|list", "d.values()|list", "d.items()|list", "names|sort", "[n, [n]]", "messages[3].content"]
DICTS = ["d", "ed", "messages[0]", "messages[2]", "rows[0]", "{'k': n, 'z': [1, 2]}", "dict(a=1, b='x')", "messages[2].tool_calls[0].function.arguments"]
ODD = ["missing", "d.nope", "d['nope']", "none_value", "none", "l[99]", "messages[0].x", "no"]
NAMES_OF_TESTS = ["defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "integer", "float", "boolean", "true", "false", "callable", "lower", "upper"]


class Generator:
    def __init__(self, rng):
        self.rng = rng
        self.loops = 0

    def one(self, *options):
        return self.rng.choice(options)

    def any(self, depth):
        return getattr(self, self.one("string", "string", "integer", "number", "sequence", "mapping", "boolean", "odd"))(depth)

    def odd(self, depth):
        return self.rng.choice(ODD)

    def string(self, depth):
        r = self.rng
        if depth <= 0 or r.random() < 0.25:
            return r.choice(STRINGS)
        a, b = self.string(depth - 1), self.string(depth - 1)
        i, j = self.integer(0), self.integer(0)
        options = [
            f"({a} + {b})", f"({a} ~ {self.any(depth - 1)})", f"{a}[{i}:]" if r.random() < 0.5 else f"{a}[:{i}]", f"{a}[{i}:{j}]", f"{a}[::{self.one('-1', '2', '-2', '1')}]",
            f"({a})[{i}]", f"({a})|upper", f"({a})|lower", f"({a})|title", f"({a})|capitalize", f"({a})|trim", f"({a})|trim('aHx')", f"({a})|replace('l', {b})",
            f"({a})|replace({self.one(chr(39) + 'o' + chr(39), b)}, 'Q', 2)", f"({a}).upper()", f"({a}).lower()", f"({a}).title()", f"({a}).capitalize()", f"({a}).swapcase()",
            f"({a}).strip()", f"({a}).strip('Hd ')", f"({a}).lstrip()", f"({a}).rstrip('\\n')", f"({a}).replace('e', {b})", f"({a}).replace('', '-', 3)", f"({a}).ljust(12)",
            f"({a}).rjust(12, '*')", f"({a}).center(11)", f"({a}).zfill(8)", f"({a})|center(15)", f"({a}).removeprefix('He')", f"({a}).removesuffix('ld')",
            f"({self.sequence(depth - 1)})|join(', ')", f"({self.sequence(depth - 1)})|join", f"rows|join('/', attribute='k')", f"', '.join({self.one('names', 's', 'd')})", f"({self.any(depth - 1)})|string",
            f"({self.any(depth - 1)})|tojson", f"({self.any(depth - 1)})|tojson(indent={self.one('2', '0', 'none', '4')})", f"({self.any(depth - 1)})|tojson(ensure_ascii=true)",
            f"({self.mapping(depth - 1)})|tojson(sort_keys=true)", f"({self.mapping(depth - 1)})|tojson(separators=(',', ':'))", f"({a} if {self.boolean(depth - 1)} else {b})",
            f"({self.any(depth - 1)})|default({b})", f"({self.any(depth - 1)})|d({b}, true)", f"({a})|indent(2)", f"({a})|indent(3, true, {self.one('true', 'false')})", f"({a})|reverse",
            f"({a})|first", f"({a})|last", f"({a})|truncate(9)", f"({a})|truncate(7, true, '')", f"'%s-%05d|%-6s|%x' % ({a}, {i}, {b}, 255)", f"'%s and %r' | format({a}, {b})",
            f"'%6.2f %e %g' % ({self.number(0)}, {self.number(0)}, {self.number(0)})", f"'{{}} {{1}}'.format({a}, {b})" if r.random() < 0.1 else f"'{{}}:{{!r:>8}}|{{:<6}}'.format({a}, {b}, {i})",
            f"'{{0}}{{x[0]}}{{0:^9}}{{y:+.2f}}'.format({i}, x={self.one('l', 'names')}, y={self.number(0)})", f"'{{:,}} {{:#x}} {{:b}} {{:.3}}'.format({i}, 255, 5, {self.number(0)})", f"({a})|escape", f"({a})|e|replace('&', '+')",
            f"({a})|safe", f"({a})|urlencode", f"({a}).split({self.one('', chr(39) + ' ' + chr(39))})|last", f"({a}).partition('o')[{self.one('0', '2')}]", f"({a}).expandtabs(4)", f"({a})|string * {self.one('2', '0', '-1')}",
            f"strftime_now('{self.one('%Y-%m-%d', '%d %b %Y', '%A %j %H:%M:%S %p', '%-d %B %y %U %W %V %G')}')", f"({a}|upper).split('L')|join('_')", f"'a' ~ {self.number(depth - 1)} ~ none ~ true",
        ]
        return r.choice(options)

    def integer(self, depth):
        r = self.rng
        if depth <= 0 or r.random() < 0.4:
            return r.choice(INTS)
        a, b = self.integer(depth - 1), self.integer(depth - 1)
        return r.choice([
            f"({a} + {b})", f"({a} - {b})", f"({a} * {b})" if r.random() < 0.3 else f"({a} + 1)", f"({a} // {b})", f"({a} % {b})", f"(-{a})", f"{self.one('2', '-3', '10')} ** {self.one('3', '0', '2')}",
            f"({self.string(depth - 1)})|length", f"({self.sequence(depth - 1)})|count", f"({self.string(depth - 1)})|int", f"({self.string(depth - 1)})|int(5)", f"'0x1F'|int(0, 16)", f"({self.number(depth - 1)})|int",
            f"({a})|abs", f"({self.string(depth - 1)}).find('o')", f"({self.string(depth - 1)}).rfind('l')", f"({self.string(depth - 1)}).count('l')", f"l|sum", f"rows|sum(attribute='v')", f"l|max", f"l|min",
            f"({self.string(depth - 1)})|wordcount", f"l.index(2)", f"names.count('bob')", f"({a})|round", f"({a})|round(-1)", f"1 + ({a} if {self.boolean(0)} else {b})", "words.find('o', 3, -2)", "+n",
        ])

    def number(self, depth):
        r = self.rng
        if depth <= 0 or r.random() < 0.4:
            return r.choice(FLOATS + INTS)
        a, b = self.number(depth - 1), self.number(depth - 1)
        return r.choice([f"({a} / {b})", f"({a} * 1.5)", f"({a} + {b})", f"({a} - {b})", f"({a} // {b})", f"({a} % {b})", f"({a})|round(2)", f"({a})|round(1, 'floor')", f"({a})|round(method='ceil')", f"({a})|float",
                         f"({self.string(depth - 1)})|float", f"({a})|abs", "2 ** -1", "2.0 ** 3", "floats|max", "floats|sum", "-f", f"({self.string(0)})|float(1.25)", "1_000.5", "0xff", "1e3"])

    def sequence(self, depth):
        r = self.rng
        if depth <= 0 or r.random() < 0.3:
            return r.choice(LISTS)
        a = self.sequence(depth - 1)
        i, j = self.integer(0), self.integer(0)
        return r.choice([
            f"[{self.any(depth - 1)}, {self.any(depth - 1)}]", f"({self.any(depth - 1)}, {self.any(depth - 1)})", f"({a})[{i}:]", f"({a})[:{j}]", f"({a})[{i}:{j}:{self.one('1', '2', '-1')}]", f"({a})[::-1]", f"(({a})|list + l)",
            f"({a})|list", f"({a})|reverse|list", f"names|sort", f"names|sort(case_sensitive=true)", f"l|sort(reverse=true)", f"rows|sort(attribute='k,v')", f"rows|sort(attribute='v', reverse=true)", f"({a})|unique|list", f"names|unique|list",
            f"names|map('upper')|list", f"names|map('replace', 'b', 'X')|list", f"rows|map(attribute='k')|list", f"rows|map(attribute='in.z', default='-')|list", f"({a})|map('string')|list", f"({a})|map('length')|list",
            f"({a})|select|list", f"({a})|reject|list", f"({a})|select('string')|list", f"({a})|reject('none')|list", f"l|select('gt', {i})|list", f"l|select('divisibleby', 2)|list", f"l|reject('in', [1, 2])|list",
            f"rows|selectattr('in')|list", f"rows|selectattr('k', 'equalto', 'x')|list", f"rows|rejectattr('v', 'lt', 2)|list", f"rows|selectattr('in', 'defined')|map(attribute='v')|list", f"rows|groupby('k')", f"rows|groupby('k')|map('first')|list",
            f"rows|groupby('v')|map(attribute='grouper')|list", f"rows|groupby('k', case_sensitive=true)|map(attribute='list')|map('length')|list", f"({self.mapping(depth - 1)})|dictsort", f"d|dictsort(true)", f"({self.mapping(depth - 1)}).items()|list",
            f"({self.mapping(depth - 1)})|items|list", f"({self.mapping(depth - 1)}).keys()|list", f"({a})|batch(2)|list", f"({a})|batch(3, 'fill')|list", f"({a})|slice(2)|list", f"({a})|slice(3, 0)|list", f"({self.string(depth - 1)})|list",
            f"({self.string(depth - 1)}).split()", f"({self.string(depth - 1)}).split('o', 1)", f"({self.string(depth - 1)}).rsplit(none, 1)", f"({self.string(depth - 1)}).rsplit('l', 1)", f"({self.string(depth - 1)}).splitlines(true)", f"({self.string(depth - 1)}).partition('l')",
            f"({self.string(depth - 1)}).rpartition('o')", f"range({i})|list", f"range({i}, {j})|list", f"l * 2", f"[[]] * 2", f"({a})|list|reverse|list", "d.items()", "d.keys()", "range(3)", "'abc'|list|map('upper')|join|list",
        ])

    def mapping(self, depth):
        r = self.rng
        if depth <= 0 or r.random() < 0.5:
            return r.choice(DICTS)
        return r.choice([f"{{'a': {self.any(depth - 1)}, 'b': {self.any(depth - 1)}}}", f"{{{self.integer(0)}: 'i', {self.number(0)}: 'f', {self.boolean(0)}: 'b', none: 'n'}}", f"dict({self.mapping(depth - 1)}, z={self.any(depth - 1)})",
                         f"dict([('k', {self.any(depth - 1)})])", f"({self.mapping(depth - 1)}).copy()"])

    def boolean(self, depth):
        r = self.rng
        if depth <= 0 or r.random() < 0.15:
            return r.choice(["t", "no", "true", "false", "n > 3", "s is string", "missing is defined"])
        a, b = self.any(depth - 1), self.any(depth - 1)
        op = self.one("==", "!=", "==", "<", "<=", ">", ">=")
        k = self.one("string", "integer", "number", "sequence")
        x, y, z = (getattr(self, k)(depth - 1) for _ in range(3))
        return r.choice([
            f"({a} {self.one('==', '!=')} {b})", f"({x} {op} {y})", f"({x} {op} {y} {self.one('<', '==', '>=')} {z})", f"({a} is {self.one('', 'not ')}{self.one(*NAMES_OF_TESTS)})", f"(not {self.boolean(depth - 1)})",
            f"({self.boolean(depth - 1)} and {self.boolean(depth - 1)})", f"({self.boolean(depth - 1)} or {self.boolean(depth - 1)})", f"({self.string(depth - 1)} {self.one('in', 'not in')} {self.one(self.string(depth - 1), self.sequence(depth - 1), self.mapping(depth - 1))})",
            f"({a} in {self.sequence(depth - 1)})", f"({self.string(depth - 1)}).startswith('{self.one('H', 'on', '')}')", f"({self.string(depth - 1)}).endswith(('d', '\\n', 'x'))", f"({self.integer(depth - 1)} is {self.one('odd', 'even', 'divisibleby 3', 'divisibleby(2)')})",
            f"({self.string(depth - 1)}).{self.one('isdigit', 'isalpha', 'isupper', 'islower', 'isspace', 'isalnum', 'istitle', 'isnumeric', 'isascii')}()", f"({a} is sameas {self.one('none', 'true', 'false')})", f"({x} is {self.one('eq', 'ne', 'lt', 'ge')}({y}))",
            f"({a} is in [1, 'a', none])", f"({self.mapping(depth - 1)}).get('a', {a}) is none", f"({a}) is {self.one('string', 'mapping')}",
        ])

    # ---- statements ----

    def text(self):
        return self.rng.choice(["text", " ", "\n", "  \n", "\n\n", "a b", "{ x }", "<|im_start|>", "\n    ", "é", "% }", "- ", "\t", "{# note #}", "{#- note -#}", "\n  {# note #}\n", "{% raw %} {{ x }} {% endraw %}\n", "  {%- raw -%} {% x {%- endraw -%}  "])

    def tag(self, body):
        r = self.rng.random
        left = "-" if r() < 0.3 else "+" if r() < 0.05 else ""
        right = "-" if r() < 0.3 else "+" if r() < 0.05 else ""
        return "{%" + left + " " + body + " " + right + "%}"

    def out(self, expr):
        r = self.rng.random
        return "{{" + ("-" if r() < 0.2 else "") + " " + expr + " " + ("-" if r() < 0.2 else "") + "}}"

    def body(self, depth):
        return "".join(self.text() + self.statement(depth) for _ in range(self.rng.randint(1, 3))) + self.text()

    def statement(self, depth):
        r = self.rng
        t, o = self.tag, self.out
        if depth <= 0 or r.random() < 0.3:
            return o(self.any(3) if r.random() < 0.6 else self.string(4))
        kind = r.choice(["if", "if", "for", "for", "for", "set", "set", "setblock", "ns", "macro", "call", "filter", "with", "recursive", "generation", "caller", "mutate", "print", "groupby", "cond"])
        b = self.body(depth - 1)
        if kind == "if":
            text = t(f"if {self.boolean(2)}") + b
            for _ in range(r.randint(0, 2)):
                text += t(f"elif {self.boolean(2)}") + self.body(depth - 1)
            return text + (t("else") + self.body(depth - 1) if r.random() < 0.5 else "") + t("endif")
        if kind == "for":
            target, source = self.one(("x", self.sequence(2)), ("x", self.sequence(2)), ("k, v", f"{self.mapping(1)}.items()"), ("k, v", f"{self.mapping(1)}|dictsort"), ("c", self.string(1)), ("k", self.mapping(1)), ("k, v", "d|items"))
            name = target.split(",")[0]
            condition = self.one("", "", "", f" if {name} is string", f" if {name} != 1", f" if {self.boolean(1)}")
            inner = b + o(f"loop.{self.one('index', 'index0', 'first', 'last', 'length', 'revindex', 'revindex0', 'depth', 'depth0')}") + o(self.one(name, "k", f"loop.previtem", "loop.nextitem is defined", "loop.cycle('a', 'b', 3)", f"loop.changed({name} is string)", f"{name}|string", f"{name}.k", f"(loop.nextitem|default('end'))"))
            if r.random() < 0.3:
                inner += t(f"if {self.one(f'loop.index {self.one(chr(62), chr(61) * 2)} 2', self.boolean(1))}") + self.one(t("break"), t("continue")) + t("endif") + "tail"
            if r.random() < 0.3:
                inner = t(f"set y = {self.any(2)}") + inner + o("y")
            return t(f"for {target} in {source}{condition}") + inner + (t("else") + self.body(depth - 1) if r.random() < 0.3 else "") + t("endfor") + o(self.one("x", "y", "k", "loop", "''"))
        if kind == "set":
            return self.one(t(f"set y = {self.any(3)}") + b + o("y"), t("set y, z = [1, 'two']") + o("z ~ y"), t(f"set y = {self.any(2)}, {self.any(1)}") + o("y"), t(f"if {self.boolean(1)}") + t("set y = 5") + t("endif") + o("y"))
        if kind == "setblock":
            return t("set y" + self.one("", " | upper", " | trim | replace('e', '3')")) + b + t("endset") + o(self.one("y", "y|length", "y|tojson"))
        if kind == "ns":
            return t(f"set ns = namespace(a={self.any(2)}, count=0)") + t("for q in l") + t("set ns.count = ns.count + q") + t(f"if q > {self.integer(0)}") + t(f"set ns.a = {self.any(2)}") + t("endif") + t("endfor") + o("ns.count") + o("ns.a") + o("ns.missing is defined") + o("ns")[:0]
        if kind == "macro":
            uses = self.one("", o("varargs"), o("kwargs"), o("varargs") + o("kwargs|dictsort"))
            call = self.one("mac(1)", f"mac({self.any(2)}, {self.any(1)})", f"mac(b={self.any(1)})", "mac()", "mac(1, 2, 3)", "mac(1, z=3)", f"mac({self.any(1)}, c='C')", "mac(*[1, 2])", "mac(**{'a': 1})")
            return t(f"macro mac(a, b={self.any(1)}, c=a)") + b + o("a") + o("b") + o("c") + uses + t("endmacro") + o(call) + o(f"{call}|upper") + o(self.one("mac.name", "mac is callable", "a is defined"))
        if kind == "call":
            return t("macro box(title, n=2)") + "[" + o("title") + ":" + o("caller(n, 'q')") + "]" + t("endmacro") + t(f"call(i, j='d') box({self.string(1)})") + o("i") + b + o("j") + t("endcall")
        if kind == "caller":
            return t("macro outer()") + "(" + o("caller()") + ")" + t("endmacro") + t("call outer()") + b + t("endcall") + o(self.one("caller is defined", "''"))
        if kind == "filter":
            return t("filter " + self.one("upper", "trim", "replace('a', 'b')", "indent(2)|upper")) + b + t("endfilter")
        if kind == "with":
            return t(f"with y = {self.any(2)}, w = y|default('outer')") + b + o("y") + o("w") + t("endwith") + o("w")
        if kind == "recursive":
            return t("for x in nested recursive") + o("loop.depth") + t("if x is iterable and x is not string") + o("loop(x)") + t("else") + o("x") + t("endif") + t("endfor")
        if kind == "generation":
            return t("generation") + b + t("endgeneration")
        if kind == "mutate":
            return t("set q = [3, 1]") + t(self.one(f"set _ = q.append({self.any(1)})", "set _ = q.extend(names)", "set _ = q.insert(1, 'i')", "set _ = q.pop(0)", "set _ = q.pop()", "set _ = q.remove(3)", "set _ = q.reverse()", "set _ = q.sort()")) + o("q") + t("set h = {'a': 1}") + t(self.one("set _ = h.update({'b': 2})", "set _ = h.update(c=3)", "set _ = h.pop('a')", "set _ = h.pop('zz', 5)", "set _ = h.setdefault('k', [])", "set _ = h.clear()")) + o("h") + o("_")
        if kind == "groupby":
            return t(f"for g, rs in rows|groupby('{self.one('k', 'v')}')") + o("g") + ":" + o("rs|map(attribute='v')|join('+')") + t("endfor")
        if kind == "print":
            return t(f"print {self.any(2)}, {self.any(1)}")
        return o(f"{self.any(2)} if {self.boolean(2)}")


CHOSEN = [
    "{{ -0.1|round(method='ceil') }}{{ g|round(0, 'ceil') }}", "{{ d|truncate(9) is mapping }}{{ missing|truncate(3) }}", "{{ 5|truncate }}",
    "a\n", "a\n\n", "", "\n", "  {% if t %}  \n x\n  {% endif %}  \n y", "{{ 1 }}\n{{ 2 }}\n", "\t{%+ if t %}\nx{% endif +%}\ny", "{%- if t -%}\n x \n{%- endif -%}\n z", "a {#- c -#} b", "a\n  {# c #}\n b", "x{# c #}\ny", "{# a #}{# b #}\n  {# c #}  {# d #}\nq",
    "{{ '\\u00e9' '\\n' \"\\\"\" }}", "{{ '\\é' }}", "{{ \"a\\\nb\" }}", "{{ '\\101\\0' }}", "{{-1}}", "{{- 1 -}} x", "{{ {'a': {'b': 1}}['a']['b'] }}", "{{ {} }}", "{{ {}['x'] }}", "{{ [] }}{{ () }}{{ (1,) }}{{ 1, 2 }}", "{{ [1,][0] }}", "{{ x }}{% set x = 1 %}{{ x }}",
    "{% for i in [1,2] %}{% set x = i %}{% endfor %}{{ x is defined }}", "{% set x = 0 %}{% for i in [1,2] %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}", "{% if t %}{% set x = 1 %}{% endif %}{{ x }}", "{% macro a() %}{{ x }}{% endmacro %}{% set x = 5 %}{{ a() }}{% set x = 6 %}{{ a() }}",
    "{% macro a() %}{% set x = 9 %}{{ x }}{% endmacro %}{% set x = 5 %}{{ a() }}{{ x }}", "{% for i in range(3) %}{% macro a() %}{{ i }}{% endmacro %}{{ a() }}{% endfor %}", "{% set f = s.upper %}{{ f() }}", "{{ s['upper']() }}", "{{ d.items is callable }}{{ d['items'] }}", "{{ d.items() }}",
    "{% for i in l if i > 1 %}{{ loop.index }}/{{ loop.length }}{{ i }}{% endfor %}", "{% set ns = namespace(f=false) %}{% for i in l if not ns.f %}{{ i }}{% if i == 1 %}{% set ns.f = true %}{% endif %}{% endfor %}", "{% set ns = namespace(f=false) %}{% for i in l if not ns.f %}{{ loop.length }}{{ i }}{% set ns.f = true %}{% endfor %}",
    "{% for i in l if not loop %}{% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for i in none %}{% endfor %}", "{% for i in missing %}{% else %}none{% endfor %}", "{% for i in 5 %}{% endfor %}",
    "{{ missing.x }}", "{{ missing() }}", "{{ missing + 1 }}", "{{ missing ~ 'x' }}", "{{ missing|length }}{{ missing|list }}{{ missing|upper }}", "{{ missing == missing2 }}{{ missing == none }}", "{{ not missing }}", "{{ missing in [1] }}{{ 1 in missing }}", "{{ none + 1 }}", "{{ -missing }}", "{{ missing < 1 }}", "{{ [missing] }}",
    "{{ missing|int }}", "{{ missing|tojson }}", "{{ [missing]|tojson }}", "{{ missing|join }}|{{ missing|first }}|{{ missing|last }}|{{ missing|sum }}", "{{ none|length }}", "{{ 5|length }}", "{{ 5[0] }}|{{ none.x }}|{{ none['x'] }}|{{ n.foo is defined }}", "{{ s[99] }}|{{ s['x'] }}|{{ l['x'] }}|{{ l[none] }}|{{ l[1.0] }}|{{ l[true] }}", "{{ d[[1]] }}", "{{ {[1]: 2} }}", "{{ none_value[1:] }}", "{{ s['a':] }}", "{{ l[::0] }}",
    "{{ 1 < 2 < 3 }}{{ 1 < 3 < 2 }}{{ 'a' < 'b' }}{{ [1,2] < [1,3] }}{{ (1,) < (1,2) }}", "{{ 'a' < 1 }}", "{{ none < 1 }}", "{{ {} < {} }}", "{{ 1 == 1.0 == true }}{{ 1 == '1' }}{{ none == false }}{{ [1] == (1,) }}{{ {'a': 1} == {'a': 1.0} }}", "{{ 1 is integer }}{{ true is integer }}{{ true is number }}{{ 1.0 is float }}",
    "{{ 7 // 2 }}{{ -7 // 2 }}{{ 7 % -3 }}{{ -7 % 3 }}{{ 7.5 // 2 }}{{ -7.5 % 2 }}{{ 2 ** 10 }}{{ 2 ** -1 }}{{ 7 / 2 }}{{ 6 / 2 }}", "{{ 1 / 0 }}", "{{ 1 // 0 }}", "{{ 1 % 0 }}", "{{ 1.5 % 0 }}", "{{ 0.1 + 0.2 }} {{ 1e100 }} {{ 1e16 }} {{ 123456789012345680.0 }} {{ 1e-5 }} {{ 0.0001 }} {{ -0.0 }} {{ 1e400 }} {{ -1e400 }}", "{{ 2 ** 2 ** 3 }}{{ -2 ** 2 }}{{ (-2) ** 2 }}{{ not 1 == 2 }}",
    "{{ 1 if false }}|{{ (1 if false) is defined }}", "{{ 1 if true else 2 if true else 3 }}", "{{ 'a' if 0 else 'b' if 0 else 'c' }}", "{{ true and 5 }}{{ 0 or '' or 'x' }}{{ '' and 1 }}", "{{ True }}{{ None }}{{ False }}{{ none }}", "{{ 'a' 'b' ~ 'c' 'd' }}", "{{ 1 ~ 2 + 3 }}", "{{ 'x' * 3 }}{{ 3 * 'x' }}{{ [0] * 2 }}{{ 'x' * 2.0 }}", "{{ 'a' + 1 }}", "{{ 1 + 'a' }}", "{{ [1] + 'a' }}", "{{ [1] + (2,) }}", "{{ true + true }}",
    "{{ [1, 'a\\'b', \"q\\\"\", 'both\\'\"', 1.0, none, true, (), {'k': [1]}, 'é', '\\n\\x00\\x7f\\u200b'] }}", "{{ ctl }}|{{ [ctl] }}|{{ ctl|tojson }}|{{ ctl|tojson(ensure_ascii=true) }}", "{{ {1: 2, 1.5: 3, none: 4, true: 5, 'x': 6}|tojson }}", "{{ {(1, 2): 3}|tojson }}", "{{ {(1, 2): 3} }}", "{{ (1, [2, (3,)])|tojson(indent=1) }}", "{{ [[], {}, [[]], {'a': {}}]|tojson(indent=2) }}",
    "{{ [1, 2]|tojson(indent='--') }}", "{{ [1, {'a': 2}]|tojson(indent=0) }}", "{{ range(3)|tojson }}", "{{ [1e400, -1e400]|tojson }}", "{{ d|tojson(indent=2, sort_keys=true, separators=('; ', ' = ')) }}", "{{ {1: 1, 'a': 2}|tojson(sort_keys=true) }}", "{{ range(10) }}{{ range(1, 10, 2) }}{{ range(5)[1:3] }}{{ range(5)[-1] }}{{ range(3) == range(0, 3) }}", "{{ range(100001) }}", "{{ range(3.0) }}", "{{ range(1, 2, 0) }}",
    "{{ 'abc'.foo }}|{{ 'abc'.foo is defined }}", "{{ 'abc'.foo() }}", "{{ s.split(sep=',', maxsplit=1) }}", "{{ s.split('') }}", "{{ 'a b  c'.split(' ') }}{{ ' a b '.split() }}{{ ''.split() }}{{ ''.split(',') }}{{ 'a,b,c'.rsplit(',', 1) }}{{ ' a b c '.rsplit(none, 1) }}{{ ' a b c '.split(none, 1) }}", "{{ 'abcabc'.find('c', 3) }}{{ 'abc'.find('', 3) }}{{ 'abc'.find('', 4) }}{{ 'abc'.index('z') }}",
    "{{ 'aaa'.replace('a', 'b', 2) }}{{ 'aaa'.replace('', '-') }}{{ 'é'.replace('', '-') }}{{ 'aaa'.count('a') }}{{ 'aaa'.count('') }}{{ 'aaaa'.count('aa') }}", "{{ 'abc'.startswith('b', 1) }}{{ 'abc'.endswith('b', 0, 2) }}{{ 'abc'.startswith('', 4) }}{{ 'abc'.startswith(['a']) }}", "{{ 'a-b c'.title() }}{{ \"it's bob's\".title() }}{{ \"it's (bob's) <x>\"|title }}", "{{ u.upper() }}|{{ u.lower() }}|{{ u.title() }}|{{ u.capitalize() }}|{{ u.swapcase() }}|{{ u.casefold() }}",
    "{{ 'ΑΣ ΑΣΑ Σ'.lower() }}", "{{ u[2:5] }}{{ u[-3:] }}{{ u[::-1] }}{{ u[4] }}{{ u|length }}{{ u|first }}{{ u|last }}{{ u|reverse }}{{ u|list }}", "{{ '٣'.isdigit() }}{{ '²'.isdigit() }}{{ '½'.isnumeric() }}{{ 'ª'.islower() }}", "{{ '%s' % none }}{{ '%s' % [1] }}{{ '%d%%' % 3.9 }}{{ '%(a)s' % {'a': 1} }}{{ '%5s|%-5s|%05d|%+d|% d' % ('a', 'b', 42, 3, 4) }}", "{{ '%s' % (1, 2) }}", "{{ '%s %s' % 1 }}", "{{ '%d' % 'a' }}", "{{ '%q' % 1 }}", "{{ '%c%c' % (65, 'é') }}{{ '%#x %o %X' % (255, 8, 255) }}{{ '%.3s|%.2f|%10.3e|%g|%g' % ('abcdef', 2.675, 12345.678, 1e10, 0.0001) }}",
    "{{ '{} {}'.format(1, 'a') }}{{ '{1}{0}'.format(1, 2) }}{{ '{a.b}'.format(a={'b': 1}) }}{{ '{{}}'.format() }}{{ '{:>{w}}'.format('x', w=5) }}", "{{ '{}'.format() }}", "{{ '{'.format() }}", "{{ '{x}'.format(y=1) }}", "{{ '{:d} {:5} {:<5}| {:^5} {:05} {:+} {:,} {:x} {:b} {:o} {:c} {:e} {:.1%}'.format(1, 2, 3, 4, -5, 6, 1234567, 255, 5, 8, 65, 12345.678, 0.256) }}", "{{ '{:.2f} {:10.3} {:g} {:.0f}'.format(3.14159, 2.0, 1e20, 2.5) }}", "{{ '{:s}'.format(1) }}", "{{ '{!r} {!s}'.format('a', 'b') }}", "{{ '{0.upper}'.format('a') is string }}",
    "{{ 2.5|round }}{{ 3.5|round }}{{ 2.675|round(2) }}{{ 1234|round(-2) }}{{ 1250|round(-2) }}{{ 1.25|round(1) }}{{ 42|round }}{{ 42.55|round(1, 'floor') }}{{ -2.5|round }}{{ true|round }}", "{{ 'x'|round }}", "{{ '12'|int }}{{ ' 12 '|int }}{{ '1_000'|int }}{{ '1.9'|int }}{{ 'x'|int }}{{ 'x'|int(7) }}{{ '0x1f'|int(0, 16) }}{{ 'ff'|int(0, 16) }}{{ '0b11'|int(0, 0) }}{{ none|int }}{{ [1]|int(3) }}{{ 3.99|int }}{{ -3.99|int }}{{ true|int }}{{ 'inf'|int }}{{ '-5'|int }}{{ '+5'|int }}{{ '- 5'|int }}", "{{ '1.5'|float }}{{ 'x'|float }}{{ 'nan'|float }}{{ '1e3'|float }}{{ '-inf'|float }}{{ '.5'|float }}{{ '5.'|float }}{{ none|float(2.0) }}{{ '0x10'|float }}{{ ''|float }}",
    "{{ 'a'|abs }}", "{{ -5|abs }}{{ (-5)|abs }}{{ -5.5|abs }}", "{{ [3,1,2]|sort|first }}{{ []|first }}|{{ []|last }}|{{ []|max }}|{{ []|min is defined }}", "{{ [1,'a']|sort }}", "{{ [1,'a']|max }}", "{{ ['b','A','c']|max }}{{ ['b','A','c']|min }}{{ ['b','A','c']|sort(case_sensitive=true) }}", "{{ rows|max(attribute='v') }}", "{{ l|map('nosuch')|list }}", "{{ l|select('nosuch')|list }}", "{{ l|nosuch }}", "{{ l is nosuch }}", "{% if no %}{{ l|nosuch }}{% endif %}ok", "{{ names|map('upper') is iterable }}{{ names|map('upper') is sequence }}", "{{ names|map('upper')|length }}", "{% set g = names|map('upper') %}{{ g|list }}{{ g|list }}", "{% set g = names|map('upper') %}{{ g|first }}{{ g|join(',') }}",
    "{{ d|items is mapping }}{{ 5|items|list }}", "{{ d.get('zz') }}{{ d.get('zz', 1) }}{{ d.get('a') }}{{ d|length }}{{ d.keys()|length }}{{ 'a' in d }}{{ 'a' in d.keys() }}{{ 1 in d.values() }}", "{{ d.pop('zz') }}", "{{ l.index(99) }}", "{{ l.remove(99) }}", "{{ [].pop() }}", "{{ dict(1) }}", "{{ dict([(1, 2)], a=3) }}{{ dict() }}", "{{ namespace(a=1).a }}{{ namespace({'b': 2}).b }}", "{% set ns = namespace() %}{% set ns.x = 1 %}{{ ns.x }}{{ ns.y }}{{ ns['x'] }}", "{% set d.x = 1 %}", "{% set nn.x = 1 %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{% set _ = c.reset() %}{{ c.next() }}", "{% set j = joiner('|') %}{{ j() }}a{{ j() }}b{{ j() }}", "{{ cycler() }}", "{% macro m(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ m() }}|{{ m(1) }}|{{ m(1, b=3) }}|{{ m(b=1, a=2) }}", "{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m() }}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}", "{% macro m(a) %}{% endmacro %}{{ m(q=2) }}", "{% macro m(a, b=a ~ '!') %}{{ b }}{% endmacro %}{{ m('x') }}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro m() %}x{% endmacro %}{% call m() %}{% endcall %}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% call(x) nosuch() %}{% endcall %}", "{{ m }}{% macro m() %}{% endmacro %}{{ m }}", "{{ loop is defined }}", "{% for i in [1] %}{% for j in [2] %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}", "{% for i in [1,2] %}{% set outer = loop %}{% for j in [1,2] %}{{ outer.index }}{{ loop.index }}{% endfor %}{% endfor %}", "{% for i in [1,2,3] %}{{ loop.previtem }}{{ loop.nextitem }}{% endfor %}", "{% for c in 'aabbc' %}{% if loop.changed(c) %}{{ c }}{% endif %}{% endfor %}", "{% for i in [1,2,3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% else %}none{% endfor %}", "{% for i in [] %}{% else %}none{% endfor %}", "{% for i in [1,2] %}{% break %}{% else %}none{% endfor %}", "{% for i in d %}{{ i }}{% endfor %}", "{% for x in [1,[2,[3]]] recursive %}{{ loop(x) if x is iterable else x }}{{ loop.depth }}{% endfor %}", "{% for x in [1] %}{{ loop([1]) }}{% endfor %}",
    "{% with %}{% set q = 1 %}{% endwith %}{{ q }}", "{% with a=1, b=2 %}{{ a }}{{ b }}{% endwith %}", "{% set a %}x{% set b = 1 %}{% endset %}{{ a }}{{ b }}", "{% filter upper %}a{{ s }}{% endfilter %}", "{% block b %}in{{ s }}{% endblock %}", "{% for i in [1] %}{% block b %}{{ i }}{% endblock %}{% endfor %}", "{% for i in [1] %}{% block b scoped %}{{ i }}{% endblock %}{% endfor %}", "{% if %}{% endif %}", "{% nosuch %}", "{% endif %}", "{% if t %}", "{% for x in l %}", "{{ 1", "{{ }}", "{% set %}", "{% set 1 = 2 %}", "{% set none = 2 %}", "{% for loop in l %}{% endfor %}", "{{ a b }}", "{{ (1 }}", "{{ [1 }}", "{{ 1] }}", "{{ 'abc }}", "{{ @ }}", "{{ a.1 }}{{ l.0 }}{{ nested.1.0 }}", "{{ a. }}", "{{ f(a=1, 2) }}", "{{ f(**a, *b) }}", "{{ 'a' is string is string }}", "{# unclosed", "{% raw %}x", "{% raw %}{{ x }}{% endraw %}", "{{ n is divisibleby 7 }}{{ n is divisibleby(2) }}{{ n is eq 7 }}{{ n is not none and n }}", "{{ 1 is in [1,2] }}{{ 3 is not in [1] }}{{ 'a' in 'abc' }}{{ 1 in 'abc' }}", "{{ none in none }}", "{{ l is sameas l }}{{ 'x' is filter }}{{ 'upper' is filter }}{{ 'odd' is test }}",
    "{{ ('<a>'|safe) + '<b>' }}{{ '<a>'|e }}{{ '<a>'|e|e }}{{ '<a>'|e|forceescape }}{{ ('<'|e) ~ '<' }}{{ ['<'|e] }}", "{{ 'a b&c/d?é'|urlencode }}{{ {'a b': 'c/d'}|urlencode }}{{ [('x', 1)]|urlencode }}", "{{ 1000|filesizeformat }}{{ 1|filesizeformat }}{{ 123456789|filesizeformat(true) }}{{ 500|filesizeformat }}", "{{ 'foo bar baz qux'|truncate(9) }}{{ 'foo bar baz qux'|truncate(9, true) }}{{ 'foo bar baz qux'|truncate(11) }}{{ 'x'|truncate(1) }}", "{{ 'a\n\nb'|indent }}|{{ 'a\n\nb'|indent(2, true, true) }}|{{ 'a\nb'|indent('> ') }}", "{{ d|attr('a') }}|{{ s|attr('upper') is callable }}", "{{ raise_exception('bad: ' ~ n) }}", "{{ strftime_now('%Y-%m-%d %H:%M:%S %a %A %b %B %d %j %p %I %y %% %U %W %w %u %e %-m %-d') }}", "{% generation %}a{{ s }}\n{% endgeneration %}\nb", "{% for i in [1,2] %}{% generation %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endgeneration %}{% endfor %}", "{% print 1, 'a' %}", "{% set x = 1, %}{{ x }}", "{% set (a, b) = (1, 2) %}{{ a }}{{ b }}", "{% autoescape false %}{{ '<' }}{% endautoescape %}",
    "{{ 'a'.join([1]) }}", "{{ 'a'.join(['x', 'y']) }}{{ ','.join(d) }}{{ ','.join('abc') }}", "{{ 'abc'[1] }}{{ 'abc'[-1] }}{{ 'abc'[1:] }}{{ 'abc'[:-1] }}{{ 'abc'[5:] }}{{ 'abc'[-9:2] }}{{ 'abcdef'[4:1:-1] }}{{ 'abc'[none:none] }}", "{{ 'x'.zfill(3) }}{{ '-5'.zfill(4) }}{{ 'ab'.center(5) }}{{ 'abc'.center(6, '*') }}{{ 'ab'|center(7) }}{{ 'x'.ljust(3, 'ab') }}", "{{ 1.0.is_integer() }}{{ 1.5.is_integer() }}", "{{ 0x1F }}{{ 0b101 }}{{ 0o17 }}{{ 1_000 }}{{ 1.5e3 }}{{ 1E2 }}{{ 00 }}", "{{ 1.e3 }}", "{{ l|batch(2)|list }}{{ l|slice(3)|list }}{{ l|slice(0)|list }}", "{{ 'ß'.upper() }}{{ 'ŉ'.title() }}{{ 'ǆ'.title() }}{{ 'İ'.lower()|length }}", "{{ lines.splitlines() }}{{ lines|replace('\n', '|') }}", "{{ [1,2,3]|sum(start=10) }}{{ [[1],[2]]|sum(start=[]) }}{{ ['a']|sum }}", "{{ {'b':1,'A':2,'c':0}|dictsort }}{{ {'b':1,'A':2,'c':0}|dictsort(by='value') }}{{ {'b':1,'A':2}|dictsort(reverse=true) }}", "{{ [1, 1.0, true, '1', 2]|unique|list }}{{ ['a', 'A']|unique|list }}{{ ['a', 'A']|unique(true)|list }}", "{{ [[1]]|unique|list }}",
    "{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|map('trim')|list|tojson }}", "{{ messages|map(attribute='content')|select('string')|join('\n') }}", "{{ (messages|last).content.split('</think>')[-1].lstrip('\\n') }}", "{{ messages[-1]['content'].split('<think>')[0] ~ '|' }}", "{%- for message in messages -%}\n  {{- '<|' + message['role'] + '|>' -}}\n  {%- if message.content is string %}{{ message.content | trim }}{% elif message.content %}{% for p in message.content %}{{ p.text or p['type'] }}{% endfor %}{% endif %}\n{% endfor %}",
]


def render(env, source, context):
    try:
        return {"output": env.from_string(source).render(**context)}
    except RecursionError:
        return None
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"}


def comparable(source, expected):
    if expected is None:
        return False
    text = expected.get("output", "") + expected.get("error", "")
    if " object at 0x" in text or "<bound method" in text or "<built-in" in text or "<function" in text or "jinja2.utils" in text or "<loopcontext" in text.lower():
        return False
    # Python's integers have no end; ours stop at 64 bits and say so.
    digits = 0
    for c in text:
        digits = digits + 1 if c.isdigit() else 0
        if digits > 18:
            return False
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--driver")
    parser.add_argument("--write")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=10)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    env = environment()
    sources, expected = [], []
    random_count = 0
    for source in CHOSEN:
        want = render(env, source, json.loads(json.dumps(CONTEXT)))
        sources.append(source)
        expected.append(want if comparable(source, want) else None)
    if args.write:
        with open(args.write, "w") as f:
            f.write(json.dumps({"context": CONTEXT, "now": NOW}, ensure_ascii=False) + "\n")
            for source, want in zip(sources, expected):
                if want is not None:
                    f.write(json.dumps({"source": source, **want}, ensure_ascii=False) + "\n")
        return 0
    if not args.driver:
        parser.error("--driver is needed")
    while random_count < args.count:
        generator = Generator(rng)
        source = generator.body(rng.randint(1, 3)) if rng.random() < 0.7 else generator.out(generator.any(4))
        want = render(env, source, json.loads(json.dumps(CONTEXT)))
        # Most random templates that fail tell little: half of them are kept.
        if not comparable(source, want) or ("error" in want and rng.random() < 0.5):
            continue
        sources.append(source)
        expected.append(want)
        random_count += 1
    lines = "".join(json.dumps({"source": s, "context": CONTEXT, "now": NOW}) + "\n" for s in sources)
    run = subprocess.run([args.driver], input=lines.encode(), stdout=subprocess.PIPE, check=False)
    replies = [json.loads(line) for line in run.stdout.decode().rstrip("\n").split("\n")]
    if run.returncode or len(replies) != len(sources):
        print(f"the driver ended with {run.returncode} after {len(replies)} of {len(sources)} templates:\n{sources[len(replies):][:1]}")
        return 1
    bad = refused = skipped = 0
    for source, want, got in zip(sources, expected, replies):
        if want is None:
            skipped += 1
            continue
        refused += "error" in want
        if ("error" in want) == ("error" in got) and want.get("output") == got.get("output"):
            continue
        bad += 1
        if bad <= args.show:
            print(f"--- template\n{source}\n--- jinja2\n{want}\n--- ours\n{got}\n")
    print(f"jinja2 {jinja2.__version__}: {len(sources)} templates, {refused} refused by both sides where Python refuses, {skipped} not comparable, {bad} differ")
    return 1 if bad else 0


sys.exit(main())
