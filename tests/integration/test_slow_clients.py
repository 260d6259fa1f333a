"""Clients that are slow on purpose: each is gone when its patience is used up, however many they
are, and nobody else feels them. Those that are slow and talking are left alone."""

import errno
import math
import resource
import select
import socket
import threading
import time

import pytest
from harness.client import Client, Cut, request
from harness.http2 import Ended
from harness.http2_frames import PREFACE, block, continuation, data, headers, settings
from harness.http2_steady import Steady
from harness.limits import LONG, SLOW, within
from harness.origin import answer
from harness.wait import until

BODY_SECONDS = 0.5
TICK_SECONDS = 0.05


@pytest.fixture(scope="module")
def world(http2_world):
    return http2_world(f'[timeouts]\nbody = "{BODY_SECONDS * 1000:.0f}ms"\n')


@pytest.fixture(autouse=True)
def fresh(request):
    if "world" in request.fixturenames:
        request.getfixturevalue("world").fresh()


class Upload:
    """A POST over either version whose body is sent as a test says."""

    def __init__(self, world, version):
        self.version = version
        if version == "http2":
            self.client = world.connect(plain=True)
            self.client.request("POST", "/up", end=False, stream=1)
            return
        self.client = Client(world.http)
        framing = "Content-Length: 100000" if version == "length" else "Transfer-Encoding: chunked"
        self.client.send(f"POST /up HTTP/1.1\r\nHost: example.test\r\n{framing}\r\n\r\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()

    def send(self, piece, last=False):
        if self.version == "http2":
            return self.client.send_unless_closed(data(1, piece, end=last))
        if self.version == "chunked":
            piece = b"%x\r\n%s\r\n" % (len(piece), piece) + (b"0\r\n\r\n" if last else b"")
        try:
            self.client.send(piece)
            return True
        except OSError:
            return False

    def readable(self, seconds):
        if self.version == "http2" and self.client.buffer:
            return True
        return bool(select.select([self.client.sock], [], [], seconds)[0])

    def status(self):
        if self.version == "http2":
            return self.client.expect_head(1).status
        return self.client.head().status

    def trickle(self, piece, seconds):
        """A piece a tick until an answer comes; how long that took, or None."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            self.send(piece)
            if self.version == "http2":
                try:
                    self.client.until(lambda: self.client.response_of(1), "it",
                                      TICK_SECONDS / SLOW)
                    return time.monotonic() - begun
                except TimeoutError:
                    continue
            if self.readable(TICK_SECONDS):
                return time.monotonic() - begun
        return None


VERSIONS = ["length", "chunked", "http2"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_body_that_trickles_is_cut_when_patience_is_used_up(world, version):
    before = world.program.metric(r'slow_clients_total\{kind="body"')
    with Upload(world, version) as upload:
        took = upload.trickle(b"x", within(6))
        assert took is not None and upload.status() == 408
        assert BODY_SECONDS * 0.8 < took < within(BODY_SECONDS * 2 + 0.5), f"after {took:.2f} s"
    assert world.program.metric(r'slow_clients_total\{kind="body"') == before + 1
    until(lambda: world.origin.requests, "the origin to be left")
    assert not any(r.complete for r in world.origin.requests)


@pytest.mark.parametrize("version", ["chunked", "http2"])
def test_a_body_that_keeps_the_rate_may_take_for_ever(world, version):
    """Four times its patience, at twice the rate."""
    with Upload(world, version) as upload:
        assert upload.trickle(b"x" * int(64 * 2 * TICK_SECONDS + 1), BODY_SECONDS * 4) is None
        upload.send(b"end", last=True)
        assert upload.status() == 200
    assert world.origin.last().complete and world.origin.last().body.endswith(b"end")


@pytest.mark.parametrize("version", ["chunked", "http2"])
def test_a_client_that_was_answered_may_be_silent_and_is_heard_afterwards(world, version):
    """As a bidirectional call of gRPC: the head comes first, then each says what it likes."""
    def script(connection):
        seen = connection.head()
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        ended = threading.Event()

        def talk():
            while not ended.wait(BODY_SECONDS / 4):
                connection.send("1\r\n.\r\n")
        talker = threading.Thread(target=talk)
        talker.start()
        connection.body(seen)
        connection.origin.requests.append(seen)
        ended.set()
        talker.join()
        connection.send("4\r\nover\r\n0\r\n\r\n")
    world.origin.script = script
    with Upload(world, version) as upload:
        upload.send(b"first")
        assert upload.status() == 200
        time.sleep(BODY_SECONDS * 2)
        for _ in range(10):
            upload.send(b"x")
            time.sleep(BODY_SECONDS / 5)
        upload.send(b"last", last=True)
        if version == "http2":
            body = upload.client.expect_response(1).body
        else:
            body = upload.client.until(b"0\r\n\r\n").replace(b"\r\n", b"")
        assert body.endswith(b"over")
    assert world.origin.last().body == b"first" + b"x" * 10 + b"last"


def test_a_rate_of_0_leaves_only_silence_to_be_cut(gatehouse, config, origin):
    gatehouse(config.site(origin.address, sections=(
        '[timeouts]\nbody = "500ms"\n[limits]\nrequest_body_rate = "0"\n')))
    world = type("World", (), {"http": config.http})
    with Upload(world, "chunked") as upload:
        assert upload.trickle(b"x", BODY_SECONDS * 4) is None
        begun = time.monotonic()
        assert upload.readable(within(5)) and upload.status() == 408
        assert time.monotonic() - begun < within(1.5)


def test_time_that_the_origin_takes_is_not_the_clients(world):
    """The origin reads nothing for longer than the client's patience, then all of it."""
    ready = threading.Event()

    def script(connection):
        ready.wait(20)
        connection.origin.serve(connection)
    world.origin.script = script
    body = bytes(20 << 20)
    with Client(world.http) as client:
        sender = threading.Thread(target=client.send, args=(request("POST", "/", body=body),))
        sender.start()
        time.sleep(BODY_SECONDS * 3)
        ready.set()
        assert client.response().status == 200
        sender.join()
    assert len(world.origin.last().body) == len(body)


def test_an_origin_that_is_slow_is_no_attack_and_one_that_stalls_is_cut(world):
    """Server-sent events: a byte now and then, for ever. Then none."""
    def script(connection):
        connection.request()
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(9):
            connection.send("1\r\n.\r\n")
            time.sleep(BODY_SECONDS / 3)
        connection.closed_by_peer(20)
    world.origin.script = script
    with Client(world.http) as client:
        client.send(request())
        begun = time.monotonic()
        with pytest.raises(Cut):
            client.response()
        assert BODY_SECONDS * 3 < time.monotonic() - begun < within(BODY_SECONDS * 6)
    with world.connect(plain=True) as c:
        with pytest.raises(Ended):
            c.get()
        assert len(c.response_of(1).body) == 9


def test_a_slow_reader_and_a_slow_head_are_counted_and_told(gatehouse, config, origin):
    program = gatehouse(config.site(origin.address, sections=(
        '[timeouts]\nbody = "400ms"\nrequest_header = "400ms"\n')))
    origin.respond = lambda r: answer(bytes(32 << 20))
    with Client(config.http, receive_buffer=4096) as reader, Client(config.http) as head:
        reader.send(request())
        head.send("GET / HTTP/1.1\r\n")
        assert head.response().status == 408
        until(lambda: program.metric(r'slow_clients_total\{kind="reader"') == 1, "the reader's end")
        assert program.metric(r'slow_clients_total\{kind="head"') == 1
        assert program.metric(r'timeouts_total\{side="downstream"') == 2
        until(lambda: any("reads too slowly" in line for line in program.access_lines()), "the log")
        with pytest.raises(ConnectionResetError):  # not a FIN behind megabytes in the kernel
            while reader.sock.recv(1 << 20):
                pass


# ---- Very many of them

COUNT = 10_000 if LONG else 2_000
DEADLINE_SECONDS = 4 if LONG else 3
LINGER_SECONDS = 3  # a 408 is sent and waits for the client's end; HTTP/2 says GOAWAY first
P99_SECONDS_MAX = 0.02
EACH_KB_MAX = 24 if SLOW == 1 else 200

POST = [(":method", "POST"), (":scheme", "http"), (":authority", "example.test"),
        (":path", "/deaf")]
LONG_FIELD = block([*POST, ("x-a", "b" * 200)])
HEAD = b"POST /deaf HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n"
# What each kind sends at first, and then at every turn: (share, first, turn).
KINDS = {
    "head": (0.45, b"GET / HTTP/1.1\r\nHost: exam", b"p"),
    "silent": (0.05, b"", b""),
    "body": (0.25, HEAD + b"\r\n", b"1\r\nx\r\n"),
    "reader": (0.15, request(target="/page") * 150, b""),
    "http2 head": (0.05, PREFACE + settings() + headers(1, LONG_FIELD[:1], end_headers=False),
                   continuation(1, LONG_FIELD[1:2], False)),
    "http2 body": (0.05, PREFACE + settings() + headers(1, block(POST), end=False), data(1, b"x")),
}


class Crowd:
    """Many connections in one thread; notes when each is ended by the other side."""

    def __init__(self, port, count):
        self.poll, self.open, self.ended = select.epoll(), {}, {}
        kinds = [kind for kind, (share, _, _) in KINDS.items() for _ in range(int(count * share))]
        # Mixed, so that every kind is there from the beginning to the end.
        for kind in (kinds[i * 7919 % len(kinds)] for i in range(len(kinds))):
            sock = socket.socket()
            if kind == "reader":
                # Segments as of a network: with loopback's the kernel alone would hold megabytes.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            sock.connect(("127.0.0.1", port))
            sock.setblocking(False)
            self.send(sock, KINDS[kind][1])
            # A reader's data would be an event each time: it looks for its end alone.
            mask = select.EPOLLRDHUP | (0 if kind == "reader" else select.EPOLLIN)
            self.poll.register(sock, mask)
            self.open[sock.fileno()] = (sock, kind)
        self.begun = time.monotonic()

    def send(self, sock, text):
        try:
            sock.send(text)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise

    def look(self, seconds):
        for fd, events in self.poll.poll(seconds, 4096):
            sock, kind = self.open[fd]
            if events & ~select.EPOLLIN or not self.read(sock):
                self.poll.unregister(fd)
                del self.open[fd]
                self.ended.setdefault(kind, []).append(time.monotonic() - self.begun)
                sock.close()

    def read(self, sock):
        try:
            return sock.recv(4096)
        except BlockingIOError:
            return True
        except OSError:
            return b""

    def run(self, seconds):
        """Trickles: one turn each a second, spread over it."""
        end, turns = time.monotonic() + seconds, []
        while self.open and time.monotonic() < end:
            turns = turns or list(self.open)
            some = max(1, len(self.open) // 50)
            for fd in turns[-some:]:
                if fd in self.open:
                    self.send(self.open[fd][0], KINDS[self.open[fd][1]][2])
            del turns[-some:]
            self.look(0.02)

    def close(self):
        for sock, _ in self.open.values():
            sock.close()
        self.poll.close()


def test_very_many_slow_clients_are_not_felt_and_gone_in_time(http2_world, authority,
                                                              tmp_path_factory):
    least = COUNT + 200
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < least * 1.8:
        pytest.skip(f"only {most} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    steady = Steady()
    # Its queue takes connections and requests, and nobody ever answers.
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(4096)
        wait = f"{DEADLINE_SECONDS}s"
        world = http2_world(
            f'[timeouts]\nrequest_header = "{wait}"\nbody = "{wait}"\nidle = "{wait}"\n'
            'upstream_response = "60s"\n', more=f"""
  [[site.route]]
  path = "/steady"
  upstream = "{steady.origin}"

  [[site.route]]
  path = "/deaf"
  upstream = "127.0.0.1:{deaf.getsockname()[1]}"

  [[site.route]]
  path = "/page"
  respond = "200 {'x' * 8000}"
""")
        program = world.program
        root = tmp_path_factory.mktemp("slow") / "root.pem"
        root.write_text(authority.root_pem())
        crowd = None
        try:
            steady.start(world.https, root)
            time.sleep(0.3)
            steady.seen()
            before = program.rss_kb()
            crowd = Crowd(world.http, COUNT)
            crowd.run(DEADLINE_SECONDS * 0.4)
            opened = program.metric("gatehouse_connections_open") - 1
            held_kb = (program.rss_kb() - before) / len(crowd.open)
            crowd.run(within(DEADLINE_SECONDS + LINGER_SECONDS + 2))
            left = len(crowd.open)
            seen = steady.seen()
        finally:
            if crowd:
                crowd.close()
            steady.kill()
    times = sorted(seen["times"])
    p99 = times[math.ceil(len(times) * 0.99) - 1]
    fates = {kind: f"{len(t)} after {min(t):.1f} to {max(t):.1f} s"
             for kind, t in crowd.ended.items()}
    print(f"{opened:.0f} at once, {held_kb:.1f} KB each, p50 {times[len(times) // 2] * 1000:.1f},",
          f"p99 {p99 * 1000:.1f} ms of {len(times)}, ended: {fates}, {left} left")
    assert seen["errors"] == []
    assert left == 0, "every one of them was ended"
    assert opened > COUNT * 0.9, "they were all there at once"
    assert p99 < within(P99_SECONDS_MAX), f"p99 {p99 * 1000:.1f} ms"
    assert held_kb < EACH_KB_MAX
    for kind in ("head", "body", "reader"):
        assert program.metric(rf'slow_clients_total\{{kind="{kind}"') > 0
    until(lambda: program.metric("gatehouse_connections_open") == 0, "the last connections")
