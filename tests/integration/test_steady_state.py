"""What a request costs on a kept connection, counted rather than timed."""

import re
import signal
import socket
import subprocess

import pytest

from harness.limits import SLOW
from harness.program import Gatehouse
from harness.wait import until
from ports import free_port

pytestmark = pytest.mark.skipif(SLOW != 1, reason="a sanitizer brings memory and calls of its own")

FEW, MANY = 200, 2200
CALLS_MAX = 4.5


def allocations(folder, text, connect, requests):
    """How often a whole run under valgrind asked for memory."""
    folder.mkdir()
    program = Gatehouse(folder, text, wrapper=["valgrind", "--leak-check=no"])
    program.start(wait=False)
    until(program.healthy, "the program under valgrind", seconds=60)
    client = connect()
    for _ in range(requests):
        assert client.get().status == 200
    client.close()
    program.stop()
    found = re.findall(r"total heap usage: ([\d,]+) allocs", program.log())
    return int(found[-1].replace(",", ""))


def test_a_request_on_a_kept_connection_allocates_nothing(tmp_path, config, origin, connect):
    text = config.site(origin.address)
    counts = [allocations(tmp_path / str(n), text, connect, n) for n in (FEW, MANY)]
    each = (counts[1] - counts[0]) / (MANY - FEW)
    # What happens once in a while, such as a list that grows, is far below a tenth for each.
    assert each <= 0.1


NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "{body}"; }} }}
}}
"""


@pytest.fixture
def nginx(tmp_path):
    """The address of an origin that is faster than the proxy, so that the proxy is never idle."""
    port, path = free_port(), tmp_path / "nginx.conf"
    path.write_text(NGINX.format(folder=tmp_path, port=port, body="x" * 1024))
    process = subprocess.Popen(["nginx", "-e", tmp_path / "nginx.log", "-c", path])
    until(lambda: answers(port), "nginx")
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_request_takes_no_more_calls_to_the_kernel_than_it_must(gatehouse, config, nginx):
    program = gatehouse(config.site(nginx).replace("workers = 2", "workers = 1"))
    load = ["wrk", "-t1", "-c64", "-H", "Host: example.test"]
    url = f"https://127.0.0.1:{config.https}/"
    subprocess.run([*load, "-d1s", url], check=True, capture_output=True)
    trace = program.folder / "strace.txt"
    counter = subprocess.Popen(
        ["strace", "-c", "-f", "-o", trace, "-p", str(program.process.pid)],
        stderr=subprocess.PIPE, text=True)
    try:
        assert "attached" in counter.stderr.readline()
        before = program.metric("gatehouse_requests_total")
        subprocess.run([*load, "-d3s", url], check=True, capture_output=True)
        requests = program.metric("gatehouse_requests_total") - before
    finally:
        counter.send_signal(signal.SIGINT)
        counter.wait(20)
    calls = re.search(r"^\s*100\.00\s+\S+\s+(?:\S+\s+)?(\d+)\s+(?:\d+\s+)?total$",
                      trace.read_text(), re.M)
    assert requests > 500
    assert int(calls.group(1)) / requests <= CALLS_MAX
