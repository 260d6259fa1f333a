"""A real authoritative DNS server (NSD) on loopback, with zones written by the test."""

import pathlib
import shutil
import signal
import socket
import struct
import subprocess

from harness.wait import until
from ports import free_port

# It lies where only root's PATH leads.
NSD = shutil.which("nsd", path="/usr/sbin:/sbin:/usr/bin:/bin")
CAA = 257
CONFIG = """server:
  ip-address: 127.0.0.1
  port: {port}
  server-count: 1
  username: ""
  chroot: ""
  database: ""
  zonesdir: "{folder}"
  pidfile: "{folder}/nsd.pid"
  xfrdfile: "{folder}/xfrd.state"
  zonelistfile: "{folder}/zone.list"
  rrl-ratelimit: 0
remote-control:
  control-enable: no
"""


def query(name, kind=CAA, number=1):
    """The bytes of a question."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0,
                                                                                   kind, 1)


class NameServer:
    """Serves `zones` (name → lines of records). A zone whose text is None answers SERVFAIL."""

    def __init__(self, folder, zones):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self._free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.serial = 0
        text = CONFIG.format(port=self.port, folder=self.folder)
        for name, lines in zones.items():
            text += f'zone:\n  name: "{name}"\n  zonefile: "{name}.zone"\n'
            if lines is not None:
                self._write(name, lines)
        self.config = self.folder / "nsd.conf"
        self.config.write_text(text)
        self.process = None

    def start(self):
        with open(self.folder / "nsd.log", "a") as log:
            self.process = subprocess.Popen([NSD, "-d", "-c", str(self.config)], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)
        until(lambda: self.ask("any.test"), f"the DNS server answers: {self.folder}/nsd.log")
        return self

    def change(self, zone, lines):
        """Serves other records from now on."""
        self._write(zone, lines)
        self.process.send_signal(signal.SIGHUP)
        until(lambda: self._serial_served(zone) == self.serial, f"the new zone {zone} is served")

    def ask(self, name, kind=CAA):
        """The answer's bytes, or None."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.5)
            s.connect(("127.0.0.1", self.port))
            try:
                s.send(query(name, kind))
                return s.recv(4096)
            except OSError:
                return None

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _write(self, zone, lines):
        self.serial += 1
        head = [f"$ORIGIN {zone}.", "$TTL 60",
                f"@ SOA ns.{zone}. root.{zone}. {self.serial} 3600 900 86400 60",
                f"@ NS ns.{zone}.", "ns A 127.0.0.1"]
        (self.folder / f"{zone}.zone").write_text("\n".join([*head, *lines]) + "\n")

    def _serial_served(self, zone):
        answer = self.ask(zone, 6)
        # The SOA's data ends with five numbers, and no record follows it but the zone's NS.
        at = answer.find(struct.pack(">IIII", 3600, 900, 86400, 60)) if answer else -1
        return struct.unpack(">I", answer[at - 4:at])[0] if at > 0 else None

    @staticmethod
    def _free_port():
        while True:
            port = free_port()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                try:
                    s.bind(("127.0.0.1", port))
                    return port
                except OSError:
                    continue
