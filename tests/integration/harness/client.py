"""A client that sends exactly the bytes it is given, and reads responses strictly."""

import re
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field

from cryptography import x509

from harness.limits import within

SECONDS_MAX = 20


class Cut(Exception):
    """The connection ended inside a response."""


@dataclass
class Response:
    status: int
    reason: str
    version: str
    fields: list
    body: bytes = b""
    trailers: list = field(default_factory=list)
    interim: list = field(default_factory=list)  # 1xx responses that came before

    def values(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]

    def value(self, name):
        values = self.values(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    def text(self):
        return self.body.decode("utf-8", "replace")


class Client:
    """One connection, plain or TLS."""

    def __init__(self, port, host="127.0.0.1", tls=None, name=None, timeout=SECONDS_MAX,
                 receive_buffer=None, session=None, source=None):
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.sock.bind((source, 0))
        self.sock.settimeout(within(timeout))
        self.sock.connect((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname=name, session=session)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, *parts):
        for part in parts:
            self.sock.sendall(part if isinstance(part, bytes) else part.encode("latin-1"))

    def get(self, target="/", host="example.test", fields=(), method="GET", body=None):
        """Sends a request and reads its response."""
        self.send(request(method, target, host, fields, body))
        return self.response(method)

    def more(self):
        try:
            data = self.sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        except ssl.SSLError as error:
            if "EOF" not in str(error):
                raise
            data = b""
        self.buffer += data
        return bool(data)

    def until(self, mark):
        while mark not in self.buffer:
            if not self.more():
                raise Cut(f"before {mark!r}: {self.buffer[-200:]!r}")
        data, self.buffer = self.buffer.split(mark, 1)
        return data

    def exactly(self, count):
        parts, have = [self.buffer[:count]], min(count, len(self.buffer))
        self.buffer = self.buffer[count:]
        while have < count:
            if not self.more():
                raise Cut(f"{count - have} of {count} bytes missing")
            part, self.buffer = self.buffer[:count - have], self.buffer[count - have:]
            parts.append(part)
            have += len(part)
        return b"".join(parts)

    def head(self):
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, reason = (lines[0].split(" ", 2) + [""])[:3]
        assert version in ("HTTP/1.1", "HTTP/1.0"), lines[0]
        fields = [(n, v.strip(" \t")) for n, _, v in (l.partition(":") for l in lines[1:])]
        return Response(int(status), reason, version, fields)

    def response(self, method="GET"):
        """The next final response, whole; Cut when it ends early."""
        interim = []
        response = self.head()
        while response.status < 200 and response.status != 101:
            interim.append(response)
            response = self.head()
        response.interim = interim
        if method == "HEAD" or response.status in (101, 204, 304):
            return response
        if (response.value("transfer-encoding") or "").lower() == "chunked":
            self.chunked(response)
        elif response.value("content-length") is not None:
            response.body = self.exactly(int(response.value("content-length")))
        else:
            while self.more():
                pass
            response.body, self.buffer = self.buffer, b""
        return response

    def chunked(self, response):
        parts = []
        while size := int(self.until(b"\r\n").split(b";")[0], 16):
            parts.append(self.exactly(size))
            assert self.exactly(2) == b"\r\n"
        while line := self.until(b"\r\n"):
            name, _, value = line.decode("latin-1").partition(":")
            response.trailers.append((name, value.strip()))
        response.body = b"".join(parts)

    def until_end(self):
        """All that comes before the server closes."""
        while self.more():
            pass
        rest, self.buffer = self.buffer, b""
        return rest

    def closed(self, seconds=10):
        """Whether the server closes, with nothing more sent, within the time."""
        self.sock.settimeout(within(seconds))
        try:
            return not self.more() and not self.buffer
        except TimeoutError:
            return False

    def certificate(self):
        """What the server presented, checked or not."""
        return x509.load_der_x509_certificate(self.sock.getpeercert(binary_form=True))


def request(method="GET", target="/", host="example.test", fields=(), body=None):
    text = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n"
    text += "".join(f"{n}: {v}\r\n" for n, v in fields)
    if body is not None:
        text += f"Content-Length: {len(body)}\r\n"
    return (text + "\r\n").encode("latin-1") + (body or b"")


def trusting(root_pem, **settings):
    """A client's TLS context that trusts one root and checks names."""
    context = ssl.create_default_context(cadata=root_pem)
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def trusting_anything():
    """For looking at certificates that nobody should trust."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# Linux: a received segment comes with the time at which it arrived (socket(7)).
SO_TIMESTAMPNS = 35


def arrival(note):
    seconds, nanoseconds = struct.unpack("qq", note[:16])
    return seconds + nanoseconds / 1e9


class PausedHandshake:
    """A handshake whose ClientHello is sent, and which looks at the answer when told to.

    Costs the client nothing while it waits: a hundred of them measure the server alone.
    """

    def __init__(self, port, name, context, source=None):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=within(SECONDS_MAX),
                                             source_address=(source, 0) if source else None)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.sent_at, self.first_byte_at = time.time(), None
        self.advance()

    def fileno(self):
        return self.sock.fileno()

    def advance(self):
        """True when the handshake is done."""
        try:
            self.tls.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            done = False
        if self.outgoing.pending:
            self.sock.sendall(self.outgoing.read())
        return done

    def take(self):
        """Reads what has come, and notes when the first of it did: by the kernel's clock, however
        late this process is to look."""
        data, notes, _, _ = self.sock.recvmsg(65536, 256)
        if self.first_byte_at is None:
            self.first_byte_at = next((arrival(note) for _, kind, note in notes
                                       if kind == SO_TIMESTAMPNS), time.time())
        if not data:
            self.incoming.write_eof()
        self.incoming.write(data)

    def finish(self):
        while not self.advance():
            self.take()

    def get(self, host, target="/"):
        """One request over the finished handshake; (status, body)."""
        self.tls.write(request(target=target, host=host, fields=[("Connection", "close")]))
        self.sock.sendall(self.outgoing.read())
        data = b""
        while not whole(data):
            try:
                data += self.tls.read(65536)
            except ssl.SSLWantReadError:
                self.take()
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body

    def certificate(self):
        return x509.load_der_x509_certificate(self.tls.getpeercert(binary_form=True))

    def close(self):
        self.sock.close()


def whole(data):
    """Whether `data` is a whole response with a Content-Length."""
    head, end, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return bool(end) and len(body) >= int(length.group(1))
