"""HTTP/2 through the program: what comes out at the origin and at the client."""

import collections
import hashlib
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import h2.config
import h2.connection
import h2.events
import pytest
from harness.client import Client
from harness.http2 import Ended, Http2, trusting_h2
from harness.http2_frames import (
    PREFACE, WINDOW_BYTES_MAX, Code, Setting, block, data, headers, literal_kept, priority_update,
    rst_stream, settings, window_update)
from harness.limits import SLOW, within
from harness.origin import DeafListener, answer
from harness.program import STOP_SECONDS_MAX
from harness.wait import until

# The same over HTTP/2, with the fixtures of this file.
from test_forwarding import (  # noqa: F401
    test_103_early_hints_pass, test_a_flood_of_interim_responses_is_cut,
    test_a_response_without_length_ends_with_the_connection, test_any_ordinary_method_passes,
    test_the_target_passes_byte_for_byte)

# Beyond it an unread body has not stopped whoever sends it.
UNREAD_BYTES_MAX = 8 << 20
GROWTH_KB_MAX = 4096 if SLOW == 1 else 65536
WIDE = [(Setting.INITIAL_WINDOW_SIZE, WINDOW_BYTES_MAX)]


@pytest.fixture
def proxy(gatehouse, config, origin):
    """A program with one site, HTTP/2 on both listeners."""
    return gatehouse(text_of(config, origin))


def text_of(config, origin, **settings_of_site):
    return config.site(origin.address, server="h2c = true", **settings_of_site)


@pytest.fixture(scope="session")
def tls_h2(authority):
    return trusting_h2(authority.root_pem())


@pytest.fixture(params=["h2c", "h2"])
def connect(request, config, tls_h2):
    """Opens well-behaved connections, once plain and once over TLS."""
    opened = []

    def open_one(polite=True, **more):
        plain = request.param == "h2c"
        opened.append(Http2(config.http if plain else config.https, polite=polite,
                            tls=None if plain else tls_h2, **more))
        return opened[-1]
    open_one.scheme = "http" if request.param == "h2c" else "https"
    yield open_one
    for client in opened:
        client.close()


def small_receive_buffer(origin):
    """What its script does not read soon fills it."""
    origin.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)


# ---- Requests and answers

def test_a_request_and_its_answer_pass(proxy, origin, connect):
    origin.respond = lambda r: answer(b"from the origin", fields=[("X-Mine", "yes")])
    response = connect().get("/path?q=1", more=[("accept", "text/plain"), ("x-odd", 'a;b="c"')])
    assert (response.status, response.body) == (200, b"from the origin")
    assert response.value("x-mine") == "yes"
    assert response.value("content-length") == "15"
    seen = origin.last()
    assert (seen.method, seen.target, seen.version) == ("GET", "/path?q=1", "HTTP/1.1")
    assert seen.value("host") == "example.test"
    assert seen.value("accept") == "text/plain" and seen.value("x-odd") == 'a;b="c"'


def test_the_forwarding_fields_are_added_and_a_clients_own_replaced(proxy, origin, connect):
    connect().get(more=[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "gopher"),
                        ("x-forwarded-host", "evil.test"), ("forwarded", "for=6.6.6.6")])
    seen = origin.last()
    assert seen.value("x-forwarded-for") == "127.0.0.1"
    assert seen.value("x-forwarded-proto") == connect.scheme
    assert seen.value("x-forwarded-host") == "example.test"
    assert seen.value("via") == "2.0 gatehouse"
    assert "6.6.6.6" not in seen.head.decode()


CANONICAL = re.compile(rb"[!-~]+ [!-~]+ HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: "
                       rb"[\x21-\x7e\x80-\xff][ \t\x21-\x7e\x80-\xff]*\r\n)+\r\n")


def test_what_goes_upstream_is_canonical(proxy, origin, connect):
    client = connect()
    client.get("/plain", more=[("x-a", "b"), ("te", "trailers")])
    client.get("/ended", "POST")
    client.get("/length", "POST", b"body", more=[("content-length", "4")])
    client.get("/chunks", "POST", b"body")
    seen = {r.target: r for r in origin.requests}
    for request in seen.values():
        assert CANONICAL.fullmatch(request.head), request.head
        assert len(request.values("host")) == 1 and request.values("upgrade") == []
        assert request.values("http2-settings") == [] and not request.values("keep-alive")
    assert not seen["/plain"].values("content-length")
    assert not seen["/plain"].values("transfer-encoding")
    assert seen["/ended"].values("content-length") in (["0"], [])
    assert not seen["/ended"].values("transfer-encoding")
    assert seen["/length"].value("content-length") == "4"
    assert not seen["/length"].values("transfer-encoding")
    assert seen["/chunks"].value("transfer-encoding") == "chunked"
    assert not seen["/chunks"].values("content-length")
    sent = sum(len(r.head) for r in seen.values()) + 4 + len(b"4\r\nbody\r\n0\r\n\r\n")
    assert len(origin.bytes_received) == sent, "and nothing else went upstream"


def test_fields_that_would_end_a_line_upstream_never_reach_it(proxy, origin, connect):
    client = connect()
    for name, value in [("x-a", "b\r\nx-evil: 1"), ("x-a\r\nx-evil", "1"), ("x-a", "b\nx-evil: 1"),
                        ("x-a", "\r\n\r\nGET /evil HTTP/1.1\r\n\r\n"), ("x-evil:", "1")]:
        stream = client.request(more=[(name, value)])
        client.expect_reset(stream, Code.PROTOCOL_ERROR)
    assert client.get("/good").status == 200
    assert b"evil" not in origin.bytes_received
    assert [r.target for r in origin.requests] == ["/good"]


