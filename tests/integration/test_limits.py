"""Limits and deadlines, seen from outside: each ends what it is for, and nothing else."""

import contextlib
import ssl
import threading
import time

import pytest
from harness.client import request
from harness.http2_origin import Http2Origin
from harness.limits import within
from harness.origin import Origin
from harness.wait import until


def starts(gatehouse, config, origin, sections, more=""):
    return gatehouse(config.site(origin.address, sections=sections, more=more))


def test_a_slow_head_is_cut_at_its_deadline(gatehouse, config, origin, connect):
    starts(gatehouse, config, origin, '[timeouts]\nrequest_header = "500ms"')
    client = connect()
    begun = time.monotonic()
    client.send("GET / HTTP/1.1\r\n")
    response = client.response()
    assert response.status == 408 and client.closed()
    assert 0.3 < time.monotonic() - begun < within(2)
    assert origin.heads == []


def test_a_head_that_trickles_is_cut_too(gatehouse, config, origin, connect):
    starts(gatehouse, config, origin, '[timeouts]\nrequest_header = "1s"')
    client = connect()
    client.send("GET / HTTP/1.1\r\nHost: example.test\r\n")
    client.sock.settimeout(0.1)
    begun = time.monotonic()
    ended = False
    while not ended and time.monotonic() - begun < within(5):
        try:
            client.send("X-A: b\r\n")
            ended = not client.more() or b"408" in client.buffer
        except TimeoutError:
            pass
        except OSError:
            ended = True
    assert ended and time.monotonic() - begun < within(3)


def test_an_idle_connection_is_closed_after_its_time_and_not_before(gatehouse, config, origin,
                                                                   connect):
    starts(gatehouse, config, origin, '[timeouts]\nidle = "700ms"')
    client = connect()
    assert client.get().status == 200
    begun = time.monotonic()
    assert client.closed()
    assert 0.5 < time.monotonic() - begun < within(2.5)


def test_a_body_that_stalls_is_cut(gatehouse, config, origin, connect):
    starts(gatehouse, config, origin, '[timeouts]\nbody = "500ms"')
    client = connect()
    client.send("POST / HTTP/1.1\r\nHost: example.test\r\nContent-Length: 100\r\n\r\nabc")
    assert client.response().status == 408
    assert client.closed()
    assert [r for r in origin.requests if r.complete] == []


def test_a_client_that_does_not_handshake_is_cut(gatehouse, config, origin):
    from harness.client import Client
    starts(gatehouse, config, origin, '[timeouts]\nhandshake = "500ms"')
    with Client(config.https) as silent, Client(config.https) as partial:
        partial.send(b"\x16\x03\x01\x02\x00\x01\x00")
        begun = time.monotonic()
        assert silent.closed()
        partial.closed()
        assert time.monotonic() - begun < within(3)


def test_an_origin_that_does_not_answer_is_504(gatehouse, config, origin, connect):
    starts(gatehouse, config, origin, '[timeouts]\nupstream_response = "500ms"')

    def script(connection):
        connection.request()
        connection.closed_by_peer(20)
    origin.script = script
    begun = time.monotonic()
    assert connect().get().status == 504
    assert 0.3 < time.monotonic() - begun < within(2.5)
    assert len(origin.requests) == 1, "a request that the origin may have acted on is not repeated"


@pytest.mark.parametrize("kind", [Origin, Http2Origin])
def test_the_time_for_an_answer_does_not_run_while_the_client_is_to_send(gatehouse, config, connect,
                                                                         kind):
    origin = kind()
    program = gatehouse(config.site(
        ("h2c://" if kind is Http2Origin else "") + origin.address,
        sections='[timeouts]\nupstream_response = "300ms"'))
    with connect() as client:
        client.send("POST / HTTP/1.1\r\nHost: example.test\r\nContent-Length: 10\r\n\r\nhello")
        until(lambda: program.metric("requests_active") == 1, "the request")
        time.sleep(within(0.9))
        client.send("world")
        assert client.response("POST").status == 200
    origin.stop()


def test_an_origin_that_does_not_take_the_body_is_504(gatehouse, config, origin, connect):
    starts(gatehouse, config, origin, '[timeouts]\nupstream_response = "500ms"')

    def script(connection):
        connection.head()
        gone.wait(20)
    gone = threading.Event()
    origin.script = script
    client = connect()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        client.send(f"POST / HTTP/1.1\r\nHost: example.test\r\nContent-Length: {64 << 20}\r\n\r\n",
                    bytes(64 << 20))
    assert client.response("POST").status == 504
    gone.set()


