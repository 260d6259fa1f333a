"""Starts what the bench measures and what loads it, each on its own CPU, on free loopback ports."""

import os
import pathlib
import re
import socket
import string
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tools"))
from ports import free_port  # noqa: E402

PROXY_CPU, LOAD_CPU = "0", "1"
START_SECONDS_MAX = 10


class Program:
    """One process with its children, started pinned and stopped at the end."""

    def __init__(self, name, cpu, command, folder, ports):
        self.name, self.ports = name, ports
        self.log = pathlib.Path(folder) / f"{name}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(["taskset", "-c", cpu] + command, stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)
        self.pid = self.process.pid
        self.wait_ready()

    def wait_ready(self):
        end = time.monotonic() + START_SECONDS_MAX
        waiting = set(self.ports)
        while waiting:
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise SystemExit(f"bench: {self.name} did not start:\n{self.log.read_text()}")
            for port in list(waiting):
                with socket.socket() as s:
                    if s.connect_ex(("127.0.0.1", port)) == 0:
                        waiting.discard(port)
            time.sleep(0.02)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Bench:
    """The certificate, the origin and the proxies, in one temporary folder."""

    def __init__(self, folder, gatehouse):
        self.folder, self.gatehouse = pathlib.Path(folder), gatehouse
        self.programs = []
        self.origin_port = free_port()
        self.make_files()

    def make_files(self):
        f = self.folder
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", f / "privkey.pem", "-out", f / "fullchain.pem", "-days", "30",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
            check=True, capture_output=True)
        both = (f / "fullchain.pem").read_text() + (f / "privkey.pem").read_text()
        (f / "both.pem").write_text(both)
        (f / "files").mkdir()
        for name, megabytes in (("1m", 1), ("10m", 10)):
            (f / "files" / name).write_bytes(os.urandom(1 << 20) * megabytes)
        # Workers that drop root must still read the files.
        f.chmod(0o755)

    def fill(self, template, **more):
        values = dict(folder=self.folder, files=self.folder / "files", kilobyte="x" * 1024,
                      origin_port=self.origin_port, **more)
        return string.Template((HERE / "peers" / template).read_text()).substitute(values)

    def start_origin(self):
        configuration = self.folder / "origin.conf"
        configuration.write_text(self.fill("origin.conf"))
        self.programs.append(Program("origin", LOAD_CPU, ["nginx", "-c", str(configuration)],
                                     self.folder, [self.origin_port]))

    def start_proxy(self, name):
        ports = dict(http_port=free_port(), https_port=free_port())
        kind, _, variant = name.partition("+")
        template = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg",
                    "gatehouse": "gatehouse.toml"}.get(kind)
        if not template:
            raise SystemExit(f"bench: no peer '{name}': use nginx or haproxy")
        configuration = self.folder / f"{name}-{template}"
        access = str(self.folder / "access.log") if variant == "log" else "off"
        configuration.write_text(self.fill(template, variant=variant or "plain", access=access,
                                           **ports))
        command = {"nginx": ["nginx", "-c", str(configuration)],
                   "haproxy": ["haproxy", "-db", "-f", str(configuration)],
                   "gatehouse": [self.gatehouse, "run", "--config", str(configuration)]}[kind]
        program = Program(name, PROXY_CPU, command, self.folder, list(ports.values()))
        program.http_port, program.https_port = ports["http_port"], ports["https_port"]
        self.programs.append(program)
        self.check_answer(program)
        return program

    def check_answer(self, program):
        """What is fast and wrong would win: every proxy must pass on the origin's bytes."""
        request = urllib.request.Request(f"http://127.0.0.1:{program.http_port}/1k",
                                         headers={"Host": "localhost"})
        try:
            body = urllib.request.urlopen(request, timeout=5).read()
        except urllib.error.HTTPError as error:
            body = error.read()
        if body != b"x" * 1024:
            raise SystemExit(f"bench: {program.name} does not pass on the origin's answer: {body}")

    def stop(self):
        for program in reversed(self.programs):
            program.stop()


def build_load_client():
    build = ROOT / "build" / "bench"
    subprocess.run(["cmake", "-S", HERE, "-B", build, "-G", "Ninja"], check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", build], check=True, stdout=subprocess.DEVNULL)
    return str(build / "bench_handshakes")


def wrk(url, connections, seconds):
    """Requests answered; refuses a run with errors."""
    out = subprocess.run(
        ["taskset", "-c", LOAD_CPU, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s",
         "--timeout", "10s", url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"bench: {url} was answered with errors:\n{out}")
    return int(re.search(r"(\d+) requests in", out).group(1))
