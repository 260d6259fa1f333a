"""What is measured, each scenario as one function: (bench, program, seconds) → a figure."""

import json
import subprocess
import time
from dataclasses import dataclass
from typing import Callable

import accounting
import programs

IDLE_WARM, IDLE_COUNT = 200, 2000


@dataclass
class Scenario:
    name: str
    title: str
    unit: str
    measure: Callable
    lower_is_better: bool = True
    syscalls: Callable | None = None  # (program) → (connections, URL) for the separate counted run
    subjects: tuple = ("gatehouse",)
    optional: bool = False


def cpu_of(program, load):
    """CPU seconds of the proxy while `load()` runs, and what it returned."""
    before = accounting.cpu_seconds(program.pid)
    result = load()
    return accounting.cpu_seconds(program.pid) - before, result


def url_of(program, scheme, path):
    port = program.https_port if scheme == "https" else program.http_port
    return f"{scheme}://localhost:{port}/{path}"


def small(scheme, connections):
    def measure(_, program, seconds):
        cpu, requests = cpu_of(program, lambda: programs.wrk(url_of(program, scheme, "1k"),
                                                             connections, seconds))
        return cpu / requests * 1e6
    return measure


def bulk(megabytes, connections):
    def measure(_, program, seconds):
        url = url_of(program, "https", f"{megabytes}m")
        cpu, requests = cpu_of(program, lambda: programs.wrk(url, connections, seconds))
        return requests * megabytes / cpu
    return measure


def handshakes(mode):
    def measure(bench, program, seconds):
        command = ["taskset", "-c", programs.LOAD_CPU, bench.load_client, mode, "127.0.0.1",
                   str(program.https_port), "localhost", "/1k", "16", str(seconds)]

        def load():
            return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        cpu, counts = cpu_of(program, load)
        resumed_as_asked = counts["resumed"] == (counts["requests"] if mode == "resumed" else 0)
        if counts["failed"] or not counts["requests"] or not resumed_as_asked:
            raise SystemExit(f"bench: {mode} handshakes with {program.name}: {counts}")
        return cpu / counts["requests"] * 1e6
    return measure


def idle_memory(bench, program, _):
    """KB that one more idle connection adds, after a request on it: the slope past a warm-up.

    In a process of its own each time: one that has served load before has memory to spare.
    """
    fresh = bench.start_proxy(f"{program.name}+idle")
    command = ["taskset", "-c", programs.LOAD_CPU, bench.load_client, "idle", "127.0.0.1",
               str(fresh.https_port), "localhost", "/1k"]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True) as client:
            before = hold_more(client, fresh, IDLE_WARM)
            after = hold_more(client, fresh, IDLE_COUNT)
            client.stdin.close()
    finally:
        fresh.stop()
    return (after - before) / IDLE_COUNT


def hold_more(client, program, count):
    """The proxy's memory with `count` more connections open and idle."""
    client.stdin.write(f"{count}\n")
    client.stdin.flush()
    if client.stdout.readline() != "ready\n":
        raise SystemExit(f"bench: {program.name} did not keep {count} idle connections")
    settle(program)
    return accounting.memory_kb(program.pid)


def settle(program):
    """Until the proxy has been idle for 0.2 s."""
    last, quiet = accounting.cpu_seconds(program.pid), 0
    for _ in range(100):
        time.sleep(0.05)
        now = accounting.cpu_seconds(program.pid)
        quiet = quiet + 1 if now - last < 0.002 else 0
        last = now
        if quiet >= 4:
            return


SCENARIOS = [
    Scenario("https1-1k", "HTTPS/1.1, 1 KB, 64 connections", "µs CPU", small("https", 64),
             syscalls=lambda p: (64, url_of(p, "https", "1k"))),
    Scenario("https1-1k-single", "HTTPS/1.1, 1 KB, one connection", "µs CPU", small("https", 1),
             syscalls=lambda p: (1, url_of(p, "https", "1k"))),
    Scenario("http1-1k", "HTTP/1.1 plain, 1 KB, 64 connections", "µs CPU", small("http", 64),
             syscalls=lambda p: (64, url_of(p, "http", "1k"))),
    Scenario("https1-1m", "HTTPS/1.1, 1 MB, 16 connections", "MB per CPU-second", bulk(1, 16),
             lower_is_better=False),
    Scenario("https1-10m", "HTTPS/1.1, 10 MB, 4 connections", "MB per CPU-second", bulk(10, 4),
             lower_is_better=False),
    Scenario("handshake-full", "connection with a full handshake and one request", "µs CPU",
             handshakes("full")),
    Scenario("handshake-resumed", "connection with a resumed handshake and one request", "µs CPU",
             handshakes("resumed")),
    Scenario("idle-memory", "idle TLS connection", "KB", idle_memory),
    Scenario("access-log", "HTTPS/1.1, 1 KB, 64 connections, JSON access log on", "µs CPU",
             small("https", 64), subjects=("gatehouse+log", "gatehouse"), optional=True),
]
