"""What a hostile TLS client tries: each is bounded in time, memory and CPU, and counted."""

import ssl
import struct
import subprocess
import time

import pytest
from harness.client import Client, PausedHandshake, request, trusting, trusting_anything
from harness.http2 import Http2, trusting_h2
from harness.limits import LONG, SLOW, within
from harness.tls_records import HANDSHAKE, TlsRecords
from harness.wait import until
from harness.watch import Watch

HELLOS = 5000 if LONG else 500
EMPTY_RECORDS_MAX, KEY_UPDATES_MAX = 64, 32


def violations(proxy):
    return proxy.metric("gatehouse_tls_violations_total")


def expect_violation(proxy, c):
    assert c.ended()
    until(lambda: violations(proxy) == 1, "it is counted")
    with TlsRecords(proxy.https) as other:
        assert other.get().startswith(b"HTTP/1.1 200")


# ---- Records

def test_a_request_in_records_of_one_byte_is_answered(proxy):
    with TlsRecords(proxy.https) as c:
        records = [c.record(request()[i:i + 1]) for i in range(len(request()))]
        assert c.get(*records).startswith(b"HTTP/1.1 200")
        padded = [c.record(part, padding=200) for part in (request()[:5], request()[5:])]
        assert c.get(*padded).startswith(b"HTTP/1.1 200")
    assert violations(proxy) == 0


@pytest.mark.parametrize("padding", [0, 16384])
def test_empty_records_in_a_row_are_bounded(proxy, padding):
    def empty(c, count):
        return [c.record(b"", padding=padding) for _ in range(count)]
    with TlsRecords(proxy.https) as c:
        for _ in range(3):
            assert c.get(*empty(c, EMPTY_RECORDS_MAX), c.record(request())).startswith(
                b"HTTP/1.1 200")
        c.send(*empty(c, EMPTY_RECORDS_MAX + 1))
        expect_violation(proxy, c)


@pytest.mark.parametrize("requested", [0, 1])
def test_key_updates_are_bounded_also_between_data(proxy, requested):
    with TlsRecords(proxy.https) as c:
        half = KEY_UPDATES_MAX // 2
        for _ in range(2):
            records = [r for _ in range(half) for r in (c.key_update(requested),)]
            assert c.get(*records, c.record(request())).startswith(b"HTTP/1.1 200"), "as many pass"
        c.send(c.record(b"GET / HTTP/1.1\r\nX-A: "), c.key_update(requested), c.record(b"x"))
        expect_violation(proxy, c)


def test_warnings_without_end_are_bounded(proxy):
    user_canceled = 90
    with TlsRecords(proxy.https) as c:
        assert c.get().startswith(b"HTTP/1.1 200"), "so that the handshake is over for the server"
        c.send(*[c.alert(user_canceled) for _ in range(EMPTY_RECORDS_MAX + 1)])
        expect_violation(proxy, c)


@pytest.mark.parametrize("what", ["a fatal alert", "half a KeyUpdate", "a ClientHello",
                                  "a record that is not encrypted", "a changed record",
                                  "a record too long", "a record of type 99"])
def test_records_that_break_the_rules_end_the_connection(proxy, what):
    with TlsRecords(proxy.https) as c:
        assert c.get().startswith(b"HTTP/1.1 200")
        c.send({
            "a fatal alert": lambda: c.alert(40, level=2),
            "half a KeyUpdate": lambda: c.record(b"\x18\0", HANDSHAKE) + c.record(request()),
            "a ClientHello": lambda: c.record(b"\1\0\0\x20" + bytes(32), HANDSHAKE),
            "a record that is not encrypted": lambda: b"\x16\3\3\0\x04\0\0\0\0",
            "a changed record": lambda: c.record(request())[:-1] + b"\0",
            "a record too long": lambda: struct.pack(">BHH", 23, 0x303, 0xffff) + bytes(0xffff),
            "a record of type 99": lambda: c.record(b"x", 99),
        }[what]())
        expect_violation(proxy, c)


def test_close_notify_in_the_middle_of_a_head_is_an_end_without_a_violation(proxy):
    with TlsRecords(proxy.https) as c:
        c.send(c.record(b"GET / HTTP/1.1\r\n"), c.alert(0))
        assert c.ended()
    assert violations(proxy) == 0


# ---- Renegotiation and compression

def test_tls_1_2_renegotiates_never_and_compresses_nothing(proxy, config):
    context = trusting_anything()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options &= ~ssl.OP_NO_COMPRESSION
    with Client(config.https, tls=context, name="example.test") as client:
        assert client.get().status == 200 and client.sock.compression() is None
    before = proxy.metric("gatehouse_tls_handshakes_total")
    client = subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{config.https}", "-servername",
         "example.test", "-tls1_2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    until(lambda: proxy.metric("gatehouse_tls_handshakes_total") == before + 1, "the handshake")
    client.stdin.write("R\n")
    client.stdin.flush()
    said, _ = client.communicate(timeout=within(15))
    assert "RENEGOTIATING" in said and "no renegotiation" in said, said[-500:]
    assert proxy.metric("gatehouse_tls_handshakes_total") == before + 1


