"""WebSocket through the proxy: frames both ways, ends, errors, and what is never a tunnel."""

import asyncio
import json
import os
import signal
import socket
import ssl
import threading
import time

import pytest
import websockets
from harness.client import Client, request
from harness.limits import SLOW, within
from harness.origin import answer
from harness.wait import until
from harness.websocket import KEY, WebSocketOrigin, accept_of, echo, granting, open_client, opening

MEBIBYTE = 1 << 20


@pytest.fixture
def websocket_origin():
    """Starts WebSocket servers: websocket_origin(handle, …)."""
    started = []

    def start(*arguments, **settings):
        started.append(WebSocketOrigin(*arguments, **settings))
        return started[-1]
    yield start
    for origin in started:
        origin.stop()


@pytest.fixture(params=["http", "https"])
def port_and_tls(request, config, tls):
    """The port of a listener, and a client's TLS context or None: a test using it runs twice."""
    return (config.http, None) if request.param == "http" else (config.https, tls)


def tunnel_through(client, behind=b""):
    """Opens a tunnel on a raw client; the head of the 101."""
    client.send(opening() + behind)
    response = client.response()
    assert response.status == 101, response
    return response


def grant(connection):
    """An origin's side of the same; the request."""
    seen = connection.head()
    connection.send(granting(seen))
    return seen


def tunnel_line(program):
    """The access log's line of the one tunnel, once it has ended."""
    def find():
        return [r for r in map(json.loads, program.access_lines()) if r["status"] == 101]
    return until(find, "a tunnel's access log line")[0]


def ended(client, seconds=10):
    """Whether the other side has ended, in an orderly way or not."""
    client.sock.settimeout(within(seconds))
    try:
        return client.sock.recv(65536) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


# --- WebSocket ends that are not ours


def test_messages_cross_in_both_directions(gatehouse, config, websocket_origin, port_and_tls):
    origin = websocket_origin(echo, subprotocols=["chat"])
    program = gatehouse(config.site(origin.address))
    texts = ["", "hello", "grüße ✓", "x" * 70_000]

    async def talk():
        async with open_client(*port_and_tls, subprotocols=["chat"]) as client:
            assert client.subprotocol == "chat"
            assert client.extensions, "permessage-deflate is agreed by the ends"
            for message in [*texts, b"", os.urandom(100), os.urandom(70_000)]:
                await client.send(message)
                assert await client.recv() == message
            await asyncio.wait_for(await client.ping(), within(5))
            until(lambda: program.metric("tunnels_active") == 1, "the gauge to count it")
    asyncio.run(talk())
    record = tunnel_line(program)
    assert record["bytes_in"] > 70_000 and record["bytes_out"] > 70_000
    assert record["target"] == "/" and "error" not in record
    until(lambda: program.metric("tunnels_active") == 0, "the gauge to fall")
    assert program.metric("tunnels_total") == 1
    assert program.metric(r'responses_total{class="1xx"}') == 1


def test_large_and_fragmented_messages(gatehouse, config, websocket_origin, port_and_tls):
    origin = websocket_origin(echo)
    gatehouse(config.site(origin.address))
    parts = [os.urandom(n) for n in (1, 125, 126, 65_535, 65_536, 300_000)]

    async def talk():
        async with open_client(*port_and_tls, compression=None) as client:
            for _ in range(3):
                message = os.urandom(MEBIBYTE)
                await client.send(message)
                assert await client.recv() == message
            await client.send(parts)
            assert await client.recv() == b"".join(parts)
    asyncio.run(talk())


def test_many_at_once(gatehouse, config, websocket_origin, port_and_tls):
    origin = websocket_origin(echo)
    program = gatehouse(config.site(origin.address))

    async def talk(number):
        async with open_client(*port_and_tls) as client:
            for i in range(10):
                message = f"{number}:{i}" * (1 + i * 500)
                await client.send(message)
                assert await client.recv() == message

    async def all_of_them():
        await asyncio.gather(*[talk(n) for n in range(64)])
    asyncio.run(all_of_them())
    until(lambda: program.metric("tunnels_active") == 0, "all tunnels to end")
    assert program.metric("tunnels_total") == 64


