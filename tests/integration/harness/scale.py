"""How a program with many certificates in its storage starts, serves and rests."""

import os
import socket
import ssl
import statistics
import subprocess
import sys
import time

from harness.client import PausedHandshake, trusting
from harness.stock import DAY, Stock

PLACEHOLDER = "r0000000.closed-gate.test"
# Read once by whoever asks for memory; the rest of it is the program's business.
MEGABYTE_KB = 1024


def names_of(count):
    """Of many registered domains, one below each other domain's label."""
    return [f"n{i:06d}.scale-{i % 997}.test" for i in range(count)]


def on_demand_sites(upstream):
    # The gate is closed for whatever is not stored: nothing under these labels is.
    return (f'[on_demand]\nallow = ["*.nobody-has-this.test"]\n[[site]]\nhosts = ["*"]\n'
            f'certificates = "on_demand"\nupstream = "{upstream}"\n')


def standing_sites(upstream, names):
    hosts = ",\n".join(f'"{name}"' for name in names)
    return f'[[site]]\nhosts = [{hosts}]\nupstream = "{upstream}"\n'


def fill(folder, names, on_demand, age=10 * DAY):
    stock = Stock(folder)
    for name in names:
        stock.add(name, age=age, on_demand=on_demand)
    return stock


class Measure:
    """Looks at a running program through its HTTPS port."""

    def __init__(self, program, port, root):
        self.program, self.port = program, port
        self.tls = trusting(root)

    def handshake(self, name):
        """Seconds for a connection and a whole, verified handshake."""
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.port), 10) as plain:
            with self.tls.wrap_socket(plain, server_hostname=name):
                return time.monotonic() - begun

    def first_handshake(self, name, begun):
        """Seconds from `begun` until the first handshake succeeds."""
        while True:
            try:
                self.handshake(name)
                return time.monotonic() - begun
            except OSError:
                assert self.program.process.poll() is None, self.program.log()
                assert time.monotonic() - begun < 60, self.program.log()
                time.sleep(0.002)

    def handshakes(self, names):
        return [self.handshake(name) for name in names]

    def cold_cost(self, names):
        """Seconds that a first handshake takes more than a second one, at the median."""
        self.handshakes(names[:3])
        cold = self.handshakes(names)
        return statistics.median(cold) - statistics.median(self.handshakes(names))

    def indexed(self):
        """Rows of the index on disk."""
        folder = self.program.folder / "storage" / "index"
        texts = [path.read_text() for path in folder.iterdir()] if folder.exists() else []
        return sum(text.count("\n") - 2 for text in texts)

    def processor_seconds(self):
        fields = open(f"/proc/{self.program.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def idle_share(self, seconds):
        """The part of one processor that the program takes with nobody there."""
        begun, before = time.monotonic(), self.processor_seconds()
        time.sleep(seconds)
        return (self.processor_seconds() - before) / (time.monotonic() - begun)

    def rss_mb(self):
        return self.program.rss_kb() / MEGABYTE_KB

    def answer(self, name):
        """Seconds from the ClientHello to the arrival of the program's answer, and then the rest
        of the handshake: nearly the program's time alone."""
        handshake = PausedHandshake(self.port, name, self.tls)
        handshake.take()
        handshake.finish()
        handshake.close()
        return handshake.first_byte_at - handshake.sent_at

    def answers(self, names):
        return [self.answer(name) for name in names]

    def flooded(self, count, names):
        """(alerts, seconds of answers to `names` meanwhile). The flood is another process, and one
        that leaves the processors to the program and to this one."""
        flood = subprocess.Popen(
            ["nice", "-n", "10", sys.executable, "-m", "harness.scale", str(self.port), str(count)],
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        assert flood.stdout.readline() == "ready\n"
        times = []
        while flood.poll() is None:
            times += self.answers(names)
        return int(flood.stdout.read()), times

    def orders(self):
        return self.program.metric("certificate_orders_total")


def client_hello(name):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def refuse(port, count, rate=4000):
    """Handshakes for `count` random names that may have no certificate, at most `rate` a second.
    Returns how many were answered with an alert."""
    hello = client_hello(PLACEHOLDER)
    refused, begun = 0, time.monotonic()
    for i in range(count):
        name = f"r{(i * 7919) % 10_000_000:07d}" + PLACEHOLDER[8:]
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(hello.replace(PLACEHOLDER.encode(), name.encode()))
            refused += client.recv(16)[:1] == b"\x15"
        ahead = i / rate - (time.monotonic() - begun)
        if ahead > 0.001:
            time.sleep(ahead)
    return refused


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


if __name__ == "__main__":
    print("ready", flush=True)
    print(refuse(int(sys.argv[1]), int(sys.argv[2])))
