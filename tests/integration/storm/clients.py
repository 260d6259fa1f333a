"""The storm's clients: threads that draw one session after another.

They record how each request ends and know no verdicts: checks.py has those. A session ends early
when its connection does.
"""

import contextlib
import random
import ssl
import threading
import time
import traceback

from harness.client import Client, Cut, PausedHandshake
from harness.http2 import Ended, Http2
from harness.http2_frames import Setting, block, headers
from harness.limits import within
from harness.websocket import opening
from storm.http1 import HOST, REQUEST_SECONDS_MAX, Http1Request, head_of, reset
from storm.http2 import MALFORMED_HTTP2, Http2Session
from storm.plan import CUT, allowed_ends, plan_of, tunnel_plan_of
from storm.record import Record
from storm.tunnels import Http1Tunnel, Http2Tunnel, talk
from test_refusals import REFUSED

SESSIONS = {"kept": 24, "pipelined": 8, "http2": 22, "cancelled": 8, "half-closed": 3,
            "tunnel": 8, "malformed": 5, "malformed http2": 4, "broken handshake": 5, "idle": 2}


class Clients:
    """Threads of sessions until `stop()`."""

    def __init__(self, seed, http, https, extra, contexts, numbers):
        self.seed, self.http, self.https, self.extra = seed, http, https, extra
        self.contexts = contexts  # {"http/1.1": [SSLContext, …], "h2": …}
        self.records, self.failures = {}, []
        self.counts, self.serials = {}, set()
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in numbers]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def stop(self):
        """Every session under way comes to its end."""
        self.ended.set()
        for thread in self.threads:
            thread.join(within(3 * REQUEST_SECONDS_MAX))
        assert not any(t.is_alive() for t in self.threads), "a client hangs"

    def run(self, number):
        rng = random.Random(f"{self.seed}/client {number}")
        me = Sessions(self, rng, number)
        first = rng.sample(list(SESSIONS), len(SESSIONS))  # each kind happens, however short it is
        while not self.ended.is_set():
            kind = (first.pop() if first else
                    rng.choices(list(SESSIONS), list(SESSIONS.values()))[0])
            try:
                me.kind = kind
                getattr(me, kind.replace(" ", "_").replace("-", "_"))()
            except Refused:
                continue
            except Exception as failure:  # noqa: BLE001  a bug here must fail the storm
                self.failures.append(f"client {number}, {kind}: {failure!r}\n{trace(failure)}")
            self.count(kind)
            self.count("resumed", me.resumed)
            me.resumed = 0

    def count(self, what, by=1):
        self.counts[what] = self.counts.get(what, 0) + by


def trace(failure):
    return "".join(traceback.format_exception(failure)[-6:])


class Refused(Exception):
    """The connection was not accepted, and need not be: its listener comes and goes."""


