"""Origins that speak HTTP/2: how their connections are shared, and what a hostile one achieves.

Its origin is raw frames; clients come by HTTP/1.1 and by HTTP/2. After every misdeed the next
request has its own answer.
"""

import itertools
import json
import os
import select
import signal
import socket
import ssl
import threading
import time

import pytest
from conftest import Configuration
from harness.client import Client, Cut, request
from harness.http2 import Ended, Http2
from harness.http2_frames import (
    PREFACE, WINDOW_BYTES_MAX, Code, Flag, Kind, Setting, block, continuation, data, frame, goaway,
    headers, indexed, literal_kept, ping, push_promise, rst_stream, settings, table_size,
    window_update)
from harness.http2_origin import Http2Origin
from harness.limits import LONG, SLOW, within
from harness.origin import Origin, answer
from harness.program import Gatehouse
from harness.wait import stands_still, until
from harness.watch import Watch, connections_to

MEBIBYTE = 1 << 20
GROWTH_KB_MAX = 4096 if SLOW == 1 else 65536
CUT = "cut"
KINDS = ["http1", "h2"]


class Front:
    """A client of one version: what becomes of a request, whatever becomes of the connection."""

    def __init__(self, kind, port):
        self.kind, self.port, self.client = kind, port, None

    def open(self):
        self.close()
        self.client = Client(self.port) if self.kind == "http1" else Http2(self.port, polite=True)
        return self.client

    def close(self):
        if self.client is not None:
            self.client.close()
        self.client = None

    def ask(self, path="/", method="GET", body=None, fields=()):
        """The response, or CUT when it does not come whole."""
        client = self.client if self.client and not self.gone() else self.open()
        try:
            if self.kind == "http1":
                got = client.get(path, fields=fields, method=method, body=body)
                if got.value("connection") == "close":
                    self.close()
                return got
            return client.get(path, method, body, fields)
        except (Cut, Ended):
            if self.kind == "http1" or client.at_end:
                self.close()
            return CUT

    def gone(self):
        """Whether the server has closed a kept HTTP/1.1 connection."""
        if self.kind != "http1" or self.client.buffer:
            return False
        return bool(select.select([self.client.sock], [], [], 0)[0])

    def outcome(self, *arguments, **more):
        got = self.ask(*arguments, **more)
        return got if got is CUT else got.status


class World:
    """A program with one worker in front of one HTTP/2 origin."""

    def __init__(self, folder, site_files, origin, group="", sections=""):
        self.origin, self.config = origin, Configuration(site_files)
        self.port = self.config.http
        text = self.config.site("app", server="h2c = true", sections=sections) + (
            f'[upstream.app]\nservers = ["{origin.address}"]\nprotocol = "h2c"\n{group}\n')
        self.program = Gatehouse(folder, text.replace("workers = 2", "workers = 1")).start()
        self.fronts = []

    def front(self, kind="h2"):
        self.fronts.append(Front(kind, self.port))
        return self.fronts[-1]

    def stop(self):
        for front in self.fronts:
            front.close()
        try:
            self.program.stop()
        finally:
            self.origin.stop()


@pytest.fixture
def world(tmp_path, site_files):
    """Starts worlds: world(script=None, values=(), group="", sections="")."""
    started = []

    def start(script=None, values=(), group="", sections="", origin=None):
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(World(folder, site_files, origin or Http2Origin(script, values), group,
                             sections))
        return started[-1]
    yield start
    for one in started:
        one.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory, site_files):
    made = World(tmp_path_factory.mktemp("shared"), site_files, Http2Origin())
    yield made
    made.stop()


@pytest.fixture(params=KINDS)
def front(request, shared):
    """A client of the shared world, once of each version; the origin's scripts end with it."""
    made = shared.front(request.param)
    yield made
    made.close()
    shared.origin.scripts.clear()


NUMBERS = itertools.count()


def serves_on(front):
    """The next requests have their own answers, on this connection and on another."""
    other = Front(front.kind, front.port)
    for client in (front, other):
        path = f"/next-{next(NUMBERS)}"
        assert client.ask(path).body == path.encode()
    other.close()


# ---- Answers that are wrong, each on its stream

def head(*fields, end=True):
    return lambda stream: headers(stream, block(fields), end=end)


def good_head(stream, end=False, more=()):
    return headers(stream, block([(":status", "200"), *more]), end=end)


OK = (":status", "200")
BAD_HEADS = {
    "no :status": head(("content-type", "text/plain")),
    "no field at all": head(),
    ":status twice": head(OK, OK),
    ":status empty": head((":status", "")),
    ":status not a number": head((":status", "2x0")),
    ":status of two digits": head((":status", "20")),
    ":status of four digits": head((":status", "2000")),
    ":status 099": head((":status", "099")),
    ":status 101": head((":status", "101"), end=False),
    ":status after a field": head(("a", "b"), OK),
    "a request's pseudo-field": head(OK, (":path", "/")),
    "an unknown pseudo-field": head(OK, (":what", "x")),
    "an upper case name": head(OK, ("X-Upper", "a")),
    "an empty name": head(OK, ("", "a")),
    "a space in a name": head(OK, ("a b", "a")),
    "a colon in a name": head(OK, ("a:b", "a")),
    "CR LF in a name": head(OK, ("a\r\nb", "a")),
    "CR LF in a value": head(OK, ("a", "b\r\nset-cookie: evil=1")),
    "LF in a value": head(OK, ("a", "b\nc")),
    "CR in a value": head(OK, ("a", "b\rc")),
    "NUL in a value": head(OK, ("a", "b\0c")),
    "a name of 8 bits": head(OK, ("\xe4", "a")),
    "connection": head(OK, ("connection", "close")),
    "keep-alive": head(OK, ("keep-alive", "timeout=5")),
    "proxy-connection": head(OK, ("proxy-connection", "keep-alive")),
    "transfer-encoding": head(OK, ("transfer-encoding", "chunked"), end=False),
    "upgrade": head(OK, ("upgrade", "h2c")),
    "content-length that is none": head(OK, ("content-length", "x"), end=False),
    "content-length negative": head(OK, ("content-length", "-1"), end=False),
    "content-length with a sign": head(OK, ("content-length", "+5"), end=False),
    "content-length empty": head(OK, ("content-length", ""), end=False),
    "content-length a list": head(OK, ("content-length", "5, 5"), end=False),
    "content-length past 64 bits": head(OK, ("content-length", "99999999999999999999"), end=False),
    "content-length twice": head(OK, ("content-length", "1"), ("content-length", "2"), end=False),
    "content-length and no body": head(OK, ("content-length", "5")),
    "DATA before HEADERS": lambda stream: data(stream, b"early") + good_head(stream),
    "an interim response that ends": head((":status", "103")),
    "17 interim responses": lambda stream: (
        headers(stream, block([(":status", "103")]), end=False) * 17 + good_head(stream, end=True)),
    "a head of 200 KB": lambda stream: b"".join(long_head(stream, 200, 1000)),
    "300 fields": lambda stream: b"".join(long_head(stream, 300, 1)),
    "END_STREAM on an empty body ahead of HEADERS": lambda stream: data(stream, end=True),
    "a reset": lambda stream: rst_stream(stream, Code.INTERNAL_ERROR),
    "a reset without an error": lambda stream: rst_stream(stream, Code.NO_ERROR),
    "a reset that says it speaks HTTP/1.1 only": lambda stream: rst_stream(
        stream, Code.HTTP_1_1_REQUIRED),
}


