"""Origins that break HTTP/1.1: each costs its own request, never another client's answer."""

import threading
import time

import pytest
from harness.client import Client, Cut, request
from harness.http2 import Ended
from harness.limits import within
from harness.origin import answer
from harness.wait import until
from harness.watch import Watch

GROWTH_KB_MAX = 4096


@pytest.fixture(scope="module")
def world(http2_world):
    """One worker, so that all requests share upstream connections."""
    return http2_world('[timeouts]\nbody = "300ms"\nupstream_response = "2s"\n', workers=1)


@pytest.fixture(autouse=True)
def fresh(world):
    world.fresh()
    world.origin.respond = lambda r: answer(r.target)


def hostile(world, *parts, then="rest"):
    """The origin answers /bad with these bytes, then rests, closes or resets."""
    def script(connection):
        while (seen := connection.request()) is not None:
            if seen.target != "/bad":
                connection.send(answer(seen.target))
                continue
            for part in parts:
                connection.send(part)
            if then == "close":
                return
            if then == "reset":
                return connection.reset()
    world.origin.script = script


def get(world, target="/bad", method="GET"):
    with Client(world.http) as client:
        client.send(request(method, target))
        return client.response(method)


def get_http2(world, target="/bad"):
    with world.connect(plain=True) as c:
        return c.get(target)


def others_are_served(world):
    """On connections that are not the one of /bad."""
    for i in range(3):
        assert get(world, f"/next{i}").body == f"/next{i}".encode()
    assert get_http2(world, "/next3").body == b"/next3"
    bad = {r.connection for r in world.origin.requests if r.target == "/bad"}
    assert not bad & {r.connection for r in world.origin.requests if r.target != "/bad"}


OK = "HTTP/1.1 200 OK\r\n"
CHUNKED = OK + "Transfer-Encoding: chunked\r\n\r\n"
BAD_GATEWAY = {
    "length and coding": OK + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "3\r\nabc\r\n0\r\n\r\n",
    "coding and length": OK + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"
                              "3\r\nabc\r\n0\r\n\r\n",
    "an obscured coding and a length": OK + "Transfer-Encoding : chunked\r\nContent-Length: 3\r\n"
                                            "\r\nabc",
    "a list of lengths": OK + "Content-Length: 3, 4\r\n\r\nabc",
    "a length with a plus": OK + "Content-Length: +3\r\n\r\nabc",
    "a length of 20 digits": OK + "Content-Length: 99999999999999999999\r\n\r\nabc",
    "chunked twice": OK + "Transfer-Encoding: chunked, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "chunked that is not final": OK + "Transfer-Encoding: chunked, gzip\r\n\r\nabc",
    "a coding in 1.0": "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "an unasked 101": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                      "Upgrade: websocket\r\n\r\nRAW",
    "an unasked 101 without fields": "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "101 behind 100": "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n"
                      "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "17 interim responses": ("HTTP/1.1 102 Processing\r\n\r\n" * 17
                             + OK + "Content-Length: 0\r\n\r\n"),
    "a flood of interim responses": "HTTP/1.1 100 Continue\r\n\r\n" * 100_000,
    "an endless value": OK + "X-A: " + "a" * 1_000_000,
    "an endless name": OK + "a" * 1_000_000,
    "endless fields": OK + "X-A: b\r\n" * 100_000,
    "an endless status line": "HTTP/1.1 200 " + "a" * 1_000_000,
    "endless empty lines": "\r\n" * 100_000,
    "an interim response without an end": "HTTP/1.1 103 Early Hints\r\nX-A: " + "a" * 1_000_000,
    "a status of two digits": "HTTP/1.1 20 OK\r\n\r\n",
    "a status of 000": "HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
    "a status of 999 lines": "HTTP/1.1 1e3 OK\r\n\r\n",
    "HTTP/0.9": "<html>hello</html>\r\n\r\n",
    "HTTP/3": "HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "the preface of HTTP/2": b"\0\0\0\4\0\0\0\0\0" * 4 + b"\r\n\r\n",
    "TLS": b"\x15\x03\x03\x00\x02\x02\x28\r\n\r\n",
    "a field split by LF": OK + "X-A: b\nContent-Length: 0\r\n\r\n",
    "NUL in a name": OK + "X\0A: b\r\nContent-Length: 0\r\n\r\n",
    "a line without a colon": OK + "nonsense\r\nContent-Length: 0\r\n\r\n",
    "an empty name": OK + ": b\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("what", BAD_GATEWAY)