@pytest.mark.parametrize("crumbs", [
    ["a=1"], ["a=1", "b=2"], ["a=1; b=2", "c=3"], [f"c={i}" for i in range(50)]])
def test_cookie_crumbs_are_joined_upstream(proxy, origin, connect, crumbs):
    connect().get(more=[("cookie", c) for c in crumbs])
    assert origin.last().values("cookie") == ["; ".join(crumbs)]


def test_other_repeated_fields_stay_repeated_or_are_joined_by_commas(proxy, origin, connect):
    origin.respond = lambda r: answer(b"x", fields=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    response = connect().get(more=[("x-a", "1"), ("x-b", "0"), ("x-a", "2")])
    assert ", ".join(origin.last().values("x-a")) == "1, 2"
    assert response.values("set-cookie") == ["a=1", "b=2"]


def test_host_may_stand_for_authority_or_repeat_it(proxy, origin, connect):
    client = connect()
    fields = [(":method", "GET"), (":scheme", connect.scheme), (":path", "/")]
    stream = client.take_stream()
    client.send(headers(stream, block([*fields, ("host", "example.test")])))
    assert client.expect_response(stream).status == 200
    assert client.get(more=[("host", "example.test")]).status == 200
    assert [r.value("host") for r in origin.requests] == ["example.test"] * 2


def test_a_host_unlike_authority_is_reset(proxy, origin, connect):
    client = connect()
    stream = client.request(more=[("host", "other.example.test")])
    client.expect_reset(stream, Code.PROTOCOL_ERROR)
    assert origin.heads == [] and client.get().status == 200


def test_hop_by_hop_fields_of_a_response_are_dropped(proxy, origin, connect):
    origin.respond = lambda r: (
        b"HTTP/1.1 200 OK\r\nConnection: X-Inner\r\nX-Inner: 1\r\nKeep-Alive: timeout=9\r\n"
        b"Proxy-Connection: x\r\nX-Kept: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\nx\r\n0\r\n\r\n")
    response = connect().get()  # which fails itself when one of them comes through
    assert response.values("x-inner") == [] and response.value("x-kept") == "1"


def test_fields_of_the_dynamic_table_pass(proxy, origin, connect):
    client = connect()
    fields = block(client.fields())
    for i in range(20):
        stream = client.take_stream()
        client.send(headers(stream, fields + literal_kept("x-number", str(i), coded=True)))
        assert client.expect_response(stream).status == 200
        assert origin.last().value("x-number") == str(i)


# ---- Bodies

@pytest.mark.parametrize("size", [0, 1, 100, 16383, 16384, 16385, 65535, 65536, 1 << 20])
@pytest.mark.parametrize("length", ["content-length", "no length"])
def test_bodies_pass_both_ways(proxy, origin, connect, size, length):
    body = os.urandom(size)
    chunked = (b"%x\r\n" % size + body + b"\r\n" if size else b"") + b"0\r\n\r\n"
    origin.respond = lambda r: (answer(r.body) if length == "content-length" else
                                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked)
    fields = [("content-length", str(size))] if length == "content-length" else []
    response = connect().get("/", "POST", body, fields)
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()
    assert hashlib.sha256(origin.last().body).digest() == hashlib.sha256(body).digest()


def test_large_bodies_arrive_unchanged_both_ways(proxy, origin, connect):
    body = os.urandom(8 << 20)
    origin.respond = lambda r: answer(r.body)
    response = connect(settings=WIDE).get("/", "PUT", body)
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()


def test_a_body_in_odd_pieces_passes(proxy, origin, connect):
    client = connect()
    stream = client.request("POST", end=False)
    client.send(data(stream, b""), data(stream, b"a"), data(stream, b"bc", pad=3), data(stream),
                data(stream, b"", pad=100), data(stream, b"def", pad=0), data(stream, end=True))
    assert client.expect_response(stream).status == 200
    assert origin.last().body == b"abcdef"


def test_a_body_byte_by_byte_passes(proxy, origin, connect):
    client = connect()
    body = os.urandom(500)
    stream = client.request("POST", end=False)
    assert client.send_body(stream, body, frame_bytes=1)
    assert client.expect_response(stream).status == 200
    assert origin.last().body == body


def test_trailers_pass_both_ways(proxy, origin, connect):
    origin.respond = lambda r: (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                                b"Trailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n")
    client = connect()
    stream = client.request("POST", more=[("te", "trailers"), ("trailer", "x-up")], end=False)
    client.send(data(stream, b"a"), headers(stream, block([("x-up", "yes")])))
    response = client.expect_response(stream)
    assert response.body == b"ok" and ("x-sum", "42") in response.trailers
    assert ("x-up", "yes") in [(n.lower(), v) for n, v in origin.last().trailers]


def test_framing_and_routing_fields_in_trailers_are_dropped(proxy, origin, connect):
    client = connect()
    stream = client.request("POST", end=False)
    client.send(data(stream, b"a"), headers(stream, block([
        ("content-length", "5"), ("host", "evil"), ("authorization", "Basic Og=="),
        ("x-ok", "1")])))
    client.until(lambda: client.over(stream), "an end")
    for seen in origin.requests:
        names = {n.lower() for n, _ in seen.trailers}
        assert not names & {"content-length", "transfer-encoding", "host", "authorization"}
    assert client.get().status == 200


def test_head_has_the_length_and_no_body(proxy, origin, connect):
    origin.respond = lambda r: (b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
                                if r.method == "HEAD" else answer(b"next"))
    client = connect()
    response = client.get(method="HEAD")
    assert response.value("content-length") == "1234" and response.body == b""
    assert client.get().body == b"next"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_a_body_have_none(proxy, origin, connect, status):
    origin.respond = lambda r: (f"HTTP/1.1 {status}\r\nETag: \"x\"\r\n\r\n".encode()
                                if r.target == "/none" else answer(b"next"))
    client = connect()
    response = client.get("/none")
    assert response.status == int(status[:3]) and response.value("etag") == '"x"'
    assert response.body == b"" and client.get().body == b"next"


def test_an_empty_answer_needs_no_window(proxy, origin, connect):
    origin.respond = lambda r: answer(b"")
    client = connect(settings=[(Setting.INITIAL_WINDOW_SIZE, 0)])
    assert client.get().status == 200


def test_100_continue_comes_from_the_origin(proxy, origin, connect):
    told = threading.Event()

    def script(connection):
        seen = connection.head()
        assert seen.value("expect") == "100-continue"
        told.wait(10)
        connection.send("HTTP/1.1 100 Continue\r\n\r\n")
        connection.body(seen)
        connection.origin.requests.append(seen)
        connection.send(answer(b"taken"))
    origin.script = script
    client = connect()
    stream = client.request("POST", more=[("expect", "100-continue"), ("content-length", "4")],
                            end=False)
    until(lambda: origin.heads, "the head at the origin before any body")
    told.set()
    client.until(lambda: stream in client.streams, "an interim response")
    assert [i.status for i in client.streams[stream].interim] == [100]
    client.send(data(stream, b"body", end=True))
    assert client.expect_response(stream).body == b"taken" and origin.last().body == b"body"


def test_a_final_answer_instead_of_100_is_passed_on(proxy, origin, connect):
    def script(connection):
        connection.head()
        connection.send(answer(b"too big", status="413 Content Too Large"))
        connection.closed_by_peer()
    origin.script = script
    client = connect()
    stream = client.request("POST", more=[("expect", "100-continue"), ("content-length", "99999")],
                            end=False)
    response = client.expect_response(stream)
    assert (response.status, response.body) == (413, b"too big")
    client.expect_ping()


def test_an_answer_is_passed_on_as_it_comes(proxy, origin, connect):
    step = [threading.Event() for _ in range(3)]

    def script(connection):
        connection.request()
        connection.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                        "Transfer-Encoding: chunked\r\n\r\n")
        for event in step:
            connection.send(b"8\r\ndata: x\n\r\n")
            event.wait(10)
        connection.send("0\r\n\r\n")
    origin.script = script
    client = connect()
    stream = client.request()
    client.expect_head(stream)
    for i, event in enumerate(step):
        client.until(lambda: len(client.streams[stream].response.body) == 8 * (i + 1), "an event")
        event.set()
    client.expect_response(stream)