# ---- Handshakes

def hello(name="example.test"):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting_anything().wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()[5:]


def records_of(message, size):
    return b"".join(b"\x16\3\1" + struct.pack(">H", len(message[i:i + size])) + message[i:i + size]
                    for i in range(0, len(message), size))


@pytest.mark.parametrize("what", ["one past 16 KiB", "one of 16 MiB announced", "records of a byte",
                                  "empty records"])
def test_a_client_hello_too_large_or_in_shreds_is_refused(proxy, config, what):
    huge = b"\1" + (100_000).to_bytes(3, "big") + hello()[4:] + bytes(100_000)
    data = {"one past 16 KiB": records_of(huge, 16384),
            "one of 16 MiB announced": records_of(b"\1\xff\xff\xff" + hello()[4:], 16384) * 40,
            "records of a byte": records_of(hello(), 1),
            "empty records": b"\x16\3\1\0\0" * 1000}[what]
    before = proxy.metric("gatehouse_tls_handshakes_failed_total")
    with Client(config.https) as client:
        try:
            client.send(data)
        except OSError:
            pass
        while client.more():
            pass
        assert client.buffer[:1] in (b"\x15", b""), "an alert, or a reset behind it"
    until(lambda: proxy.metric("gatehouse_tls_handshakes_failed_total") == before + 1, "counted")


def test_a_handshake_that_trickles_is_cut_at_its_deadline(gatehouse, config, origin):
    gatehouse(config.site(origin.address, sections='[timeouts]\nhandshake = "500ms"'))
    data, begun = records_of(hello(), 16384), time.monotonic()
    with Client(config.https) as client:
        client.sock.settimeout(0.03)
        for i in range(len(data)):
            try:
                client.send(data[i:i + 1])
                if not client.more():
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    assert time.monotonic() - begun < within(2)


def test_handshakes_that_stay_unfinished_cost_little_and_end(gatehouse, config, origin, authority):
    """Their ClientHello is answered, with a signature; nothing more comes of them."""
    program = gatehouse(config.site(origin.address, sections='[timeouts]\nhandshake = "2s"'))
    tls = trusting(authority.root_pem())
    with Client(config.https, tls=tls, name="example.test") as legitimate:
        assert legitimate.get().status == 200
        with Watch(program) as watch:
            begun, context = time.monotonic(), trusting_anything()
            held = [PausedHandshake(config.https, "example.test", context) for _ in range(HELLOS)]
            until(lambda: program.metric("gatehouse_connections_open") >= min(HELLOS, 100), "them")
            assert legitimate.get().status == 200
            until(lambda: program.metric("gatehouse_connections_open") == 1, "their end",
                  within(2) + 3 + (time.monotonic() - begun))
        for each in held:
            each.close()
        assert legitimate.get().status == 200
    each_kb = watch.growth_kb() / HELLOS
    print(f"{each_kb:.1f} KB each of {HELLOS}")
    assert program.metric("gatehouse_tls_handshakes_failed_total") == HELLOS
    if SLOW == 1:
        assert each_kb < 64


# ---- Sites whose policies differ

@pytest.fixture
def two_policies(gatehouse, config, origin):
    old = config.site(origin.address, hosts='["old.example.test"]')
    new = old[old.index("[[site]]"):].replace("old.example", "new.example")
    program = gatehouse(old.replace("[log]", "h2c = false\n[log]") + new + 'tls_min = "1.3"\n')
    return program


def test_a_site_of_1_3_is_not_served_on_a_connection_of_1_2(two_policies, config, origin,
                                                           authority):
    before = trusting(authority.root_pem(), maximum_version=ssl.TLSVersion.TLSv1_2)
    with Client(config.https, tls=before, name="old.example.test") as client:
        assert client.get(host="old.example.test").status == 200
        assert client.get(host="new.example.test").status == 421
        assert client.get(host="NEW.example.test:443").status == 421
        assert client.get(host="old.example.test").status == 200, "the connection goes on"
    h2 = trusting_h2(authority.root_pem())
    h2.maximum_version = ssl.TLSVersion.TLSv1_2
    with Http2(config.https, tls=h2, name="old.example.test") as c:
        assert c.get(authority="new.example.test").status == 421
        assert c.get(authority="old.example.test").status == 200
    assert {r.value("host") for r in origin.requests} == {"old.example.test"}
    newer = trusting(authority.root_pem())
    with Client(config.https, tls=newer, name="old.example.test") as client:
        assert client.get(host="new.example.test").status == 200, "1.3 is good enough"


def test_a_ticket_of_one_policy_is_no_ticket_of_another(two_policies, config, authority):
    context = trusting(authority.root_pem())
    with Client(config.https, tls=context, name="old.example.test") as client:
        assert client.get(host="old.example.test").status == 200
        session = client.sock.session
    with Client(config.https, tls=context, name="new.example.test", session=session) as client:
        assert client.get(host="new.example.test").status == 200
        assert not client.sock.session_reused
    with Client(config.https, tls=context, name="old.example.test", session=session) as client:
        assert client.get(host="old.example.test").status == 200
        assert client.sock.session_reused
