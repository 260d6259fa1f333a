"""Starts what the bench measures and what loads it, each on its own CPU, on free loopback ports."""

import json
import os
import pathlib
import re
import socket
import string
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tools"))
from ports import free_port  # noqa: E402

PROXY_CPU, LOAD_CPU = "0", "1"
START_SECONDS_MAX = 10
WEBSOCKET_BYTES = 128


class Program:
    """One process with its children, started pinned and stopped at the end."""

    def __init__(self, name, cpu, command, folder, ports, environment=None):
        self.name, self.ports = name, ports
        self.log = pathlib.Path(folder) / f"{name}-{ports[0]}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(["taskset", "-c", cpu] + command, stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL,
                                            env=os.environ | (environment or {}))
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

    def port(self, scheme):
        return self.https_port if scheme == "https" else self.http_port

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


# How each program is started, with its configuration in place of {}.
COMMANDS = {"nginx": ["nginx", "-c", "{}"], "haproxy": ["haproxy", "-db", "-f", "{}"],
            "h2o": ["h2o", "-c", "{}"], "nghttpx": ["nghttpx", "--conf={}"],
            "gatehouse": ["gatehouse", "run", "--config", "{}"]}
TEMPLATES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "h2o": "h2o.yaml",
             "nghttpx": "nghttpx.conf", "gatehouse": "gatehouse.toml"}
# A gRPC message: not compressed, 32 bytes. The same bytes as request and response.
GRPC_MESSAGE = b"\0\0\0\0\x20" + bytes(range(64, 96))
GRPC_FIELDS = ["-H", "te: trailers", "-H", "content-type: application/grpc"]


class Bench:
    """The certificate, the origins and the proxies, in one temporary folder."""

    def __init__(self, folder, gatehouse, before=None):
        self.folder, self.gatehouse, self.before = pathlib.Path(folder), gatehouse, before
        self.handshakes, self.origin, self.websocket = build_load_clients()
        self.programs, self.instances = [], 0
        self.origin_ports = {}
        self.bodies = {"1k": b"x" * 1024, "unary.grpc": GRPC_MESSAGE}
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
            self.bodies[name] = os.urandom(1 << 20) * megabytes
            (f / "files" / name).write_bytes(self.bodies[name])
        (f / "files" / "unary.grpc").write_bytes(GRPC_MESSAGE)
        (f / "mime.types").write_text("application/grpc grpc\n")
        (f / "openssl.cnf").write_text((HERE / "peers/openssl.cnf").read_text())
        # Workers that drop root must still read the files.
        f.chmod(0o755)

    def fill(self, template, origin, **more):
        """The template's text; of lines that end in "# only …", those that name the origin."""
        lines = []
        for line in (HERE / "peers" / template).read_text().splitlines():
            text, _, only = line.partition("# only ")
            if not only or origin in only.split():
                lines.append(text.rstrip() if only else line)
        return string.Template("\n".join(lines) + "\n").substitute(
            folder=self.folder, files=self.folder / "files", **more)

    def start_origin(self, origin):
        """"http1" (1 KB), "files" (HTTP/1.1, large ones), "grpc" (HTTP/2 without TLS, with
        trailers) or "websocket" (an echo)."""
        port = self.origin_ports[origin] = free_port()
        if origin == "http1":
            command = [self.origin, str(port)]
        elif origin == "files":
            configuration = self.folder / "origin.conf"
            configuration.write_text(self.fill("origin.conf", origin, origin_port=port))
            command = ["nginx", "-c", str(configuration)]
        elif origin == "grpc":
            command = ["nghttpd", "--no-tls", "--address=127.0.0.1", "--no-content-length",
                       f"--mime-types-file={self.folder}/mime.types", "-m", "1000",
                       "--trailer=grpc-status: 0", "-d", str(self.folder / "files"), str(port)]
        else:
            command = [self.websocket, "origin", str(port)]
        self.programs.append(Program(f"origin-{origin}", LOAD_CPU, command, self.folder, [port]))

    def start_proxy(self, name, origin):
        kind, _, variant = name.partition("+")
        program = self.gatehouse
        if kind == "before":
            kind, program = "gatehouse", self.before
        self.instances += 1
        ports = dict(http_port=free_port(), https_port=free_port())
        configuration = self.folder / f"{self.instances}-{TEMPLATES[kind]}"
        access = str(self.folder / "access.log") if variant == "log" else "off"
        configuration.write_text(self.fill(
            TEMPLATES[kind], origin, instance=self.instances, access=access,
            origin_port=self.origin_ports[origin], **ports))
        command = [part.format(configuration) for part in COMMANDS[kind]]
        if kind == "gatehouse":
            command[0] = program
        environment = {}
        if kind in ("h2o", "nghttpx"):
            environment["OPENSSL_CONF"] = str(self.folder / "openssl.cnf")
        proxy = Program(name, PROXY_CPU, command, self.folder, list(ports.values()), environment)
        proxy.origin, proxy.http_port, proxy.https_port = origin, *ports.values()
        self.programs.append(proxy)
        return proxy

    def check(self, program, version, path):
        """What is fast and wrong would win: every proxy must pass on the origin's bytes.

        `version` is "http", "https1", "https2", "grpc" or "websocket".
        """
        if version == "websocket":
            return websocket(self, program, 1, 1)
        scheme = "http" if version == "http" else "https"
        url = f"{scheme}://localhost:{program.port(scheme)}/{path}"
        command = ["curl", "-sv", "-k", "--max-time", "20", "-D", self.folder / "head",
                   "-o", self.folder / "body", "--resolve",
                   f"localhost:{program.port(scheme)}:127.0.0.1", url,
                   "--http2" if version in ("https2", "grpc") else "--http1.1"]
        if version == "grpc":
            command += ["--data-binary", f"@{self.folder}/files/{path}", *GRPC_FIELDS]
        curl = subprocess.run(command, capture_output=True, text=True, errors="replace")
        mistakes = [] if curl.returncode == 0 else [f"curl: {curl.returncode}"]
        head = (self.folder / "head").read_text()
        if not head.startswith("HTTP/2 200" if "--http2" in command else "HTTP/1.1 200"):
            mistakes.append(f"head: {head}")
        if not mistakes and (self.folder / "body").read_bytes() != self.bodies[path]:
            mistakes.append("another body")
        if version == "grpc":  # curl does not show trailers
            frames = subprocess.run(["nghttp", "-v", "-d", self.folder / "files" / path,
                                     *GRPC_FIELDS, url], capture_output=True, text=True).stdout
            if "grpc-status: 0" not in frames:
                mistakes.append(f"no trailer grpc-status:\n{frames}")
        if scheme == "https" and "using TLSv1.3 / TLS_AES_128_GCM_SHA256" not in curl.stderr:
            mistakes.append(f"another cipher:\n{curl.stderr}")
        if mistakes:
            raise SystemExit(f"bench: {program.name} does not pass on the origin's answer "
                             f"({version}, {path}): {'; '.join(mistakes)}")

    def stop(self):
        for program in reversed(self.programs):
            program.stop()