def test_close_codes_cross_both_ways(gatehouse, config, websocket_origin, port_and_tls):
    seen = []

    async def handle(websocket):
        if websocket.path == "/server-closes":
            await websocket.close(4002, "from the server")
            return
        await websocket.wait_closed()
        seen.append((websocket.close_code, websocket.close_reason))
    origin = websocket_origin(handle)
    program = gatehouse(config.site(origin.address))

    async def talk():
        client = await open_client(*port_and_tls)
        await client.close(4001, "from the client")
        client = await open_client(*port_and_tls, target="/server-closes")
        with pytest.raises(websockets.ConnectionClosed):
            await client.recv()
        assert (client.close_code, client.close_reason) == (4002, "from the server")
    asyncio.run(talk())
    until(lambda: seen, "the server to hear of the close")
    assert seen == [(4001, "from the client")]
    until(lambda: program.metric("tunnels_active") == 0, "both tunnels to end")
    assert all("error" not in json.loads(line) for line in program.access_lines())


def test_a_tls_upstream(gatehouse, config, websocket_origin, authority, port_and_tls, tmp_path):
    chain, key = authority.issue(["app.internal"])
    (tmp_path / "origin.pem").write_text(chain + key)
    (tmp_path / "root.pem").write_text(authority.root_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "origin.pem")
    origin = websocket_origin(echo, tls=context)
    gatehouse(config.site("app") + f'''
[upstream.app]
servers = ["{origin.address}"]
protocol = "https"
tls = {{ ca = "{tmp_path}/root.pem", name = "app.internal" }}
''')

    async def talk():
        async with open_client(*port_and_tls) as client:
            message = os.urandom(MEBIBYTE)
            await client.send(message)
            assert await client.recv() == message
    asyncio.run(talk())


# --- the handshake


def test_the_handshake_is_written_anew(proxy, origin, connect):
    origin.script = lambda connection: (grant(connection), connection.closed_by_peer(20))
    client = connect()
    client.send(opening("/chat?room=1", fields=[
        ("Connection", "keep-alive, X-Hop"), ("X-Hop", "1"), ("TE", "trailers"),
        ("Sec-WebSocket-Protocol", "chat"), ("Origin", "https://example.test")]))
    response = client.response()
    seen = origin.heads[0]
    assert seen.target == "/chat?room=1"
    assert seen.value("connection") == "Upgrade" and seen.value("upgrade") == "websocket"
    assert seen.value("sec-websocket-key") == KEY
    assert seen.value("sec-websocket-version") == "13"
    assert seen.value("sec-websocket-protocol") == "chat"
    assert seen.value("origin") == "https://example.test" and seen.value("x-forwarded-for")
    assert not seen.values("x-hop") and not seen.values("te")
    assert response.status == 101 and response.value("upgrade") == "websocket"
    assert response.value("connection") == "Upgrade"
    assert response.value("sec-websocket-accept") == accept_of(KEY)


def test_only_the_websocket_of_several_protocols_is_asked_for(proxy, origin, connect):
    origin.script = lambda connection: (grant(connection), connection.closed_by_peer(20))
    client = connect()
    client.send(opening(upgrade="h2c, WebSocket", fields=[("HTTP2-Settings", "AAMAAABk"),
                                                          ("Connection", "HTTP2-Settings")]))
    assert client.response().status == 101
    assert b"h2c" not in origin.bytes_received and b"HTTP2" not in origin.bytes_received


@pytest.mark.parametrize("changes, status", [
    ({"sec_websocket_key": None}, 400), ({"sec_websocket_key": "c2hvcnQ="}, 400),
    ({"sec_websocket_key": "?" * 24}, 400), ({"sec_websocket_version": None}, 426),
    ({"sec_websocket_version": "777"}, 426)])
def test_a_broken_handshake_is_refused(proxy, origin, connect, changes, status):
    client = connect()
    client.send(opening(**changes), request(target="/smuggled"))
    response = client.response()
    assert response.status == status
    if status == 426:
        assert response.value("sec-websocket-version") == "13"
    assert client.closed() and not origin.heads


def test_an_unknown_upgrade_is_an_ordinary_request(proxy, origin, connect):
    client = connect()
    for upgrade in ("h2c", "TLS/1.0", "websocket-v2", ""):
        client.send(opening(upgrade=upgrade))
        assert client.response().status == 200
        assert not origin.last().values("upgrade")
        assert not origin.last().values("connection")