def test_an_upload_is_passed_on_as_it_comes(proxy, origin, connect):
    client = connect()
    stream = client.request("POST", end=False)
    for i in range(3):
        client.send(data(stream, b"event %d" % i))
        until(lambda: b"event %d" % i in origin.bytes_received, "the piece at the origin")
    client.send(data(stream, end=True))
    assert client.expect_response(stream).status == 200


def test_large_fields_pass_both_ways(proxy, origin, connect):
    origin.respond = lambda r: answer(b"x", fields=[("X-Long", "b" * 8000)])
    response = connect().get(more=[("x-long", "a" * 30000)])
    assert response.value("x-long") == "b" * 8000
    assert origin.last().value("x-long") == "a" * 30000


# ---- Many streams

def test_many_streams_get_each_its_own_answer(proxy, origin, connect):
    rng = random.Random(9113)
    delays = [rng.random() / 10 for _ in range(100)]

    def respond(request):
        number = int(request.target[1:])
        time.sleep(delays[number])
        return answer(request.target.encode() + request.body * 3)
    origin.respond = respond
    client = connect(settings=WIDE)
    bodies = [os.urandom(rng.choice([0, 10, 600])) for _ in delays]
    streams = [client.request("POST", f"/{i}", end=False) for i in range(len(delays))]
    for i in rng.sample(range(len(streams)), len(streams)):
        client.send_body(streams[i], bodies[i])
    for i, stream in enumerate(streams):
        assert client.expect_response(stream).body == f"/{i}".encode() + bodies[i] * 3


def test_many_requests_go_over_one_connection(proxy, origin, connect):
    origin.respond = lambda r: answer(r.target)
    client = connect()
    for first in range(0, 1000, 50):
        streams = [client.request(path=f"/{first + i}") for i in range(50)]
        for i, stream in enumerate(streams):
            assert client.expect_response(stream).body == f"/{first + i}".encode()


def test_large_downloads_share_a_connection(proxy, origin, connect):
    bodies = {f"/{i}": os.urandom(300000 + i) for i in range(8)}
    origin.respond = lambda r: answer(bodies[r.target])
    client = connect()
    streams = {client.request(path=path): body for path, body in bodies.items()}
    for stream, body in streams.items():
        assert client.expect_response(stream).body == body


