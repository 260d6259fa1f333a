"""HTTP/1.1 through the program: what comes out at the origin and at the client."""

import hashlib
import os
import threading

import pytest
from harness.client import Cut, request
from harness.origin import answer
from harness.wait import until, within

GONE_BETWEEN_HOPS = [
    ("Connection", "keep-alive, X-Private"), ("Keep-Alive", "timeout=5"), ("X-Private", "1"),
    ("Proxy-Connection", "keep-alive"), ("TE", "gzip, trailers"), ("Upgrade", "h2c"),
    ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"), ("Proxy-Authorization", "Basic Og=="),
]


def test_a_request_and_its_answer_pass(proxy, origin, connect):
    origin.respond = lambda r: answer(b"from the origin", fields=[("X-Mine", "yes")])
    response = connect().get("/path?q=1", fields=[("Accept", "text/plain"), ("X-Odd", "a;b=\"c\"")])
    assert (response.status, response.body) == (200, b"from the origin")
    assert response.value("x-mine") == "yes"
    seen = origin.last()
    assert (seen.method, seen.target, seen.version) == ("GET", "/path?q=1", "HTTP/1.1")
    assert seen.value("host") == "example.test"
    assert seen.value("accept") == "text/plain" and seen.value("x-odd") == 'a;b="c"'


def test_the_forwarding_fields_are_added(proxy, origin, connect):
    connect().get()
    seen = origin.last()
    assert seen.value("x-forwarded-for") == "127.0.0.1"
    assert seen.value("x-forwarded-proto") == connect.scheme
    assert seen.value("x-forwarded-host") == "example.test"
    assert seen.value("via") == "1.1 gatehouse"