def test_an_upgrade_on_a_post_is_an_ordinary_request(proxy, origin, connect):
    client = connect()
    fields = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", KEY),
              ("Sec-WebSocket-Version", "13")]
    for method in ("POST", "GET"):
        client.send(request(method, fields=fields, body=b"a body"))
        assert client.response().status == 200
        assert origin.last().body == b"a body" and not origin.last().values("upgrade")
    assert client.get().status == 200, "the connection goes on"


@pytest.mark.parametrize("changes", [
    {"Sec_WebSocket_Accept": None}, {"Sec_WebSocket_Accept": accept_of("another")},
    {"Upgrade": None}, {"Upgrade": "h2c"}, {"Upgrade": "websocket, h2c"}, {"Connection": None},
    {"Connection": "close"}])
def test_a_101_that_grants_something_else_is_a_bad_answer(proxy, origin, connect, changes):
    ends = []

    def script(connection):
        seen = connection.head()
        connection.send(granting(seen, **changes))
        ends.append(connection.closed_by_peer(20))
    origin.script = script
    client = connect()
    client.send(opening())
    assert client.response().status == 502
    until(lambda: ends == [True], "the connection to be thrown away")
    assert len(origin.heads) == 1, "a request that was answered is not repeated"


def test_an_unasked_101_opens_nothing(proxy, origin, connect):
    origin.respond = lambda seen: granting(seen, Sec_WebSocket_Accept=accept_of(KEY)).encode()
    client = connect()
    assert client.get(fields=[("Sec-WebSocket-Key", KEY)]).status == 502
    client = connect()
    client.send(opening(upgrade="h2c"))
    assert client.response().status == 502


def test_an_answer_other_than_101_is_an_ordinary_one(proxy, origin, connect):
    origin.respond = lambda seen: (answer(b"hello") if seen.target == "/next"
                                   else answer(b"not you", status="403 Forbidden"))
    client = connect()
    client.send(opening())
    response = client.response()
    assert response.status == 403 and response.body == b"not you"
    assert client.get("/next").body == b"hello", "the connection serves on"
    assert len(origin.connections) == 1, "and so does the origin's"


def test_what_follows_a_handshake_that_is_not_granted_is_never_forwarded(proxy, origin, connect):
    origin.respond = lambda seen: answer(b"not you", status="403 Forbidden")
    client = connect()
    client.send(opening() + request(target="/smuggled"))
    response = client.response()
    assert response.status == 403 and response.value("connection") == "close"
    assert client.closed()
    assert b"smuggled" not in origin.bytes_received


def test_bytes_behind_the_handshake_wait_for_the_101(proxy, origin, connect):
    release, got = threading.Event(), []

    def script(connection):
        seen = connection.head()
        release.wait(20)
        connection.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.sock.recv(1)
        assert connection.buffer == b"", "nothing came ahead of the 101"
        connection.sock.settimeout(20)
        connection.send(granting(seen))
        got.append(connection.exactly(11))
        connection.send("and down")
    origin.script = script
    client = connect()
    client.send(opening() + b"early ")
    until(lambda: origin.heads, "the handshake at the origin")
    client.send("bytes")
    release.set()
    assert client.response().status == 101
    assert client.exactly(8) == b"and down"
    assert got == [b"early bytes"]


def test_an_origin_that_closes_a_kept_connection_is_asked_again(proxy, origin, connect):
    def script(connection):
        connection.request()
        connection.send(answer(b"hello"))
        seen = connection.head()
        if seen is not None and len(origin.connections) == 1:
            return  # closes without an answer
        if seen is not None:
            connection.send(granting(seen))
            connection.closed_by_peer(20)
    origin.script = script
    client = connect()  # one connection is one worker, and so one pool
    assert client.get().status == 200
    origin.script = lambda connection: (grant(connection), connection.closed_by_peer(20))
    tunnel_through(client)
    assert [seen.values("upgrade") for seen in origin.heads] == [[], ["websocket"], ["websocket"]]


