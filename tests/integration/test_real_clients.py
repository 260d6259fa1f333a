"""Clients that people use, by each version of HTTP, and tunnels over HTTP/2 (RFC 8441)."""

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from harness.http2 import Http2, trusting_h2
from harness.http2_frames import Code, Setting, data, rst_stream, window_update
from harness.http2_origin import Http2Origin
from harness.limits import SLOW, within
from harness.origin import Origin, answer
from harness.wait import stands_still, until
from harness.watch import Watch
from harness.websocket import granting

MEBIBYTE = 1 << 20
GROWTH_KB_MAX = 4096 if SLOW == 1 else 65536
# Debian's, not a stub that asks for another package manager.
CHROMIUM = shutil.which("chromium")


@pytest.fixture(params=["http1 origin", "h2c origin"])
def echo(request, gatehouse, config):
    """A program in front of an origin that answers with the request's body, or else its target."""
    if request.param == "http1 origin":
        origin = Origin()
        origin.respond = lambda seen: answer(seen.body or seen.target)
        address = origin.address
    else:
        origin = Http2Origin()
        origin.answer = lambda connection, seen: connection.reply(
            seen.stream, "" if seen.method == "HEAD" else seen.body or seen.target)
        address = f"h2c://{origin.address}"
    program = gatehouse(config.site(address, server="h2c = true"))
    program.origin = origin
    yield program
    origin.stop()


def run(*arguments, seconds=20):
    got = subprocess.run([str(a) for a in arguments], capture_output=True, timeout=within(seconds))
    assert got.returncode == 0, got.stderr.decode(errors="replace")
    return got.stdout


# ---- Command lines

VERSIONS = [("--http1.1", "https", "1.1"), ("--http2", "https", "2"), ("--http1.1", "http", "1.1"),
            ("--http2-prior-knowledge", "http", "2")]


@pytest.fixture
def curl(config, authority, tmp_path):
    """curl(option, scheme, *arguments): its output, with {URL} for the site's."""
    (tmp_path / "root.pem").write_text(authority.root_pem())

    def call(option, scheme, *arguments):
        port = config.https if scheme == "https" else config.http
        url = f"{scheme}://example.test:{port}"
        arguments = [str(a).replace("{URL}", url) for a in arguments]
        return run("curl", "-sS", "--fail", "--globoff", option, "--cacert", tmp_path / "root.pem",
                   "--resolve", f"example.test:{port}:127.0.0.1", *arguments)
    return call


@pytest.mark.parametrize("option, scheme, version", VERSIONS)
def test_curl_gets_and_uploads(echo, curl, tmp_path, option, scheme, version):
    body, out = tmp_path / "body", tmp_path / "out"
    body.write_bytes(os.urandom(3 * MEBIBYTE + 7))
    tell = ["-w", "%{http_version} %{http_code}", "-o", out]
    assert curl(option, scheme, *tell, "{URL}/a?b=c").decode() == f"{version} 200"
    assert out.read_bytes() == b"/a?b=c"
    for upload in (["--data-binary", f"@{body}"], ["-T", body],
                   ["-T", body, "-H", "Transfer-Encoding: chunked"]):
        if version == "2" and len(upload) > 2:
            continue
        assert curl(option, scheme, *tell, *upload, "-H", "Expect:",
                    "{URL}/up").decode() == f"{version} 200"
        assert out.read_bytes() == body.read_bytes()
    assert curl(option, scheme, *tell, "-I", "{URL}/").decode() == f"{version} 200"