def test_a_clients_own_forwarding_fields_are_replaced(proxy, origin, connect):
    connect().get(fields=[("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "gopher"),
                          ("X-Forwarded-Host", "evil.test"), ("Forwarded", "for=6.6.6.6")])
    seen = origin.last()
    assert seen.value("x-forwarded-for") == "127.0.0.1"
    assert seen.value("x-forwarded-proto") == connect.scheme
    assert seen.value("x-forwarded-host") == "example.test"
    assert "6.6.6.6" not in seen.head.decode()


def test_a_trusted_proxys_forwarding_fields_are_appended_to(gatehouse, config, origin, connect):
    gatehouse(config.site(origin.address, server='trusted_proxies = ["127.0.0.0/8"]'))
    connect().get(fields=[("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "https")])
    assert origin.last().value("x-forwarded-for").replace(" ", "") == "6.6.6.6,127.0.0.1"


@pytest.mark.parametrize("name, value", GONE_BETWEEN_HOPS)
def test_hop_by_hop_fields_are_dropped(proxy, origin, connect, name, value):
    fields = [(name, value)]
    if name == "X-Private":
        fields.append(("Connection", "x-private"))
    assert connect().get(fields=fields).status == 200
    seen = origin.last()
    left = [v for n, v in seen.fields if n.lower() == name.lower()]
    if name == "TE":
        assert left in ([], ["trailers"])
    elif name == "Connection":
        assert "x-private" not in seen.head.lower().decode()
    elif name in ("Proxy-Authorization",):
        pass  # meant for the next proxy that asks for it: either way is right
    else:
        assert left == [], seen.head


def test_hop_by_hop_fields_of_a_response_are_dropped(proxy, origin, connect):
    origin.respond = lambda r: answer(b"x", fields=[
        ("Connection", "X-Inner"), ("X-Inner", "1"), ("Keep-Alive", "timeout=9"), ("X-Kept", "1")])
    response = connect().get()
    assert response.values("x-inner") == [] and response.values("keep-alive") == []
    assert response.value("x-kept") == "1"


@pytest.mark.parametrize("target", [
    "/", "/a//b", "/%7Euser", "/a%20b", "/?", "/?a=b&c=%2F", "/a;b=c", "/%E2%82%AC",
    "/a/./b", "/a/b/../c", "/" + "x" * 4000, "/!$&'()*+,;=:@"])
def test_the_target_passes_byte_for_byte(proxy, origin, connect, target):
    assert connect().get(target).status == 200
    assert origin.last().target == target


@pytest.mark.parametrize("target", ["/..", "/../x", "/..;/x", "/a/../../x",
                                    "/%2e%2e/x", "/a/%2e%2E/../x", "/a//../x", "/a//b/%2e%2e/x"])
def test_a_path_above_the_root_or_of_two_meanings_is_refused(proxy, origin, connect, target):
    assert connect().get(target).status == 400
    assert origin.heads == []


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
def test_any_ordinary_method_passes(proxy, origin, connect, method):
    assert connect().get(method=method, body=b"body").status == 200
    assert (origin.last().method, origin.last().body) == (method, b"body")


@pytest.mark.parametrize("size", [0, 1, 100, 16383, 16384, 16385, 65536, 1 << 20])
def test_bodies_with_a_length_pass_both_ways(proxy, origin, connect, size):
    body = os.urandom(size)
    origin.respond = lambda r: answer(r.body)
    assert connect().get(method="POST", body=body).body == body
    assert origin.last().value("content-length") == str(size)


@pytest.mark.parametrize("sizes", [[], [1], [5, 1, 7], [16384, 3, 70000], [1] * 300])
def test_chunked_bodies_pass_both_ways(proxy, origin, connect, sizes):
    pieces = [os.urandom(size) for size in sizes]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
    origin.respond = lambda r: (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    client = connect()
    client.send("POST / HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n\r\n",
                chunks)
    response = client.response()
    assert response.body == b"".join(pieces) and origin.last().body == b"".join(pieces)
    assert client.get().status == 200, "the connection is kept"


def test_chunks_that_arrive_byte_by_byte_pass(proxy, origin, connect):
    client = connect()
    message = (b"POST / HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n\r\n"
               b"3;name=value\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
    for i in range(len(message)):
        client.send(message[i:i + 1])
    assert client.response().status == 200
    assert origin.last().body == b"abcdefg"
    assert b"name=value" not in origin.bytes_received, "chunk extensions stop here"


def test_trailers_pass_both_ways(proxy, origin, connect):
    origin.respond = lambda r: (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                                b"Trailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n")
    client = connect()
    client.send("POST / HTTP/1.1\r\nHost: example.test\r\nTE: trailers\r\nTrailer: X-Up\r\n"
                "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Up: yes\r\n\r\n")
    response = client.response()
    assert ("x-sum", "42") in [(n.lower(), v) for n, v in response.trailers]
    assert ("x-up", "yes") in [(n.lower(), v) for n, v in origin.last().trailers]


def test_framing_and_routing_fields_in_trailers_are_dropped(proxy, origin, connect):
    client = connect()
    client.send("POST / HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n\r\n"
                "1\r\na\r\n0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: evil\r\n"
                "Authorization: Basic Og==\r\nX-Ok: 1\r\n\r\n")
    assert client.response().status in (200, 400)
    for seen in origin.requests:
        names = {n.lower() for n, _ in seen.trailers}
        assert not names & {"content-length", "transfer-encoding", "host", "authorization"}


def test_head_has_the_length_and_no_body(proxy, origin, connect):
    origin.respond = lambda r: (b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
                                if r.method == "HEAD" else answer(b"next"))
    client = connect()
    response = client.get(method="HEAD")
    assert response.value("content-length") == "1234" and response.body == b""
    assert client.get().body == b"next", "nothing of a body was left over"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_a_body_have_none(proxy, origin, connect, status):
    origin.respond = lambda r: (f"HTTP/1.1 {status}\r\nETag: \"x\"\r\n\r\n".encode()
                                if r.target == "/none" else answer(b"next"))
    client = connect()
    response = client.get("/none")
    assert response.status == int(status[:3]) and response.value("etag") == '"x"'
    assert client.get().body == b"next"


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
    client.send("POST / HTTP/1.1\r\nHost: example.test\r\nExpect: 100-continue\r\n"
                "Content-Length: 4\r\n\r\n")
    until(lambda: origin.heads, "the head at the origin before any body")
    told.set()
    assert client.head().status == 100
    client.send("body")
    response = client.response()
    assert response.body == b"taken" and origin.last().body == b"body"


def test_a_client_that_goes_away_after_100_cancels_its_upload(proxy, origin, connect):
    gone = threading.Event()

    def script(connection):
        connection.head()
        connection.send("HTTP/1.1 100 Continue\r\n\r\n")
        if connection.closed_by_peer(10):
            gone.set()
    origin.script = script
    with connect() as client:
        client.send("POST / HTTP/1.1\r\nHost: example.test\r\nExpect: 100-continue\r\n"
                    "Content-Length: 1000\r\n\r\n")
        assert client.head().status == 100
        client.send("some of it")
        until(lambda: b"some of it" in origin.bytes_received, "the body's beginning")
    assert gone.wait(10), "the upstream connection was closed"
    until(lambda: proxy.metric("gatehouse_requests_active") == 0, "no request is left")


def test_a_body_over_its_limit_after_100_is_413(gatehouse, config, origin, connect):
    gatehouse(config.site(origin.address, sections='[limits]\nrequest_body = "10KiB"'))

    def script(connection):
        connection.head()
        connection.send("HTTP/1.1 100 Continue\r\n\r\n")
        connection.closed_by_peer(30)
    origin.script = script
    client = connect()
    client.send("POST / HTTP/1.1\r\nHost: example.test\r\nExpect: 100-continue\r\n"
                "Transfer-Encoding: chunked\r\n\r\n")
    assert client.head().status == 100
    client.send("4000\r\n", b"x" * 0x4000, "\r\n")
    assert client.response().status == 413


def test_a_final_answer_instead_of_100_is_passed_on(proxy, origin, connect):
    def script(connection):
        connection.head()
        connection.send(answer(b"too big", status="413 Content Too Large"))
        connection.closed_by_peer()
    origin.script = script
    client = connect()
    client.send("POST / HTTP/1.1\r\nHost: example.test\r\nExpect: 100-continue\r\n"
                "Content-Length: 1000000\r\n\r\n")
    response = client.response()
    assert (response.status, response.body) == (413, b"too big")
    assert client.closed(), "an unread body ends the connection"


def test_103_early_hints_pass(proxy, origin, connect):
    origin.respond = lambda r: (b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
                                b"HTTP/1.1 103 Early Hints\r\nLink: </b.js>; rel=preload\r\n\r\n"
                                + answer(b"page"))
    response = connect().get()
    assert [i.status for i in response.interim] == [103, 103]
    assert response.interim[1].value("link") == "</b.js>; rel=preload"
    assert response.body == b"page"


def test_a_flood_of_interim_responses_is_cut(proxy, origin, connect):
    origin.respond = lambda r: b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40 + answer(b"page")
    response = connect().get()
    assert response.status == 502 and len(response.interim) <= 16


def test_a_response_without_length_ends_with_the_connection(proxy, origin, connect):
    def script(connection):
        connection.request()
        connection.send("HTTP/1.1 200 OK\r\n\r\n", b"a" * 50000, b"end")
    origin.script = script
    assert connect().get().body == b"a" * 50000 + b"end"


def test_a_response_without_length_to_a_1_0_client_is_ended_by_closing(proxy, origin, connect):
    def script(connection):
        connection.request()
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
                        "0\r\n\r\n")
    origin.script = script
    client = connect()
    client.send("GET / HTTP/1.0\r\nHost: example.test\r\n\r\n")
    response = client.response()
    assert response.values("transfer-encoding") == [] and response.body == b"hello"
    assert client.closed()


def test_pipelined_requests_are_answered_in_order(proxy, origin, connect):
    origin.respond = lambda r: answer(r.target.encode() + r.body)
    client = connect()
    client.send(b"".join(request("POST" if i % 3 == 0 else "GET", f"/{i}",
                                 body=b"b" * i if i % 3 == 0 else None) for i in range(50)))
    for i in range(50):
        body = f"/{i}".encode() + (b"b" * i if i % 3 == 0 else b"")
        assert client.response().body == body


def test_a_kept_connection_serves_many_requests_over_few_upstream_connections(proxy, origin,
                                                                              connect):
    client = connect()
    for i in range(100):
        assert client.get(f"/{i}").status == 200
    assert len(origin.connections) == 1


def test_connection_close_is_honoured(proxy, connect):
    client = connect()
    response = client.get(fields=[("Connection", "close")])
    assert response.value("connection") == "close"
    assert client.closed()


def test_a_1_0_client_is_closed_unless_it_asks_to_be_kept(proxy, connect):
    client = connect()
    client.send("GET / HTTP/1.0\r\nHost: example.test\r\n\r\n")
    assert client.response().status == 200
    assert client.closed()


def test_a_stale_kept_connection_is_retried_unseen(proxy, origin, connect):
    def script(connection):
        first = connection.request()
        if first is None:
            return
        connection.send(answer(b"one"))
        if connection.number > 0:
            connection.request()
            return
        # The server's idle timeout: closes just as the next request comes in.
        connection.head()
        connection.reset()
    origin.script = script
    client = connect()
    assert client.get().body == b"one"
    assert client.get().body == b"one", "a new connection was tried"
    assert len(origin.connections) == 2


@pytest.mark.parametrize("retries", ["", "retry = { attempts = 0 }", "retry = { attempts = 1 }"])
@pytest.mark.parametrize("late", [False, True], ids=["body at once", "body late"])
def test_a_post_on_a_stale_kept_connection_is_sent_again_whole(gatehouse, config, origin, connect,
                                                              retries, late):
    broken = threading.Event()

    def script(connection):
        if connection.request() is None:
            return
        connection.send(answer(b"one"))
        if connection.number > 0:
            connection.send(answer(connection.request().body))
            return
        connection.head()
        connection.reset()
        broken.set()
    origin.script = script
    gatehouse(config.site("app") +
              f'\n[upstream.app]\nservers = ["{origin.address}"]\n{retries}\n')
    client = connect()
    assert client.get().body == b"one"
    head = "POST /pay HTTP/1.1\r\nHost: example.test\r\nContent-Length: 4\r\n\r\n"
    client.send(head + ("" if late else "some"))
    assert broken.wait(within(10))
    if late:
        client.send("some")
    assert client.response().body == b"one"
    assert [r.body for r in origin.requests] == [b"", b"some"]


def test_a_stale_kept_connection_is_told_to_a_client_that_waits_for_100(proxy, origin, connect):
    """Its body does not come before that: nothing is waited for."""
    def script(connection):
        if connection.request() is not None:
            connection.send(answer(b"one"))
            connection.head()
            connection.reset()
    origin.script = script
    client = connect()
    assert client.get().body == b"one"
    client.send("POST /pay HTTP/1.1\r\nHost: example.test\r\nContent-Length: 4\r\n"
                "Expect: 100-continue\r\n\r\n")
    assert client.response().status == 502


def test_a_post_on_a_new_connection_that_breaks_is_not_sent_twice(proxy, origin, connect):
    def script(connection):
        connection.request()
        connection.reset()
    origin.script = script
    response = connect().get(method="POST", body=b"pay")
    assert response.status == 502
    assert len(origin.requests) == 1


def test_an_early_response_reaches_a_client_that_still_uploads(proxy, origin, connect):
    def script(connection):
        connection.head()
        connection.send(answer(b"no need", "403 Forbidden", [("Connection", "close")]))
        connection.closed_by_peer()
    origin.script = script
    client = connect()
    client.send("POST / HTTP/1.1\r\nHost: example.test\r\nContent-Length: 100000000\r\n\r\n",
                b"x" * 100000)
    response = client.response()
    assert (response.status, response.body) == (403, b"no need")


def test_a_client_that_goes_away_cancels_the_request_upstream(proxy, origin, connect):
    gone = threading.Event()

    def script(connection):
        connection.request()
        if connection.closed_by_peer(10):
            gone.set()
    origin.script = script
    client = connect()
    client.send(request())
    origin.wait_requests(1)
    client.close()
    assert gone.wait(10), "the upstream connection was closed"


def test_a_client_that_goes_away_inside_a_download_cancels_it(proxy, origin, connect):
    stopped = threading.Event()

    def script(connection):
        connection.request()
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                connection.send(b"x" * 65536)
        except OSError:
            stopped.set()
    origin.script = script
    client = connect(receive_buffer=65536)
    client.send(request())
    client.until(b"\r\n\r\n")
    client.close()
    assert stopped.wait(10)


@pytest.mark.parametrize("framing", ["Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"])
def test_a_response_cut_short_is_cut_short_to_the_client(proxy, origin, connect, framing):
    def script(connection):
        connection.request()
        body = b"3e8\r\n" if "chunked" in framing else b""
        connection.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n", body, b"x" * 500)
    origin.script = script
    client = connect()
    client.send(request())
    with pytest.raises(Cut):
        client.response()


def test_an_upload_cut_short_is_never_passed_on_as_whole(proxy, origin, connect):
    ended = threading.Event()

    def script(connection):
        seen = connection.head()
        connection.body(seen)
        connection.origin.requests.append(seen)
        ended.set()
    origin.script = script
    client = connect()
    client.send("POST / HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n\r\n"
                "5\r\nhello\r\n")
    until(lambda: b"hello" in origin.bytes_received, "the first chunk at the origin")
    client.close()
    assert ended.wait(10)
    assert not origin.last().complete


def test_large_bodies_arrive_unchanged_both_ways(proxy, origin, connect):
    body = os.urandom(8 << 20)
    origin.respond = lambda r: answer(r.body)
    response = connect().get(method="PUT", body=body)
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()


def test_a_response_is_passed_on_as_it_comes(proxy, origin, connect):
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
    client.send(request())
    client.until(b"\r\n\r\n")
    for event in step:
        client.until(b"data: x\n")
        event.set()


def test_a_64_kib_request_head_is_refused_and_32_kib_pass(proxy, origin, connect):
    assert connect().get(fields=[("X-Long", "a" * 30000)]).status == 200
    before = len(origin.heads)
    assert connect().get(fields=[("X-Long", "a" * 65000)]).status == 431
    assert len(origin.heads) == before


def test_a_large_response_head_passes_and_an_endless_one_does_not(proxy, origin, connect):
    origin.respond = lambda r: answer(b"x", fields=[("X-Long", "a" * 8000)])
    assert len(connect().get().value("x-long")) == 8000
    origin.respond = lambda r: b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"a" * 1000000
    assert connect().get().status == 502