def test_a_tunnels_connections_serve_no_request_afterwards(proxy, origin, connect):
    def script(connection):
        seen = connection.head()
        if seen.values("upgrade"):
            connection.send(granting(seen))
            connection.send("bye")
            return
        connection.send(answer(b"hello"))
    origin.script = script
    client = connect()
    tunnel_through(client)
    assert client.exactly(3) == b"bye"
    client.send(request())
    assert client.closed()
    assert connect().get().status == 200
    assert len(origin.connections) == 2


# --- ends and errors


def test_an_origin_that_half_closes_still_hears(proxy, origin, connect):
    got = []

    def script(connection):
        grant(connection)
        connection.send("the end")
        connection.sock.shutdown(socket.SHUT_WR)
        got.append(connection.exactly(6))
        got.append(connection.closed_by_peer(20))
    origin.script = script
    client = connect()
    tunnel_through(client)
    assert client.exactly(7) == b"the end" and client.closed()
    client.send("answer")
    until(lambda: got[:1] == [b"answer"], "what was said after the origin's end")
    client.close()
    until(lambda: got == [b"answer", True], "the client's end to be passed on")
    assert "error" not in tunnel_line(proxy)


def test_a_client_that_half_closes_still_hears(proxy, origin, config):
    got = []

    def script(connection):
        grant(connection)
        while connection.more():
            pass
        got.append(connection.buffer)
        connection.send("still ", "here")
    origin.script = script
    with Client(config.http) as client:
        tunnel_through(client, behind=b"that is all")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.exactly(10) == b"still here" and client.closed()
    assert got == [b"that is all"]
    record = tunnel_line(proxy)
    assert (record["bytes_in"], record["bytes_out"]) == (11, 10) and "error" not in record


def test_a_client_that_breaks_off_ends_the_upstream_side(proxy, origin, connect):
    ends = []
    origin.script = lambda connection: (grant(connection),
                                        ends.append(connection.closed_by_peer(20)))
    client = connect()
    tunnel_through(client)
    raw = client.sock.detach() if connect.scheme == "http" else client.sock.fileno()
    breaking = socket.socket(fileno=os.dup(raw))
    breaking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    os.close(raw) if connect.scheme == "http" else client.close()
    breaking.close()
    until(lambda: ends == [True], "the origin to hear of it")
    assert tunnel_line(proxy)["error"]


def test_an_origin_that_breaks_off_ends_the_clients_side(proxy, origin, connect):
    origin.script = lambda connection: (grant(connection), connection.exactly(2),
                                        connection.reset())
    client = connect()
    tunnel_through(client)
    client.send("go")
    assert ended(client)
    assert tunnel_line(proxy)["error"]


def test_an_idle_tunnel_ends_on_both_sides(gatehouse, config, origin, connect):
    program = gatehouse(config.site(origin.address, sections='[timeouts]\ntunnel = "700ms"'))
    ends = []

    def script(connection):
        grant(connection)
        for _ in range(10):  # longer than the limit, and never idle for so long
            time.sleep(0.2)
            connection.send("x")
        ends.append(connection.closed_by_peer(20))
    origin.script = script
    client = connect()
    tunnel_through(client)
    assert client.exactly(10) == b"x" * 10
    begun = time.monotonic()
    assert ended(client)
    assert 0.4 < time.monotonic() - begun < within(3)
    until(lambda: ends == [True], "the origin's side to end")
    assert "timeouts.tunnel" in tunnel_line(program)["error"]
    assert program.metric("timeouts_total") == 1


def test_the_limits_of_bodies_are_not_a_tunnels(gatehouse, config, origin, connect):
    gatehouse(config.site(origin.address, sections='[timeouts]\nbody = "300ms"\nidle = "300ms"\n'
                          'upstream_response = "300ms"\nrequest_header = "300ms"'))

    def script(connection):
        grant(connection)
        connection.send(connection.exactly(5))
        connection.closed_by_peer(20)
    origin.script = script
    client = connect()
    tunnel_through(client)
    time.sleep(1.2)
    client.send("still")
    assert client.exactly(5) == b"still"