def test_a_bad_answer_is_502_over_both_versions(world, what):
    hostile(world, BAD_GATEWAY[what])
    assert get(world).status == 502
    assert get_http2(world).status == 502
    others_are_served(world)


# As far as the head all is well: what is wrong shows when the client has it already.
BAD_BODIES = {
    "cut in a length": (OK + "Content-Length: 1000\r\n\r\n" + "x" * 500, "close"),
    "reset in a length": (OK + "Content-Length: 1000\r\n\r\n" + "x" * 500, "reset"),
    "stalled in a length": (OK + "Content-Length: 1000\r\n\r\n" + "x" * 500, "rest"),
    "cut between chunks": (CHUNKED + "3\r\nabc\r\n", "close"),
    "cut in a chunk": (CHUNKED + "5\r\nabc", "close"),
    "cut in a size": (CHUNKED + "3\r\nabc\r\n5", "close"),
    "cut before the end of trailers": (CHUNKED + "3\r\nabc\r\n0\r\nX-A: b\r\n", "close"),
    "cut before the last CR LF": (CHUNKED + "3\r\nabc\r\n0\r\n", "close"),
    "stalled between chunks": (CHUNKED + "3\r\nabc\r\n", "rest"),
    "a bad size": (CHUNKED + "3\r\nabc\r\nxyz\r\n", "rest"),
    "a size with 0x": (CHUNKED + "3\r\nabc\r\n0x3\r\nabc\r\n0\r\n\r\n", "rest"),
    "a negative size": (CHUNKED + "3\r\nabc\r\n-1\r\n", "rest"),
    "a size past 64 bits": (CHUNKED + "3\r\nabc\r\nfffffffffffffffff\r\n", "rest"),
    "LF after a size": (CHUNKED + "3\r\nabc\r\n3\nabc\r\n0\r\n\r\n", "rest"),
    "data past its size": (CHUNKED + "3\r\nabcdef\r\n0\r\n\r\n", "rest"),
    "endless extensions": (CHUNKED + "3\r\nabc\r\n3;" + "a" * 1_000_000, "rest"),
    "endless trailers": (CHUNKED + "3\r\nabc\r\n0\r\n" + "X-A: b\r\n" * 100_000, "rest"),
    "a trailer without a colon": (CHUNKED + "3\r\nabc\r\n0\r\nnonsense\r\n\r\n", "rest"),
}


@pytest.mark.parametrize("what", BAD_BODIES)
def test_a_broken_body_never_looks_whole(world, what):
    text, then = BAD_BODIES[what]
    head, _, body = text.partition("\r\n\r\n")
    # In two pieces: what is wrong comes when the head is on its way already.
    hostile(world, head + "\r\n\r\n" + body[:8], body[8:], then=then)
    with Client(world.http) as client:
        client.send(request(target="/bad"))
        try:
            assert client.response().status == 502
        except Cut:
            pass
    try:
        assert get_http2(world).status == 502
    except Ended as end:
        assert "was reset" in str(end)
    others_are_served(world)


EXTRA = {
    "behind a length": OK + "Content-Length: 2\r\n\r\nok",
    "behind chunks": CHUNKED + "2\r\nok\r\n0\r\n\r\n",
    "behind no content": "HTTP/1.1 204 No Content\r\n\r\n",
    "behind a 204 that names a length": "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
    "behind a 304 that names a length": "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
}


