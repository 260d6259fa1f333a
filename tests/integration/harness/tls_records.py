"""TLS 1.3 records of a client, the wrong ones too.

OpenSSL does the handshake and says its secrets; from then on every record is made here, so that
its content, type, padding and number may be any. What the server sends goes back to OpenSSL.
"""

import pathlib
import socket
import ssl
import struct
import tempfile

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from harness.client import request, trusting_anything, whole
from harness.limits import within

ALERT, HANDSHAKE, DATA = 21, 22, 23
SUITES = {"TLS_AES_128_GCM_SHA256": (16, hashes.SHA256()),
          "TLS_AES_256_GCM_SHA384": (32, hashes.SHA384())}


class TlsRecords:
    """A connection after its handshake."""

    def __init__(self, port, name="example.test", timeout=10):
        context = trusting_anything()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=within(timeout))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with tempfile.NamedTemporaryFile(prefix="gh-keys-") as log:
            context.keylog_filename = log.name
            self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
            self.shake_hands()
            secrets = dict(line.split(" ")[::2] for line in
                           pathlib.Path(log.name).read_text().splitlines() if line[:1] != "#")
        self.key_size, self.hash = SUITES[self.tls.cipher()[0]]
        self.use(bytes.fromhex(secrets["CLIENT_TRAFFIC_SECRET_0"]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def shake_hands(self):
        while True:
            try:
                self.tls.do_handshake()
                return self.sock.sendall(self.outgoing.read())
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outgoing.read())
                self.incoming.write(self.sock.recv(65536))

    def expand(self, label, size):
        label = b"tls13 " + label
        info = struct.pack(">HB", size, len(label)) + label + b"\0"
        return HKDFExpand(self.hash, size, info).derive(self.secret)

    def use(self, secret):
        self.secret, self.sequence = secret, 0
        self.cipher, self.iv = AESGCM(self.expand(b"key", self.key_size)), self.expand(b"iv", 12)

    # ---- sending

    def record(self, content, kind=DATA, padding=0):
        inner = content + bytes([kind]) + bytes(padding)
        head = struct.pack(">BHH", DATA, 0x0303, len(inner) + 16)
        nonce = (int.from_bytes(self.iv, "big") ^ self.sequence).to_bytes(12, "big")
        self.sequence += 1
        return head + self.cipher.encrypt(nonce, inner, head)

    def key_update(self, requested=0):
        made = self.record(b"\x18\0\0\1" + bytes([requested]), HANDSHAKE)
        self.use(self.expand(b"traffic upd", self.hash.digest_size))
        return made

    def alert(self, description, level=1):
        return self.record(bytes([level, description]), ALERT)

    def send(self, *records):
        """False when the server has closed."""
        try:
            self.sock.sendall(b"".join(records))
            return True
        except OSError:
            return False

    # ---- reading

    def read(self):
        """What the server sent as data, once; b"" at its end, which may be an alert."""
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                return b""
            try:
                came = self.sock.recv(65536)
            except ConnectionError:
                return b""
            if not came:
                return b""
            self.incoming.write(came)

    def get(self, *records):
        """Sends a request, or the records that are one; its whole response, or what came of it."""
        self.send(*(records or [self.record(request())]))
        data = b""
        while not (b"\r\n\r\n" in data and whole(data)):
            came = self.read()
            if not came:
                break
            data += came
        return data

    def ended(self):
        """Whether the server ends the connection, whatever it says before."""
        try:
            while self.read():
                pass
            return True
        except TimeoutError:
            return False