# Debian 12's curl fails by itself where it is to multiplex with prior knowledge, with nginx too.
@pytest.mark.parametrize("option, scheme, version", VERSIONS[:3])
def test_curl_in_parallel_gets_each_answer_in_its_place(echo, curl, tmp_path, option, scheme,
                                                       version):
    wanted = []
    for i in range(60):
        wanted += ["-o", tmp_path / f"out-{i}", "{URL}" + f"/{i}/{'x' * (i * 20)}"]
    curl(option, scheme, "--parallel", "--parallel-max", "30", *wanted)
    for i in range(60):
        assert (tmp_path / f"out-{i}").read_text() == f"/{i}/{'x' * (i * 20)}"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nghttp_gets_and_uploads(echo, config, tmp_path, scheme):
    body = tmp_path / "body"
    body.write_bytes(os.urandom(MEBIBYTE))
    url = f"{scheme}://127.0.0.1:{config.https if scheme == 'https' else config.http}"
    common = ["nghttp", "--no-verify-peer", "-H:authority: example.test"]
    assert run(*common, f"{url}/a", f"{url}/b", f"{url}/c") in (
        b"/a/b/c", b"/a/c/b", b"/b/a/c", b"/b/c/a", b"/c/a/b", b"/c/b/a")
    assert run(*common, "-d", body, f"{url}/up") == body.read_bytes()
    assert run(*common, "-d", body, "--no-content-length", f"{url}/up") == body.read_bytes()
    # Over HTTP/1.1 a body with a length has no trailers.
    assert run(*common, "-d", body, "--no-content-length", "--trailer", "x-end: 1",
               f"{url}/up") == body.read_bytes()
    trailers = echo.origin.last().trailers
    assert ("x-end", "1") in [(n.lower(), v) for n, v in trailers]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("load", [["-c", "20", "-m", "1"], ["-c", "4", "-m", "50"]],
                         ids=["many connections", "many streams"])
def test_h2load_gets_every_answer(echo, config, tmp_path, scheme, load):
    body = tmp_path / "body"
    body.write_bytes(os.urandom(1000))
    port = config.https if scheme == "https" else config.http
    for upload in ([], ["-d", body]):
        text = run("h2load", "-n", "1000", *load, *upload, f"--connect-to=127.0.0.1:{port}",
                   f"{scheme}://example.test:{port}/", seconds=60).decode()
        assert "1000 succeeded, 0 failed, 0 errored, 0 timeout" in text
        assert "status codes: 1000 2xx" in text


def test_h2load_over_http1_gets_every_answer(echo, config):
    text = run("h2load", "--h1", "-n", "1000", "-c", "10",
               f"--connect-to=127.0.0.1:{config.https}",
               f"https://example.test:{config.https}/", seconds=60).decode()
    assert "status codes: 1000 2xx" in text


# ---- WebSocket over HTTP/2

@pytest.fixture(params=["h2c", "h2"])
def connect(request, config, authority):
    opened = []

    def open_one(polite=True, **more):
        tls = trusting_h2(authority.root_pem()) if request.param == "h2" else None
        opened.append(Http2(config.https if tls else config.http, tls=tls, polite=polite, **more))
        return opened[-1]
    yield open_one
    for client in opened:
        client.close()


def text_of(config, origin, **more):
    server = "h2c = true\n" + more.pop("server", "")
    return config.site(origin.address, server=server, **more)


@pytest.fixture
def proxy(gatehouse, config, origin):
    return gatehouse(text_of(config, origin))


def ask_for_tunnel(client, path="/chat", protocol="websocket", more=()):
    return client.request("CONNECT", path, [(":protocol", protocol),
                                            ("sec-websocket-version", "13"),
                                            ("origin", "https://example.test"), *more], end=False)


def open_tunnel(client, **more):
    stream = ask_for_tunnel(client, **more)
    head = client.expect_head(stream)
    assert head.status == 200 and not client.streams[stream].ended, head
    return stream


def received(client, stream, count):
    """What has come on the stream, once there is so much of it."""
    client.until(lambda: len(client.streams[stream].response.body) >= count
                 or client.over(stream), f"{count} bytes")
    return bytes(client.streams[stream].response.body)


def grant(connection):
    seen = connection.head()
    connection.send(granting(seen))
    return seen


def echo_bytes(connection):
    """Grants a tunnel and sends back whatever comes; then its end."""
    grant(connection)
    while connection.buffer or connection.more():
        data_now, connection.buffer = connection.buffer, b""
        connection.send(data_now)
    connection.sock.shutdown(socket.SHUT_WR)


def tunnel_line(program):
    def find():
        return [r for r in map(json.loads, program.access_lines()) if r["target"] == "/chat"]
    return until(find, "the tunnel's line in the access log")[0]


def test_the_server_says_that_it_knows_extended_connect(proxy, connect):
    assert connect().server_settings[Setting.ENABLE_CONNECT_PROTOCOL] == 1


