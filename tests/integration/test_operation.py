"""Logs, metrics, reload, stop, privileges: what an operator sees."""

import json
import os
import pathlib
import re
import shutil
import signal
import stat
import threading
import time

import pytest
from harness.client import Client, request
from harness.limits import within
from harness.origin import answer
from harness.wait import until


def test_the_json_access_log_tells_each_request(proxy, origin, connect):
    origin.respond = lambda r: answer(b"12345", status="201 Created")
    connect().get("/log?me=1", method="POST", body=b"abc",
                  fields=[("User-Agent", 'te"st'), ("Referer", "http://a.test/")])
    line = until(proxy.access_lines, "an access log line")[0]
    record = json.loads(line)
    assert record["method"] == "POST" and record["target"] == "/log?me=1"
    assert record["status"] == 201 and record["host"] == "example.test"
    assert record["client"] == "127.0.0.1" and record["scheme"] == connect.scheme
    assert record["protocol"] == "HTTP/1.1" and record["user_agent"] == 'te"st'
    assert record["bytes_in"] == 3 and record["bytes_out"] == 5
    assert record["upstream"] == origin.address and record["duration_us"] >= 0
    assert ("tls" in record) == (connect.scheme == "https")


def test_the_common_access_log(gatehouse, config, origin, connect):
    program = gatehouse(config.site(origin.address, log='access_format = "common"'))
    connect().get("/x")
    line = until(program.access_lines, "an access log line")[0]
    assert re.fullmatch(r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] '
                        r'"GET /x HTTP/1\.1" 200 5.*', line), line


def test_a_client_that_goes_away_is_499_in_the_log(proxy, origin, connect):
    origin.script = lambda connection: (connection.request(), connection.closed_by_peer(10))
    client = connect()
    client.send(request())
    origin.wait_requests(1)
    client.close()
    line = until(proxy.access_lines, "an access log line")[0]
    assert json.loads(line)["status"] == 499


def test_a_refusal_is_logged_with_its_reason(proxy, connect):
    client = connect()
    client.send("GET / HTTP/1.1\r\nHost: example.test\r\nX-A : b\r\n\r\n")
    assert client.response().status == 400
    record = json.loads(until(proxy.access_lines, "an access log line")[0])
    assert record["status"] == 400 and record["error"]


def test_the_access_log_is_reopened_after_a_rotation(proxy, connect):
    connect().get("/one")
    until(proxy.access_lines, "the first line")
    proxy.access_path.rename(proxy.folder / "access.log.1")
    proxy.reload()
    connect().get("/two")
    lines = until(proxy.access_lines, "a line in the new file")
    assert json.loads(lines[0])["target"] == "/two"


def test_a_line_cannot_be_forged(proxy, origin, connect):
    connect().get("/a%0a%22", fields=[("User-Agent", "a\\\x22,\"status\":1")])
    line = until(proxy.access_lines, "an access log line")
    assert len(line) == 1 and json.loads(line[0])["status"] == 200


def test_metrics_count_from_the_start(proxy, connect):
    before = proxy.metrics()
    assert any(k.startswith("gatehouse_") for k in before)
    client = connect()
    for _ in range(5):
        client.get()
    client.get(host="unknown.invalid")
    until(lambda: proxy.metric(r"requests_total|gatehouse_requests\b") >= 6, "six requests")
    assert proxy.metric("request_duration_seconds_count") >= 5
    assert proxy.metric("connections_open") == 1
    client.close()
    until(lambda: proxy.metric("connections_open") == 0, "no open connection")


def test_metrics_are_prometheus_text(proxy):
    status, text = proxy.admin("/metrics")
    assert status == 200
    typed = set(re.findall(r"^# TYPE (\S+) (?:counter|gauge|histogram)$", text, re.M))
    for line in text.splitlines():
        if not line.startswith("#"):
            match = re.fullmatch(r"([a-z_:]+[a-z0-9_]*)(\{[^}]*\})? -?[0-9.e+]+", line)
            assert match, line
            family = re.sub(r"_(bucket|sum|count)$", "", match.group(1))
            assert family in typed or match.group(1) in typed, line


def test_the_admin_socket_is_private(proxy):
    assert stat.S_IMODE(os.stat(proxy.admin_path).st_mode) == 0o600
    assert proxy.admin("/healthz")[0] == 200
    assert proxy.admin("/nothing")[0] == 404


def test_sigterm_drains(gatehouse, config, origin, connect):
    release = threading.Event()

    def script(connection):
        while connection.request() is not None:
            release.wait(10)
            connection.send(answer(b"at last"))
    origin.script = script
    program = gatehouse(config.site(origin.address, server='grace = "10s"'))
    idle, busy = connect(), connect()
    busy.send(request())
    origin.wait_requests(1)
    program.process.send_signal(signal.SIGTERM)
    assert idle.closed(), "an idle connection ends at once"
    with pytest.raises(OSError):
        until(lambda: Client(config.http).close(), "never", 5)
    release.set()
    response = busy.response()
    assert response.body == b"at last" and response.value("connection") == "close"
    assert program.process.wait(within(10)) == 0


def test_grace_bounds_the_drain(gatehouse, config, origin, connect):
    origin.script = lambda connection: (connection.request(), connection.closed_by_peer(30))
    program = gatehouse(config.site(origin.address, server='grace = "500ms"'))
    client = connect()
    client.send(request())
    origin.wait_requests(1)
    begun = time.monotonic()
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(within(10)) == 0
    assert 0.3 < time.monotonic() - begun < within(5)


