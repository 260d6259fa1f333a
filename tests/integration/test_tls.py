"""What a TLS client meets: versions, ciphers, certificates by name, resumption."""

import socket
import ssl
import struct

import pytest
from cryptography import x509
from harness.client import Client, PausedHandshake, trusting, trusting_anything

UNRECOGNIZED_NAME = 112


def alert_of(port, name, context=None):
    """The alert that a ClientHello for `name` is answered with, or None for a ServerHello."""
    handshake = PausedHandshake(port, name, context or trusting_anything())
    data = handshake.sock.recv(65536)
    handshake.close()
    if data[:1] == b"\x15":
        return data[6]
    assert data[:1] == b"\x16", f"neither alert nor handshake: {data[:20]!r}"
    return None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_are_served(proxy, config, authority, version):
    context = trusting(authority.root_pem(), minimum_version=version, maximum_version=version)
    with Client(config.https, tls=context, name="example.test") as client:
        assert client.get().status == 200
        assert "GCM" in client.sock.cipher()[0] or "CHACHA20" in client.sock.cipher()[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_versions_are_refused(proxy, config, version):
    context = trusting_anything()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with pytest.raises((ssl.SSLError, OSError)):
        Client(config.https, tls=context, name="example.test")


@pytest.mark.parametrize("ciphers", [
    "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "AES128-GCM-SHA256"])
def test_ciphers_without_aead_or_forward_secrecy_are_refused(proxy, config, ciphers):
    context = trusting_anything()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers + ":@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, OSError)):
        Client(config.https, tls=context, name="example.test")


def test_tls_min_1_3_refuses_1_2(gatehouse, config, origin, authority):
    gatehouse(config.site(origin.address, more='tls_min = "1.3"'))
    old = trusting(authority.root_pem(), maximum_version=ssl.TLSVersion.TLSv1_2)
    with pytest.raises((ssl.SSLError, OSError)):
        Client(config.https, tls=old, name="example.test")
    with Client(config.https, tls=trusting(authority.root_pem()), name="example.test") as client:
        assert client.get().status == 200


def test_the_protocol_is_agreed_by_alpn(proxy, config, authority):
    context = trusting(authority.root_pem())
    context.set_alpn_protocols(["http/1.1"])
    with Client(config.https, tls=context, name="example.test") as client:
        assert client.sock.selected_alpn_protocol() == "http/1.1"
        assert client.get().status == 200


def test_a_name_that_no_site_claims_is_refused(proxy, config):
    assert alert_of(config.https, "unknown.invalid") == UNRECOGNIZED_NAME
    assert alert_of(config.https, "a.b.example.test") == UNRECOGNIZED_NAME
    assert alert_of(config.https, "example.test") is None
    assert alert_of(config.https, "EXAMPLE.test") is None, "names have no case"


def test_each_name_gets_its_certificate(gatehouse, config, origin, authority, tmp_path):
    sites = ""
    for name in ("one.test", "two.test", "*.two.test"):
        chain, key = authority.issue([name])
        stem = name.replace("*", "wild")
        (tmp_path / f"{stem}.pem").write_text(chain)
        (tmp_path / f"{stem}.key").write_text(key)
        sites += (f'[[site]]\nhosts = ["{name}"]\nupstream = "{origin.address}"\n'
                  f'certificate = "{tmp_path}/{stem}.pem"\nkey = "{tmp_path}/{stem}.key"\n')
    gatehouse(config.base() + sites)
    context = trusting(authority.root_pem())
    for name, subject in (("one.test", "one.test"), ("two.test", "two.test"),
                          ("a.two.test", "*.two.test"), ("b.two.test", "*.two.test")):
        with Client(config.https, tls=context, name=name) as client:
            san = client.certificate().extensions.get_extension_for_class(
                x509.SubjectAlternativeName).value
            assert san.get_values_for_type(x509.DNSName) == [subject]
            assert client.get(host=name).status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_resume(proxy, config, authority, version):
    context = trusting(authority.root_pem(), minimum_version=version, maximum_version=version)
    with Client(config.https, tls=context, name="example.test") as client:
        assert client.get().status == 200
        session = client.sock.session
        assert not client.sock.session_reused
    with Client(config.https, tls=context, name="example.test", session=session) as client:
        assert client.get().status == 200
        assert client.sock.session_reused


def test_a_session_outlives_a_reload(proxy, config, authority):
    context = trusting(authority.root_pem())
    with Client(config.https, tls=context, name="example.test") as client:
        client.get()
        session = client.sock.session
    proxy.reload()
    with Client(config.https, tls=context, name="example.test", session=session) as client:
        assert client.sock.session_reused and client.get().status == 200


def test_a_client_hello_in_single_bytes_is_understood(proxy, config, authority):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(authority.root_pem()).wrap_bio(incoming, outgoing,
                                                  server_hostname="example.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with socket.create_connection(("127.0.0.1", config.https), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in outgoing.read():
            sock.sendall(bytes([byte]))
        assert sock.recv(65536)[:1] == b"\x16"


def test_a_client_hello_over_several_records_is_understood(proxy, config, authority):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(authority.root_pem()).wrap_bio(incoming, outgoing,
                                                  server_hostname="example.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    record = outgoing.read()
    message = record[5:]
    pieces = [message[i:i + 50] for i in range(0, len(message), 50)]
    split = b"".join(record[:3] + struct.pack(">H", len(p)) + p for p in pieces)
    with socket.create_connection(("127.0.0.1", config.https), timeout=10) as sock:
        sock.sendall(split)
        assert sock.recv(65536)[:1] == b"\x16"


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\nHost: example.test\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 100,
    b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", b"\x80\x2e\x01\x00\x02", b"\0" * 5000,
    b"\x15\x03\x01\x00\x02\x02\x00"])
def test_what_is_no_client_hello_ends_the_connection(proxy, config, data):
    with Client(config.https) as client:
        client.send(data)
        client.sock.settimeout(15)
        while client.more():
            pass
        assert b"HTTP/1.1 200" not in client.buffer
    assert proxy.healthy()


def test_a_client_without_a_name_gets_a_default_or_a_refusal(proxy, config):
    context = trusting_anything()
    try:
        with Client(config.https, tls=context, name=None) as client:
            assert client.get().status in (200, 404, 421)
    except (ssl.SSLError, OSError):
        pass
    assert proxy.healthy()


def test_an_internal_certificate_needs_no_ca(gatehouse, config, origin):
    gatehouse(config.base() + f'[[site]]\nhosts = ["inside.test"]\nupstream = "{origin.address}"\n'
              'certificates = "internal"\n')
    with Client(config.https, tls=trusting_anything(), name="inside.test") as client:
        san = client.certificate().extensions.get_extension_for_class(
            x509.SubjectAlternativeName).value
        assert "inside.test" in san.get_values_for_type(x509.DNSName)
        assert client.get(host="inside.test").status == 200


def test_a_changed_certificate_file_is_served_without_a_restart(gatehouse, config, origin,
                                                              authority, tmp_path):
    from harness.wait import until
    chain, key = authority.issue(["example.test"])
    (tmp_path / "own.pem").write_text(chain)
    (tmp_path / "own.key").write_text(key)
    gatehouse(config.base() + f'[[site]]\nhosts = ["example.test"]\nupstream = "{origin.address}"\n'
              f'certificate = "{tmp_path}/own.pem"\nkey = "{tmp_path}/own.key"\n')
    context = trusting(authority.root_pem())

    def serial():
        with Client(config.https, tls=context, name="example.test") as client:
            return client.certificate().serial_number
    first = serial()
    chain, key = authority.issue(["example.test"])
    (tmp_path / "new.pem").write_text(chain)
    (tmp_path / "new.key").write_text(key)
    (tmp_path / "new.key").rename(tmp_path / "own.key")
    (tmp_path / "new.pem").rename(tmp_path / "own.pem")
    until(lambda: serial() != first, "the new certificate", 90)


def test_http_redirects_to_https(gatehouse, config, origin):
    gatehouse(config.site(origin.address).replace("redirect_http = false", ""))
    with Client(config.http) as client:
        response = client.get("/path?q=1")
        assert response.status in (301, 308)
        assert response.value("location") in (
            "https://example.test/path?q=1", f"https://example.test:{config.https}/path?q=1")
    assert origin.heads == []


def test_hsts_is_sent_over_tls_only(gatehouse, config, origin, tls):
    gatehouse(config.site(origin.address, more='hsts = "365d"'))
    with Client(config.https, tls=tls, name="example.test") as client:
        assert "max-age=31536000" in client.get().value("strict-transport-security")
    with Client(config.http) as client:
        assert client.get().values("strict-transport-security") == []