def test_the_default_is_128_streams_and_the_key_changes_it(gatehouse, config, origin, connect):
    gatehouse(text_of(config, origin))
    assert connect().server_settings[Setting.MAX_CONCURRENT_STREAMS] == 128


def test_streams_over_the_limit_are_refused_and_may_be_sent_again(gatehouse, config, origin,
                                                                 connect):
    program = gatehouse(text_of(config, origin, sections="[limits]\nhttp2_streams = 5"))
    release = threading.Event()
    origin.respond = lambda r: release.wait(10) and answer(r.target)
    # Sent before the limit could be known, so it is no error of the client's.
    client = connect(handshake=False)
    streams = [client.take_stream() for _ in range(7)]
    client.send(PREFACE, settings(), *[
        headers(s, block(client.fields(path=f"/{s}"))) for s in streams])
    for refused in streams[5:]:
        client.expect_reset(refused, Code.REFUSED_STREAM)
    assert client.server_settings[Setting.MAX_CONCURRENT_STREAMS] == 5
    assert program.metric("gatehouse_requests_active") <= 5
    release.set()
    for stream in streams[:5]:
        assert client.expect_response(stream).body == f"/{stream}".encode()
    assert client.get("/again").body == b"/again"
    assert {r.target for r in origin.requests} == {f"/{s}" for s in streams[:5]} | {"/again"}


# ---- Flow control

def test_an_origin_that_does_not_read_stops_the_client(proxy, origin, connect):
    small_receive_buffer(origin)
    release = threading.Event()

    def script(connection):
        while (seen := connection.head()) is not None:
            if seen.target == "/unread":
                release.wait(60)
            connection.body(seen)
            connection.origin.requests.append(seen)
            connection.send(answer(b"read"))
    origin.script = script
    client = connect()
    assert client.get("/", "POST", b"warm").status == 200
    before = proxy.rss_kb()
    body = os.urandom(1 << 20) * 16
    stream = client.request("POST", "/unread", end=False)
    sent = send_until_stopped(client, stream, body)
    assert sent < UNREAD_BYTES_MAX, f"{sent} bytes were taken and not delivered"
    assert proxy.rss_kb() - before < GROWTH_KB_MAX
    other = connect()
    assert other.get("/other").body == b"read", "others are served"
    release.set()
    client.send_body(stream, body[sent:])
    assert client.expect_response(stream).body == b"read"
    assert hashlib.sha256(body).digest() in [
        hashlib.sha256(r.body).digest() for r in origin.requests if r.target == "/unread"]


def send_until_stopped(client, stream, body):
    """How much may be sent before the windows stay closed."""
    sent, quiet = 0, 0
    while quiet < 3 and sent < len(body):
        count = min(client.window(stream), 16384)
        if count > 0:
            quiet = 0
            client.spend(stream, count)
            client.send(data(stream, body[sent:sent + count]))
            sent += count
            continue
        quiet += 1
        try:
            client.frame(0.1)
            quiet = 0
        except TimeoutError:
            pass
    return sent


def test_an_unread_upload_does_not_stop_other_streams_of_its_connection(proxy, origin, connect):
    small_receive_buffer(origin)
    release = threading.Event()

    def script(connection):
        while (seen := connection.head()) is not None:
            if seen.target == "/unread":
                release.wait(60)
            connection.body(seen)
            connection.send(answer(seen.target))
    origin.script = script
    client = connect()
    stuck = client.request("POST", "/unread", end=False)
    send_until_stopped(client, stuck, bytes(16 << 20))
    if client.connection_window > 0:
        assert client.get("/small", "POST", b"x").body == b"/small"
    assert client.get("/none").body == b"/none"
    release.set()


def test_a_client_that_does_not_read_stops_the_origin(proxy, origin, connect):
    piece, count = os.urandom(1 << 20), 64
    sent = [0]

    def script(connection):
        while (seen := connection.request()) is not None:
            if seen.target != "/bulk":
                connection.send(answer(b"small"))
                continue
            connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(piece) * count}\r\n\r\n")
            for _ in range(count):
                connection.send(piece)
                sent[0] += len(piece)
    origin.script = script
    assert connect().get().body == b"small"
    before = proxy.rss_kb()
    client = connect(polite=False)
    stream = client.request(path="/bulk")
    client.expect_head(stream)
    stands = stands_still(lambda: sent[0])
    # What the origin's kernel took on top of it is not the program's.
    assert stands < 16 << 20 and proxy.rss_kb() - before < GROWTH_KB_MAX
    client.expect_ping()
    assert len(client.streams[stream].response.body) <= 65535
    client.polite = True
    client.send(window_update(0, 1 << 20), window_update(stream, 1 << 20))
    assert client.get("/other").body == b"small", "another stream has its own window"
    response = client.expect_response(stream, seconds=60)
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(piece * count).digest()


def stands_still(value, seconds=0.3):
    """The value once it has not changed for a while."""
    last, since, end = value(), time.monotonic(), time.monotonic() + within(20)
    while time.monotonic() - since < seconds:
        assert time.monotonic() < end, "it does not stop"
        time.sleep(0.02)
        if value() != last:
            last, since = value(), time.monotonic()
    return last


