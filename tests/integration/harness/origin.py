"""An origin that keeps every byte it was sent, and misbehaves when told to.

A thread a connection, plain blocking sockets: what it sends and when is exactly what a test says.
"""

import itertools
import os
import queue
import socket
import ssl
import threading
from dataclasses import dataclass, field

from harness.wait import until

READ_SECONDS_MAX = 120


@dataclass
class Recorded:
    """One request as it came."""

    head: bytes
    method: str = ""
    target: str = ""
    version: str = ""
    fields: list = field(default_factory=list)
    body: bytes = b""
    trailers: list = field(default_factory=list)
    connection: int = 0
    complete: bool = True

    def values(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]

    def value(self, name):
        values = self.values(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None


class OriginConnection:
    """What a script does with one accepted connection."""

    def __init__(self, sock, number, origin):
        self.sock, self.number, self.origin = sock, number, origin
        self.buffer = b""
        self.received = b""
        sock.settimeout(READ_SECONDS_MAX)

    def more(self):
        """Reads once; False at the end."""
        try:
            data = self.sock.recv(65536)
        except (ConnectionError, ssl.SSLError):
            data = b""
        self.buffer += data
        if len(self.received) < self.origin.keep_bytes_max:
            self.received += data
            self.origin.bytes_received += data
        return bool(data)

    def line(self):
        while b"\n" not in self.buffer:
            if not self.more():
                return None
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r")

    def exactly(self, count):
        while len(self.buffer) < count:
            if not self.more():
                return None
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def head(self):
        """The next request's head, or None at the end of the connection."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                return None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ")
        request = Recorded(head + b"\r\n\r\n", method, target, version, fields_of(lines[1:]),
                           connection=self.number)
        self.origin.heads.append(request)
        return request

    def body(self, request):
        """Reads the body into `request`; False when the connection ended inside it."""
        if (request.value("transfer-encoding") or "").lower() == "chunked":
            request.complete = self.chunked(request)
        else:
            data = self.exactly(int(request.value("content-length") or 0))
            request.complete = data is not None
            request.body = data or b""
        return request.complete

    def chunked(self, request):
        while True:
            line = self.line()
            if line is None:
                return False
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            data = self.exactly(size + 2)
            if data is None:
                return False
            request.body += data[:-2]
        lines = []
        while True:
            line = self.line()
            if line is None:
                return False
            if not line:
                request.trailers = fields_of(lines)
                return True
            lines.append(line.decode("latin-1"))

    def request(self):
        """The next whole request, recorded, or None."""
        request = self.head()
        if request is None:
            return None
        self.body(request)
        self.origin.requests.append(request)
        return request if request.complete else None

    def send(self, *parts):
        for part in parts:
            self.sock.sendall(part if isinstance(part, bytes) else part.encode("latin-1"))

    def closed_by_peer(self, seconds=10):
        """Waits for the other side to close or reset; False when it has not. A script that saw it
        has closed this side."""
        try:
            self.sock.settimeout(seconds)
            while self.more():
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def reset(self):
        """Closes with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()


def fields_of(lines):
    return [(n, v.strip(" \t")) for n, _, v in (line.partition(":") for line in lines)]


def answer(body=b"hello", status="200 OK", fields=()):
    if isinstance(body, str):
        body = body.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n"
    return (head + "".join(f"{n}: {v}\r\n" for n, v in fields) + "\r\n").encode("latin-1") + body


class Origin:
    """Listens on a free port (or a Unix socket) until stop(); `script(connection)` serves."""

    connection_class = OriginConnection

    def __init__(self, script=None, unix_path=None, tls=None):
        self.script = script or self.serve
        self.respond = lambda request: answer(b"hello")
        self.requests, self.heads, self.connections = [], [], []
        self.numbers = itertools.count()  # never twice the same
        self.bytes_received = b""
        self.keep_bytes_max = 4 << 20
        self.failures = queue.Queue()
        self.tls = tls
        if unix_path:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.bind(str(unix_path))
            self.address = f"unix:{unix_path}"
        else:
            self.sock = socket.socket()
            self.sock.bind(("127.0.0.1", 0))
            self.port = self.sock.getsockname()[1]
            self.address = f"127.0.0.1:{self.port}"
        self.sock.listen(1024)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.run, args=(sock,), daemon=True).start()

    def run(self, sock):
        if self.tls:
            try:
                sock = self.tls.wrap_socket(sock, server_side=True)
            except (OSError, ssl.SSLError):
                sock.close()
                return
        elif sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self.connection_class(sock, next(self.numbers), self)
        self.connections.append(connection)
        try:
            self.script(connection)
        except (BrokenPipeError, ConnectionError, TimeoutError, ssl.SSLError):
            pass  # the test closed its side
        except OSError:
            pass  # stop() closed ours
        except Exception as error:  # noqa: BLE001  a bug in a script must fail its test
            self.failures.put(error)
        finally:
            sock.close()

    def serve(self, connection):
        """Requests in order until the other side closes, each answered by `respond`."""
        while (request := connection.request()) is not None:
            connection.send(self.respond(request))

    def wait_requests(self, count, seconds=10):
        until(lambda: len(self.requests) >= count, f"{count} requests at the origin", seconds)
        return self.requests

    def last(self):
        assert self.requests, "no request reached the origin"
        return self.requests[-1]

    def drop_connections(self):
        """Ends every connection, also those whose thread waits for a request."""
        for connection in self.connections:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def forget(self):
        """Serves as at the beginning, and has seen nothing."""
        self.script, self.respond = self.serve, lambda request: answer(b"hello")
        for kept in (self.requests, self.heads, self.connections):
            kept.clear()
        self.bytes_received = b""

    def close_listener(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    def stop(self):
        self.close_listener()
        for connection in self.connections:
            try:
                connection.sock.close()
            except OSError:
                pass
        if self.sock.family == socket.AF_UNIX:
            path = self.address[len("unix:"):]
            if os.path.exists(path):
                os.unlink(path)
        if not self.failures.empty():
            raise self.failures.get()


class DeafListener:
    """A port whose queue is full: a connection to it is never refused and never made."""

    def __enter__(self):
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(0)
        self.address = f"127.0.0.1:{self.sock.getsockname()[1]}"
        self.queued = [socket.socket() for _ in range(4)]
        for sock in self.queued:
            sock.setblocking(False)
            sock.connect_ex(self.sock.getsockname())
        return self

    def __exit__(self, *_):
        for sock in [self.sock, *self.queued]:
            sock.close()
