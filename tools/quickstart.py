"""What ./quickstart shows: a CA, an origin, Gatehouse, and the first HTTPS request.

Everything listens on free loopback ports, keeps its files in one temporary folder, and ends with
this program.
"""

import argparse
import http.client
import http.server
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from local_ca import LocalCa
from ports import free_port

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = ROOT / "examples" / "quickstart.toml"
ZONE = "quickstart.test"
START_SECONDS_MAX = 15


class Failure(Exception):
    """One sentence for the person at the terminal."""


class Origin(http.server.BaseHTTPRequestHandler):
    """The application, and beside it the `ask` endpoint that knows its customers' names."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/allowed":
            name = urllib.parse.parse_qs(url.query).get("domain", [""])[0]
            known = name == ZONE or name.endswith("." + ZONE)
            return self.answer(200 if known else 403, "")
        return self.answer(200, f"Hello from the origin: {self.headers.get('Host')} asked for "
                                f"{self.path} over {self.headers.get('X-Forwarded-Proto')}\n")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def start_origin():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def wait_healthy(program, admin, log):
    end = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < end:
        if program.poll() is not None:
            raise Failure(f"gatehouse ended at once:\n{log.read_text()}")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(2)
            try:
                sock.connect(str(admin))
                sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if sock.recv(4096).startswith(b"HTTP/1.1 200"):
                    return
            except OSError:
                pass
        time.sleep(0.01)
    raise Failure(f"gatehouse was not ready within {START_SECONDS_MAX} s:\n{log.read_text()}")


def first_request(name, port, root):
    """curl's answer and how long it took."""
    begun = time.monotonic()
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--fail-with-body", "--noproxy", "*", "--max-time",
         "30", "--cacert", str(root), "--resolve", f"{name}:{port}:127.0.0.1",
         f"https://{name}:{port}/"], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"curl: {done.stderr.strip()} {done.stdout.strip()}")
    return done.stdout, time.monotonic() - begun


def issuer_of(name, port, root):
    context = ssl.create_default_context(cafile=str(root))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        with context.wrap_socket(sock, server_hostname=name) as tls:
            certificate = tls.getpeercert()
    parts = {key: value for rdn in certificate["issuer"] for key, value in rdn}
    return parts.get("commonName", str(parts)), certificate["notAfter"]


class Demonstration:
    def __init__(self, program, folder):
        self.program, self.folder = program, pathlib.Path(folder)
        self.ports = {"http": free_port(), "https": free_port()}
        self.admin = self.folder / "admin.sock"
        self.log = self.folder / "gatehouse.log"
        self.root = self.folder / "root.pem"
        self.process = self.ca = None

    def step(self, what, action):
        print(f"{what:<44}", end="", flush=True)
        begun = time.monotonic()
        result = action()
        print(f"{time.monotonic() - begun:>6.2f} s", flush=True)
        return result

    def run(self):
        self.step("test CA (Pebble)", self.start_ca)
        self.origin = self.step("origin and ask endpoint", start_origin)
        self.step("gatehouse run", self.start_gatehouse)
        name = f"hello.{ZONE}"
        answer, seconds = self.step(
            f"first request to {name}",
            lambda: first_request(name, self.ports["https"], self.root))
        _, again = self.step("second request",
                             lambda: first_request(name, self.ports["https"], self.root))
        issuer, until = issuer_of(name, self.ports["https"], self.root)
        print(f"\n  answer   {answer.strip()}\n  issuer   {issuer}, valid until {until}\n"
              f"  ordered, verified and served within {seconds:.2f} s; "
              f"the next request took {again:.3f} s, curl's start included\n")

    def start_ca(self):
        self.ca = LocalCa(self.folder / "ca", self.ports["http"],
                          tls_port=self.ports["https"]).start()
        self.root.write_text(self.ca.root())

    def start_gatehouse(self):
        origin = self.origin.server_address[1]
        environment = {
            **os.environ,
            "QUICKSTART_HTTP_PORT": str(self.ports["http"]),
            "QUICKSTART_HTTPS_PORT": str(self.ports["https"]),
            "QUICKSTART_STORAGE": str(self.folder / "storage"),
            "QUICKSTART_ADMIN_SOCKET": str(self.admin),
            "QUICKSTART_CA_DIRECTORY": self.ca.directory,
            "QUICKSTART_CA_TRUST": str(self.ca.trust),
            "QUICKSTART_ASK": f"http://127.0.0.1:{origin}/allowed",
            "QUICKSTART_ORIGIN": f"127.0.0.1:{origin}",
        }
        with open(self.log, "w") as log:
            # A group of its own: Ctrl-C reaches this program, which then ends it in order.
            self.process = subprocess.Popen(
                [str(self.program), "run", "--config", str(CONFIG)], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, env=environment, start_new_session=True)
        wait_healthy(self.process, self.admin, self.log)

    def what_next(self):
        port = self.ports["https"]
        print(f"""It keeps running. In another terminal:

  curl --cacert {self.root} --resolve shop.{ZONE}:{port}:127.0.0.1 https://shop.{ZONE}:{port}/
      another name, another certificate, ordered while you wait
  curl --cacert {self.root} --resolve not-mine.test:{port}:127.0.0.1 https://not-mine.test:{port}/
      a name that the ask endpoint denies: refused, nothing ordered
  curl --unix-socket {self.admin} http://localhost/metrics
  curl --unix-socket {self.admin} http://localhost/api/certificates
  tail -f {self.log}

The configuration is examples/quickstart.toml. Ctrl-C ends all of it.""", flush=True)

    def wait(self):
        """Until Ctrl-C, SIGTERM, or the program's end."""
        while self.process.poll() is None:
            time.sleep(0.2)
        raise Failure(f"gatehouse ended:\n{self.log.read_text()[-2000:]}")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.ca:
            self.ca.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--check", action="store_true", help="end after the first request")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="gatehouse-quickstart-") as folder:
        demonstration = Demonstration(options.program.resolve(), folder)
        try:
            demonstration.run()
            if not options.check:
                demonstration.what_next()
                demonstration.wait()
        except KeyboardInterrupt:
            print()
        except (Failure, RuntimeError, OSError, http.client.HTTPException, ValueError) as failure:
            print(f"failed\nquickstart: {failure}", file=sys.stderr)
            if demonstration.log.exists():
                print(demonstration.log.read_text()[-2000:], file=sys.stderr)
            return 1
        finally:
            demonstration.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