class Sessions:
    """What one client does, one session after the other."""

    def __init__(self, clients, rng, number):
        self.all, self.rng, self.number = clients, rng, number
        self.kind, self.requests, self.resumed = "", 0, 0
        self.tickets = {}

    # ---- requests

    def record(self, prefix="r", plan_of_kind=plan_of, fragile=False):
        self.requests += 1
        number = f"{prefix}{self.number}-{self.requests}"
        record = Record(plan_of_kind(self.all.seed, number), self.kind, fragile)
        self.all.records[number] = record
        return record

    def fields(self, plan):
        fields = [("x-id", plan.id)]
        if plan.takes_trailers:
            fields.append(("te", "trailers"))
        if plan.padding:
            fields.append(("x-padding", "p" * plan.padding))
        if plan.expects:
            fields.append(("expect", "100-continue"))
        if plan.up_bytes and not plan.up_chunked or plan.method in ("POST", "PUT") and (
                not plan.up_chunked):
            fields.append(("content-length", str(plan.up_bytes)))
        return fields

    # ---- connections

    def context(self, protocol):
        return self.rng.choice(self.all.contexts[protocol])

    def address(self):
        """A port, whether it is TLS, and whether the listener may go."""
        return self.rng.choices([(self.all.http, False, False), (self.all.https, True, False),
                                 (self.all.extra, False, True)], [40, 50, 10])[0]

    @contextlib.contextmanager
    def http1(self, **more):
        port, secure, fragile = self.address()
        context = self.context("http/1.1") if secure else None
        session = self.tickets.pop(context, None) if self.rng.random() < 0.6 else None
        try:
            client = Client(port, tls=context, name=HOST if secure else None, session=session,
                            timeout=REQUEST_SECONDS_MAX, **more)
        except OSError as error:
            if fragile:
                raise Refused from error
            raise
        client.fragile, client.secure = fragile, secure
        with client:
            if secure:
                self.resumed += client.sock.session_reused
                self.all.serials.add(client.certificate().serial_number)
            yield client
            if secure and self.rng.random() < 0.7:
                self.tickets[context] = client.sock.session

    @contextlib.contextmanager
    def http2_connection(self, **more):
        port, secure, fragile = self.address()
        try:
            client = Http2(port, tls=self.context("h2") if secure else None, name=HOST,
                           timeout=REQUEST_SECONDS_MAX, handshake=False, **more)
        except OSError as error:
            if fragile:
                raise Refused from error
            raise
        client.fragile, client.secure = fragile, secure
        with client:
            try:
                window = self.rng.choice([1000, 5000, 65535, 65535, 1 << 20])
                client.handshake([(Setting.INITIAL_WINDOW_SIZE, window),
                                  (Setting.HEADER_TABLE_SIZE, self.rng.choice([0, 100, 4096]))])
            except (OSError, Ended, AttributeError) as error:
                if fragile:
                    raise Refused from error
                raise
            yield client

    # ---- HTTP/1.1

    def kept(self):
        slow = self.rng.random() < 0.1
        with self.http1(receive_buffer=4096 if slow else None) as client:
            for _ in range(self.rng.randint(1, 8)):
                record = self.record(fragile=client.fragile)
                close = self.rng.random() < 0.1
                Http1Request(client, record, self.rng, slow).run(self.fields(record.plan), close)
                if close or record.end != "whole" or "close" in (record.value("connection") or ""):
                    return
                if self.rng.random() < 0.1:
                    time.sleep(self.rng.random() / 5)

    def pipelined(self):
        with self.http1() as client:
            records = [self.record("p", fragile=client.fragile)
                       for _ in range(self.rng.randint(2, 8))]
            for at, record in enumerate(records):
                record.note("sent in a pipeline")
                record.sent_all = True
                # A later answer that is cut is a reset, which takes along what was not read yet.
                cut = any(CUT in allowed_ends(later.plan) for later in records[at + 1:])
                record.fragile = record.fragile or cut
            with contextlib.suppress(ConnectionError, ssl.SSLError):  # the first may be the last
                client.send(*[head_of(r.plan, self.fields(r.plan)) for r in records])
            for record in records:
                Http1Request(client, record, self.rng, False).read()
                if record.end != "whole" or record.value("connection") == "close":
                    return

    def cancelled(self):
        """Goes away while it sends, while it waits or while it reads."""
        with self.http1() as client:
            record = self.record(fragile=client.fragile)
            where = self.rng.choice(["head", "body", "waiting", "reading", "reading"])
            request = Http1Request(client, record, self.rng, False)
            request.cancel = where
            request.run(self.fields(record.plan), False)
            if self.rng.random() < 0.5:
                reset(client.sock)

    def half_closed(self):
        """Says with a FIN that nothing more comes; the answer may come or not."""
        with self.http1() as client:
            record = self.record(fragile=client.fragile)
            record.session = "half-closed" if not client.secure else self.kind
            request = Http1Request(client, record, self.rng, False)
            request.half_close = not client.secure
            request.run(self.fields(record.plan), False)

    def idle(self):
        with self.http1():
            time.sleep(self.rng.random())

    def malformed(self):
        """What the rules refuse, after a good request or at once."""
        with self.http1() as client:
            if self.rng.random() < 0.5:
                record = self.record("p", fragile=client.fragile)
                Http1Request(client, record, self.rng, False).run(self.fields(record.plan), False)
                if record.end != "whole" or record.value("connection") == "close":
                    return
            what = self.rng.choice(sorted(REFUSED.keys() - {"the preface of HTTP/2"}))
            text, statuses = REFUSED[what]
            client.send(text)
            try:
                response = client.response()
            except (Cut, OSError):
                assert client.fragile, f"{what}: closed without an answer"
                return
            allowed = [statuses] if isinstance(statuses, int) else statuses
            assert response.status in allowed, f"{what}: {response}"
            assert client.closed(), f"{what}: the connection goes on"
            self.all.count("refusals answered")

    def broken_handshake(self):
        how = self.rng.choice(["cut", "cut", "garbage", "silent", "plain", "unanswered", "name"])
        port = self.all.https
        if how == "plain":
            with Client(port) as client:
                client.send("GET / HTTP/1.1\r\nHost: example.test\r\n\r\n")
                client.closed(5)
            return
        if how in ("garbage", "silent"):
            with Client(port) as client:
                client.send(self.rng.randbytes(200) if how == "garbage" else b"")
                time.sleep(self.rng.random() / 10)
            return
        context = self.context(self.rng.choice(["h2", "http/1.1"]))
        name = "unknown.invalid" if how == "name" else HOST
        if how != "cut":
            handshake = PausedHandshake(port, name, context)
            try:
                if how == "name":
                    handshake.finish()
                elif self.rng.random() < 0.5:
                    handshake.take()
                    handshake.advance()
            except (OSError, ssl.SSLError):
                pass
            reset(handshake.sock)
            handshake.close()
            return
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
        hello = outgoing.read()
        with Client(port) as client:
            client.send(hello[:self.rng.randrange(len(hello))])
            if self.rng.random() < 0.5:
                reset(client.sock)

    # ---- HTTP/2

    def http2(self):
        slow = self.rng.random() < 0.1
        with self.http2_connection(polite=True, receive_buffer=4096 if slow else None) as client:
            session = Http2Session(client, self.rng, slow)
            for _ in range(self.rng.choice([1, 2, 5] if slow else [1, 2, 5, 20])):
                record = self.record(fragile=client.fragile)
                session.add(record, self.fields(record.plan))
            session.run()

    def malformed_http2(self):
        """A wrong stream or frame beside good ones, which go on where only a stream is wrong."""
        with self.http2_connection(polite=True) as client:
            session = Http2Session(client, self.rng, False)
            for _ in range(self.rng.randrange(3)):
                record = self.record(fragile=client.fragile)
                session.add(record, self.fields(record.plan))
            name = self.rng.choice(sorted(MALFORMED_HTTP2))
            make, fatal = MALFORMED_HTTP2[name]
            session.fatal = fatal
            bad = client.take_stream()
            client.send(*make(client, bad))
            session.run()
            if fatal or client.goaway or client.at_end:
                return
            client.until(lambda: client.over(bad) or client.goaway, f"the refusal of {name}",
                         REQUEST_SECONDS_MAX)
            found = client.streams.get(bad)
            assert found and (found.reset is not None or found.response.status >= 400), (
                f"{name}: {client.what_came()}")

    # ---- tunnels

    def tunnel(self):
        make = self.tunnel_over_http2 if self.rng.random() < 0.5 else self.tunnel_over_http1
        make(self.rng.choice(["", "", "", "cut", "half-close"]))

    def tunnel_over_http1(self, conduct):
        with self.http1() as client:
            record = self.record("t", tunnel_plan_of, client.fragile)
            record.session = f"tunnel, {conduct or 'to the end'}"
            client.send(opening(record.plan.path, fields=[("X-Id", record.plan.id)]))
            record.sent_all = True
            try:
                response = client.head()
                record.head(response)
                if response.status != 101:
                    client.exactly(int(response.value("content-length") or 0))
                    record.finish("whole")
                    return
                talk(Http1Tunnel(client), record, conduct)
            except Cut:
                record.finish("closed" if record.status is None else "cut")
            except OSError as error:
                record.finish("hung" if isinstance(error, TimeoutError) else "closed", repr(error))

    def tunnel_over_http2(self, conduct):
        with self.http2_connection(polite=True) as client:
            record = self.record("t", tunnel_plan_of, client.fragile)
            record.session = f"tunnel over HTTP/2, {conduct or 'to the end'}"
            stream = client.take_stream()
            fields = [(":method", "CONNECT"), (":protocol", "websocket"),
                      (":scheme", client.scheme), (":authority", HOST),
                      (":path", record.plan.path), ("sec-websocket-version", "13"),
                      ("x-id", record.plan.id)]
            try:
                client.send(headers(stream, block(fields), end=False))
                record.sent_all = True
                record.head(client.expect_head(stream))
                if record.status != 200:
                    client.until(lambda: client.over(stream), "the end of a refused tunnel")
                    record.finish("whole")
                    return
                talk(Http2Tunnel(client, stream), record, conduct)
            except Ended as error:
                record.finish("closed" if record.status is None else "cut", str(error)[:200])
            except TimeoutError as error:
                record.finish("hung", str(error)[:200])
            except OSError as error:
                record.finish("closed", repr(error))