def test_a_stream_without_window_does_not_stop_the_others(proxy, origin, connect):
    origin.respond = lambda r: answer(r.target.encode() * 2000)
    client = connect(settings=[(Setting.INITIAL_WINDOW_SIZE, 0)], polite=False)
    stuck = [client.request(path="/stuck") for _ in range(10)]
    for stream in stuck:
        client.expect_head(stream)
    moving = client.request(path="/moves")
    client.send(window_update(moving, 100000))
    assert client.expect_response(moving).body == b"/moves" * 2000
    assert all(client.streams[s].data_frames == 0 for s in stuck)
    for stream in stuck:
        client.send(window_update(stream, 100000), window_update(0, 12000))
        assert client.expect_response(stream).body == b"/stuck" * 2000


# ---- Ends that are no ends

@pytest.mark.parametrize("framing", ["Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"])
def test_an_answer_cut_short_is_reset_and_never_ended(proxy, origin, connect, framing):
    def script(connection):
        seen = connection.request()
        if seen.target == "/good":
            connection.send(answer(b"good"))
            return
        body = b"3e8\r\n" if "chunked" in framing else b""
        connection.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n", body, b"x" * 500)
    origin.script = script
    client = connect()
    stream = client.request()
    client.expect_reset(stream)
    assert not client.streams[stream].ended
    assert client.get("/good").body == b"good", "the connection goes on"


def test_a_chunked_answer_without_its_last_chunk_is_reset(proxy, origin, connect):
    def script(connection):
        connection.request()
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    origin.script = script
    client = connect()
    stream = client.request()
    client.expect_reset(stream)
    assert client.goaway is None


def test_a_reset_before_the_answer_cancels_the_request_upstream(proxy, origin, connect):
    gone = threading.Event()

    def script(connection):
        if connection.request().target == "/good":
            connection.send(answer(b"good"))
        elif connection.closed_by_peer(10):
            gone.set()
    origin.script = script
    client = connect()
    stream = client.request()
    origin.wait_requests(1)
    client.send(rst_stream(stream))
    assert gone.wait(10), "the upstream connection was closed"
    assert client.get("/good").body == b"good"


def test_a_reset_inside_a_download_cancels_it(proxy, origin, connect):
    stopped = threading.Event()

    def script(connection):
        if connection.request().target == "/good":
            connection.send(answer(b"good"))
            return
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                connection.send(b"x" * 65536)
        except OSError:
            stopped.set()
    origin.script = script
    client = connect(polite=False)
    stream = client.request()
    client.expect_head(stream)
    client.send(rst_stream(stream), window_update(0, 1 << 20))
    assert stopped.wait(10)
    assert client.get("/good").body == b"good"


def test_a_reset_inside_an_upload_is_never_a_whole_request(proxy, origin, connect):
    ended = threading.Event()

    def script(connection):
        seen = connection.head()
        connection.body(seen)
        connection.origin.requests.append(seen)
        ended.set()
    origin.script = script
    client = connect()
    stream = client.request("POST", end=False)
    client.send(data(stream, b"hello"))
    until(lambda: b"hello" in origin.bytes_received, "the first piece at the origin")
    client.send(rst_stream(stream))
    assert ended.wait(10) and not origin.last().complete


def test_a_client_that_goes_away_cancels_all_its_requests(proxy, origin, connect):
    gone = []

    def script(connection):
        connection.request()
        if connection.closed_by_peer(10):
            gone.append(connection)
    origin.script = script
    client = connect()
    for i in range(5):
        client.request(path=f"/{i}")
    origin.wait_requests(5)
    client.close()
    until(lambda: len(gone) == 5, "five closed upstream connections")
    until(lambda: proxy.metric("gatehouse_requests_active") == 0, "no request is left")


@pytest.mark.parametrize("how", ["resets", "goes away"])
def test_a_request_that_still_connects_upstream_is_cancelled(gatehouse, config, connect, how):
    with DeafListener() as deaf:
        program = gatehouse(text_of(config, deaf))
        client = connect()
        streams = [client.request(path=f"/{i}") for i in range(5)]
        until(lambda: program.metric("gatehouse_requests_active") == 5, "five requests")
        begun = time.monotonic()
        if how == "resets":
            client.send(*[rst_stream(s) for s in streams])
        else:
            client.close()
        until(lambda: program.metric("gatehouse_requests_active") == 0, "no request is left")
        assert time.monotonic() - begun < within(2), "long before the timeout of a connect"


def test_an_early_answer_reaches_a_client_that_still_uploads(proxy, origin, connect):
    def script(connection):
        if connection.head().target == "/good":
            connection.send(answer(b"good"))
            return
        connection.send(answer(b"no need", "403 Forbidden", [("Connection", "close")]))
        connection.closed_by_peer()
    origin.script = script
    client = connect()
    stream = client.request("POST", more=[("content-length", "100000000")], end=False)
    client.send(data(stream, bytes(10000)))
    response = client.expect_response(stream)
    assert (response.status, response.body) == (403, b"no need")
    assert client.expect_reset(stream, Code.NO_ERROR, Code.CANCEL) is not None
    assert client.get("/good").body == b"good"


@pytest.mark.parametrize("framing", ["Content-Length: 0\r\n\r\n", "Transfer-Encoding: chunked\r\n"
                                     "\r\n0\r\n\r\n"], ids=["length", "chunked"])
def test_an_early_answer_without_a_body_comes_ahead_of_the_reset(proxy, origin, connect, framing):
    def script(connection):
        connection.head()
        connection.send("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n" + framing)
        connection.closed_by_peer()
    origin.script = script
    client = connect()
    stream = client.request("POST", more=[("content-length", "100000000")], end=False)
    client.send(data(stream, bytes(10000)))
    assert client.expect_response(stream).status == 413
    client.expect_reset(stream, Code.NO_ERROR)
    client.expect_ping()


