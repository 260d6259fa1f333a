"""An ACME CA on loopback: Pebble, with a DNS server for it and HTTPS of its own.

For ./quickstart and the integration tests. Names resolve to 127.0.0.1 unless the CA is told
otherwise, HTTP-01 is asked for at `challenge_port`, TLS-ALPN-01 at `tls_port`. Pebble forgets
everything when it stops.
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

# Debian 12's, and the one that tools/pebble unpacks: it knows renewal information and profiles.
NEWER = pathlib.Path(__file__).resolve().parents[1] / "build/tools/pebble/usr/bin"
VERSIONS = ("2.4", "2.10")


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
    """Pebble and its DNS server, running until stop().

    `profiles`: name → seconds that its certificates live ("2.10" alone; a client that names none
    of them is given one by chance). `binding_keys`: key id → base64url MAC key, and every account
    must be bound. `alternate_chains`: roots beside the first. `bad_nonces`: how many of a hundred
    good nonces are refused. `retry_after`: seconds that "2.10" names with a pending authorization
    or order. `names`: what it is called beside 127.0.0.1 and localhost.
    """

    def __init__(self, folder, challenge_port, lifetime_seconds=None, environment=None, *,
                 version="2.4", tls_port=None, profiles=None, binding_keys=None,
                 alternate_chains=0, bad_nonces=0, retry_after=0, names=()):
        if version not in VERSIONS:
            raise ValueError(f"Pebble {version}: choose one of {', '.join(VERSIONS)}")
        if version != "2.10" and profiles:
            raise ValueError(f"Pebble {version} knows no profiles")
        self.folder = pathlib.Path(folder)
        self.challenge_port = challenge_port
        self.lifetime_seconds = lifetime_seconds
        self.environment = {
            # Two of its threads may wait for each other for ever, each with a lock of the store
            # (both versions): on one they hardly ever meet.
            "GOMAXPROCS": "1", "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0",
            "PEBBLE_WFE_NONCEREJECT": str(bad_nonces),
            "PEBBLE_ALTERNATE_ROOTS": str(alternate_chains), **(environment or {})}
        self.version, self.profiles, self.binding_keys = version, profiles, binding_keys
        self.retry_after, self.names = retry_after, names
        self.port, self.management_port = free_port(), free_port()
        self.tls_port = tls_port or free_port()
        self.dns_port = free_port(socket.SOCK_DGRAM)
        self.dns_management_port = free_port()
        self.directory = f"https://127.0.0.1:{self.port}/dir"
        self.trust = self.folder / "ca-root.pem"
        self.log = self.folder / "pebble.log"
        self.dns, self.pebble = None, None

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.authority = Authority("Local CA's HTTPS root")
        chain, key = self.authority.issue(["127.0.0.1", "localhost", *self.names])
        for name, text in (("https.pem", chain), ("https-key.pem", key),
                           ("ca-root.pem", self.authority.root_pem())):
            (self.folder / name).write_text(text)
        # Before 2.10 its DNS was for DNS-01 alone, by the option's name.
        listen = "-dns01" if self.version == "2.4" else "-dnsserver"
        more = [] if self.version == "2.4" else ["-doh", ""]
        self.dns = self._start([
            "pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
            listen, f"127.0.0.1:{self.dns_port}", *more, "-http01", "", "-https01", "",
            "-tlsalpn01", "", "-management", f"127.0.0.1:{self.dns_management_port}"])
        self._start_pebble()
        return self

    def restart(self):
        """Ends Pebble and starts it anew, at the same addresses: nothing it knew is left."""
        end(self.pebble)
        self._start_pebble()

    def root(self, chain=0):
        """The root that its certificates chain to, PEM: a new one at each start."""
        return self._manage(f"/roots/{chain}").decode()

    def intermediate(self, chain=0):
        return self._manage(f"/intermediates/{chain}").decode()

    def point(self, name, address):
        """Has `name` resolve to `address`, for the CA."""
        request(f"http://127.0.0.1:{self.dns_management_port}/add-a",
                   {"host": name, "addresses": [address]})

    def suggest_renewal(self, certificate, start, until, explanation=None):
        """Sets the window in which `certificate` (PEM) should be renewed, moments in UTC."""
        window = {"suggestedWindow": {"start": rfc3339(start), "end": rfc3339(until)}}
        if explanation:
            window["explanationURL"] = explanation
        self.answer_renewal_info(certificate, json.dumps(window))

    def answer_renewal_info(self, certificate, text):
        """Sets the whole answer to a request for `certificate`'s renewal information."""
        self._manage("/set-renewal-info/", {"certificate": certificate, "ariResponse": text})

    def log_text(self):
        return self.log.read_text(errors="replace")

    def orders(self):
        """Orders placed since the start, by what Pebble says of them."""
        return self.log_text().count("Added order")

    def stop(self):
        for process in (self.pebble, self.dns):
            end(process)
        self.pebble = self.dns = None

    def _start_pebble(self):
        (self.folder / "pebble.json").write_text(json.dumps({"pebble": self._settings()}))
        self.pebble = self._start(["pebble", "-config", str(self.folder / "pebble.json"),
                                   "-dnsserver", f"127.0.0.1:{self.dns_port}"])
        self._wait_ready()

    def _settings(self):
        settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management_port}",
            "certificate": str(self.folder / "https.pem"),
            "privateKey": str(self.folder / "https-key.pem"),
            "httpPort": self.challenge_port,
            "tlsPort": self.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": bool(self.binding_keys),
            "externalAccountMACKeys": self.binding_keys or {},
            # Nobody needs to wait for a CA on the same machine.
            "retryAfter": {"authz": self.retry_after, "order": self.retry_after},
        }
        if self.lifetime_seconds:
            settings["certificateValidityPeriod"] = self.lifetime_seconds
        if self.profiles:
            settings["profiles"] = {
                name: {"description": f"Certificates of {seconds} s", "validityPeriod": seconds}
                for name, seconds in self.profiles.items()}
        return settings

    def _start(self, command):
        if self.version != "2.4":
            program = NEWER / command[0]
            if not program.exists():
                raise RuntimeError(f"{program} is missing: run tools/pebble")
            command = [str(program), *command[1:]]
        with open(self.log, "a") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                    env={**os.environ, **self.environment})

    def _manage(self, path, content=None):
        return request(f"https://127.0.0.1:{self.management_port}{path}", content,
                          ssl.create_default_context(cafile=self.trust))

    def _wait_ready(self):
        end_at = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                request(self.directory, None, ssl.create_default_context(cafile=self.trust))
                self.root()
                return
            except OSError as error:
                ended = [p.args[0] for p in (self.dns, self.pebble) if p.poll() is not None]
                if ended or time.monotonic() > end_at:
                    self.stop()
                    raise RuntimeError(f"the local CA did not start ({ended or error}):\n"
                                       f"{self.log_text()}") from error
                time.sleep(0.02)


def request(url, content=None, context=None):
    """The answer to a POST of `content` as JSON, or to a GET; no proxy comes between."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                         urllib.request.HTTPSHandler(context=context))
    body = None if content is None else json.dumps(content).encode()
    return opener.open(urllib.request.Request(url, body), timeout=5).read()


def rfc3339(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def end(process):
    if process is None:
        return
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