def test_an_origin_that_stalls_inside_the_body_is_cut(gatehouse, config, origin, connect):
    from harness.client import Cut
    starts(gatehouse, config, origin, '[timeouts]\nbody = "500ms"')

    def script(connection):
        connection.request()
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        connection.closed_by_peer(20)
    origin.script = script
    client = connect()
    client.send(request())
    begun = time.monotonic()
    with pytest.raises(Cut):
        client.response()
    assert time.monotonic() - begun < within(3)


def test_a_reader_that_stalls_is_cut_and_lets_the_origin_go(gatehouse, config, origin, connect):
    starts(gatehouse, config, origin, '[timeouts]\nbody = "500ms"')
    stopped = []

    def script(connection):
        connection.request()
        try:
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while True:
                connection.send(b"x" * 65536)
        except OSError:
            stopped.append(True)
    origin.script = script
    client = connect(receive_buffer=4096)
    client.send(request())
    until(lambda: stopped, "the download was given up")


def test_too_many_fields_are_431(gatehouse, config, origin, connect):
    starts(gatehouse, config, origin, "[limits]\nrequest_fields = 20")
    assert connect().get(fields=[("X-A", "b")] * 15).status == 200
    before = len(origin.heads)
    client = connect()
    assert client.get(fields=[("X-A", "b")] * 30).status == 431
    assert client.closed() and len(origin.heads) == before


def test_a_head_over_its_limit_is_431(gatehouse, config, origin, connect):
    starts(gatehouse, config, origin, '[limits]\nrequest_header = "4KiB"')
    assert connect().get(fields=[("X-A", "b" * 3000)]).status == 200
    before = len(origin.heads)
    assert connect().get(fields=[("X-A", "b" * 5000)]).status == 431
    assert connect().get("/" + "x" * 5000).status in (414, 431)
    assert len(origin.heads) == before


def test_a_body_over_its_limit_is_413(gatehouse, config, origin, connect):
    starts(gatehouse, config, origin, '[limits]\nrequest_body = "10KiB"')
    assert connect().get(method="POST", body=b"x" * 10240).status == 200
    before = len(origin.heads)
    assert connect().get(method="POST", body=b"x" * 10241).status == 413
    assert len(origin.heads) == before, "refused by its length, before the origin hears of it"
    client = connect()
    client.send("POST / HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"2710\r\n" + b"x" * 10000 + b"\r\n2710\r\n" + b"x" * 10000 + b"\r\n0\r\n\r\n")
    assert client.response().status == 413
    assert [r for r in origin.requests if r.complete and len(r.body) > 10240] == []


def test_connections_past_the_limit_are_turned_away_and_come_back(gatehouse, config, origin,
                                                                 connect):
    program = starts(gatehouse, config, origin, "[limits]\nconnections = 10")
    held = [connect() for _ in range(10)]
    for client in held:
        assert client.get().status == 200
    more = refused(connect)
    assert more, "the eleventh is closed, or answered 503"
    for client in held:
        client.close()
    until(lambda: not refused(connect), "connections are taken again")
    assert program.metric("connections.*refused|refused.*connections|connections_refused") >= 1


def refused(connect):
    try:
        client = connect()
        client.sock.settimeout(within(2))
        client.send(request())
        return client.response().status == 503
    except Exception:  # noqa: BLE001  closed in the handshake, before or after the request
        return True


def test_connections_of_one_client_are_limited(gatehouse, config, origin, connect):
    starts(gatehouse, config, origin, "[limits]\nconnections_per_client = 4")
    held = [connect(source="127.0.0.2") for _ in range(4)]
    assert all(client.get().status == 200 for client in held)
    assert refused(lambda: connect(source="127.0.0.2"))
    assert connect(source="127.0.0.3").get().status == 200, "others are served"


def test_slow_clients_do_not_hold_up_others(proxy, config, origin, connect):
    slow = [connect() for _ in range(300)]
    for client in slow:
        client.send("GET / HTTP/1.1\r\nHost: exam")
    client, times = connect(), []
    for _ in range(200):
        begun = time.monotonic()
        assert client.get().status == 200
        times.append(time.monotonic() - begun)
    times.sort()
    assert times[197] < within(0.05), f"p99 {times[197] * 1000:.1f} ms"


def test_closed_connections_leave_no_descriptors(proxy, connect):
    connect().get()
    until(lambda: proxy.metric("connections_open") <= 1, "connections to end")
    before = proxy.descriptors()
    for _ in range(100):
        client = connect()
        client.get(fields=[("Connection", "close")])
        client.close()
    until(lambda: proxy.descriptors() <= before + 3, "descriptors to be freed")


def test_the_answer_says_when_to_come_back(gatehouse, config, origin, connect):
    origin.close_listener()
    starts(gatehouse, config, origin, "")
    response = connect().get()
    assert response.status in (502, 503)
    if response.status == 503:
        assert response.value("retry-after")
