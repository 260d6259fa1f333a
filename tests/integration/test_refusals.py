"""Every refusal of the HTTP rules by raw bytes, with proof that nothing reached the origin."""

import threading

import pytest
from harness.limits import within

H = "Host: example.test\r\n"
GET = "GET / HTTP/1.1\r\n" + H
POST = "POST / HTTP/1.1\r\n" + H
CHUNKED = POST + "Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: example.test\r\n\r\n"

# What is sent, and the statuses that are right. Each is a whole head, some with more after it.
REFUSED = {
    "transfer-encoding and content-length": (
        POST + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
    "content-length and transfer-encoding": (
        POST + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two different lengths": (
        POST + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody1", 400),
    "a list of different lengths": (POST + "Content-Length: 4, 5\r\n\r\nbody1", 400),
    "a list of equal lengths": (POST + "Content-Length: 4, 4\r\n\r\nbody", 400),
    "a length with a plus": (POST + "Content-Length: +4\r\n\r\nbody", 400),
    "a negative length": (POST + "Content-Length: -4\r\n\r\nbody", 400),
    "a length with a space inside": (POST + "Content-Length: 4 4\r\n\r\nbody", 400),
    "a hexadecimal length": (POST + "Content-Length: 0x4\r\n\r\nbody", 400),
    "an empty length": (POST + "Content-Length: \r\n\r\n", 400),
    "a length past 64 bits": (POST + "Content-Length: 99999999999999999999\r\n\r\n", 400),
    "a length with a letter": (POST + "Content-Length: 4a\r\n\r\nbody", 400),
    "an unknown coding": (POST + "Transfer-Encoding: zip\r\n\r\n", 501),
    "gzip, chunked": (POST + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "chunked that is not final": (POST + "Transfer-Encoding: chunked, gzip\r\n\r\n", (400, 501)),
    "identity": (POST + "Transfer-Encoding: identity\r\n\r\n", (400, 501)),
    "chunked twice": (POST + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in two fields": (
        POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked and identity in two fields": (
        POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", (400, 501)),
    "an empty transfer-encoding": (POST + "Transfer-Encoding: \r\n\r\n0\r\n\r\n", (400, 501)),
    "a quoted coding": (POST + 'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', (400, 501)),
    "a coding with a parameter": (POST + "Transfer-Encoding: chunked;q=1\r\n\r\n", (400, 501)),
    "a coding with a vertical tab": (POST + "Transfer-Encoding: \x0bchunked\r\n\r\n", (400, 501)),
    "xchunked": (POST + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", (400, 501)),
    "transfer-encoding in 1.0": (
        "POST / HTTP/1.0\r\n" + H + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a bare LF after the request line": ("GET / HTTP/1.1\n" + H + "\r\n", 400),
    "a bare LF after a field": ("GET / HTTP/1.1\r\nHost: example.test\n\r\n", 400),
    "a bare LF as the end of the head": (GET + "X-A: b\r\n\n", 400),
    "a bare CR in a value": (GET + "X-A: a\rb\r\n\r\n", 400),
    "a bare CR before a field": (GET + "\rX-A: b\r\n\r\n", 400),
    "CR CR LF": ("GET / HTTP/1.1\r\r\n" + H + "\r\n", 400),
    "a space before the colon": (GET + "X-A : b\r\n\r\n", 400),
    "a tab before the colon": (GET + "X-A\t: b\r\n\r\n", 400),
    "a space before the length's colon": (POST + "Content-Length : 4\r\n\r\nbody", 400),
    "a space before the coding's colon": (POST + "Transfer-Encoding : chunked\r\n\r\n", 400),
    "a folded field": (GET + "X-A: b\r\n c\r\n\r\n", 400),
    "a folded coding": (POST + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    "a first field that begins with a space": ("GET / HTTP/1.1\r\n " + H + "\r\n", 400),
    "NUL in a value": (GET + "X-A: a\x00b\r\n\r\n", 400),
    "a control character in a value": (GET + "X-A: a\x01b\r\n\r\n", 400),
    "DEL in a value": (GET + "X-A: a\x7fb\r\n\r\n", 400),
    "NUL in a name": (GET + "X\x00A: b\r\n\r\n", 400),
    "an empty name": (GET + ": b\r\n\r\n", 400),
    "a name with a bracket": (GET + "X(A): b\r\n\r\n", 400),
    "a name with a high byte": (GET + "X\xe9A: b\r\n\r\n", 400),
    "a line without a colon": (GET + "nonsense\r\n\r\n", 400),
    "two hosts": (GET + "Host: other.test\r\n\r\n", 400),
    "the same host twice": (GET + H + "\r\n", 400),
    "no host in 1.1": ("GET / HTTP/1.1\r\nX-A: b\r\n\r\n", 400),
    "an empty host": ("GET / HTTP/1.1\r\nHost: \r\n\r\n", (400, 404, 421)),
    "a host with a space": ("GET / HTTP/1.1\r\nHost: example .test\r\n\r\n", 400),
    "a host with a path": ("GET / HTTP/1.1\r\nHost: example.test/x\r\n\r\n", 400),
    "a host with user information": ("GET / HTTP/1.1\r\nHost: a@example.test\r\n\r\n", 400),
    "a host with a bad port": ("GET / HTTP/1.1\r\nHost: example.test:x\r\n\r\n", 400),
    "a host with a port past 65535": ("GET / HTTP/1.1\r\nHost: example.test:65536\r\n\r\n", 400),
    "a host with a comma": ("GET / HTTP/1.1\r\nHost: example.test,other.test\r\n\r\n", 400),
    "CONNECT": ("CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\n\r\n", 405),
    "TRACE": ("TRACE / HTTP/1.1\r\n" + H + "\r\n", 405),
    "HTTP/2.0": ("GET / HTTP/2.0\r\n" + H + "\r\n", 505),
    "HTTP/1.2": ("GET / HTTP/1.2\r\n" + H + "\r\n", 505),
    "HTTP/0.9 with a version": ("GET / HTTP/0.9\r\n" + H + "\r\n", 505),
    "HTTP/3.1": ("GET / HTTP/3.1\r\n" + H + "\r\n", 505),
    "a lower case version": ("GET / http/1.1\r\n" + H + "\r\n", (400, 505)),
    "a version with more digits": ("GET / HTTP/1.10\r\n" + H + "\r\n", (400, 505)),
    "no version": ("GET /\r\n" + H + "\r\n", (400, 505)),
    "two spaces in the request line": ("GET  / HTTP/1.1\r\n" + H + "\r\n", 400),
    "a tab in the request line": ("GET\t/ HTTP/1.1\r\n" + H + "\r\n", 400),
    "a space in the target": ("GET /a b HTTP/1.1\r\n" + H + "\r\n", 400),
    "a control character in the target": ("GET /a\x01b HTTP/1.1\r\n" + H + "\r\n", 400),
    "a fragment in the target": ("GET /a#b HTTP/1.1\r\n" + H + "\r\n", 400),
    "a target without a slash": ("GET a HTTP/1.1\r\n" + H + "\r\n", 400),
    "a method that is no token": ("G(T / HTTP/1.1\r\n" + H + "\r\n", 400),
    "an asterisk with GET": ("GET * HTTP/1.1\r\n" + H + "\r\n", 400),
    "the preface of HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    "garbage": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
}

# The head is right and forwarded at once or not; the body is wrong, and never looks whole.
BAD_CHUNKS = {
    "a size with 0x": "0x3\r\nabc\r\n0\r\n\r\n",
    "a size with a plus": "+3\r\nabc\r\n0\r\n\r\n",
    "a negative size": "-3\r\nabc\r\n0\r\n\r\n",
    "a size with a space before": " 3\r\nabc\r\n0\r\n\r\n",
    "a size past 16 digits": "00000000000000003\r\nabc\r\n0\r\n\r\n",
    "a size past 64 bits": "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "no size": "\r\nabc\r\n0\r\n\r\n",
    "a size with a letter": "3g\r\nabc\r\n0\r\n\r\n",
    "a bare LF after the size": "3\nabc\r\n0\r\n\r\n",
    "a bare LF after the data": "3\r\nabc\n0\r\n\r\n",
    "data longer than the size": "3\r\nabcd\r\n0\r\n\r\n",
    "data without its end": "3\r\nabc0\r\n\r\n",
    "a bare CR in an extension": "3;a\rb\r\nabc\r\n0\r\n\r\n",
    "NUL in an extension": "3;a\x00\r\nabc\r\n0\r\n\r\n",
    "a bare LF in a trailer": "3\r\nabc\r\n0\r\nX-A: b\n\r\n",
    "a folded trailer": "3\r\nabc\r\n0\r\nX-A: b\r\n c\r\n\r\n",
    "a trailer without a colon": "3\r\nabc\r\n0\r\nnonsense\r\n\r\n",
    "a bare LF as the end": "3\r\nabc\r\n0\r\n\n",
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_and_closed_with_nothing_at_the_origin(proxy, origin, connect, what):
    text, statuses = REFUSED[what]
    client = connect()
    client.send(text, SMUGGLED)
    response = client.response()
    assert response.status in ([statuses] if isinstance(statuses, int) else statuses)
    assert client.closed(), "the connection is closed and nothing more is answered"
    assert origin.heads == [] and origin.bytes_received == b""


@pytest.mark.parametrize("what", BAD_CHUNKS)
def test_a_bad_chunked_body_never_looks_whole(proxy, origin, connect, what):
    client = connect()
    client.send(CHUNKED + BAD_CHUNKS[what], SMUGGLED)
    assert client.response().status == 400
    assert client.closed()
    assert [r for r in origin.requests if r.complete] == []
    assert b"smuggled" not in origin.bytes_received


def test_equal_lengths_in_two_fields_are_refused_or_joined(proxy, origin, connect):
    client = connect()
    client.send(POST + "Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody")
    if client.response().status == 200:
        assert origin.last().value("content-length") == "4" and origin.last().body == b"body"
    else:
        assert origin.heads == []


def test_the_absolute_form_wins_over_host(proxy, origin, connect):
    client = connect()
    client.send(f"GET {connect.scheme}://example.test/x HTTP/1.1\r\nHost: other.test\r\n\r\n")
    assert client.response().status == 200
    assert origin.last().value("host") == "example.test"
    assert origin.last().target in ("/x", f"{connect.scheme}://example.test/x")


def test_options_asterisk_passes(proxy, origin, connect):
    client = connect()
    client.send("OPTIONS * HTTP/1.1\r\n" + H + "\r\n")
    assert client.response().status == 200
    assert origin.last().target == "*"


def test_empty_lines_before_a_request_are_tolerated(proxy, origin, connect):
    client = connect()
    client.send("\r\n" + GET + "\r\n")
    assert client.response().status == 200


def test_a_bad_request_after_a_good_one_leaves_the_good_one_answered(proxy, origin, connect):
    client = connect()
    client.send(GET + "\r\n" + POST + "Content-Length: x\r\n\r\n" + SMUGGLED)
    assert client.response().status == 200
    assert client.response().status == 400
    assert client.closed()
    assert [r.target for r in origin.requests] == ["/"]


def test_an_unknown_host_is_404_and_the_connection_may_go_on(proxy, origin, connect):
    client = connect()
    assert client.get(host="unknown.invalid").status in (404, 421)
    assert origin.heads == []


def test_errors_are_html_or_problem_json(proxy, connect):
    page = connect().get(host="unknown.invalid")
    assert page.value("content-type").startswith("text/html") and b"<" in page.body
    page = connect().get(host="unknown.invalid", fields=[("Accept", "application/json")])
    assert page.value("content-type").startswith("application/problem+json")
    assert b'"status"' in page.body


def test_an_upgrade_to_h2c_is_never_forwarded(proxy, origin, connect):
    client = connect()
    response = client.get(fields=[("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"),
                                  ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")])
    assert response.status == 200
    assert b"h2c" not in origin.bytes_received and b"HTTP2-Settings" not in origin.bytes_received


def test_an_unasked_101_is_a_bad_answer(proxy, origin, connect):
    origin.respond = lambda r: (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                b"Connection: Upgrade\r\n\r\n")
    assert connect().get().status == 502


HOSTILE_ANSWERS = {
    "both framings": "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "3\r\nabc\r\n0\r\n\r\n",
    "two lengths": "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a bad length": "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "no status": "HTTP/1.1\r\n\r\n",
    "a status with four digits": "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": "220 mail.example.test ESMTP\r\n\r\n",
    "a NUL in a value": "HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "a folded field": "HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "a bare CR": "HTTP/1.1 200 OK\r\nX-A: a\rb\r\nContent-Length: 0\r\n\r\n",
    "an unknown coding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: zip\r\n\r\n",
    "HTTP/2": "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "nothing": "",
}


@pytest.mark.parametrize("what", HOSTILE_ANSWERS)
def test_a_bad_answer_is_502_and_its_connection_is_thrown_away(proxy, origin, connect, what):
    def script(connection):
        while (seen := connection.request()) is not None:
            if seen.target == "/bad":
                connection.send(HOSTILE_ANSWERS[what])
                if not HOSTILE_ANSWERS[what]:
                    return
            else:
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
    origin.script = script
    client = connect()
    assert client.get("/bad").status == 502
    assert connect().get("/good").body == b"good"
    good = [r.connection for r in origin.requests if r.target == "/good"]
    bad = [r.connection for r in origin.requests if r.target == "/bad"]
    assert not set(good) & set(bad)


@pytest.mark.parametrize("together", [True, False], ids=["together", "later"])
def test_bytes_after_a_response_are_never_the_next_answer(proxy, origin, connect, together):
    # What reaches the proxy behind the next request cannot be told from its answer.
    said = threading.Event()
    good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
    evil = good.replace("good", "evil")

    def script(connection):
        while (seen := connection.request()) is not None:
            if seen.target != "/a":
                connection.send(good)
            elif together:
                connection.send(good + evil)
            else:
                connection.send(good)
                connection.send(evil)
            said.set()
    origin.script = script
    client = connect()
    assert client.get("/a").body == b"good"
    assert said.wait(within(10))
    assert client.get("/b").body == b"good"
    assert len({r.connection for r in origin.requests}) == 2