@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize("what", EXTRA)
def test_bytes_behind_an_answer_answer_nobody(world, what, pause):
    told = threading.Event()

    def script(connection):
        while (seen := connection.request()) is not None:
            if seen.target != "/bad":
                connection.send(answer(seen.target))
                continue
            poison = answer("poison").decode()
            if not pause:
                connection.send(EXTRA[what] + poison)
                continue
            connection.send(EXTRA[what])
            told.wait(10)
            connection.send(poison)
            told.clear()
    world.origin.script = script
    assert get(world).body in (b"ok", b"")
    if pause:
        told.set()  # while the connection rests: unasked
        until(lambda: not told.is_set(), "the poison to be sent")
    others_are_served(world)


def test_a_body_of_an_answer_to_head_is_not_the_next_answer(world):
    def script(connection):
        while (seen := connection.request()) is not None:
            connection.send(answer(seen.target))  # with a body, also to HEAD
    world.origin.script = script
    assert get(world, method="HEAD").body == b""
    others_are_served(world)


def test_sixteen_interim_responses_pass_and_count_as_one_answer(world):
    hostile(world, "HTTP/1.1 102 Processing\r\n\r\n" * 16 + OK + "Content-Length: 2\r\n\r\nok")
    response = get(world)
    assert response.body == b"ok" and len(response.interim) == 16


def test_answers_before_the_request_answer_nobody_later(world):
    """The origin speaks first: at worst that is the answer to who opened the connection."""
    def script(connection):
        connection.send(answer("poison"))
        while (seen := connection.request()) is not None:
            connection.send(answer(seen.target))
            said.set()
    said = threading.Event()
    world.origin.script = script
    get(world, "/first")
    assert said.wait(within(10))
    world.origin.script = world.origin.serve
    for i in range(4):
        assert get(world, f"/later{i}").body == f"/later{i}".encode()


def test_an_answer_before_the_upload_is_read_is_passed_on_and_ends_the_connection(world):
    def script(connection):
        seen = connection.head()
        if seen is None:
            return
        connection.origin.requests.append(seen)
        if seen.target != "/bad":
            return connection.send(answer(seen.target))
        connection.send(answer("enough", "413 Content Too Large"))
        connection.closed_by_peer()
    world.origin.script = script
    with Client(world.http) as client:
        client.send("POST /bad HTTP/1.1\r\nHost: example.test\r\nContent-Length: 9999999\r\n\r\n",
                    b"x" * 100_000)
        response = client.response("POST")
        assert (response.status, response.body) == (413, b"enough")
    others_are_served(world)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_close_that_races_with_the_next_request_costs_no_answer(world, how):
    """All requests but the first find their connection closing: they are asked again on a new
    one. As few as the budget for that allows."""
    def script(connection):
        if connection.request() is None:
            return
        connection.send(answer("first"))
        seen = connection.head()
        if seen is not None and how == "reset":
            connection.reset()
    world.origin.script = script
    bodies = [get(world, f"/{i}").body for i in range(4)]
    assert bodies == [b"first"] * 4


def test_a_post_on_a_connection_that_closes_is_never_doubled(world):
    """The origin reads it, then closes without a word: nobody knows whether it was done."""
    seen_bodies = []

    def script(connection):
        while (seen := connection.request()) is not None:
            if seen.method == "POST":
                seen_bodies.append(seen.body)
                return
            connection.send(answer(seen.target))
    world.origin.script = script
    assert get(world, "/warm").status == 200
    with Client(world.http) as client:
        status = client.get("/pay", method="POST", body=b"once").status
    assert status in (200, 502)
    # On a reused connection a close before any byte counts as one that crossed the request.
    assert len(seen_bodies) <= 2


def test_a_flood_of_interim_responses_and_large_heads_keeps_no_memory(world):
    hostile(world, OK + "X-A: " + "a" * 60_000 + "\r\n" + "X-B: " + "b" * 1_000_000)
    get(world)
    with Watch(world.program) as watch:
        for _ in range(50):
            assert get(world).status == 502
        time.sleep(0.05)
    assert watch.growth_kb() < GROWTH_KB_MAX
