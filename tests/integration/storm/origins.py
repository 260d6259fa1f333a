"""The storm's origins, over HTTP/1.1 and h2c, in a process of their own.

They do what the plan of each request says and keep a ledger of what came. As a program:
`origins.py SEED` prints its ports, then the ledger for each line it reads, until its input ends.
"""

import collections
import contextlib
import heapq
import itertools
import json
import pathlib
import random
import select
import socket
import subprocess
import sys
import threading
import time
import traceback

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from hyperframe.frame import GoAwayFrame

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from harness.origin import Origin, answer  # noqa: E402
from harness.websocket import granting  # noqa: E402
from storm.plan import (  # noqa: E402
    INTERIM_FLOOD, body_of, plan_of, strikes, tag_of, tunnel_plan_of)

READ_BYTES = 65536
GARBAGE = b"\x00\xff this is no response \x80\r\n\r\n"
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Id: poison\r\n\r\npoison"
GATHER_SECONDS_MAX = 60


class Origins:
    """The other side: starts them, and asks for their ledger."""

    def __init__(self, seed):
        self.process = subprocess.Popen([sys.executable, "-B", __file__, str(seed)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ports = json.loads(self.process.stdout.readline())

    def ledger(self):
        """{"arrivals": {id: [arrival, …]}, "failures": [text, …]}"""
        self.process.stdin.write("ledger\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Ledger:
    """What came, by request id: a dict for each time."""

    def __init__(self, seed):
        self.seed, self.lock = seed, threading.Lock()
        self.arrivals, self.failures = collections.defaultdict(list), []

    def arrive(self, method, target, stated, version):
        """The new arrival, and how many there are of its id now."""
        number = target.rpartition("/")[2]
        arrival = {"at": time.time(), "method": method, "target": target, "version": version,
                   "whole": False, "bytes": 0, "wrong": ""}
        if stated != number:
            arrival["wrong"] = f"with the field X-Id: {stated}"
        with self.lock:
            self.arrivals[number].append(arrival)
            return arrival, len(self.arrivals[number])

    def take_body(self, arrival, plan, body, whole, trailers):
        """Judges what came of a body."""
        arrival["bytes"], arrival["whole"] = len(body), whole
        sent = plan.upload()
        if bytes(body) != sent[:len(body)] or (whole and len(body) != len(sent)):
            arrival["wrong"] = f"another body, of {len(body)} bytes instead of {len(sent)}"
        if whole and plan.up_trailers and ("x-up", tag_of(plan.id, "up")) not in [
                (n.lower(), v) for n, v in trailers]:
            arrival["wrong"] = f"with the trailers {trailers}"

    def text(self):
        with self.lock:
            return json.dumps({"arrivals": self.arrivals, "failures": self.failures})


# ---- HTTP/1.1

class Http1Server:
    def __init__(self, ledger):
        self.ledger = ledger

    def serve(self, connection):
        """One connection, until one of both ends it."""
        while (seen := connection.head()) is not None:
            if not self.answer(connection, seen):
                return

    def answer(self, connection, seen):
        """False when the connection ends with it."""
        arrival, count = self.ledger.arrive(seen.method, seen.target, seen.value("x-id"), "1.1")
        if seen.target.startswith("/ws/"):
            arrival["whole"] = True
            tunnel(connection, seen, tunnel_plan_of(self.ledger.seed, seen.value("x-id")))
            return False
        plan = plan_of(self.ledger.seed, seen.target.rpartition("/")[2])
        fault = strikes(plan, count)
        if fault == "early":
            send_response(connection, plan, last=True)
            connection.sock.shutdown(socket.SHUT_WR)
            connection.closed_by_peer(GATHER_SECONDS_MAX)
            return False
        if seen.value("expect"):
            connection.send("HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(plan.read_delay)
        whole = connection.body(seen)
        self.ledger.take_body(arrival, plan, seen.body, whole, seen.trailers)
        if not whole:
            return False
        time.sleep(plan.delay)
        return self.respond(connection, plan, fault)

    def respond(self, connection, plan, fault):
        if fault == "close":
            return False
        if fault == "stall":
            connection.closed_by_peer(GATHER_SECONDS_MAX)
        elif fault == "reset":
            connection.reset()
        elif fault == "garbage":
            connection.send(GARBAGE)
        elif fault == "lengths":
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")
        elif fault == "flood":
            connection.send("HTTP/1.1 103 Early Hints\r\n\r\n" * INTERIM_FLOOD)
        elif fault in ("cut", "cut by reset"):
            send_response(connection, plan, cut=True)
            if fault == "cut by reset":
                connection.reset()
        else:
            last = plan.framing == "until close" and not plan.bodyless
            send_response(connection, plan, behind=POISON if fault == "extra" else b"")
            return not last and fault != "extra" and not plan.closes_silently
        if fault == "flood":
            connection.closed_by_peer(GATHER_SECONDS_MAX)
        return False


def send_response(connection, plan, cut=False, last=False, behind=b""):
    chunked = plan.framing == "chunked" and plan.status not in (204, 304)
    head = [f"HTTP/1.1 {plan.status} Planned", f"X-Id: {plan.id}"]
    if plan.status in (204, 304):
        pass
    elif chunked:
        head.append("Transfer-Encoding: chunked")
    elif plan.framing == "length":
        head.append(f"Content-Length: {plan.down_bytes}")
    if last:
        head.append("Connection: close")
    connection.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * plan.interim)
    text = ("\r\n".join(head) + "\r\n\r\n").encode()
    if plan.bodyless:
        connection.send(text + behind)
        return
    body = body_of(plan.id, "down", plan.cut_at if cut else plan.down_bytes)
    rng = random.Random(plan.id)
    pieces, at = [], 0
    while at < len(body):
        count = rng.choice([100, 3000, 16384, 60000, len(body)])
        pieces.append(body[at:at + count])
        at += count
    if chunked:
        pieces = [b"%x\r\n%b\r\n" % (len(p), p) for p in pieces]
        if not cut:
            trailer = f"X-Down: {tag_of(plan.id, 'down')}\r\n" if plan.trailers else ""
            pieces.append(f"0\r\n{trailer}\r\n".encode())
    first = pieces.pop(0) if pieces and rng.random() < 0.7 else b""
    if behind:
        first, pieces = b"".join([first, *pieces]), []
    connection.send(text + first + behind)
    for piece in pieces:
        connection.send(piece)


def tunnel(connection, seen, plan):
    """Echoes what comes, until the plan or the client ends it."""
    if plan.fault == "refuse":
        connection.send(answer(b"no tunnel", "403 Forbidden", [("X-Id", plan.id)]))
        return
    connection.send(granting(seen, X_Id=plan.id))
    left = plan.after if plan.fault in ("cut", "ends") else None
    data, connection.buffer = connection.buffer, b""
    while data or (data := connection.sock.recv(READ_BYTES)):
        connection.send(data if left is None else data[:left])
        if left is not None:
            left -= len(data)
            if left <= 0 and plan.fault == "cut":
                connection.reset()
                return
            if left <= 0:
                connection.sock.shutdown(socket.SHUT_WR)
                connection.closed_by_peer(GATHER_SECONDS_MAX)
                return
        data = b""


# ---- h2c

class Http2Stream:
    def __init__(self, plan, arrival, fault):
        self.plan, self.arrival, self.fault = plan, arrival, fault
        self.body = bytearray()
        self.left, self.after = None, None  # to be sent, and what follows it


def closed_streams():
    """Around sending: of what was read at once, an end may be known to h2 and not yet to us."""
    return contextlib.suppress(h2.exceptions.ProtocolError)


class Http2Connection:
    """One connection: a thread, one loop, streams by their plans."""

    def __init__(self, sock, ledger):
        self.sock, self.ledger = sock, ledger
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=False, header_encoding="utf-8", validate_outbound_headers=False))
        self.h2.local_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = 50
        self.h2.initiate_connection()
        self.streams, self.due, self.order = {}, [], itertools.count()
        self.last, self.final, self.over = 0, None, False

    def later(self, delay, what, *arguments):
        heapq.heappush(self.due, (time.monotonic() + delay, next(self.order), what, arguments))

    def run(self):
        try:
            while not self.over:
                self.flush()
                wait = max(0, self.due[0][0] - time.monotonic()) if self.due else 120
                if select.select([self.sock], [], [], wait)[0]:
                    data = self.sock.recv(READ_BYTES)
                    if not data:
                        break
                    for event in self.h2.receive_data(data):
                        self.take(event)
                while self.due and self.due[0][0] <= time.monotonic() and not self.over:
                    _, _, what, arguments = heapq.heappop(self.due)
                    what(*arguments)
                for number in list(self.streams):
                    self.pump(number)
                if self.final is not None and not self.streams:
                    self.over = True
        except h2.exceptions.ProtocolError as error:
            # The fault of the program under test, but where the storm itself broke the rules.
            if self.final is None:
                self.ledger.failures.append("HTTP/2 at the origin: " + "".join(
                    traceback.format_exception(error)))
        self.flush()

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def take(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.begin(event.stream_id, dict(event.headers))
        elif isinstance(event, h2.events.DataReceived):
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                stream.body += event.data
            self.later(stream.plan.read_delay if stream else 0, self.acknowledge,
                       event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived) and event.stream_id in self.streams:
            self.streams[event.stream_id].trailers = event.headers
        elif isinstance(event, h2.events.StreamEnded) and event.stream_id in self.streams:
            self.note_body(event.stream_id, True)
            stream = self.streams[event.stream_id]
            if stream.fault != "early":
                self.later(stream.plan.delay, self.respond, event.stream_id)
        elif isinstance(event, h2.events.ConnectionTerminated) and event.error_code:
            self.ledger.failures.append(f"GOAWAY at the origin: {event}")
        elif isinstance(event, h2.events.StreamReset):
            if event.stream_id in self.streams:
                if not self.streams[event.stream_id].arrival["whole"]:
                    self.note_body(event.stream_id, False)
                del self.streams[event.stream_id]

    def begin(self, number, fields):
        if self.final is not None and number > self.final:
            return
        self.last = number
        arrival, count = self.ledger.arrive(fields[":method"], fields[":path"],
                                            fields.get("x-id"), "2")
        plan = plan_of(self.ledger.seed, fields[":path"].rpartition("/")[2])
        stream = self.streams[number] = Http2Stream(plan, arrival, strikes(plan, count))
        stream.trailers = []
        if stream.fault == "early":
            self.respond(number)
        elif "expect" in fields:
            with closed_streams():
                self.h2.send_headers(number, [(":status", "100")])

    def note_body(self, number, whole):
        stream = self.streams[number]
        self.ledger.take_body(stream.arrival, stream.plan, stream.body, whole, stream.trailers)

    def acknowledge(self, count, number):
        if count:
            try:
                self.h2.acknowledge_received_data(count, number)
            except h2.exceptions.StreamClosedError:
                self.h2.increment_flow_control_window(count)

    def respond(self, number):
        if number in self.streams:
            with closed_streams():
                self.respond_to(number, self.streams[number])

    def respond_to(self, number, stream):
        plan, fault = stream.plan, stream.fault
        if fault == "stall":
            return
        if fault in ("reset", "refused"):
            self.reset(number, 2 if fault == "reset" else 7)
            return
        if fault == "goaway at once":
            self.goaway(max(number - 2, 0))
            del self.streams[number]
            return
        if fault in ("close", "garbage"):
            self.flush()
            if fault == "garbage":
                self.sock.sendall(b"\xff" * 64)
            self.over = True
            return
        for _ in range(INTERIM_FLOOD if fault == "flood" else plan.interim):
            self.h2.send_headers(number, [(":status", "103"), ("link", "</a>")])
        if fault == "flood":
            return
        body = b"" if plan.bodyless else body_of(plan.id, "down", plan.down_bytes)
        fields = [(":status", str(plan.status)), ("x-id", plan.id)]
        if fault == "lengths" and not plan.bodyless:
            fields.append(("content-length", str(plan.down_bytes + 5)))
        elif plan.framing == "length" and plan.status not in (204, 304):
            fields.append(("content-length", str(plan.down_bytes)))
        if fault in ("cut", "cut by reset") and not plan.bodyless:
            body = body[:plan.cut_at]
            stream.after = fault
        if fault == "goaway":
            self.goaway(self.last)
        ends = not body and not plan.trailers and stream.after is None
        self.h2.send_headers(number, fields, end_stream=ends or plan.bodyless)
        if ends or plan.bodyless:
            self.end(number)
            return
        stream.left = body

    def pump(self, number):
        """Sends as much of a body as the windows let, and what is behind it."""
        stream = self.streams.get(number)
        if stream is not None and stream.left is not None and not self.over:
            with closed_streams():
                self.pump_stream(number, stream)

    def pump_stream(self, number, stream):
        ends = stream.after is None and not stream.plan.trailers
        while stream.left:
            count = min(self.h2.local_flow_control_window(number), 16384, len(stream.left))
            if count <= 0:
                return
            piece, stream.left = stream.left[:count], stream.left[count:]
            self.h2.send_data(number, piece, end_stream=ends and not stream.left)
            if ends and not stream.left:
                self.end(number)
                return
        if stream.after == "cut":
            self.flush()
            self.over = True
        elif stream.after == "cut by reset":
            self.reset(number, 2)
        else:
            self.h2.send_headers(number, [("x-down", tag_of(stream.plan.id, "down"))],
                                 end_stream=True)
            self.end(number)

    def end(self, number):
        """The response is complete; an early one gives the rest of the request up."""
        stream = self.streams[number]
        if stream.arrival["whole"]:
            del self.streams[number]
        else:
            self.reset(number, 0)

    def reset(self, number, code):
        del self.streams[number]
        with closed_streams():
            self.h2.reset_stream(number, code)

    def goaway(self, last):
        """Another may follow with a lower identifier (RFC 9113 section 6.8)."""
        if self.final is None or last < self.final:
            self.flush()
            self.final = last
            self.sock.sendall(GoAwayFrame(0, last_stream_id=last).serialize())


def main():
    seed = sys.argv[1]
    ledger = Ledger(seed)
    http1 = Http1Server(ledger)

    def http2(connection):
        Http2Connection(connection.sock, ledger).run()
    # Groups with the same server share its connections: a rough one has a server of its own.
    servers = {"http1": Origin(http1.serve), "http1 too": Origin(http1.serve),
               "http2": Origin(http2), "http2 rough": Origin(http2)}
    for server in servers.values():
        server.keep_bytes_max = 0
        server.heads = server.connections = collections.deque(maxlen=0)
    print(json.dumps({name: server.port for name, server in servers.items()}), flush=True)
    for _ in sys.stdin:
        for server in servers.values():
            while not server.failures.empty():
                ledger.failures.append(repr(server.failures.get()))
        print(ledger.text(), flush=True)


if __name__ == "__main__":
    main()