def test_a_tunnel_carries_bytes_both_ways(proxy, origin, connect):
    origin.script = echo_bytes
    client = connect()
    stream = open_tunnel(client, more=[("sec-websocket-protocol", "chat")])
    seen = origin.heads[0]
    assert (seen.method, seen.target, seen.value("upgrade")) == ("GET", "/chat", "websocket")
    assert seen.value("connection").lower() == "upgrade" and seen.value("sec-websocket-key")
    assert seen.value("sec-websocket-protocol") == "chat" and seen.value("host") == "example.test"
    head = client.response_of(stream)
    assert head.values("sec-websocket-accept") == [] and head.values("content-length") == []
    sent = b""
    for i in range(50):
        piece = os.urandom(1 + i * 100)
        client.send_body(stream, piece, end=False)
        sent += piece
        assert received(client, stream, len(sent)) == sent
    client.send(data(stream, end=True))
    client.until(lambda: client.over(stream), "the end")
    assert client.streams[stream].ended
    record = tunnel_line(proxy)
    assert record["bytes_in"] == record["bytes_out"] == len(sent) and "error" not in record
    assert record["protocol"] == "HTTP/2.0"
    until(lambda: proxy.metric("tunnels_active") == 0, "the gauge to fall")


def test_tunnels_and_requests_share_a_connection(proxy, origin, connect):
    def script(connection):
        seen = connection.head()
        if seen.values("upgrade"):
            connection.send(granting(seen))
            while connection.buffer or connection.more():
                now, connection.buffer = connection.buffer, b""
                connection.send(now)
            return
        connection.send(answer(seen.target, fields=[("Connection", "close")]))
    origin.script = script
    client = connect()
    tunnels = [open_tunnel(client, path=f"/{i}") for i in range(20)]
    for turn in range(3):
        for stream in tunnels:
            client.send_body(stream, b"%d.%d;" % (stream, turn), end=False)
        assert client.get(f"/get-{turn}").body == b"/get-%d" % turn
    for stream in tunnels:
        wanted = b"".join(b"%d.%d;" % (stream, turn) for turn in range(3))
        assert received(client, stream, len(wanted)) == wanted


def test_a_client_that_half_closes_still_hears(proxy, origin, connect):
    def script(connection):
        grant(connection)
        while connection.more():
            pass
        connection.send(b"heard: " + connection.buffer)
    origin.script = script
    client = connect()
    stream = open_tunnel(client)
    client.send(data(stream, b"last words", end=True))
    client.until(lambda: client.over(stream), "the end")
    assert bytes(client.response_of(stream).body) == b"heard: last words"
    assert client.streams[stream].ended and client.reset_of(stream) is None


def test_an_origin_that_half_closes_still_hears(proxy, origin, connect):
    got = []

    def script(connection):
        grant(connection)
        connection.send("the end")
        connection.sock.shutdown(socket.SHUT_WR)
        got.append(connection.exactly(6))
        got.append(connection.more())
    origin.script = script
    client = connect()
    stream = open_tunnel(client)
    client.until(lambda: client.streams[stream].ended, "the origin's end")
    assert bytes(client.response_of(stream).body) == b"the end"
    client.send(data(stream, b"answer", end=True))
    until(lambda: got == [b"answer", False], "what was said after the origin's end")


@pytest.mark.parametrize("how", ["resets", "goes away"])
def test_a_client_that_cuts_a_tunnel_is_heard_of_at_the_origin(proxy, origin, connect, how):
    ends = []
    origin.script = lambda connection: (grant(connection),
                                        ends.append(connection.closed_by_peer(10)))
    client = connect()
    stream = open_tunnel(client)
    client.send(rst_stream(stream)) if how == "resets" else client.close()
    until(lambda: ends == [True], "the origin's side to end")
    until(lambda: proxy.metric("tunnels_active") == 0, "the gauge to fall")
    if how == "resets":
        origin.script = origin.serve
        assert client.get("/next").status == 200