# ---- Errors of its own

def test_a_refused_target_is_a_400_page(proxy, origin, connect):
    client = connect()
    page = client.get("/../x")
    assert page.status == 400 and page.value("content-type").startswith("text/html")
    page = client.get("/../x", more=[("accept", "application/json")])
    assert page.value("content-type").startswith("application/problem+json")
    assert json.loads(page.body)["status"] == 400
    assert origin.heads == [] and client.get().status == 200


def test_an_authority_outside_the_certificate_is_misdirected(proxy, origin, connect):
    client = connect()
    response = client.get(authority="unknown.invalid")
    assert response.status == (421 if connect.scheme == "https" else 404)
    assert origin.heads == [] and client.get().status == 200


def test_an_authority_that_the_certificate_covers_may_share_the_connection(proxy, origin, connect):
    client = connect()
    assert client.get(authority="shop.example.test").status == 200
    assert client.get(authority="EXAMPLE.test").status == 200
    assert client.get(authority="a.shop.example.test").status in (404, 421)


def test_too_many_fields_are_431(gatehouse, config, origin, connect):
    gatehouse(text_of(config, origin, sections="[limits]\nrequest_fields = 20"))
    client = connect()
    assert client.get(more=[("x-a", "b")] * 12).status == 200
    before = len(origin.heads)
    assert client.get(more=[("x-a", "b")] * 30).status == 431
    assert client.get(more=[("cookie", "a=b")] * 30).status == 431
    assert len(origin.heads) == before and client.get().status == 200


def test_a_head_over_its_limit_is_431(gatehouse, config, origin, connect):
    gatehouse(text_of(config, origin, sections='[limits]\nrequest_header = "4KiB"'))
    client = connect()
    assert client.get(more=[("x-a", "b" * 3000)]).status == 200
    before = len(origin.heads)
    assert client.get(more=[("x-a", "b" * 5000)]).status == 431
    assert client.get("/" + "x" * 5000).status in (414, 431)
    assert len(origin.heads) == before and client.get().status == 200
    assert client.server_settings.get(Setting.MAX_HEADER_LIST_SIZE, 4096) >= 4096


def test_a_body_over_its_limit_is_413(gatehouse, config, origin, connect):
    gatehouse(text_of(config, origin, sections='[limits]\nrequest_body = "10KiB"'))
    client = connect()
    assert client.get("/", "POST", bytes(10240)).status == 200
    before = len(origin.heads)
    stream = client.request("POST", more=[("content-length", "10241")], end=False)
    assert client.expect_response(stream).status == 413
    assert len(origin.heads) == before, "refused by its length, before the origin hears of it"
    stream = client.request("POST", end=False)
    client.send(data(stream, bytes(10000)), data(stream, bytes(10000)))
    assert client.expect_response(stream).status == 413
    assert [r for r in origin.requests if r.complete and len(r.body) > 10240] == []
    assert client.get().status == 200


def test_an_origin_that_is_not_there_is_502_or_503(gatehouse, config, origin, connect):
    origin.close_listener()
    gatehouse(text_of(config, origin))
    client = connect()
    assert client.get().status in (502, 503) and client.get().status in (502, 503)


def test_an_origin_that_does_not_answer_is_504(gatehouse, config, origin, connect):
    gatehouse(text_of(config, origin, sections='[timeouts]\nupstream_response = "500ms"'))

    def script(connection):
        if connection.request().target == "/good":
            connection.send(answer(b"good"))
        connection.closed_by_peer(20)
    origin.script = script
    client = connect()
    stuck = client.request()
    assert client.get("/good").body == b"good"
    assert client.expect_response(stuck).status == 504


