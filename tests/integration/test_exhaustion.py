"""When descriptors run out, and when an origin fails: bounded, told, and over by itself."""

import pathlib
import re
import select
import socket
import time

import pytest
from harness.client import Client, request
from harness.limits import SLOW
from harness.origin import answer
from harness.wait import until

DESCRIPTORS_MAX = 256
CLIENTS = 1000
STARVED_SECONDS = 2
CPU_SHARE_MAX = 0.05
RECOVERY_SECONDS = 5


def cpu_seconds(program):
    fields = pathlib.Path(f"/proc/{program.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def starved(program):
    """The share of one CPU that the program takes while nothing happens."""
    before, begun = cpu_seconds(program), time.monotonic()
    time.sleep(STARVED_SECONDS)
    return (cpu_seconds(program) - before) / (time.monotonic() - begun)


def lines_a_second(program, words):
    """The most lines with these words that the log has of one second; two that are a second apart
    may be stamped with the same one."""
    stamps = [line[:19] for line in program.log().splitlines() if re.search(words, line)]
    return max((stamps.count(s) for s in stamps), default=0)


def crowd(port, count):
    socks = [socket.socket() for _ in range(count)]
    for sock in socks:
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
    return socks


def unaccepted(port):
    """Connections that wait in the queues of those who listen there."""
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[2], 16) for row in rows
               if row[3] == "0A" and row[1].endswith(f":{port:04X}"))


def leave(socks):
    for sock in socks:
        sock.close()


@pytest.fixture
def narrow(gatehouse, config):
    """A program with few descriptors: narrow(upstream)."""
    def start(upstream):
        return gatehouse(config.site(upstream), wrapper=(
            "prlimit", f"--nofile={DESCRIPTORS_MAX}:{DESCRIPTORS_MAX}"))
    return start


def test_a_crowd_past_the_descriptors_is_held_off_and_leaves_no_trace(narrow, config, origin):
    program = narrow(origin.address)
    with Client(config.http) as early:
        assert early.get().status == 200
        before = program.descriptors()
        socks = crowd(config.http, CLIENTS)
        until(lambda: program.metric("gatehouse_accept_paused_total") > 0, "accepting to pause")
        share = starved(program)
        print(f"{share * 100:.1f} % of a CPU while starved")
        assert share < CPU_SHARE_MAX * SLOW
        assert program.descriptors() <= DESCRIPTORS_MAX * 3 // 4 + 16, "the rest is kept"
        assert early.get(fields=[("Connection", "close")]).status == 200
        assert 1 <= lines_a_second(program, "cannot accept") <= 2
        leave(socks)
        begun = time.monotonic()
        with Client(config.http, timeout=RECOVERY_SECONDS) as late:
            assert late.get().status == 200
        until(lambda: program.descriptors() <= before + 2, "descriptors to be freed",
              RECOVERY_SECONDS)
        until(lambda: unaccepted(config.http) == 0, "the queues to be empty")
        until(lambda: program.descriptors() <= before + 2, "the last of them to end")
        print(f"recovered in {time.monotonic() - begun:.2f} s")
    paused = program.metric("gatehouse_accept_paused_total")
    for _ in range(20):
        with Client(config.http) as client:
            assert client.get().status == 200
    assert program.metric("gatehouse_accept_paused_total") == paused


