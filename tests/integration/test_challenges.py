"""How names are proven to a real ACME CA: at the TLS port, at the plain one, by address."""

import socket
import ssl
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from harness.client import Client, PausedHandshake, trusting, trusting_anything
from harness.limits import within
from harness.wait import until
from local_ca import LocalCa
from ports import free_port

ACME = "acme-tls/1"
NO_APPLICATION_PROTOCOL = 120
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def tls_ca(tmp_path, config):
    """A CA that reaches the TLS listener, and finds nobody at the plain port."""
    running = LocalCa(tmp_path / "tls-ca", free_port(), tls_port=config.https).start()
    yield running
    running.stop()


def site(name, origin):
    return f'[[site]]\nhosts = ["{name}"]\nupstream = "{origin.address}"\n'


def active(program, name):
    until(lambda: program.certificates().get(name, {}).get("state") == "active",
          f"a certificate for {name}", within(20))


def offering(*protocols, version=None):
    context = trusting_anything()
    context.set_alpn_protocols(list(protocols))
    if version:
        context.minimum_version = context.maximum_version = version
    return context


def alert_of(port, name, context):
    """The alert that a hello is answered with, or None for a ServerHello."""
    handshake = PausedHandshake(port, name, context)
    data = handshake.sock.recv(65536)
    handshake.close()
    return data[6] if data[:1] == b"\x15" else None


def served(port, name, root):
    with Client(port, tls=trusting(root), name=name) as client:
        assert client.get(host=name).status == 200
        return client.certificate()


def test_without_a_plain_listener_names_are_proven_at_the_tls_port(gatehouse, config, tls_ca,
                                                                  origin):
    program = gatehouse(config.acme(tls_ca.directory, tls_ca.trust, site("bare.test", origin),
                                    http=""))
    active(program, "bare.test")
    served(config.https, "bare.test", tls_ca.root())
    assert tls_ca.orders() == 1


def test_where_the_plain_port_is_shut_the_tls_port_is_tried(gatehouse, config, tls_ca, origin):
    program = gatehouse(config.acme(tls_ca.directory, tls_ca.trust, site("shut.test", origin)))
    active(program, "shut.test")
    served(config.https, "shut.test", tls_ca.root())
    assert tls_ca.orders() == 2, "one that failed at the plain port, and one that did not"


def test_where_neither_is_reached_the_message_names_both(gatehouse, config, tmp_path, origin):
    ca = LocalCa(tmp_path / "far-ca", free_port(), tls_port=free_port()).start()
    try:
        program = gatehouse(config.acme(ca.directory, ca.trust, site("far.test", origin)))
        row = until(lambda: [row for row in program.certificates().values()
                             if row["name"] == "far.test" and row["last_error"]],
                    "a failure", within(20))[0]
        for words in ("far.test", "http-01", "port 80", "tls-alpn-01", "port 443"):
            assert words in row["last_error"], row["last_error"]
        assert ca.orders() == 2
    finally:
        ca.stop()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_challenge_is_a_handshake_and_nothing_else(gatehouse, config, tls_ca, origin, version):
    program = gatehouse(config.acme(tls_ca.directory, tls_ca.trust, site("proven.test", origin),
                                    more='challenges = ["tls-alpn-01"]'))
    active(program, "proven.test")
    # Answered for another minute: CAs ask several times.
    before = len(origin.requests)
    with Client(config.https, tls=offering(ACME, version=version), name="proven.test") as client:
        assert client.sock.selected_alpn_protocol() == ACME
        certificate = client.certificate()
        try:
            client.send("GET / HTTP/1.1\r\nHost: proven.test\r\n\r\n")
            assert client.sock.recv(65536) == b"", "closed without a word"
        except OSError:
            pass  # or with a reset, for what was sent in vain
    assert len(origin.requests) == before
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["proven.test"]
    proof = certificate.extensions.get_extension_for_oid(ACME_IDENTIFIER)
    assert proof.critical
    assert proof.value.value[:2] == b"\x04\x20" and len(proof.value.value) == 34
    assert certificate.issuer == certificate.subject
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert certificate.public_key().curve.name == "secp256r1"
    # A visitor of that name meets none of it.
    context = trusting(tls_ca.root())
    context.set_alpn_protocols(["http/1.1"])
    with Client(config.https, tls=context, name="proven.test") as client:
        assert client.sock.selected_alpn_protocol() == "http/1.1"
        assert client.get(host="proven.test").status == 200


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocols", [[ACME], [ACME, "http/1.1"], ["h2", ACME]])
@pytest.mark.parametrize("name", ["example.test", "www.example.test", "unknown.invalid", None])
def test_without_a_challenge_there_is_no_such_protocol(proxy, config, name, protocols, version):
    context = offering(*protocols, version=version)
    assert alert_of(config.https, name, context) == NO_APPLICATION_PROTOCOL


def test_openssl_is_told_so_too(proxy, config):
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{config.https}", "-servername",
         "unknown.invalid", "-alpn", ACME], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=within(20))
    assert done.returncode != 0
    assert "alert no application protocol" in done.stderr, done.stderr


def test_such_a_hello_never_orders_or_asks(gatehouse, config, ca, ask, origin):
    gatehouse(config.acme(
        ca.directory, ca.trust,
        f'[on_demand]\nask = "{ask.url}"\n[[site]]\nhosts = ["*"]\n'
        f'certificates = "on_demand"\nupstream = "{origin.address}"\n'))
    tested = len(ask.asked)  # with a random name, at the start
    for protocols in ([ACME], [ACME, "http/1.1", "h2"]):
        for number in range(20):
            assert alert_of(config.https, f"www.probe-{number}.test",
                            offering(*protocols)) == NO_APPLICATION_PROTOCOL
    served(config.https, "www.visited.test", ca.root())
    assert [name for name, _ in ask.asked[tested:]] == ["www.visited.test"]
    assert ca.orders() == 1


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_an_address_that_is_configured_has_a_certificate(gatehouse, config, tmp_path, origin,
                                                        challenge):
    ca = LocalCa(tmp_path / "ca", config.http, tls_port=config.https).start()
    try:
        program = gatehouse(config.acme(
            ca.directory, ca.trust, site("127.0.0.1", origin) + site("named.test", origin),
            more=f'challenges = ["{challenge}"]',
            https=[f"127.0.0.1:{config.https}", f"127.0.0.2:{config.https}"]))
        active(program, "127.0.0.1")
        active(program, "named.test")
        # A client that wants an address sends no server name.
        certificate = served(config.https, "127.0.0.1", ca.root())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(name.value) for name in names] == ["127.0.0.1"]
        served(config.https, "named.test", ca.root())
        # Nobody configured this one, and it is worth no order.
        with socket.create_connection(("127.0.0.2", config.https), within(10)) as sock:
            with pytest.raises(ssl.SSLError, match="handshake failure"):
                trusting_anything().wrap_socket(sock)
        assert ca.orders() == 2
    finally:
        ca.stop()