def long_head(stream, count, size):
    encoded = block([OK, *[(f"x-{i}", "a" * size) for i in range(count)]])
    pieces = [encoded[i:i + 16000] for i in range(0, len(encoded), 16000)]
    yield headers(stream, pieces[0], end=True, end_headers=len(pieces) == 1)
    for i, piece in enumerate(pieces[1:], 2):
        yield continuation(stream, piece, end_headers=i == len(pieces))


@pytest.mark.parametrize("name", BAD_HEADS)
def test_a_bad_answer_is_502(shared, front, name):
    shared.origin.on("/bad", lambda connection, stream: connection.send(BAD_HEADS[name](stream)))
    assert front.outcome("/bad") == 502
    serves_on(front)


LENGTH = ("content-length", "5")
CUT_BODIES = {
    "reset inside a body": lambda stream: (
        good_head(stream) + data(stream, b"some") + rst_stream(stream, Code.INTERNAL_ERROR)),
    "reset inside a body without an error": lambda stream: (
        good_head(stream) + data(stream, b"some") + rst_stream(stream, Code.NO_ERROR)),
    "reset at the body's whole length": lambda stream: (
        good_head(stream, more=[LENGTH]) + data(stream, b"12345")
        + rst_stream(stream, Code.INTERNAL_ERROR)),
    "reset ahead of the body": lambda stream: good_head(stream) + rst_stream(stream),
    "less than content-length": lambda stream: (
        good_head(stream, more=[LENGTH]) + data(stream, b"1234", end=True)),
    "less than content-length, then trailers": lambda stream: (
        good_head(stream, more=[LENGTH]) + data(stream, b"1234")
        + headers(stream, block([("a", "b")]))),
    "more than content-length": lambda stream: (
        good_head(stream, more=[LENGTH]) + data(stream, b"123456", end=True)),
    "more than content-length in two": lambda stream: (
        good_head(stream, more=[LENGTH]) + data(stream, b"12345") + data(stream, b"6", end=True)),
    "trailers that do not end the stream": lambda stream: (
        good_head(stream) + data(stream, b"some")
        + headers(stream, block([("a", "b")]), end=False)),
    "trailers with :status": lambda stream: (
        good_head(stream) + data(stream, b"some") + headers(stream, block([OK]))),
    "trailers with an upper case name": lambda stream: (
        good_head(stream) + data(stream, b"some") + headers(stream, block([("A", "b")]))),
    "trailers with CR LF": lambda stream: (
        good_head(stream) + data(stream, b"some")
        + headers(stream, block([("a", "b\r\nset-cookie: evil=1")]))),
    "trailers with connection": lambda stream: (
        good_head(stream) + data(stream, b"some")
        + headers(stream, block([("connection", "close")]))),
    "an interim response inside a body": lambda stream: (
        good_head(stream) + data(stream, b"some")
        + headers(stream, block([(":status", "103")]), end=False)),
}


@pytest.mark.parametrize("name", CUT_BODIES)
def test_a_body_that_is_wrong_is_never_whole(shared, front, name):
    """A 502 where the head had not left yet; else a close, or a reset for HTTP/2."""
    shared.origin.on("/bad", lambda connection, stream: connection.send(CUT_BODIES[name](stream)))
    got = front.ask("/bad")
    # To HTTP/1.1 the body's whole length may have gone before anything was wrong.
    whole_length = front.kind == "http1" and got is not CUT and got.body == b"12345"
    assert got is CUT or got.status == 502 or whole_length
    # Its connection ends with what was wrong, sooner or later.
    serves_on(Front(front.kind, front.port) if whole_length else front)


@pytest.mark.parametrize("fields", [[], [("content-length", "100")]], ids=["no length", "length"])
def test_a_reset_behind_a_body_that_has_left_is_a_cut(shared, front, fields):
    release = threading.Event()

    def script(connection, stream):
        connection.send(good_head(stream, more=fields), data(stream, b"some"))
        release.wait(within(10))
        connection.send(rst_stream(stream, Code.INTERNAL_ERROR))
    shared.origin.on("/bad", script)
    client = front.open()
    if front.kind == "h2":
        stream = client.request(path="/bad")
        client.until(lambda: client.response_of(stream) and client.response_of(stream).body,
                     "the beginning")
        release.set()
        client.expect_reset(stream)
        assert client.response_of(stream).body == b"some" and not client.streams[stream].ended
        client.expect_ping()
    else:
        client.send(request(target="/bad"))
        client.until(b"some")
        release.set()
        assert client.until_end() == (b"" if fields else b"\r\n"), "no last chunk"
        front.close()
    serves_on(front)


# ---- Connections that are wrong: all that they carry fails, and nothing else