def test_a_reload_switches_and_keeps_connections(gatehouse, config, origins, connect):
    one, two = origins(), origins()
    one.respond, two.respond = lambda r: answer(b"one"), lambda r: answer(b"two")
    program = gatehouse(config.site(one.address))
    client = connect()
    assert client.get().body == b"one"
    program.reload(config.site(two.address))
    assert client.get().body == b"two", "the kept connection serves the new configuration"
    assert connect().get().body == b"two"


def test_a_request_keeps_the_configuration_it_began_with(gatehouse, config, origins, connect):
    release = threading.Event()
    one, two = origins(), origins()

    def script(connection):
        connection.request()
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nbef")
        release.wait(10)
        connection.send("ore")
    one.script = script
    program = gatehouse(config.site(one.address))
    client = connect()
    client.send(request())
    one.wait_requests(1)
    program.reload(config.site(two.address))
    release.set()
    assert client.response().body == b"before"


def test_a_reload_with_a_mistake_changes_nothing_and_says_why(proxy, origin, connect):
    client = connect()
    assert client.get().status == 200
    good = proxy.config.read_text()
    proxy.reload(good.replace("upstream =", "upsteam ="))
    log = until(lambda: "upsteam" in proxy.log() and proxy.log(), "the mistake in the log")
    assert "did you mean 'upstream'" in log and "gatehouse.toml:" in log
    assert client.get().status == 200 and connect().get().status == 200
    proxy.reload(good)
    assert connect().get().status == 200


def test_a_reload_to_a_port_in_use_changes_nothing(gatehouse, config, origin, connect):
    import socket
    program = gatehouse(config.site(origin.address))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        program.reload(config.site(origin.address,
                                   http=[f"127.0.0.1:{config.http}", f"127.0.0.1:{port}"]))
        assert str(port) in program.log()
    assert connect().get().status == 200


def test_a_reload_opens_and_closes_listeners(gatehouse, config, origin, connect):
    from ports import free_port
    program, extra = gatehouse(config.site(origin.address)), free_port()
    kept = connect()
    assert kept.get().status == 200
    program.reload(config.site(origin.address,
                               http=[f"127.0.0.1:{config.http}", f"127.0.0.1:{extra}"]))
    with Client(extra) as client:
        assert client.get().status == 200
    program.reload(config.site(origin.address))
    until(lambda: not reachable(extra), "the listener to close")
    assert kept.get().status == 200


def reachable(port):
    try:
        Client(port, timeout=2).close()
        return True
    except OSError:
        return False


def test_twenty_reloads_under_load_fail_no_request(gatehouse, config, origins, tls):
    one, two = origins(), origins()
    texts = [config.site(one.address), config.site(two.address)]
    program = gatehouse(texts[0])
    ended, failures, counts = threading.Event(), [], [0, 0]

    def load(kept, port, context):
        client = None
        while not ended.is_set():
            try:
                if client is None:
                    client = Client(port, tls=context, name="example.test")
                if client.get().status != 200:
                    failures.append("status")
                counts[kept] += 1
            except Exception as failure:  # noqa: BLE001
                failures.append(repr(failure))
                client = None
                continue
            if not kept:
                client.close()
                client = None
    threads = [threading.Thread(target=load, args=(kept, port, context))
               for kept in (0, 1) for port, context in ((config.http, None), (config.https, tls))]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    for i in range(20):
        program.reload(texts[(i + 1) % 2])
        # Spread over the 12 seconds.
        time.sleep(max(0, begun + 0.6 * (i + 1) - time.monotonic()))
    ended.set()
    for thread in threads:
        thread.join()
    assert failures == [], failures[:5]
    assert min(counts) > 50 and one.requests and two.requests


@pytest.mark.skipif(os.getuid() != 0, reason="dropping privileges needs root")
def test_privileges_are_dropped_after_binding(gatehouse, config, origin, connect, tmp_path):
    for folder in [tmp_path, *tmp_path.parents]:
        if folder == pathlib.Path("/tmp"):
            break
        folder.chmod(0o755)
    folder = tmp_path / "owned"
    folder.mkdir()
    shutil.chown(folder, "nobody")  # the access log is opened, and reopened, by that user
    program = gatehouse(config.site(origin.address, server='user = "nobody"'), folder=folder)
    assert connect().get().status == 200
    status = pathlib.Path(f"/proc/{program.process.pid}/status").read_text()
    uids = re.search(r"^Uid:\s+(.*)$", status, re.M).group(1).split()
    assert "0" not in uids, status
    for task in pathlib.Path(f"/proc/{program.process.pid}/task").iterdir():
        assert "0" not in re.search(r"^Uid:\s+(.*)$", (task / "status").read_text(),
                                    re.M).group(1).split()
    effective = re.search(r"^CapEff:\s+(\w+)$", status, re.M).group(1)
    # Nothing but, at most, binding low ports (bit 10).
    assert int(effective, 16) & ~(1 << 10) == 0
    program.reload()
    assert connect().get().status == 200


def test_logs_never_hold_a_secret(proxy, connect, site_files):
    connect().get(fields=[("Authorization", "Bearer sesame-open"), ("Cookie", "id=sesame-open")])
    until(proxy.access_lines, "an access log line")
    assert "sesame-open" not in proxy.log() + "".join(proxy.access_lines())
    assert "PRIVATE KEY" not in proxy.log()
