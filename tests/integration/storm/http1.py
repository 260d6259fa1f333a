"""One HTTP/1.1 request of the storm, from its first byte to the end of its response."""

import contextlib
import select
import socket
import ssl
import struct
import time

from harness.client import Cut
from harness.limits import within
from storm.plan import tag_of

REQUEST_SECONDS_MAX = 30
HOST = "example.test"


def reset(sock):
    """The next close() is a TCP reset."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def head_of(plan, fields, close=False):
    lines = [f"{plan.method} {plan.path} HTTP/1.1", f"Host: {HOST}"]
    lines += [f"{n}: {v}" for n, v in fields]
    connection = [w for w, said in (("close", close), ("TE", plan.takes_trailers)) if said]
    if connection:
        lines.append("Connection: " + ", ".join(connection))
    if plan.up_chunked:
        lines.append("Transfer-Encoding: chunked")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Cancelled(Exception):
    """The client has had enough."""


class Http1Request:
    """One request on a connection, and its response."""

    def __init__(self, client, record, rng, slow):
        self.client, self.record, self.plan, self.rng = client, record, record.plan, rng
        self.slow, self.cancel, self.half_close = slow, "", False

    def run(self, fields, close):
        record = self.record
        try:
            head = head_of(self.plan, fields, close)
            if self.cancel == "head":
                self.client.send(head[:self.rng.randrange(len(head))])
                raise Cancelled
            self.client.send(head)
            record.sent_all = not (self.plan.up_bytes or self.plan.up_chunked)
            record.note("head sent")
            if self.upload():
                record.sent_all = True
                record.note("all sent")
            if self.half_close:
                self.client.sock.shutdown(socket.SHUT_WR)
            if self.cancel == "waiting":
                time.sleep(self.rng.random() / 20)
                raise Cancelled
        except Cancelled:
            record.finish("cancelled")
            return
        except TimeoutError:
            record.finish("hung", "while sending")
            return
        except OSError as error:
            record.note(f"sending: {error!r}")
        self.read()

    def upload(self):
        """False when it was not all sent: the answer came first."""
        plan, body, at = self.plan, self.plan.upload(), 0
        if plan.method not in ("POST", "PUT"):
            return True
        if plan.expects and not self.continued():
            return False
        stop = self.rng.randrange(len(body) + 1) if self.cancel == "body" else None
        while at < len(body):
            if self.answered():
                return False
            count = self.rng.choice([10, 1000, 16384]) if len(body) < 5000 else 16384
            piece = body[at:at + count]
            if stop is not None and at + len(piece) > stop:
                raise Cancelled
            at += len(piece)
            self.client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if plan.up_chunked else piece)
        if stop is not None:
            self.record.sent_all = not plan.up_chunked
            raise Cancelled
        if plan.up_chunked:
            trailer = f"X-Up: {tag_of(plan.id, 'up')}\r\n" if plan.up_trailers else ""
            self.client.send(f"0\r\n{trailer}\r\n")
        return True

    def continued(self):
        """Whether 100 Continue came rather than an answer; the head is kept for reading."""
        return not self.answered(REQUEST_SECONDS_MAX)

    def answered(self, seconds=0.0):
        """Whether a final answer has begun, or the end; waits that long for it or for a 100."""
        client, end = self.client, time.monotonic() + within(seconds)
        while not client.buffer:
            if not self.readable(end - time.monotonic()):
                return False
            client.sock.settimeout(0)
            try:
                if not client.more():
                    return True
            except (BlockingIOError, ssl.SSLWantReadError):  # of TLS, and nothing for us in it
                continue
            finally:
                client.sock.settimeout(within(REQUEST_SECONDS_MAX))
        return not client.buffer.startswith(b"HTTP/1.1 1")

    def readable(self, seconds):
        if self.client.secure and self.client.sock.pending():
            return True
        return bool(select.select([self.client.sock], [], [], max(seconds, 0))[0])

    def read(self):
        """The response to its end, compared as it comes."""
        record, client = self.record, self.client
        try:
            response = client.head()
            while response.status < 200:
                record.note(f"interim {response.status}")
                response = client.head()
            record.head(response)
            for piece in self.pieces(response):
                record.take(piece)
                if self.slow and record.got < 100_000:
                    time.sleep(0.005)
                if self.cancel == "reading" and self.rng.random() < 0.3:
                    raise Cancelled
            record.trailers = response.trailers
            record.finish("whole")
        except Cancelled:
            record.finish("cancelled", "while reading")
        except Cut as cut:
            nothing = record.status is None and not client.buffer
            record.finish("closed" if nothing else "cut", str(cut)[:100])
        except TimeoutError:
            record.finish("hung", f"while reading, with {client.buffer[:100]!r}")
        except OSError as error:
            record.finish("closed" if record.status is None else "cut", repr(error))

    def pieces(self, response):
        """The body as it comes; Cut when it is cut."""
        client = self.client
        if self.plan.method == "HEAD" or response.status in (204, 304):
            return
        if (response.value("transfer-encoding") or "").lower() == "chunked":
            while size := int(client.until(b"\r\n").split(b";")[0], 16):
                yield from self.some(size)
                assert client.exactly(2) == b"\r\n"
            while line := client.until(b"\r\n"):
                name, _, value = line.decode("latin-1").partition(":")
                response.trailers.append((name.lower(), value.strip()))
            return
        length = response.value("content-length")
        assert length is not None, f"a response with no end: {response}"
        yield from self.some(int(length))

    def some(self, left):
        client = self.client
        while left:
            if not client.buffer and not client.more():
                raise Cut(f"{left} bytes missing")
            piece, client.buffer = client.buffer[:left], client.buffer[left:]
            left -= len(piece)
            yield piece