DEAD_CONNECTIONS = {
    "a field of no table": lambda stream: headers(stream, indexed(200)),
    "index 0": lambda stream: headers(stream, indexed(0)),
    "a field cut short": lambda stream: headers(stream, b"\x40\x7f"),
    "a table larger than allowed": lambda stream: headers(stream, table_size(1 << 20) + indexed(8)),
    "huffman that is none": lambda stream: headers(stream, b"\x00\x81\xff\x81\xff"),
    "an integer without end": lambda stream: headers(stream, b"\xff" * 12),
    "a frame over the maximum": lambda stream: frame(Kind.DATA, 0, stream, bytes(16385)),
    "DATA on stream 0": lambda stream: data(0, b"x"),
    "HEADERS on stream 0": lambda stream: good_head(0),
    "HEADERS on a stream that nobody opened": lambda stream: good_head(stream + 1000),
    "HEADERS on a stream of the origin's": lambda stream: good_head(2),
    "DATA on a stream that nobody opened": lambda stream: data(stream + 1000, b"x"),
    "RST_STREAM on a stream that nobody opened": lambda stream: rst_stream(stream + 1000),
    "WINDOW_UPDATE of 0": lambda stream: window_update(0, 0),
    "a window past its maximum": lambda stream: window_update(0, WINDOW_BYTES_MAX),
    "CONTINUATION of nothing": lambda stream: continuation(stream, b""),
    "a header block interrupted": lambda stream: (
        headers(stream, block([OK]), end_headers=False) + ping()),
    "PUSH_PROMISE": lambda stream: push_promise(stream, 2, block([
        (":method", "GET"), (":scheme", "http"), (":authority", "example.test"), (":path", "/p")])),
    "SETTINGS of 5 bytes": lambda stream: frame(Kind.SETTINGS, 0, 0, bytes(5)),
    "SETTINGS_ENABLE_PUSH 1": lambda stream: settings([(Setting.ENABLE_PUSH, 1)]),
    "SETTINGS_INITIAL_WINDOW_SIZE 2^31": lambda stream: settings(
        [(Setting.INITIAL_WINDOW_SIZE, 1 << 31)]),
    "SETTINGS_MAX_FRAME_SIZE 1": lambda stream: settings([(Setting.MAX_FRAME_SIZE, 1)]),
    "PING of 7 bytes": lambda stream: frame(Kind.PING, 0, 0, bytes(7)),
    "GOAWAY on a stream": lambda stream: goaway(0, stream=stream),
    "padding longer than its frame": lambda stream: frame(Kind.DATA, Flag.PADDED, stream, b"\xff"),
    "HTTP/1.1": lambda stream: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "nothing: it closes": lambda stream: None,
}


@pytest.mark.parametrize("name", DEAD_CONNECTIONS)
def test_a_broken_connection_is_502_for_what_it_carries(shared, front, name):
    ends = []

    def script(connection, stream):
        frames = DEAD_CONNECTIONS[name](stream)
        if frames is None:
            connection.sock.shutdown(socket.SHUT_RDWR)
            return
        connection.send(frames)
        while connection.frame() is not None:
            pass
        ends.append(connection)
    shared.origin.on("/bad", script)
    assert front.outcome("/bad", "POST", b"x") == 502
    serves_on(front)
    if ends or DEAD_CONNECTIONS[name](1) is not None:
        until(lambda: ends, "the broken connection to be closed")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["closes", "resets"])
def test_a_connection_lost_inside_a_body_is_a_cut(shared, front, kind, how):
    def script(connection, stream):
        connection.send(good_head(stream), data(stream, b"some"))
        connection.until(lambda: "WindowUpdateFrame" in connection.kinds)
        time.sleep(0.05)
        connection.sock.shutdown(socket.SHUT_RDWR) if how == "closes" else connection.reset()
    shared.origin.on("/bad", script)
    assert front.outcome("/bad") in (CUT, 502)
    serves_on(front)