def test_an_origin_that_cuts_a_tunnel_is_a_reset(proxy, origin, connect):
    release = threading.Event()

    def script(connection):
        grant(connection)
        connection.send("some")
        release.wait(within(10))
        connection.reset()
    origin.script = script
    client = connect()
    stream = open_tunnel(client)
    assert received(client, stream, 4) == b"some"
    release.set()
    client.expect_reset(stream)
    origin.script = origin.serve
    assert client.get("/next").status == 200


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "404 Not Found"])
def test_an_answer_other_than_101_is_no_tunnel(proxy, origin, connect, status):
    origin.respond = lambda seen: answer(b"no tunnel", status=status)
    client = connect()
    stream = ask_for_tunnel(client)
    client.until(lambda: client.over(stream), "an end")
    response = client.response_of(stream)
    # A success would say to the client that it has its tunnel (RFC 8441 section 5).
    if status == "200 OK":
        assert response.status >= 400
    else:
        assert (response.status, bytes(response.body)) == (int(status[:3]), b"no tunnel")
    assert client.get("/next").body == b"no tunnel"


def test_early_bytes_of_a_tunnel_that_is_not_granted_go_nowhere(proxy, origin, connect):
    origin.respond = lambda seen: answer(b"no", status="403 Forbidden")
    client = connect()
    stream = ask_for_tunnel(client)
    client.send(data(stream, b"GET /smuggled HTTP/1.1\r\nHost: example.test\r\n\r\n"))
    client.until(lambda: client.over(stream), "an end")
    assert client.response_of(stream).status == 403
    assert client.get("/next").status == 403
    assert b"smuggled" not in origin.bytes_received


@pytest.mark.parametrize("protocol", ["gopher", "connect-udp", "WebSocket2"])
def test_an_unknown_protocol_is_501(proxy, origin, connect, protocol):
    client = connect()
    stream = ask_for_tunnel(client, protocol=protocol)
    client.until(lambda: client.over(stream) or client.response_of(stream), "an answer")
    assert client.response_of(stream).status == 501
    assert client.get("/next").status == 200 and len(origin.heads) == 1


@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_tunnel_that_nobody_reads_adds_little_memory(proxy, origin, connect, direction):
    size, piece = 64 * MEBIBYTE, os.urandom(MEBIBYTE)
    release, sent, got = threading.Event(), [0], []

    def script(connection):
        grant(connection)
        if direction == "down":
            while sent[0] < size:
                connection.sock.sendall(piece)
                sent[0] += len(piece)
            connection.sock.shutdown(socket.SHUT_WR)
            connection.closed_by_peer(30)
            return
        release.wait(within(30))
        digest, count = hashlib.sha256(), 0
        while block := connection.sock.recv(MEBIBYTE):
            digest.update(block)
            count += len(block)
        got.append((count, digest.digest()))
    origin.script = script
    client = connect(polite=direction == "up")
    stream = open_tunnel(client)
    with Watch(proxy) as watch:
        if direction == "down":
            until(lambda: sent[0] and stands_still(sent), "the origin to be held up")
            assert sent[0] < 16 * MEBIBYTE
            return_windows(client, stream, size)
            assert received(client, stream, size) == piece * 64
        else:
            thread = threading.Thread(target=upload, args=(client, stream, piece, size, sent))
            thread.start()
            until(lambda: sent[0] and stands_still(sent), "the client to be held up")
            assert sent[0] < 16 * MEBIBYTE
            release.set()
            thread.join(within(30))
            until(lambda: got, "the end at the origin", 20)
            assert got == [(size, hashlib.sha256(piece * 64).digest())]
    assert watch.growth_kb() < GROWTH_KB_MAX, f"grew by {watch.growth_kb()} KB"


def return_windows(client, stream, size):
    client.send(window_update(0, size), window_update(stream, size))


def upload(client, stream, piece, size, sent):
    client.sock.settimeout(within(30))
    while sent[0] < size:
        for at in range(0, len(piece), 65536):
            client.send_body(stream, piece[at:at + 65536], end=False)
            sent[0] += 65536
    client.send(data(stream, end=True))


def test_a_reload_leaves_tunnels_alone(gatehouse, config, origin, connect):
    program = gatehouse(text_of(config, origin))
    origin.script = echo_bytes
    client = connect()
    stream = open_tunnel(client)
    program.reload(text_of(config, origin, sections='[timeouts]\nidle = "50s"'))
    client.send_body(stream, b"after the reload", end=False)
    assert received(client, stream, 16) == b"after the reload"


