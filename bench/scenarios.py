"""What is measured, each scenario as one function: (bench, program, seconds) → a figure."""

import json
import subprocess
import time
from dataclasses import dataclass
from typing import Callable

import accounting
import programs

IDLE_WARM, IDLE_COUNT = 200, 2000


# Those that cannot serve a scenario are not in its `peers`.
PEERS = ("nginx", "haproxy", "h2o", "nghttpx")


@dataclass
class Scenario:
    name: str
    title: str
    unit: str
    measure: Callable
    checks: tuple                     # of (version, path): what is verified once beforehand
    lower_is_better: bool = True
    syscalls: Callable | None = None  # (bench, program, seconds) → requests, for a counted run
    subjects: tuple = ("gatehouse",)
    peers: tuple = PEERS
    origin: str = "http1"
    optional: bool = False


def cpu_of(program, load):
    """CPU seconds of the proxy while `load()` runs, and what it returned."""
    before = accounting.cpu_seconds(program.pid)
    result = load()
    return accounting.cpu_seconds(program.pid) - before, result


def each(name, title, load, checks, **more):
    """A scenario of CPU time a request: `load(bench, program, seconds)` returns their number."""
    def measure(bench, program, seconds):
        cpu, count = cpu_of(program, lambda: load(bench, program, seconds))
        return cpu / count * 1e6
    return Scenario(name, title, "µs CPU", measure, checks, **({"syscalls": load} | more))


def small(scheme, connections):
    return lambda _, program, seconds: programs.wrk(program, scheme, "1k", connections, seconds)


def small_http2(connections, streams):
    return lambda _, program, seconds: programs.h2load(program, "1k", connections, streams,
                                                       seconds)[0]


def grpc(connections, streams):
    def load(bench, program, seconds):
        return programs.h2load(program, "unary.grpc", connections, streams, seconds, "-d",
                               bench.folder / "files/unary.grpc", *programs.GRPC_FIELDS)[0]
    return load


def echoes(connections):
    return lambda bench, program, seconds: programs.websocket(bench, program, connections, seconds)


def bulk(megabytes, connections):
    def measure(_, program, seconds):
        cpu, requests = cpu_of(program, lambda: programs.wrk(program, "https", f"{megabytes}m",
                                                             connections, seconds))
        return requests * megabytes / cpu
    return measure


def bulk_http2(megabytes, connections, streams):
    def measure(_, program, seconds):
        cpu, (_, size) = cpu_of(program, lambda: programs.h2load(
            program, f"{megabytes}m", connections, streams, seconds))
        return size / (1 << 20) / cpu
    return measure


def handshakes(mode):
    def load(bench, program, seconds):
        counts = json.loads(programs.load(bench.handshakes, mode, "127.0.0.1", program.https_port,
                                          "localhost", "/1k", 16, seconds))
        resumed_as_asked = counts["resumed"] == (counts["requests"] if mode == "resumed" else 0)
        if counts["failed"] or not counts["requests"] or not resumed_as_asked:
            raise SystemExit(f"bench: {mode} handshakes with {program.name}: {counts}")
        return counts["requests"]
    return load


def idle_memory(mode):
    """KB that one more idle connection adds, after a request on it: the slope past a warm-up.

    In a process of its own each time: one that has served load before has memory to spare.
    """
    def measure(bench, program, _):
        fresh = bench.start_proxy(program.name, program.origin)
        command = ["taskset", "-c", programs.LOAD_CPU, bench.handshakes, mode, "127.0.0.1",
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
    return measure


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


HTTP, HTTP1, HTTP2 = (("http", "1k"),), (("https1", "1k"),), (("https2", "1k"),)

SCENARIOS = [
    each("https1-1k", "HTTPS/1.1, 1 KB, 64 connections", small("https", 64), HTTP1),
    each("https1-1k-single", "HTTPS/1.1, 1 KB, one connection", small("https", 1), HTTP1),
    each("http1-1k", "HTTP/1.1 plain, 1 KB, 64 connections", small("http", 64), HTTP),
    each("h2-1k-16x32", "HTTP/2, 1 KB, 16 connections of 32 streams", small_http2(16, 32), HTTP2),
    each("h2-1k-64x10", "HTTP/2, 1 KB, 64 connections of 10 streams", small_http2(64, 10), HTTP2),
    each("h2-1k-64x1", "HTTP/2, 1 KB, 64 connections of one stream", small_http2(64, 1), HTTP2),
    each("grpc", "gRPC, unary, 37 B each way, 16 connections of 32 streams", grpc(16, 32),
         (("grpc", "unary.grpc"),), origin="grpc", peers=("nginx", "haproxy", "nghttpx")),
    each("websocket", "WebSocket over HTTPS/1.1, 128 B and its echo, 64 connections", echoes(64),
         (("websocket", ""),), origin="websocket"),
    Scenario("https1-1m", "HTTPS/1.1, 1 MB, 16 connections", "MB per CPU-second", bulk(1, 16),
             (("https1", "1m"),), lower_is_better=False, origin="files"),
    Scenario("https1-10m", "HTTPS/1.1, 10 MB, 4 connections", "MB per CPU-second", bulk(10, 4),
             (("https1", "10m"),), lower_is_better=False, origin="files"),
    Scenario("h2-1m", "HTTP/2, 1 MB, 16 connections", "MB per CPU-second", bulk_http2(1, 16, 1),
             (("https2", "1m"),), lower_is_better=False, origin="files"),
    Scenario("h2-10m", "HTTP/2, 10 MB, 4 connections", "MB per CPU-second", bulk_http2(10, 4, 1),
             (("https2", "10m"),), lower_is_better=False, origin="files"),
    each("handshake-full", "connection with a full handshake and one request", handshakes("full"),
         HTTP1, syscalls=None),
    each("handshake-resumed", "connection with a resumed handshake and one request",
         handshakes("resumed"), HTTP1, syscalls=None),
    Scenario("idle-memory", "idle TLS connection", "KB", idle_memory("idle"), HTTP1),
    Scenario("idle-memory-h2", "idle HTTP/2 connection", "KB", idle_memory("idle-http2"), HTTP2),
    each("access-log", "HTTPS/1.1, 1 KB, 64 connections, JSON access log on", small("https", 64),
         HTTP1, subjects=("gatehouse+log", "gatehouse"), optional=True, syscalls=None),
]