def build_load_clients():
    build = ROOT / "build" / "bench"
    subprocess.run(["cmake", "-S", HERE, "-B", build, "-G", "Ninja"], check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", build], check=True, stdout=subprocess.DEVNULL)
    return tuple(str(build / f"bench_{name}") for name in ("handshakes", "origin", "websocket"))


def load(*command):
    """Runs a load client on its CPU; its standard output."""
    done = subprocess.run(["taskset", "-c", LOAD_CPU, *map(str, command)], capture_output=True,
                          text=True)
    if done.returncode:
        raise SystemExit(f"bench: {command[0]}: {done.stdout}{done.stderr}")
    return done.stdout


def wrk(program, scheme, path, connections, seconds):
    """Requests answered; refuses a run with errors."""
    url = f"{scheme}://localhost:{program.port(scheme)}/{path}"
    out = load("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", url)
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"bench: {url} was answered with errors by {program.name}:\n{out}")
    return int(re.search(r"(\d+) requests in", out).group(1))


def h2load(program, path, connections, streams, seconds, *more):
    """Requests answered over HTTP/2 and the bytes of their bodies; refuses a run with errors."""
    out = load("h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", "-w30", "-W30",
               "--npn-list=h2", f"--connect-to=127.0.0.1:{program.https_port}", *more,
               f"https://localhost/{path}")
    done, failed, errored, timeout = map(int, re.search(
        r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", out).groups())
    if failed or errored or timeout or not done or "Application protocol: h2\n" not in out:
        raise SystemExit(f"bench: h2load of {path} had errors with {program.name}:\n{out}")
    return done, int(re.search(r"\((\d+)\) data", out).group(1))


def websocket(bench, program, connections, seconds):
    """Messages echoed; the client refuses any other byte."""
    out = load(bench.websocket, "load", "127.0.0.1", program.https_port, "localhost", "/",
               connections, seconds, WEBSOCKET_BYTES)
    return json.loads(out)["messages"]