def test_a_bad_answer_is_502_for_its_stream_alone(proxy, origin, connect):
    origin.respond = lambda r: (
        answer(b"good") if r.target == "/good" else
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n")
    client = connect()
    bad, good = client.request(path="/bad"), client.request(path="/good")
    assert client.expect_response(bad).status == 502
    assert client.expect_response(good).body == b"good"


def test_a_body_that_stalls_is_cut_and_the_connection_goes_on(gatehouse, config, origin, connect):
    gatehouse(text_of(config, origin, sections='[timeouts]\nbody = "500ms"'))
    client = connect()
    stream = client.request("POST", end=False)
    client.send(data(stream, b"abc"))
    client.until(lambda: client.over(stream), "an end")
    found = client.streams[stream]
    assert found.reset is not None or found.response.status == 408
    assert client.get().status == 200
    assert [r.target for r in origin.requests if r.complete and r.method == "POST"] == []


def test_plain_http_is_redirected(gatehouse, config, origin):
    text = text_of(config, origin).replace("redirect_http = false", "redirect_http = true")
    gatehouse(text)
    with Http2(config.http) as client:
        response = client.get("/path?q=1")
    assert response.status in (301, 308)
    assert re.fullmatch(rf"https://example\.test(:{config.https})?/path\?q=1",
                        response.value("location"))
    assert origin.heads == []


# ---- Which protocol

@pytest.mark.parametrize("offered, chosen", [
    (["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"),
    (["h2"], "h2")])
def test_alpn_chooses_http2_where_it_is_offered(proxy, config, authority, offered, chosen):
    context = trusting_h2(authority.root_pem(), offered)
    with Client(config.https, tls=context, name="example.test") as client:
        assert client.sock.selected_alpn_protocol() == chosen
        if chosen != "h2":
            assert client.get().status == 200


def test_without_alpn_it_is_http_1_1(proxy, config, tls):
    with Client(config.https, tls=tls, name="example.test") as client:
        assert client.sock.selected_alpn_protocol() is None and client.get().status == 200


def test_the_plain_listener_speaks_both(proxy, config):
    with Client(config.http) as one, Http2(config.http) as two:
        assert one.get().status == 200 and two.get().status == 200
        assert one.get().status == 200


def test_without_the_key_prior_knowledge_is_refused(gatehouse, config, origin):
    gatehouse(config.site(origin.address))
    with Client(config.http) as client:
        client.send(PREFACE, settings())
        assert client.response().status in (400, 505) and client.closed()
    assert origin.heads == []


def test_http2_goes_over_tls_1_2(proxy, config, authority):
    context = trusting_h2(authority.root_pem())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Http2(config.https, tls=context) as client:
        assert client.get().status == 200


def test_the_access_log_tells_the_version(proxy, connect):
    connect().get("/logged")
    until(lambda: proxy.access_lines(), "a line of the access log")
    line = json.loads(proxy.access_lines()[0])
    assert line["protocol"].startswith("HTTP/2") and line["target"] == "/logged"
    assert line["status"] == 200 and line["scheme"] == connect.scheme


# ---- The program's own comings and goings

def test_sigterm_says_goaway_and_lets_requests_finish(proxy, origin, connect):
    release = threading.Event()
    origin.respond = lambda r: release.wait(20) and answer(b"finished")
    client = connect()
    streams = [client.request("POST", f"/{i}", end=False) for i in range(3)]
    client.send(*[data(s, b"some") for s in streams])
    until(lambda: len(origin.heads) == 3, "the requests at the origin")
    proxy.process.send_signal(signal.SIGTERM)
    goaway = client.expect_goaway(Code.NO_ERROR)
    assert goaway.last_stream_id >= streams[-1]
    client.send(*[data(s, b"more", end=True) for s in streams])
    release.set()
    for stream in streams:
        assert client.expect_response(stream).body == b"finished"
    client.expect_end(STOP_SECONDS_MAX)
    assert client.goaway.error_code == Code.NO_ERROR
    assert [r.body for r in origin.requests] == [b"somemore"] * 3
    proxy.process.wait(within(STOP_SECONDS_MAX))


def test_sigterm_ends_an_idle_connection_at_once(proxy, connect):
    client = connect()
    assert client.get().status == 200
    proxy.process.send_signal(signal.SIGTERM)
    client.expect_goaway(Code.NO_ERROR)
    client.expect_end()
    proxy.process.wait(within(5))


def test_a_request_that_crosses_the_first_goaway_is_answered_or_can_be_sent_again(
        proxy, origin, connect):
    release = threading.Event()
    origin.respond = lambda r: (r.target == "/late" or release.wait(20)) and answer(b"x")
    client = connect()
    held = client.request(path="/held")
    until(lambda: origin.heads, "the first request at the origin")
    proxy.process.send_signal(signal.SIGTERM)
    late = client.request(path="/late")
    client.expect_goaway(Code.NO_ERROR)
    release.set()
    assert client.expect_response(held).status == 200
    try:
        client.until(lambda: client.over(late), "the fate of the late one")
    except Ended:
        pass
    if client.over(late) and client.streams[late].ended:
        return
    assert client.goaway.last_stream_id < late or (
        client.streams[late].reset == Code.REFUSED_STREAM)
    assert "/late" not in [h.target for h in origin.heads], "it is told to be safe to repeat"


def test_a_reload_keeps_connections_and_streams(proxy, origin, connect):
    release = threading.Event()
    origin.respond = lambda r: (r.target != "/held" or release.wait(20)) and answer(r.target)
    client = connect()
    held = client.request(path="/held")
    until(lambda: origin.heads, "the request at the origin")
    proxy.reload()
    assert client.get("/new").body == b"/new"
    release.set()
    assert client.expect_response(held).body == b"/held"


def test_an_idle_connection_is_told_and_closed_after_its_time(gatehouse, config, origin, connect):
    gatehouse(text_of(config, origin, sections='[timeouts]\nidle = "700ms"'))
    client = connect()
    begun = time.monotonic()
    assert client.get().status == 200
    client.expect_goaway(Code.NO_ERROR)
    client.expect_end()
    assert 0.5 < time.monotonic() - begun < within(2.5)


def test_a_connection_with_an_open_stream_is_not_idle(gatehouse, config, origin, connect):
    gatehouse(text_of(config, origin, sections='[timeouts]\nidle = "300ms"'))
    origin.respond = lambda r: time.sleep(1) or answer(b"late")
    assert connect().get().body == b"late"


# ---- Priorities (RFC 9218)

LARGE = 4 << 20
WAITING_BYTES = 256 << 10


def two_downloads(downloads, first, second):
    """Two large answers that wait for the connection's window; their streams."""
    client = downloads
    filler = client.request(path="/filler")
    client.until(lambda: client.response_of(filler)
                 and len(client.response_of(filler).body) == 65535, "no window left")
    client.send(rst_stream(filler))
    streams = []
    for value in (first, second):
        streams.append(client.request(path=f"/large?{len(streams)}",
                                      more=[("priority", value)] if value else []))
        client.expect_head(streams[-1])
    # More than the program holds of one answer: each has something to send whenever it may.
    until(lambda: all(client.sent_upstream[f"/large?{n}"] > WAITING_BYTES for n in range(2)),
          "both answers waiting")
    stands_still(lambda: sum(client.sent_upstream.values()))
    return streams


def shares(client, streams, rounds=40, step=16384):
    """How many bytes each stream gets of windows that open step by step."""
    for _ in range(rounds):
        before = sum(len(client.streams[s].response.body) for s in streams)
        client.send(window_update(0, step))
        client.until(lambda: sum(len(client.streams[s].response.body) for s in streams)
                     >= before + step, "the window used")
    return [len(client.streams[s].response.body) for s in streams]


@pytest.fixture
def downloads(proxy, origin, connect):
    """A connection that gives no window back, to an origin with large answers."""
    sent = collections.Counter()

    def script(connection):
        while (seen := connection.request()) is not None:
            connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n")
            for _ in range(LARGE // 16384):
                connection.send(bytes(16384))
                sent[seen.target] += 16384
    origin.script = script
    client = connect(polite=False, settings=[*WIDE, (Setting.NO_RFC7540_PRIORITIES, 1)])
    client.sent_upstream = sent
    return client


@pytest.mark.parametrize("first, second", [("u=7", "u=0"), ("u=5", "u=1"), ("", "u=2")])
def test_the_more_urgent_goes_first(downloads, first, second):
    later, sooner = shares(downloads, two_downloads(downloads, first, second))
    assert sooner > 9 * later, f"{sooner} bytes of the urgent one, {later} of the other"


def test_of_equally_urgent_answers_the_first_goes_first(downloads):
    first, second = shares(downloads, two_downloads(downloads, "u=3", "u=3"))
    assert first > 9 * second


def test_incremental_answers_share(downloads):
    first, second = shares(downloads, two_downloads(downloads, "u=3, i", "u=3, i"))
    assert 0.4 < first / (first + second) < 0.6


def test_a_priority_update_reorders(downloads):
    streams = two_downloads(downloads, "u=5", "u=1")
    downloads.send(priority_update(streams[0], b"u=0"))
    first, second = shares(downloads, streams)
    assert first > 9 * second


# ---- Real clients

def test_curl_speaks_it(proxy, origin, config, authority, tmp_path):
    origin.respond = lambda r: answer(r.body or b"hello")
    (tmp_path / "root.pem").write_text(authority.root_pem())
    body = tmp_path / "body"
    body.write_bytes(os.urandom(1 << 20))
    common = ["curl", "-sS", "--max-time", "20", "--cacert", tmp_path / "root.pem", "-w",
              "%{http_version} %{http_code}", "--resolve", f"example.test:{config.https}:127.0.0.1",
              "--resolve", f"example.test:{config.http}:127.0.0.1", "-o", tmp_path / "out"]
    for url, options in [(f"https://example.test:{config.https}/", ["--http2"]),
                         (f"http://example.test:{config.http}/", ["--http2-prior-knowledge"])]:
        got = subprocess.run([*common, *options, url], capture_output=True, text=True)
        assert got.stdout == "2 200", got.stderr
        assert (tmp_path / "out").read_bytes() == b"hello"
        got = subprocess.run([*common, *options, "--data-binary", f"@{body}", url],
                             capture_output=True, text=True)
        assert got.stdout == "2 200", got.stderr
        assert (tmp_path / "out").read_bytes() == body.read_bytes()
        got = subprocess.run([*common, *options, "-I", url], capture_output=True, text=True)
        assert got.stdout == "2 200", got.stderr


def test_h2load_gets_every_answer(proxy, origin, config):
    origin.respond = lambda r: answer(b"x" * 1000)
    for scheme, port in [("https", config.https), ("http", config.http)]:
        got = subprocess.run(
            ["h2load", "-n", "1000", "-c", "5", "-m", "20",
             f"--connect-to=127.0.0.1:{port}", f"{scheme}://example.test:{port}/"],
            capture_output=True, text=True, timeout=within(60))
        assert "1000 succeeded, 0 failed, 0 errored, 0 timeout" in got.stdout, got.stdout
        assert "status codes: 1000 2xx" in got.stdout


def test_python_h2_speaks_it(proxy, origin, config, tls_h2):
    body = os.urandom(300000)
    origin.respond = lambda r: answer(r.body)
    sock = tls_h2.wrap_socket(socket.create_connection(("127.0.0.1", config.https), within(10)),
                              server_hostname="example.test")
    with sock:
        assert python_h2_post(sock, body) == ("200", body)
    assert origin.last().body == body


def python_h2_post(sock, body):
    """A POST by another implementation, which checks what it is sent."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    connection.send_headers(1, [(":method", "POST"), (":scheme", "https"), (":path", "/"),
                                (":authority", "example.test")])
    status, parts, left, ended = None, [], body, False
    while not ended:
        while left and (count := min(connection.local_flow_control_window(1), 16384, len(left))):
            connection.send_data(1, left[:count], end_stream=count == len(left))
            left = left[count:]
        sock.sendall(connection.data_to_send())
        for event in connection.receive_data(sock.recv(65536)):
            if isinstance(event, h2.events.ResponseReceived):
                status = dict(event.headers)[":status"]
            elif isinstance(event, h2.events.DataReceived):
                parts.append(event.data)
                connection.acknowledge_received_data(event.flow_controlled_length, 1)
            assert not isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated))
            ended = ended or isinstance(event, h2.events.StreamEnded)
    return status, b"".join(parts)