@pytest.mark.parametrize("side", ["client", "origin"])
def test_a_side_that_takes_nothing_is_cut(gatehouse, config, origin, connect, side):
    program = gatehouse(config.site(origin.address, sections='[timeouts]\nbody = "500ms"'))
    release = threading.Event()

    def send_until_it_breaks(sock):
        try:
            while True:
                sock.sendall(b"x" * 65536)
        except OSError:
            pass

    def script(connection):
        if side == "origin":
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        grant(connection)
        send_until_it_breaks(connection.sock) if side == "client" else release.wait(30)
    origin.script = script
    client = connect(receive_buffer=65536)
    tunnel_through(client)
    if side == "origin":
        send_until_it_breaks(client.sock)
    record = tunnel_line(program)
    release.set()
    assert record["error"]
    until(lambda: program.metric("tunnels_active") == 0, "the tunnel to end")
    named = "downstream" if side == "client" else "upstream"
    assert program.metric(f'timeouts_total{{side="{named}"}}') == 1


@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_slow_reader_adds_little_memory(gatehouse, config, origin, connect, direction):
    program = gatehouse(config.site(origin.address))
    size, piece = 100 * MEBIBYTE, os.urandom(MEBIBYTE)
    release, sent, got = threading.Event(), [0], [0]

    def send_all(sock):
        while sent[0] < size:
            sock.sendall(piece)
            sent[0] += len(piece)

    def read_all(sock):
        release.wait(60)
        while got[0] < size:
            data = sock.recv(MEBIBYTE)
            assert data and data == (piece * 3)[got[0] % MEBIBYTE:][:len(data)]
            got[0] += len(data)

    def script(connection):
        grant(connection)
        (send_all if direction == "down" else read_all)(connection.sock)
    origin.script = script
    client = connect(receive_buffer=65536)
    tunnel_through(client)
    assert client.buffer == b"" or direction == "down"
    got[0], early = len(client.buffer), client.buffer
    assert early == piece[:len(early)]
    before = program.rss_kb()
    other = threading.Thread(target=send_all if direction == "up" else read_all,
                             args=(client.sock,))
    other.start()
    until(lambda: sent[0] and stands_still(sent), "the writer to be held up")
    assert sent[0] < size / 2
    growth = program.rss_kb() - before
    release.set()
    other.join(within(60))
    until(lambda: got[0] == size, "all of it", 60)
    growth = max(growth, program.rss_kb() - before)
    assert growth < (2048 if SLOW == 1 else 65536), f"grew by {growth} KB"


def stands_still(sent):
    before = sent[0]
    time.sleep(0.5)
    return sent[0] == before


# --- stop and reload


def test_a_stop_lets_tunnels_go_on_within_grace(gatehouse, config, websocket_origin,
                                                port_and_tls):
    origin = websocket_origin(echo)
    program = gatehouse(config.site(origin.address, server='grace = "30s"'))

    async def talk():
        async with open_client(*port_and_tls) as client:
            program.process.send_signal(signal.SIGTERM)
            until(lambda: unreachable(port_and_tls[0]), "the listener to close")
            await client.send("after the signal")
            assert await client.recv() == "after the signal"
    asyncio.run(talk())
    assert program.process.wait(within(10)) == 0


def test_grace_bounds_a_tunnel(gatehouse, config, origin, connect):
    ends = []
    origin.script = lambda connection: (grant(connection),
                                        ends.append(connection.closed_by_peer(20)))
    program = gatehouse(config.site(origin.address, server='grace = "500ms"'))
    client = connect()
    tunnel_through(client)
    program.process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    assert ended(client)
    assert program.process.wait(within(10)) == 0
    assert 0.3 < time.monotonic() - begun < within(5)
    until(lambda: ends == [True], "the origin's side to end")


def test_a_reload_leaves_tunnels_alone(gatehouse, config, websocket_origin, port_and_tls):
    from ports import free_port
    origin, extra = websocket_origin(echo), free_port()
    port, context = port_and_tls
    kind = "https" if context else "http"
    both = {kind: [f"127.0.0.1:{port}", f"127.0.0.1:{extra}"]}
    program = gatehouse(config.site(origin.address, **both))

    async def talk():
        async with open_client(port, context) as kept, open_client(extra, context) as removed:
            program.reload(config.site(origin.address))
            until(lambda: unreachable(extra), "the removed listener to close")
            for client in (kept, removed):
                await client.send("after the reload")
                assert await client.recv() == "after the reload"
    asyncio.run(talk())


def unreachable(port):
    try:
        Client(port, timeout=2).close()
        return False
    except OSError:
        return True
