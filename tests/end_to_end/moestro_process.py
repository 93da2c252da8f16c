"""What the end-to-end tests share: running the moestro program, a server of their own on a free port, raw requests
to it, and safetensors files. Standard library only. The program's path comes from set_program()."""
import array
import contextlib
import http.client
import json
import os
import pathlib
import socket
import struct
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# One thread that floats: these tests share a machine with others, where two pinned ones would wait for each other.
FAST = ["--threads", "1", "--no-pin-threads"]
_program = None


def set_program(path):
    global _program
    _program = os.path.abspath(path)


def run(*args, timeout=120):
    """The finished process; .stdout and .stderr are text."""
    return subprocess.run([_program, *map(str, args)], capture_output=True, text=True, errors="replace", timeout=timeout,
                          stdin=subprocess.DEVNULL)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def message(self):
        return self.json["error"]["message"]


class Server:
    """`moestro serve` on a free port, ended by close(). Its log is .log()."""

    def __init__(self, *args, fast=FAST):
        self._log = tempfile.TemporaryFile()  # a file: nobody empties a pipe while a test runs
        self.process = subprocess.Popen([_program, "serve", "--port", "0", "--json", *fast, *map(str, args)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log)
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise RuntimeError(f"moestro serve ended with {self.process.returncode}: {self.log()}")
        self.ready = json.loads(line)
        self.address, self.port, self.model = self.ready["address"], self.ready["port"], self.ready["model"]

    def log(self):
        return os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self._log.close()

    def terminate(self):
        self.process.terminate()

    @contextlib.contextmanager
    def connection(self, timeout=60):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            yield connection
        finally:
            connection.close()

    def request(self, method, path, body=None, headers=None, timeout=60):
        """body: bytes, or anything that JSON can hold."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        with self.connection(timeout) as connection:
            connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def post(self, path, body, **kwargs):
        return self.request("POST", path, body, **kwargs)

    def stream(self, path, body):
        """A socket file on which the answer's events arrive, and the socket, both open."""
        data = json.dumps({**body, "stream": True}).encode()
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                           f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return connection, connection.makefile("rb")

    def metric(self, name):
        """The sum over the metric's labels."""
        text = self.request("GET", "/metrics").body.decode()
        values = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                  if line.startswith((name + " ", name + "{"))]
        if not values:
            raise KeyError(name)
        return sum(values)

    def steps(self):
        return self.request("GET", "/health").json["steps"]


def wait_until(condition, seconds=30, pause=0.02):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


def read_safetensors(path):
    """{name: (shape, values)} of F32 and I32 tensors; the header as it stands under None."""
    data = pathlib.Path(path).read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + n])
    tensors = {}
    for name, t in header.items():
        if name == "__metadata__":
            continue
        begin, end = t["data_offsets"]
        values = array.array({"F32": "f", "I32": "i"}[t["dtype"]])
        values.frombytes(data[8 + n + begin : 8 + n + end])
        tensors[name] = (t["shape"], values)
    return tensors


def split_safetensors(path):
    """The header as a dict, and the bytes after it."""
    data = pathlib.Path(path).read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + n]), data[8 + n :]


def write_safetensors(path, header, data):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)