FLOODS = {
    "PING": ping(), "SETTINGS": settings(), "SETTINGS that change": settings(
        [(Setting.INITIAL_WINDOW_SIZE, 1000)]),
    "PRIORITY": frame(Kind.PRIORITY, 0, 1, bytes(5)),
    "WINDOW_UPDATE": window_update(0, 1), "PING answers": ping(ack=True),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_from_an_origin_ends_its_connection(world, name):
    """Not the program's memory, nor other origins' time."""
    ended = threading.Event()

    def flood(connection, stream):
        connection.sock.settimeout(within(10))
        try:
            while True:
                connection.send(FLOODS[name] * 500)
        except OSError:
            ended.set()
    one = world()
    one.origin.on("/bad", flood)
    front = one.front()
    assert front.outcome("/warm") == 200
    with Watch(one.program) as watch:
        assert front.outcome("/bad", "POST", b"x") == 502
        assert ended.wait(within(10))
    serves_on(front)
    assert watch.growth_kb() < GROWTH_KB_MAX, f"grew by {watch.growth_kb()} KB"


def test_a_flood_of_empty_data_ends_the_answer(world):
    ended = threading.Event()

    def flood(connection, stream):
        connection.send(good_head(stream))
        try:
            while True:
                connection.send(data(stream) * 500)
        except OSError:
            ended.set()
    one = world()
    one.origin.on("/bad", flood)
    front = one.front()
    assert front.outcome("/bad") is CUT and ended.wait(within(10))
    serves_on(front)


# ---- Answers that are unusual and right

def test_requests_come_as_http2_demands(shared, front):
    fields = [("x-mixed", "1"), ("te", "trailers"), ("cookie", "a=1")]
    if front.kind == "http1":
        fields = [(n.title(), v) for n, v in fields]
    else:
        fields.append(("content-length", "4"))
    front.ask("/a?b=c", "POST", b"body", fields)
    seen = shared.origin.last()
    assert seen.pseudo == {":method": "POST", ":scheme": "http", ":authority": "example.test",
                           ":path": "/a?b=c"}
    names = [n for n, _ in seen.fields]
    assert names == [n.lower() for n in names] and seen.value("x-mixed") == "1"
    assert not set(names) & {"host", "connection", "keep-alive", "upgrade", "transfer-encoding",
                             "proxy-connection", "http2-settings"}
    assert seen.values("te") in ([], ["trailers"]) and seen.value("content-length") == "4"
    assert seen.body == b"body" and seen.value("x-forwarded-proto") == "http"
    assert seen.value("via") == ("1.1 gatehouse" if front.kind == "http1" else "2.0 gatehouse")


@pytest.mark.parametrize("size", [0, 1, 16_384, 65_535, 65_536, 1 << 20])
def test_bodies_pass_both_ways(shared, front, size):
    body = os.urandom(size)
    shared.origin.on("/echo", lambda connection, stream: connection.reply(
        stream, connection.streams[stream].body))
    assert front.ask("/echo", "POST", body).body == body


def test_chunks_and_trailers_of_http1_become_frames_and_trailers(shared):
    def reply(connection, stream):
        connection.reply(stream, b"answer", trailers=[("x-down", "2")])
    shared.origin.on("/trailers", reply)
    with Client(shared.port) as client:
        client.send("POST /trailers HTTP/1.1\r\nHost: example.test\r\n"
                    "Transfer-Encoding: chunked\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
                    "3\r\nabc\r\n2\r\nde\r\n0\r\nX-Up: 1\r\n\r\n")
        response = client.response()
    shared.origin.scripts.clear()
    seen = shared.origin.last()
    assert seen.body == b"abcde" and seen.trailers == [("x-up", "1")]
    assert not seen.values("transfer-encoding") and seen.values("te") == ["trailers"]
    assert response.body == b"answer" and response.trailers == [("x-down", "2")]
    assert response.value("transfer-encoding") == "chunked"


def test_trailers_of_an_answer_pass(shared, front):
    shared.origin.on("/trailers", lambda connection, stream: connection.reply(
        stream, b"answer", trailers=[("x-sum", "42"), ("authorization", "x"), ("host", "evil")]))
    response = front.ask("/trailers", fields=[("te", "trailers")])
    assert response.body == b"answer" and response.trailers == [("x-sum", "42")]


def test_an_answer_of_trailers_alone_passes(shared, front):
    shared.origin.on("/trailers", lambda connection, stream: connection.reply(
        stream, trailers=[("x-sum", "42")]))
    response = front.ask("/trailers", fields=[("te", "trailers")])
    assert response.body == b"" and response.trailers == [("x-sum", "42")]


def test_interim_responses_pass(shared, front):
    def reply(connection, stream):
        for i in range(16):
            connection.head_of_answer(stream, 103, [("link", f"</{i}>")])
        connection.reply(stream, b"page")
    shared.origin.on("/hints", reply)
    response = front.ask("/hints")
    assert response.body == b"page" and len(response.interim) == 16
    assert response.interim[15].value("link") == "</15>"


@pytest.mark.parametrize("status", [200, 204, 304, 404])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_answers_without_a_body_have_none(shared, front, method, status):
    of_get = [("content-length", "5")] if (method, status) == ("HEAD", 200) else []
    fields = [("etag", '"x"'), *of_get]
    shared.origin.on("/none", lambda connection, stream: connection.reply(stream, b"", status,
                                                                         fields))
    response = front.ask("/none", method)
    assert response.status == status and response.body == b"" and response.value("etag") == '"x"'
    if fields[1:]:
        assert response.value("content-length") == "5"
    serves_on(front)


@pytest.mark.parametrize("method, status", [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_a_body_where_none_may_be_goes_to_nobody(shared, front, method, status):
    shared.origin.on("/none", lambda connection, stream: connection.send(
        headers(stream, block([(":status", str(status))]), end=False),
        data(stream, b"HTTP/1.1 200 OK\r\n\r\n", end=True)))
    assert front.outcome("/none", method) in (CUT, 502, status)
    # Its connection may end when the body comes.
    serves_on(Front(front.kind, front.port))


def test_a_large_head_passes(shared, front):
    fields = [(f"x-{i}", "a" * 1000) for i in range(40)]
    shared.origin.on("/large", lambda connection, stream: connection.reply(stream, b"x",
                                                                          fields=fields))
    response = front.ask("/large")
    assert [v for n, v in response.fields if n.lower().startswith("x-")] == ["a" * 1000] * 40


def test_fields_of_the_dynamic_table_pass(shared, front):
    def reply(connection, stream):
        kept = literal_kept("x-kept", "value") if "kept" not in vars(connection) else indexed(62)
        connection.kept = True
        connection.send(headers(stream, block([OK]) + kept))
    shared.origin.on("/table", reply)
    for _ in range(3):
        assert front.ask("/table").value("x-kept") == "value"


def test_padding_priorities_and_unknown_frames_change_nothing(shared, front):
    def reply(connection, stream):
        connection.send(
            frame(0x42, 0xff, stream, b"unknown"),
            frame(Kind.PRIORITY, 0, stream, bytes(4) + b"\1"),
            headers(stream, block([OK]), end=False, pad=50, priority=bytes(4) + b"\1"),
            data(stream, b"so", pad=200), data(stream, b"me", pad=0), data(stream, end=True, pad=9))
    shared.origin.on("/odd", reply)
    assert front.ask("/odd").body == b"some"


def test_a_reset_behind_a_whole_answer_changes_nothing(shared, front):
    """As a gRPC server does, which has answered ahead of the upload's end."""
    shared.origin.on("/early", lambda connection, stream: connection.send(
        good_head(stream), data(stream, b"whole", end=True), rst_stream(stream, Code.NO_ERROR)))
    assert front.ask("/early").body == b"whole"
    serves_on(front)


def test_an_answer_byte_by_byte_passes(shared, front):
    def reply(connection, stream):
        connection.send(good_head(stream))
        for i in range(300):
            connection.send(data(stream, b"%d" % (i % 10), end=i == 299))
    shared.origin.on("/slow", reply)
    assert front.ask("/slow").body == b"0123456789" * 30


def test_an_answer_is_passed_on_as_it_comes(shared, front):
    taken = threading.Semaphore(0)

    def reply(connection, stream):
        connection.send(good_head(stream))
        for i in range(5):
            connection.send(data(stream, b"<%d>" % i))
            assert taken.acquire(timeout=within(10))
        connection.send(data(stream, end=True))
    shared.origin.on("/slow", reply)
    client = front.open()
    stream = client.request(path="/slow") if front.kind == "h2" else client.send(
        request(target="/slow"))
    for i in range(5):
        if front.kind == "h2":
            client.until(lambda: client.response_of(stream) and client.response_of(
                stream).body.endswith(b"<%d>" % i), "a piece")
        else:
            client.until(b"<%d>" % i)
        taken.release()
    if front.kind == "h2":
        assert client.expect_response(stream).body == b"<0><1><2><3><4>"
    else:
        assert client.until(b"\r\n0\r\n\r\n") == b""


def test_an_early_answer_stops_the_upload(shared, front):
    told = []

    def script(connection):
        if not connection.greet():
            return
        while (seen := connection.head()) is not None:
            if seen.target == "/early":
                connection.head_of_answer(seen.stream, 413, end=True)
                connection.until(lambda: seen.stream in connection.resets)
                told.append(connection.resets.get(seen.stream))
            else:
                connection.reply(seen.stream, seen.target)
    own = Http2Origin(script)
    try:
        client = front.open()
        text = shared.program.config.read_text()
        shared.program.reload(text.replace(shared.origin.address, own.address))
        if front.kind == "h2":
            stream = client.request("POST", "/early", [("content-length", "1000000")], end=False)
            client.send(data(stream, b"some"))
            assert client.expect_response(stream).status == 413
            client.expect_reset(stream, Code.NO_ERROR)
        else:
            client.send("POST /early HTTP/1.1\r\nHost: example.test\r\nContent-Length: 1000000\r\n"
                        "\r\nsome")
            assert client.response().status == 413 and client.closed()
            front.close()
        until(lambda: told, "the origin to be told")
        assert told[0] in (Code.NO_ERROR, Code.CANCEL)
        serves_on(front)
    finally:
        shared.program.reload(text)
        own.stop()


def test_a_client_that_goes_away_is_a_reset_at_the_origin(shared, front):
    begun, told = threading.Event(), []

    def script(connection, stream):
        begun.set()
        connection.until(lambda: stream in connection.resets)
        told.append(connection.resets.get(stream))
    shared.origin.on("/held", script)
    client = front.open()
    client.send(request(target="/held")) if front.kind == "http1" else client.request(path="/held")
    assert begun.wait(within(5))
    front.close()
    until(lambda: told, "the reset")
    assert told == [Code.CANCEL]
    until(lambda: shared.program.metric("requests_active") == 0, "the request to end")
    serves_on(front)


def test_an_upload_that_is_cut_is_never_a_whole_request(shared, front):
    before = len(shared.origin.heads)
    client = front.open()
    if front.kind == "h2":
        stream = client.request("POST", "/cut", end=False)
        client.send(data(stream, b"some"))
    else:
        client.send("POST /cut HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n\r\n"
                    "4\r\nsome\r\n")
    until(lambda: len(shared.origin.heads) > before, "the head at the origin")
    seen = shared.origin.heads[-1]
    connection = shared.origin.connections[seen.connection]
    front.close()
    until(lambda: seen.stream in connection.resets, "the reset at the origin")
    assert not seen.complete and "/cut" not in [r.target for r in shared.origin.requests]
    serves_on(front)


# ---- Sharing connections

def ask_together(fronts, paths):
    """Requests at once, spread over HTTP/2 clients; path → status and body."""
    streams = {p: (f, f.request(path=p)) for p, f in zip(paths, itertools.cycle(fronts))}
    return {p: (r.status, r.body) for p, (f, s) in streams.items()
            for r in [f.expect_response(s)]}


def whole(paths):
    return {p: (200, p.encode()) for p in paths}


def test_many_clients_share_few_connections(world):
    release = threading.Event()

    def script(connection):
        assert connection.greet([(Setting.MAX_CONCURRENT_STREAMS, 100)])
        while (seen := connection.request()) is not None:
            if len(connection.origin.requests) >= 90:
                release.set()
            if release.is_set():
                for each in connection.streams.values():
                    if each.complete and each.stream not in connection.answered:
                        each.taken = True
                        connection.reply(each.stream, each.target)
            assert seen
    one = world(script)
    clients = [one.front().open() for _ in range(30)]
    paths = [f"/{i}" for i in range(90)]
    assert ask_together(clients, paths) == whole(paths)
    assert len(one.origin.connections) == 1
    assert one.origin.connections[0].open_peak == 90, "all were open at once"
    assert one.program.metric("upstream_connects") == 1


def test_clients_of_both_versions_share_a_connection(world):
    one = world()
    for i in range(6):
        front = one.front(KINDS[i % 2])
        assert front.ask(f"/{i}").body == b"/%d" % i
    assert len(one.origin.connections) == 1


@pytest.mark.parametrize("most", [1, 2, 7])
def test_an_origins_most_streams_are_kept_to(world, most):
    one = world(values=[(Setting.MAX_CONCURRENT_STREAMS, most)])
    client = one.front().open()
    assert client.get("/warm").body == b"/warm"
    paths = [f"/{i}" for i in range(40)]
    assert ask_together([client], paths) == whole(paths)
    until(lambda: connections_to(one.origin.port) == len(
        [c for c in one.origin.connections if not c.ended]), "quiet")
    assert max(c.open_peak for c in one.origin.connections[:1]) <= most


@pytest.mark.parametrize("most", [1, 3])
def test_a_burst_at_a_new_connection_keeps_to_its_most_streams(world, most):
    """The origin's SETTINGS are waited for: who is past its limit has another connection."""
    one = world(values=[(Setting.MAX_CONCURRENT_STREAMS, most)])
    client = one.front().open()
    paths = [f"/{i}" for i in range(20)]
    assert ask_together([client], paths) == whole(paths)
    assert all(c.open_peak <= most for c in one.origin.connections)
    assert one.program.metric("upstream_retries") == 0


def silent_after_the_first(connection):
    """Serves the first connection, a stream at a time; says nothing on any other."""
    if connection.number > 0:
        connection.closed_by_peer(20)
        return
    assert connection.greet([(Setting.MAX_CONCURRENT_STREAMS, 1)])
    while (seen := connection.request()) is not None:
        if seen.target == "/held":
            connection.until(lambda: seen.stream in connection.resets)
        else:
            connection.reply(seen.stream, seen.target)


def test_a_request_waits_for_room_while_no_other_connection_comes(world):
    one = world(silent_after_the_first)
    client = one.front().open()
    paths = [f"/{i}" for i in range(8)]
    assert ask_together([client], paths) == whole(paths)


def test_a_request_that_finds_no_room_in_time_is_refused(world):
    one = world(silent_after_the_first, sections="[timeouts]\nupstream_connect = \"1s\"\n")
    client = one.front().open()
    held = client.request(path="/held")
    until(lambda: one.origin.heads, "the one stream to be taken")
    assert client.get("/late").status == 504
    client.send(rst_stream(held, Code.CANCEL))
    assert client.get("/after").body == b"/after"


def test_an_origin_of_another_protocol_is_named(world):
    def script(connection):
        connection.exactly(len(PREFACE))
        connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    one = world(script)
    assert one.front().ask("/").status == 502
    assert "does not begin as HTTP/2 does" in one.program.log()


def test_an_origin_that_allows_no_streams_yet_is_waited_for(world):
    released = threading.Event()

    def script(connection):
        assert connection.greet([(Setting.MAX_CONCURRENT_STREAMS, 0)])
        connection.until(lambda: connection.acks == 1)
        connection.origin.greeted = connection
        released.wait(within(10))
        connection.send(settings([(Setting.MAX_CONCURRENT_STREAMS, 10)]))
        while (seen := connection.request()) is not None:
            connection.reply(seen.stream, seen.target)
    one = world(script)
    client = one.front().open()
    stream = client.request(path="/late")
    until(lambda: getattr(one.origin, "greeted", None), "the limit to be known")
    early = list(one.origin.heads)
    released.set()
    try:
        assert client.expect_response(stream).body == b"/late"
    finally:
        released.set()
    assert early in ([], one.origin.heads[:1])


def test_a_lower_limit_later_on_is_kept_to(world):
    one = world(values=[(Setting.MAX_CONCURRENT_STREAMS, 50)])
    client = one.front().open()
    one.origin.on("/lower", lambda connection, stream: (
        connection.send(settings([(Setting.MAX_CONCURRENT_STREAMS, 1)])),
        connection.until(lambda: connection.acks == 2), connection.reply(stream, "/lower")))
    assert client.get("/lower").body == b"/lower"
    one.origin.connections[0].open_peak = 0
    one.origin.settings = [(Setting.MAX_CONCURRENT_STREAMS, 50)]
    paths = [f"/{i}" for i in range(20)]
    assert ask_together([client], paths) == whole(paths)
    assert one.origin.connections[0].open_peak <= 1


# ---- Refused, and told to go away

@pytest.mark.parametrize("method, size", [("GET", 0), ("POST", 4), ("POST", 60_000)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_stream_is_sent_again(world, kind, method, size):
    one = world()
    body = b"x" * size or None
    bodies = []

    def script(connection, stream):
        bodies.append(connection.streams[stream].body)
        if len(bodies) == 1:
            connection.send(rst_stream(stream, Code.REFUSED_STREAM))
        else:
            connection.reply(stream, b"taken")
    one.origin.on("/", script)
    assert one.front(kind).ask("/", method, body).body == b"taken"
    assert bodies == [body or b""] * 2
    assert one.program.metric("upstream_retries") == 1


def test_a_stream_refused_again_and_again_is_503(world):
    one = world()
    one.origin.on("/", lambda connection, stream: connection.send(
        rst_stream(stream, Code.REFUSED_STREAM)))
    front = one.front()
    assert front.outcome("/") == 503
    assert len(one.origin.requests) == 2
    serves_on(front)


@pytest.mark.parametrize("code", [Code.INTERNAL_ERROR, Code.CANCEL, Code.ENHANCE_YOUR_CALM])
def test_only_harmless_requests_are_sent_again_after_another_reset(world, code):
    one = world()
    one.origin.on("/", lambda connection, stream: connection.send(rst_stream(stream, code)))
    assert one.front().outcome("/", "POST", b"x") == 502
    assert len(one.origin.requests) == 1


@pytest.mark.parametrize("closes", [False, True], ids=["stays", "closes"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_stream_past_a_goaway_is_sent_again(world, method, closes):
    """Whatever its method: the origin says that it has not touched it."""
    def script(connection):
        if not connection.greet():
            return
        first = connection.number == 0
        while (seen := connection.request()) is not None:
            if not first or seen.target == "/first":
                connection.reply(seen.stream, seen.target)
                continue
            connection.send(goaway(seen.stream - 2))
            return closes or connection.closed_by_peer()
    one = world(script)
    front = one.front()
    assert front.ask("/first").body == b"/first"
    assert front.ask("/second", method, b"x" if method == "POST" else None).body == b"/second"
    assert [r.connection for r in one.origin.requests] == [0, 0, 1]


@pytest.mark.parametrize("words", [b"", goaway(1)], ids=["without a word", "with GOAWAY"])
@pytest.mark.parametrize("size", [0, 10, 30_000])
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_whole_when_its_connection_ends_behind_it(world, kind, size, words):
    def script(connection):
        if connection.greet() and (seen := connection.request()) is not None:
            connection.send(whole_answer(seen.stream, size) + words)
    one = world(script)
    front = one.front(kind)
    for i in range(5):
        response = front.ask(f"/{i}", "POST", b"x")
        assert response is not CUT and (response.status, len(response.body)) == (200, size)


def whole_answer(stream, size):
    if not size:
        return good_head(stream, end=True)
    pieces = [bytes(min(10_000, size - at)) for at in range(0, size, 10_000)]
    return good_head(stream) + b"".join(
        data(stream, piece, end=i == len(pieces)) for i, piece in enumerate(pieces, 1))


def test_a_goaway_with_an_error_fails_what_it_had_taken(world):
    def script(connection):
        if connection.greet():
            while (seen := connection.request()) is not None:
                if seen.target != "/bad":
                    connection.reply(seen.stream, seen.target)
                    continue
                connection.send(goaway(seen.stream, Code.INTERNAL_ERROR))
                connection.sock.shutdown(socket.SHUT_RDWR)
    one = world(script)
    front = one.front()
    assert front.outcome("/bad", "POST", b"x") == 502
    assert len(one.origin.requests) == 1
    serves_on(front)


@pytest.mark.parametrize("notice", [True, False], ids=["with a notice", "at once"])
def test_a_graceful_goaway_moves_new_requests_and_lets_old_ones_finish(world, notice):
    release = threading.Event()

    def script(connection):
        if not connection.greet():
            return
        held = None
        while (seen := connection.request()) is not None:
            if seen.target != "/held":
                connection.reply(seen.stream, seen.target)
                continue
            held = seen.stream
            connection.send(good_head(held), data(held, b"begun "),
                            goaway(WINDOW_BYTES_MAX) if notice else goaway(held))
            release.wait(within(10))
            connection.send(goaway(held) if notice else b"", data(held, b"ended", end=True))
    one = world(script)
    client = one.front().open()
    held = client.request(path="/held")
    client.until(lambda: client.response_of(held) and client.response_of(held).body, "a beginning")
    for i in range(3):
        assert client.get(f"/{i}").body == b"/%d" % i
    release.set()
    assert client.expect_response(held).body == b"begun ended"
    assert [r.connection for r in one.origin.requests] == [0, 1, 1, 1]
    until(lambda: one.origin.connections[0].ended, "the old connection to be closed")


def test_an_idle_connection_that_says_goaway_is_not_used_again(world):
    one = world()
    front = one.front()
    assert front.outcome("/a") == 200
    one.origin.connections[0].send(goaway(1))
    until(lambda: one.origin.connections[0].ended, "its end")
    assert front.ask("/b", "POST", b"x").body == b"/b"
    assert [r.connection for r in one.origin.requests] == [0, 1]


def test_an_idle_connection_that_closes_is_not_used_again(world):
    one = world()
    front = one.front()
    assert front.outcome("/a") == 200
    one.origin.connections[0].sock.shutdown(socket.SHUT_RDWR)
    until(lambda: one.program.metric("gatehouse_upstream_connections_idle|upstream_idle") == 0,
          "the close to be seen")
    assert front.ask("/b", "POST", b"x").body == b"/b"


def test_a_kept_connection_that_closes_at_a_request_is_asked_again(world):
    def script(connection):
        if connection.greet():
            while (seen := connection.request()) is not None:
                if connection.number == 0 and seen.target == "/b":
                    return
                connection.reply(seen.stream, seen.target)
    one = world(script)
    front = one.front()
    assert front.outcome("/a") == 200
    assert front.ask("/b").body == b"/b"
    assert [r.connection for r in one.origin.requests] == [0, 0, 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("late", [False, True], ids=["body at once", "body late"])
def test_a_post_on_a_kept_connection_that_closes_is_sent_again_whole(world, kind, late):
    broken = threading.Event()

    def script(connection):
        if not connection.greet():
            return
        while (seen := connection.head()) is not None:
            if connection.number == 0 and seen.target == "/b":
                connection.reset()
                broken.set()
                return
            connection.until(lambda: seen.complete)
            connection.reply(seen.stream, seen.body)
    one = world(script)
    client = one.front(kind).open()
    assert client.get("/a").status == 200
    if kind == "h2":
        stream = client.request("POST", "/b", [("content-length", "4")], end=False)
        later = data(stream, b"some", end=True)
    else:
        client.send("POST /b HTTP/1.1\r\nHost: example.test\r\nContent-Length: 4\r\n\r\n")
        later = b"some"
    if not late:
        client.send(later)
    assert broken.wait(within(10))
    if late:
        client.send(later)
    response = client.expect_response(stream) if kind == "h2" else client.response()
    assert (response.status, response.body) == (200, b"some")


def test_idle_connections_are_closed_after_their_time(world):
    one = world(sections='[timeouts]\nupstream_idle = "300ms"')
    assert one.front().outcome("/a") == 200
    connection = one.origin.connections[0]
    until(lambda: connection.ended, "the close")
    assert connection.goaway is not None and connection.goaway.error_code == Code.NO_ERROR


@pytest.mark.skipif(not LONG, reason="waits more than ten seconds: GATEHOUSE_LONG=1")
@pytest.mark.parametrize("alive", [True, False], ids=["alive", "dead"])
def test_a_connection_idle_for_long_is_pinged_before_it_is_used(world, alive):
    one = world()
    front = one.front()
    assert front.outcome("/a") == 200
    time.sleep(within(10.5))
    one.origin.rude = not alive
    kinds = one.origin.connections[0].kinds
    before = len(kinds)
    if not alive:
        one.origin.answer = lambda connection, seen: connection.number and connection.reply(
            seen.stream, seen.target)
    assert front.ask("/b", "POST", b"x").body == b"/b"
    assert kinds[before] == "PingFrame"
    assert one.origin.last().connection == (0 if alive else 1)


# ---- Windows and time

@pytest.mark.parametrize("kind", KINDS)
def test_an_upload_waits_for_an_origin_without_window(world, kind):
    size, release = 64 * MEBIBYTE, threading.Event()

    def script(connection):
        if not connection.greet([(Setting.INITIAL_WINDOW_SIZE, 0)]):
            return
        seen = connection.head()
        release.wait(within(20))
        connection.send(window_update(0, WINDOW_BYTES_MAX - 65535),
                        window_update(seen.stream, WINDOW_BYTES_MAX))
        connection.origin.rude = True
        total = 0
        while not seen.complete:
            if connection.frame() is None:
                return
            total, seen.body = total + len(seen.body), b""
        connection.reply(seen.stream, str(total))
    one = world(script)
    with Watch(one.program) as watch:
        sent = [0]
        thread, result = upload_in_background(one.front(kind).open(), kind, size, sent)
        until(lambda: one.origin.heads and stands_still(sent), "the client to be held up")
        assert sent[0] < 16 * MEBIBYTE
        release.set()
        thread.join(within(30))
    assert result == [str(size).encode()]
    assert watch.growth_kb() < GROWTH_KB_MAX, f"grew by {watch.growth_kb()} KB"


def upload_in_background(client, kind, size, sent):
    result = []

    def upload():
        piece = bytes(MEBIBYTE // 4)
        if kind == "http1":
            client.send(f"POST / HTTP/1.1\r\nHost: example.test\r\nContent-Length: {size}\r\n\r\n")
            client.sock.settimeout(within(30))
            while sent[0] < size:
                client.sock.sendall(piece)
                sent[0] += len(piece)
            result.append(client.response().body)
            return
        stream = client.request("POST", end=False)
        client.sock.settimeout(within(30))
        while sent[0] < size:
            client.send_body(stream, piece, end=False)
            sent[0] += len(piece)
        client.send(data(stream, end=True))
        result.append(client.expect_response(stream, 30).body)
    thread = threading.Thread(target=upload)
    thread.start()
    return thread, result


def test_a_stalled_upload_does_not_stop_others_of_its_connection(world):
    """The origin gives one stream no window; the connection's must not be used up by it."""
    def script(connection):
        if connection.greet([(Setting.INITIAL_WINDOW_SIZE, 1000)]):
            connection.origin.rude = True
            connection.send(window_update(0, WINDOW_BYTES_MAX - 65535))
            while (seen := connection.request()) is not None:
                connection.reply(seen.stream, seen.target)
    one = world(script)
    client = one.front().open()
    stuck = client.request("POST", "/stuck", end=False)
    client.send(data(stuck, bytes(16000)), data(stuck, bytes(16000)))
    until(lambda: one.origin.heads, "its head")
    for i in range(10):
        assert client.get(f"/{i}", "POST", b"x" * 900).body == b"/%d" % i
    assert len(one.origin.connections) == 1


def test_a_client_that_does_not_read_holds_one_stream_up_and_not_the_connection(world):
    one = world()
    sent = [0]

    def script(connection):
        if not connection.greet():
            return
        large = None
        while True:
            while large and connection.window(large) > 0 and sent[0] < 32 * MEBIBYTE:
                count = min(connection.window(large), 16384)
                connection.connection_window -= count
                connection.windows[large] = connection.windows.get(large, 0) - count
                connection.send(data(large, bytes(count)))
                sent[0] += count
            seen = connection.next_whole()
            if seen is None:
                if connection.frame() is None:
                    return
                continue
            seen.taken = True
            if seen.target == "/large":
                large = seen.stream
                connection.head_of_answer(large)
            else:
                connection.reply(seen.stream, seen.target)
    one.origin.script = script
    slow = Http2(one.port, settings=[(Setting.INITIAL_WINDOW_SIZE, 1000)])
    slow.request(path="/large")
    until(lambda: sent[0] and stands_still(sent), "the origin to be held up")
    assert sent[0] < 2 * MEBIBYTE
    front = one.front()
    for i in range(5):
        assert front.ask(f"/{i}").body == b"/%d" % i
    assert len(one.origin.connections) == 1
    slow.close()


@pytest.mark.parametrize("kind", KINDS)
def test_an_origin_that_does_not_answer_is_504(world, kind):
    one = world(sections='[timeouts]\nupstream_response = "300ms"')
    one.origin.on("/silent", lambda connection, stream: None)
    front = one.front(kind)
    assert front.outcome("/silent") == 504
    serves_on(front)
    connection = one.origin.connections[0]
    until(lambda: Code.CANCEL in connection.resets.values(), "the origin to be told")


def test_an_origin_that_never_greets_is_504(world):
    one = world(lambda connection: connection.closed_by_peer(20),
                sections='[timeouts]\nupstream_connect = "300ms"')
    assert one.front().outcome("/", "POST", b"x") == 504


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_that_stalls_is_cut(world, kind):
    one = world(sections='[timeouts]\nbody = "300ms"')
    one.origin.on("/stall", lambda connection, stream: connection.send(
        good_head(stream), data(stream, b"some")))
    front = one.front(kind)
    assert front.outcome("/stall") is CUT
    serves_on(front)
    assert len(one.origin.connections) == 1, "its connection goes on"


# ---- Origins that speak something else

def encrypted(authority, folder, protocols):
    chain, key = authority.issue(["app.internal"])
    (folder / "origin.pem").write_text(chain + key)
    (folder / "root.pem").write_text(authority.root_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "origin.pem")
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


def over_tls(one, folder):
    text = one.program.config.read_text().replace('protocol = "h2c"', f'''protocol = "h2"
tls = {{ ca = "{folder}/root.pem", name = "app.internal" }}''')
    one.program.reload(text)


@pytest.mark.parametrize("kind", KINDS)
def test_an_origin_over_tls_is_asked_for_h2(world, authority, tmp_path, kind):
    one = world(origin=Http2Origin(tls=encrypted(authority, tmp_path, ["h2"])))
    over_tls(one, tmp_path)
    front = one.front(kind)
    for i in range(3):
        assert front.ask(f"/{i}", "POST", b"x").body == b"/%d" % i
    assert [c.sock.selected_alpn_protocol() for c in one.origin.connections] == ["h2"]
    assert one.origin.last().pseudo[":scheme"] == "https"


@pytest.mark.parametrize("protocols", [["http/1.1"], []], ids=["http/1.1", "no ALPN"])
def test_an_origin_that_does_not_offer_h2_is_502_and_named_in_the_log(world, authority, tmp_path,
                                                                     protocols):
    one = world(origin=Origin(tls=encrypted(authority, tmp_path, protocols)))
    over_tls(one, tmp_path)
    assert one.front().outcome("/") == 502
    until(lambda: "HTTP/2" in one.program.log() and one.origin.address in one.program.log(),
          "the reason in the log")
    assert one.origin.heads == [] and b"PRI" not in one.origin.bytes_received


@pytest.mark.parametrize("kind", KINDS)
def test_an_origin_that_speaks_http1_on_its_h2c_port_is_502(world, kind):
    def script(connection):
        connection.more()
        connection.send(answer(b"what?", "400 Bad Request"))
    one = world(origin=Origin(script))
    front = one.front(kind)
    assert front.outcome("/", "POST", b"x") == 502
    until(lambda: one.program.access_lines(), "the access log")
    record = json.loads(one.program.access_lines()[0])
    assert record["status"] == 502 and record["error"]


def test_a_websocket_to_an_http2_origin_is_an_error_of_its_own_request(world):
    from harness.websocket import opening
    one = world()
    with Client(one.port) as client:
        client.send(opening("/chat"))
        assert client.response().status in (200, 426, 501, 502)
    serves_on(one.front())


# ---- PROXY protocol

@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_connection_with_a_proxy_header_serves_one_client_alone(world, version):
    introductions = []

    def script(connection):
        start = connection.exactly(5)
        if start is None:
            return
        if start == b"PROXY":
            introductions.append(int(connection.line().split()[3]))
        else:
            rest = connection.exactly(11)
            length = int.from_bytes(rest[-2:], "big")
            introductions.append(int.from_bytes(connection.exactly(length)[8:10], "big"))
        connection.serve([])
    one = world(script, group=f'proxy_protocol = "{version}"')
    clients = [one.front().open() for _ in range(4)] + [one.front("http1").open()]
    ports = [c.sock.getsockname()[1] for c in clients]
    for turn in range(3):
        for i, client in enumerate(clients):
            path = f"/{i}/{turn}"
            assert client.get(path).body == path.encode()
    for seen in one.origin.requests:
        number = int(seen.target.split("/")[1])
        assert introductions[seen.connection] == ports[number]
    assert sorted(introductions) == sorted(ports), "one connection for each client"
    assert ask_together(clients[:1], ["/0/a", "/0/b", "/0/c"]) == whole(["/0/a", "/0/b", "/0/c"])
    clients[0].close()
    owned = introductions.index(ports[0])
    until(lambda: one.origin.connections[owned].ended, "the connection of a client that has gone")


# ---- The program's own end

def test_a_stop_lets_answers_finish_and_says_goodbye(world):
    release = threading.Event()
    one = world()

    def script(connection, stream):
        connection.send(good_head(stream), data(stream, b"begun "))
        release.wait(within(10))
        connection.send(data(stream, b"ended", end=True))
    one.origin.on("/held", script)
    client = one.front().open()
    held = client.request(path="/held")
    client.until(lambda: client.response_of(held), "its beginning")
    one.program.process.send_signal(signal.SIGTERM)
    client.expect_goaway(Code.NO_ERROR)
    release.set()
    assert client.expect_response(held).body == b"begun ended"
    assert one.program.process.wait(within(10)) == 0
    until(lambda: one.origin.connections[0].ended, "the origin's connection to end")


def test_a_reload_to_another_origin_moves_new_requests(world):
    one = world()
    other = Http2Origin()
    try:
        front = one.front()
        assert front.outcome("/a") == 200
        text = one.program.config.read_text()
        one.program.reload(text.replace(one.origin.address, other.address))
        assert front.ask("/b").body == b"/b" and other.last().target == "/b"
    finally:
        other.stop()
