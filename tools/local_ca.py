"""An ACME CA on loopback: Debian's Pebble, with a DNS server for it and HTTPS of its own.

For ./quickstart and the integration tests. Names resolve to 127.0.0.1 whatever they are. HTTP-01
is asked for at `challenge_port`, TLS-ALPN-01 at `tls_port` (where nobody listens unless it is
given). Pebble forgets everything when it stops.
"""

import datetime
import ipaddress
import json
import os
import pathlib
import socket
import ssl
import subprocess
import time
import urllib.request

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from ports import free_port

START_SECONDS_MAX = 20


class Authority:
    """A root of its own that signs server certificates: for the CA's HTTPS, and for origins."""

    def __init__(self, name="Local test root"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)],
            datetime.timedelta(days=3650))

    def issue(self, names, lifetime=datetime.timedelta(days=30), client=False):
        """(certificate chain PEM, key PEM) for DNS names and IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        certificate = self._sign(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]), key.public_key(), [
                (x509.SubjectAlternativeName([general_name(n) for n in names]), False),
                (x509.ExtendedKeyUsage([usage]), False),
                (x509.BasicConstraints(ca=False, path_length=None), True)], lifetime)
        return pem(certificate), key_pem(key)

    def root_pem(self):
        return pem(self.certificate)

    def _sign(self, subject, public_key, extensions, lifetime):
        now = datetime.datetime.utcnow()
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.name)
                   .public_key(public_key).serial_number(x509.random_serial_number())
                   .not_valid_before(now - datetime.timedelta(hours=1))
                   .not_valid_after(now + lifetime)
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                       self.key.public_key()), False))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())


def general_name(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption()).decode()


class LocalCa:
    """Pebble and its DNS server, running until stop()."""

    def __init__(self, folder, challenge_port, lifetime_seconds=None, environment=None,
                 tls_port=None):
        self.folder = pathlib.Path(folder)
        self.challenge_port = challenge_port
        self.tls_port = tls_port or free_port()
        self.lifetime_seconds = lifetime_seconds
        self.environment = environment or {}
        self.port, self.management_port = free_port(), free_port()
        self.directory = f"https://127.0.0.1:{self.port}/dir"
        self.trust = self.folder / "ca-root.pem"
        self.log = self.folder / "pebble.log"
        self.processes = []

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.authority = Authority("Local CA's HTTPS root")
        chain, key = self.authority.issue(["127.0.0.1", "localhost"])
        for name, text in (("https.pem", chain), ("https-key.pem", key),
                           ("ca-root.pem", self.authority.root_pem())):
            (self.folder / name).write_text(text)
        dns_port = free_port(socket.SOCK_DGRAM)
        self._start(["pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
                     "-dns01", f"127.0.0.1:{dns_port}", "-http01", "", "-https01", "",
                     "-tlsalpn01", "", "-management", f"127.0.0.1:{free_port()}"], {})
        (self.folder / "pebble.json").write_text(json.dumps(self._settings()))
        self._start(["pebble", "-config", str(self.folder / "pebble.json"),
                     "-dnsserver", f"127.0.0.1:{dns_port}"],
                    # Two of its threads may wait for each other for ever, each with a lock of the
                    # store (Pebble 2.4): on one they hardly ever meet.
                    {"GOMAXPROCS": "1", "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0",
                     "PEBBLE_AUTHZREUSE": "0", **self.environment})
        self._wait_ready()
        return self

    def root(self):
        """The root that its certificates chain to, PEM: a new one at each start."""
        return self._get(f"https://127.0.0.1:{self.management_port}/roots/0").decode()

    def intermediate(self):
        return self._get(f"https://127.0.0.1:{self.management_port}/intermediates/0").decode()

    def log_text(self):
        return self.log.read_text(errors="replace")

    def orders(self):
        """Orders placed since the start, by what Pebble says of them."""
        return self.log_text().count("Added order")

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []

    def _settings(self):
        settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management_port}",
            "certificate": str(self.folder / "https.pem"),
            "privateKey": str(self.folder / "https-key.pem"),
            "httpPort": self.challenge_port,
            "tlsPort": self.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            # Newer releases send Retry-After; nobody needs to wait for a CA on the same machine.
            "retryAfter": {"authz": 0, "order": 0},
        }
        if self.lifetime_seconds:
            settings["certificateValidityPeriod"] = self.lifetime_seconds
        return {"pebble": settings}

    def _start(self, command, environment):
        with open(self.log, "a") as log:
            self.processes.append(subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env={**os.environ, **environment}))

    def _get(self, url):
        context = ssl.create_default_context(cafile=self.trust)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                             urllib.request.HTTPSHandler(context=context))
        return opener.open(url, timeout=5).read()

    def _wait_ready(self):
        end = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                self._get(self.directory)
                self.root()
                return
            except OSError as error:
                ended = [p.args[0] for p in self.processes if p.poll() is not None]
                if ended or time.monotonic() > end:
                    self.stop()
                    raise RuntimeError(f"the local CA did not start ({ended or error}):\n"
                                       f"{self.log_text()}") from error
                time.sleep(0.02)