def test_a_stop_lets_tunnels_go_on_until_grace_is_over(gatehouse, config, origin, connect):
    program = gatehouse(text_of(config, origin, server='grace = "1s"'))
    origin.script = echo_bytes
    client = connect()
    stream = open_tunnel(client)
    program.process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    client.expect_goaway(Code.NO_ERROR)
    client.send_body(stream, b"after the signal", end=False)
    assert received(client, stream, 16) == b"after the signal"
    client.expect_end()
    assert 0.5 < time.monotonic() - begun < within(5)
    assert not client.streams[stream].ended, "cut, not ended"
    assert program.process.wait(within(10)) == 0


# ---- A browser

PAGE = """<!doctype html><title>page</title><body>
{scripts}
<script>
async function check() {{
  const result = {{loaded: window.loaded}};
  result.protocols = [...new Set(performance.getEntriesByType('resource')
      .map(entry => entry.nextHopProtocol))];
  const sizes = [0, 1, 70000, 3000000];
  result.uploads = await Promise.all(sizes.map(async size => {{
    const body = new Uint8Array(size).map((_, i) => i * 7 + size);
    const response = await fetch('/echo', {{method: 'POST', body}});
    const got = new Uint8Array(await response.arrayBuffer());
    return got.length === size && got.every((byte, i) => byte === body[i]);
  }}));
  result.echo = await new Promise((done, failed) => {{
    const socket = new WebSocket(`wss://${{location.host}}/socket`), got = [];
    socket.onopen = () => socket.send('0');
    socket.onmessage = event => {{
      got.push(event.data);
      got.length < 5 ? socket.send(String(got.length)) : socket.close();
    }};
    socket.onclose = () => done(got.join(' '));
    socket.onerror = () => done('an error');
  }});
  return result;
}}
check().catch(error => ({{error: String(error)}})).then(result => {{
  document.body.append('RESULT' + JSON.stringify(result) + 'END');
  fetch('/done', {{method: 'POST'}});
}});
</script>
<img src="/held">
"""


def echo_messages(connection):
    """WebSocket messages of a few bytes, back as they came."""
    while (start := connection.exactly(2)) is not None:
        kind, size = start[0], start[1] & 0x7f
        mask, masked = connection.exactly(4), connection.exactly(size)
        payload = bytes(b ^ mask[i % 4] for i, b in enumerate(masked))
        connection.send(bytes([kind, size]) + payload)
        if kind & 0xf == 8:
            return


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (tools/setup)")
@pytest.mark.skipif(SLOW > 1, reason="a browser's own time limits are not relaxed")
def test_chromium_loads_a_page_uploads_and_talks_over_a_websocket(gatehouse, config, origin,
                                                                 tmp_path):
    program = gatehouse(config.site(origin.address))
    done = threading.Event()
    scripts = "".join(f'<script src="/script-{i}.js"></script>' for i in range(50))

    def respond(seen):
        if seen.target == "/":
            return answer(PAGE.format(scripts=scripts), fields=[("Content-Type", "text/html")])
        if seen.target.startswith("/script-"):
            return answer("window.loaded = (window.loaded || 0) + 1;\n" + "// filler\n" * 500,
                          fields=[("Content-Type", "text/javascript")])
        if seen.target == "/held":
            done.wait(within(30))  # the page is not loaded, and so not dumped, before that
        if seen.target == "/done":
            done.set()
        return answer(seen.body)

    def script(connection):
        while (seen := connection.head()) is not None:
            if seen.values("upgrade"):
                connection.send(granting(seen))
                return echo_messages(connection)
            connection.body(seen)
            connection.send(respond(seen))
    origin.script = script
    page = run(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
               "--ignore-certificate-errors", f"--user-data-dir={tmp_path}/profile",
               "--disable-background-networking", "--no-first-run", "--dump-dom",
               "--host-resolver-rules=MAP example.test 127.0.0.1",
               f"https://example.test:{config.https}/", seconds=40).decode()
    found = re.search(r"RESULT(\{.*\})END", page)
    assert found, page[-2000:]
    assert json.loads(found[1].replace("&quot;", '"')) == {
        "loaded": 50, "protocols": ["h2"], "uploads": [True] * 4, "echo": "0 1 2 3 4"}
    records = [json.loads(line) for line in program.access_lines()]
    scripts_seen = [r for r in records if r["target"].startswith("/script-")]
    assert len(scripts_seen) == 50 and {r["protocol"] for r in scripts_seen} == {"HTTP/2.0"}
    assert {r["status"] for r in records if r["target"] == "/socket"} == {101}
