"""Tunnels of the storm over both versions: bytes that have to come back."""

import socket

from harness.http2 import Ended
from harness.http2_frames import Code, data, rst_stream
from storm.http1 import REQUEST_SECONDS_MAX, reset
from storm.plan import body_of


class Http1Tunnel:
    def __init__(self, client):
        self.client = client

    def send(self, piece):
        self.client.send(piece)

    def receive(self):
        """The next bytes; b"" at an orderly end; OSError when it was cut."""
        if self.client.buffer:
            piece, self.client.buffer = self.client.buffer, b""
            return piece
        return self.client.sock.recv(65536)

    def end(self):
        self.client.sock.shutdown(socket.SHUT_WR)

    @property
    def shows_cuts(self):
        return not self.client.secure  # ssl hides a missing close_notify

    @property
    def half_closes(self):
        return not self.client.secure  # ssl has no way to say its end alone

    def cut(self):
        reset(self.client.sock)


class Http2Tunnel:
    shows_cuts = half_closes = True

    def __init__(self, client, stream):
        self.client, self.stream, self.taken = client, stream, 0

    def send(self, piece):
        self.client.send_body(self.stream, piece, end=False)

    def receive(self):
        client, found = self.client, self.client.streams[self.stream]

        def more():
            return len(found.response.body) > self.taken
        client.until(lambda: more() or client.over(self.stream), "more of a tunnel",
                     REQUEST_SECONDS_MAX)
        piece = bytes(found.response.body[self.taken:])
        self.taken += len(piece)
        if not piece and not found.ended:
            raise ConnectionResetError(f"stream reset with {found.reset}")
        return piece

    def end(self):
        self.client.send(data(self.stream, b"", end=True))

    def cut(self):
        self.client.send(rst_stream(self.stream, Code.CANCEL))


def talk(tunnel, record, conduct):
    """Sends piece by piece, each when the one before has come back."""
    plan = record.plan
    sent, total = body_of(plan.id, "tunnel", sum(plan.pieces)), 0
    record.shows_cuts = tunnel.shows_cuts
    conduct = "" if conduct == "half-close" and not tunnel.half_closes else conduct
    try:
        for i, count in enumerate(plan.pieces):
            tunnel.send(sent[total:total + count])
            total += count
            if conduct == "cut" and i == len(plan.pieces) // 2:
                tunnel.cut()
                record.finish("cancelled")
                return
            if conduct == "half-close" and i == len(plan.pieces) - 1:
                tunnel.end()
            while record.got < total:
                piece = tunnel.receive()
                if not piece:
                    record.finish("whole", "the other side ended")
                    return
                if piece != sent[record.got:record.got + len(piece)]:
                    record.wrong = f"wrong bytes after {record.got}: {piece[:60]!r}"
                record.got += len(piece)
        if conduct == "half-close":
            rest = tunnel.receive()
            if rest:
                record.wrong = f"bytes that nobody sent: {rest[:60]!r}"
        record.finish("whole", "all came back")
    except TimeoutError:
        raise
    except (OSError, Ended) as error:
        record.finish("cut", repr(error)[:200])