def test_without_descriptors_for_origins_requests_are_503_and_sent_nowhere_else(narrow, config):
    """The origin's queue takes connections and nobody answers; each request holds one."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1024)
        program = narrow(f"127.0.0.1:{silent.getsockname()[1]}")
        before = program.descriptors()
        # Fewer than pause accepting by themselves, two descriptors for each are too many.
        clients = [Client(config.http) for _ in range((DESCRIPTORS_MAX - before) * 5 // 8)]
        until(lambda: program.metric("connections_open") == len(clients), "all to be accepted")
        for client in clients:
            client.send(request())
        until(lambda: program.metric(r'gatehouse_responses_total\{class="5xx"') >= 10, "refusals")
        share = starved(program)
        print(f"{share * 100:.1f} % of a CPU while starved")
        assert share < CPU_SHARE_MAX * SLOW
        answered, _, _ = select.select([c.sock for c in clients], [], [], 0)
        assert 10 <= len(answered) < len(clients), "the others still wait for their origin"
        refused = next(c for c in clients if c.sock in answered).response()
        assert refused.status == 503 and refused.value("retry-after")
        assert program.metric("gatehouse_upstream_retries_total") == 0
        failures = program.metric("gatehouse_upstream_connect_failures_total")
        assert failures == len(answered), "each was tried once"
        assert 1 <= lines_a_second(program, "cannot connect .* Too many open files") <= 2
        for client in clients:
            client.close()
        until(lambda: program.descriptors() <= before + 2, "descriptors to be freed",
              RECOVERY_SECONDS)
        with Client(config.http) as client:
            client.send(request())
            accepted, _ = silent.accept()
            with accepted:
                until(lambda: program.metric("gatehouse_requests_active") >= 1, "the request")


# ---- Retries

BUDGET, BURST = 0.2, 10


@pytest.mark.parametrize("how", ["reset", "close", "refuse the first"])
@pytest.mark.parametrize("kept", [True, False])
def test_an_origin_that_fails_every_second_request_is_not_beaten(gatehouse, config, origin, how,
                                                                 kept):
    count = 300
    # Two names of one server: a further attempt goes to another than the first.
    gatehouse(config.site("app").replace("workers = 2", "workers = 1")
              + f'\n[upstream.app]\nservers = ["{origin.address}", "localhost:{origin.port}"]\n')

    def script(connection):
        while (seen := connection.request()) is not None:
            fails = len(origin.requests) % 2 == (1 if how == "refuse the first" else 0)
            if fails:
                return connection.reset() if how != "close" else None
            connection.send(answer(seen.target, fields=() if kept else [("Connection", "close")]))
            if not kept:
                return
    origin.script = script
    with Client(config.http) as client:
        statuses = [client.get(f"/{i}").status for i in range(count)]
    assert set(statuses) <= {200, 502}
    sent = len(origin.requests)
    print(f"{sent / count:.2f} requests at the origin for each of {count}")
    assert sent <= count * (1 + BUDGET) + BURST
    assert sent - count >= BURST, "retries that the budget allows are made"


def test_nothing_is_retried_once_a_byte_of_the_answer_has_come(gatehouse, config, origin):
    gatehouse(config.site(origin.address))

    def script(connection):
        connection.request()
        connection.send(["H", "HTTP/1.1 100 Continue\r\n\r\n",
                         "HTTP/1.1 200 OK\r\n"][len(origin.requests) % 3])
        connection.reset()
    origin.script = script
    with Client(config.http) as client:
        assert [client.get(f"/{i}").status for i in range(6)] == [502] * 6
    assert [r.target for r in origin.requests] == [f"/{i}" for i in range(6)]


# ---- Connections of one client, and of all

def test_the_limits_of_connections_are_counted_and_give_place_again(gatehouse, config, origin):
    program = gatehouse(config.site(
        origin.address, sections="[limits]\nconnections_per_client = 3\nconnections = 5"))

    def served(source):
        try:
            with Client(config.http, source=source) as client:
                return client.get().status == 200
        except Exception:  # noqa: BLE001  closed before or after the request
            return False
    held = [Client(config.http, source="127.0.0.2") for _ in range(3)]
    assert all(c.get().status == 200 for c in held)
    assert not served("127.0.0.2") and served("127.0.0.3"), "one client's limit is its own"
    until(lambda: program.metric("connections_open") == len(held), "place after that one")
    others = [Client(config.http, source=f"127.0.0.{n}") for n in (3, 4)]
    assert all(c.get().status == 200 for c in others)
    assert not served("127.0.0.5"), "five are all"
    assert program.metric("gatehouse_connections_refused_total") == 2
    assert all(c.get().status == 200 for c in [*held, *others]), "nobody was pushed out"
    held.pop().close()
    until(lambda: served("127.0.0.5"), "place for another")
    until(lambda: served("127.0.0.2"), "place for the first client")
    for client in [*held, *others]:
        client.close()
