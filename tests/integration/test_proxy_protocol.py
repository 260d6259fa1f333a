"""The PROXY protocol in and out: by raw bytes, and with nginx and HAProxy at the other end."""

import json
import socket
import ssl
import subprocess
import time

import pytest
from harness.client import Client, Cut, request
from harness.limits import within
from harness.origin import answer
from harness.wait import until
from ports import free_port

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BALANCER = "127.0.0.2"  # in trusted_proxies; 127.0.0.1 is not
TRUST = 'trusted_proxies = ["127.0.0.2", "10.9.0.0/16"]\n'
ON = TRUST + "proxy_protocol = true\n"
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.9 56324 443\r\n"
REFUSED = "proxy_headers_refused_total"


def v2(rest=b"", command=0x21, family=0x11):
    return SIGNATURE + bytes([command, family]) + len(rest).to_bytes(2, "big") + rest


def v2_of(source, source_port, destination, destination_port):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    return v2(socket.inet_pton(family, source) + socket.inet_pton(family, destination) +
              source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big"),
              family=0x21 if ":" in source else 0x11)


V2 = v2_of("192.0.2.7", 56324, "198.51.100.9", 443)
HEADERS = {"v1": V1, "v2": V2}


@pytest.fixture(params=["http", "https"])
def arrive(request, config, tls):
    """Opens connections that begin with `header`, plain and over TLS: each test runs twice."""
    opened = []

    def open_one(header=b"", source=BALANCER):
        encrypted = request.param == "https"
        client = Client(config.https if encrypted else config.http, source=source)
        opened.append(client)
        client.send(header)
        if encrypted:
            client.sock = tls.wrap_socket(client.sock, server_hostname="example.test")
        return client
    open_one.scheme = request.param
    yield open_one
    for client in opened:
        client.close()


@pytest.fixture
def run_beside(tmp_path):
    """Starts programs that run beside Gatehouse, until they listen on `port`."""
    started = []

    def start(name, command, port):
        log = tmp_path / f"{name}.log"
        with open(log, "w") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        started.append(process)

        def listening():
            assert process.poll() is None, log.read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0
        until(listening, f"{name} to listen")
        return process
    yield start
    for process in started:
        process.terminate()
        process.wait(within(10))


def logged(program, count=1):
    until(lambda: len(program.access_lines()) >= count, f"{count} lines in the access log")
    return [json.loads(line) for line in program.access_lines()]


# --- in

@pytest.mark.parametrize("version", HEADERS)
def test_the_client_is_whom_the_header_names(gatehouse, config, origin, arrive, version):
    program = gatehouse(config.site(origin.address, server=ON))
    client = arrive(HEADERS[version])
    for _ in range(3):
        assert client.get().body == b"hello"
    assert origin.last().value("x-forwarded-for") == "192.0.2.7"
    assert origin.last().value("x-forwarded-proto") == arrive.scheme
    assert {line["client"] for line in logged(program, 3)} == {"192.0.2.7"}


@pytest.mark.parametrize("header, address", [
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", "2001:db8::7"),
    (v2_of("2001:db8::7", 4711, "2001:db8::1", 443), "2001:db8::7"),
    (v2_of("::ffff:192.0.2.7", 4711, "::ffff:192.0.2.8", 443), "192.0.2.7"),
    (v2(V2[16:] + b"\x02\0\x0cexample.test" + b"\x04\1\0" + bytes(256)), "192.0.2.7"),
], ids=["v1 IPv6", "v2 IPv6", "v2 mapped", "v2 with TLVs"])
def test_every_kind_of_address(gatehouse, config, origin, arrive, header, address):
    program = gatehouse(config.site(origin.address, server=ON))
    assert arrive(header).get().status == 200
    assert origin.last().value("x-forwarded-for") == address
    assert logged(program)[0]["client"] == address


@pytest.mark.parametrize("header", [
    b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ::1 ::1 1 2\r\n", v2(family=0),
    v2(command=0x20, family=0), v2(bytes(216), family=0x31), v2(b"ignored", command=0x20)],
    ids=["UNKNOWN", "UNKNOWN with more", "UNSPEC", "LOCAL", "AF_UNIX", "LOCAL with more"])
def test_a_header_that_names_nobody_leaves_the_peer(gatehouse, config, origin, arrive, header):
    program = gatehouse(config.site(origin.address, server=ON))
    assert arrive(header).get().status == 200
    assert origin.last().value("x-forwarded-for") == BALANCER
    assert logged(program)[0]["client"] == BALANCER


@pytest.mark.parametrize("version", HEADERS)
def test_a_header_may_come_in_pieces_or_with_what_follows(gatehouse, config, origin, version):
    gatehouse(config.site(origin.address, server=ON))
    header, get = HEADERS[version], request()
    for cut in range(1, len(header) + 1):
        with Client(config.http, source=BALANCER) as client:
            client.send(header[:cut])
            time.sleep(0.001)
            client.send(header[cut:] + get)
            assert client.response().status == 200, cut
    with Client(config.http, source=BALANCER) as client:
        for byte in header + get:
            client.send(bytes([byte]))
            time.sleep(0.0005)
        assert client.response().status == 200
    with Client(config.http, source=BALANCER) as client:
        client.send(header + get + get)
        assert client.response().status == client.response().status == 200
    assert {r.value("x-forwarded-for") for r in origin.requests} == {"192.0.2.7"}


@pytest.mark.parametrize("version", HEADERS)
def test_a_client_hello_may_come_with_the_header(gatehouse, config, origin, tls, version):
    gatehouse(config.site(origin.address, server=ON))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = tls.wrap_bio(incoming, outgoing, server_hostname="example.test")
    with Client(config.https, source=BALANCER) as client:
        ahead = HEADERS[version]
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.send(ahead + outgoing.read())
                ahead = b""
                incoming.write(client.sock.recv(65536))
        session.write(request())
        client.send(outgoing.read())
        until(lambda: origin.requests, "the request at the origin")
        assert origin.last().value("x-forwarded-for") == "192.0.2.7"


MALFORMED = {
    "nothing but a request": request(),
    "a ClientHello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a lower case word": b"proxy TCP4 192.0.2.7 198.51.100.9 56324 443\r\n",
    "an unknown protocol": b"PROXY TCP9 192.0.2.7 198.51.100.9 56324 443\r\n",
    "no port": b"PROXY TCP4 192.0.2.7 198.51.100.9 56324\r\n",
    "two spaces": b"PROXY TCP4  192.0.2.7 198.51.100.9 56324 443\r\n",
    "a bare LF": b"PROXY TCP4 192.0.2.7 198.51.100.9 56324 443\n",
    "a line of 108 bytes": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "a line without an end": b"PROXY UNKNOWN " + b"x" * 4000,
    "version 1 in version 2": SIGNATURE + b"\x11\x11\0\x0c" + V2[16:],
    "version 3": SIGNATURE + b"\x31\x11\0\x0c" + V2[16:],
    "an unknown command": v2(V2[16:], command=0x22),
    "an unknown family": v2(V2[16:], family=0x41),
    "an unknown transport": v2(V2[16:], family=0x13),
    "too short for its addresses": v2(V2[16:-1]),
    "longer than 4096 bytes": v2(V2[16:] + b"\x04\x0f\xff" + bytes(4095)),
    "a TLV past the end": v2(V2[16:] + b"\x04\xff\xffx"),
    "a wrong CRC32C": v2(V2[16:] + b"\x03\0\x04abcd"),
}


@pytest.mark.parametrize("port", ["http", "https"])
@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_header_closes_the_connection(gatehouse, config, origin, what, port):
    program = gatehouse(config.site(origin.address, server=ON))
    with Client(getattr(config, port), source=BALANCER) as client:
        client.send(MALFORMED[what] + request())
        assert client.closed()
    assert program.metric(REFUSED) == 1
    assert "PROXY header: " in program.log() and BALANCER in program.log()
    assert origin.heads == [] and program.access_lines() == []
    until(lambda: program.metric("connections_open") == 0, "the connection to be forgotten")


@pytest.mark.parametrize("port", ["http", "https"])
@pytest.mark.parametrize("begun", [b"", V1[:20], V2[:-1]], ids=["silent", "v1", "v2"])
def test_a_late_header_closes_the_connection(gatehouse, config, origin, begun, port):
    program = gatehouse(config.site(origin.address, server=ON,
                                    sections='[timeouts]\nhandshake = "500ms"'))
    with Client(getattr(config, port), source=BALANCER) as client:
        client.send(begun)
        started = time.monotonic()
        assert client.closed()
        assert 0.3 < time.monotonic() - started < within(2)
    assert program.metric(REFUSED) == 1 and "timeouts.handshake" in program.log()


def test_a_port_check_is_no_mistake_but_half_a_header_is(gatehouse, config, origin):
    program = gatehouse(config.site(origin.address, server=ON))
    Client(config.http, source=BALANCER).close()
    until(lambda: program.metric("connections_accepted") == 1, "it was accepted")
    until(lambda: program.metric("connections_open") == 0, "it ended")
    assert program.metric(REFUSED) == 0 and "PROXY" not in program.log()
    with Client(config.http, source=BALANCER) as client:
        client.send(V1[:10])
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()
    assert program.metric(REFUSED) == 1


@pytest.mark.parametrize("version", HEADERS)
def test_a_header_of_an_untrusted_peer_is_never_believed(gatehouse, config, origin, tls, version):
    program = gatehouse(config.site(origin.address, server=ON))
    with Client(config.http) as client:
        client.send(HEADERS[version] + request())
        assert client.response().status == 400 and client.closed()
    with Client(config.https) as client:
        client.send(HEADERS[version])
        with pytest.raises((OSError, ssl.SSLError)):
            tls.wrap_socket(client.sock, server_hostname="example.test")
    assert origin.heads == [] and program.metric(REFUSED) == 0
    # Without one it is a client like any other.
    with Client(config.http) as client:
        assert client.get().status == 200
    with Client(config.https, tls=tls, name="example.test") as client:
        assert client.get().status == 200
    assert origin.last().value("x-forwarded-for") == "127.0.0.1"


def test_with_the_option_off_a_header_is_a_malformed_request(gatehouse, config, origin, arrive):
    gatehouse(config.site(origin.address, server=TRUST))
    assert arrive().get().status == 200
    with Client(config.http, source=BALANCER) as client:
        client.send(V1 + request())
        assert client.response().status == 400


def test_access_lists_look_at_the_named_client(gatehouse, config, origin, arrive):
    gatehouse(config.site(origin.address, server=ON,
                          more='access = { allow = ["192.0.2.0/24"], deny = ["192.0.2.66"] }'))
    assert arrive(V1).get().status == 200
    assert arrive(b"PROXY TCP4 192.0.2.66 198.51.100.9 1 443\r\n").get().status == 403
    assert arrive(b"PROXY TCP4 203.0.113.1 198.51.100.9 1 443\r\n").get().status == 403
    assert arrive(b"PROXY UNKNOWN\r\n").get().status == 403


def test_connections_count_for_the_named_client(gatehouse, config, origin, arrive):
    program = gatehouse(config.site(origin.address, server=ON,
                                    sections="[limits]\nconnections_per_client = 2"))
    other = V1.replace(b"192.0.2.7", b"192.0.2.8")
    held = [arrive(header) for header in (V1, other, V2, other)]
    assert [client.get().status for client in held] == [200] * 4
    with pytest.raises((OSError, ssl.SSLError, Cut)):
        arrive(V2).get()
    assert program.metric("connections_refused") == 1
    held[0].close()

    def again():
        try:
            return arrive(V1).get().status == 200
        except (OSError, ssl.SSLError, Cut):
            return False
    until(again, "a place of that client's is free again")


def test_the_limit_of_all_connections_holds_before_the_header(gatehouse, config, origin):
    program = gatehouse(config.site(origin.address, server=ON,
                                    sections="[limits]\nconnections = 3"))
    held = [Client(config.http, source=BALANCER) for _ in range(3)]
    until(lambda: program.metric("connections_open") == 3, "all three to be accepted")
    with Client(config.http, source=BALANCER) as client:
        assert client.closed()
    for client in held:
        client.send(V1)
        assert client.get().status == 200
        client.close()


def test_hash_client_goes_by_the_named_client(gatehouse, config, origins, arrive):
    several = [origins() for _ in range(3)]
    servers = ", ".join(f'"{o.address}"' for o in several)
    gatehouse(config.site("app", server=ON) +
              f'\n[upstream.app]\nservers = [{servers}]\nbalance = "hash_client"\n')
    for _ in range(6):
        arrive(V1).get()
    assert sorted(len(o.requests) for o in several) == [0, 0, 6]
    for i in range(30):
        arrive(f"PROXY TCP4 192.0.2.{100 + i} 198.51.100.9 1 443\r\n".encode()).get()
    assert all(o.requests for o in several), "other clients go to other servers"


CLAIMS = [("X-Forwarded-For", "203.0.113.5"), ("X-Forwarded-Proto", "gopher"),
          ("Forwarded", "for=203.0.113.5"), ("X-Forwarded-Port", "99")]


@pytest.mark.parametrize("header, believed", [
    (V1, False), (V1.replace(b"192.0.2.7", b"10.9.0.7"), True), (v2(command=0x20, family=0), True),
    (b"PROXY UNKNOWN\r\n", False), (v2(family=0), False)],
    ids=["a client", "a trusted proxy", "LOCAL", "UNKNOWN", "UNSPEC"])
def test_fields_are_believed_by_the_address_in_the_header(gatehouse, config, origin, arrive,
                                                          header, believed):
    program = gatehouse(config.site(origin.address, server=ON))
    arrive(header).get(fields=CLAIMS)
    seen = origin.last()
    assert bool(seen.values("forwarded")) == believed
    assert bool(seen.values("x-forwarded-port")) == believed
    assert (seen.value("x-forwarded-proto") == "gopher") == believed
    assert seen.value("x-forwarded-for").startswith("203.0.113.5, ") == believed
    assert (logged(program)[0]["client"] == "203.0.113.5") == believed


def test_the_access_log_has_the_client_that_a_trusted_proxy_forwarded(gatehouse, config, origin,
                                                                     arrive):
    program = gatehouse(config.site(origin.address, server=TRUST))
    client = arrive()
    claims = ["192.0.2.7", "198.51.100.1, 192.0.2.7, 10.9.1.1", "10.9.1.1", "nonsense", ""]
    for i, claim in enumerate(claims):
        client.get(f"/{i}", fields=[("X-Forwarded-For", claim)])
    client.get("/none")
    arrive(source="127.0.0.1").get("/untrusted", fields=[("X-Forwarded-For", "192.0.2.7")])
    assert {line["target"]: line["client"] for line in logged(program, 7)} == {
        "/0": "192.0.2.7", "/1": "192.0.2.7", "/2": "10.9.1.1", "/3": BALANCER, "/4": BALANCER,
        "/none": BALANCER, "/untrusted": "127.0.0.1"}


def test_what_a_trusted_proxy_decrypted_is_not_redirected(gatehouse, config, origin):
    gatehouse(config.site(origin.address, server=TRUST).replace("redirect_http = false", ""))
    secure = [("X-Forwarded-Proto", "https")]
    with Client(config.http, source=BALANCER) as client, Client(config.http) as other:
        assert client.get(fields=secure).status == 200
        assert client.get().status == 308
        assert other.get(fields=secure).status == 308


class UnixClient(Client):
    """A connection over a Unix socket."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(within(20))
        self.sock.connect(path)
        self.buffer = b""


@pytest.fixture
def socket_path(tmp_path_factory):
    import tempfile
    with tempfile.TemporaryDirectory(prefix="gh-") as folder:
        yield f"{folder}/gate.sock"


def test_a_unix_socket_is_trusted(gatehouse, config, origin, socket_path):
    program = gatehouse(config.site(origin.address, http=f"unix:{socket_path}",
                                    server="proxy_protocol = true"))
    for header in (V1, V2):
        with UnixClient(socket_path) as client:
            client.send(header)
            assert client.get().status == 200
    assert [r.value("x-forwarded-for") for r in origin.requests] == ["192.0.2.7"] * 2
    with UnixClient(socket_path) as client:
        client.send(v2(command=0x20, family=0))
        assert client.get().status == 200
    with UnixClient(socket_path) as client:
        client.send(request())
        assert client.closed()
    assert program.metric(REFUSED) == 1 and "a Unix socket" in program.log()


def test_a_reload_turns_it_on_for_new_connections(gatehouse, config, origin, arrive):
    program = gatehouse(config.site(origin.address, server=TRUST))
    before = arrive()
    assert before.get().status == 200
    program.reload(config.site(origin.address, server=ON))
    assert before.get().status == 200
    assert arrive(V1).get().status == 200
    assert origin.last().value("x-forwarded-for") == "192.0.2.7"


def test_connections_without_a_header_end_with_the_program(gatehouse, config, origin):
    program = gatehouse(config.site(origin.address, server=ON + 'grace = "1s"'))
    with Client(config.http, source=BALANCER) as client:
        client.send(V1[:10])
        until(lambda: program.metric("connections_open") == 1, "it was accepted")
        program.stop()


# --- out

def receive_header(connection):
    """The header at the beginning of the origin's connection, not a byte more."""
    data = b""
    while len(data) < 16 or (data.startswith(SIGNATURE) and
                             len(data) < 16 + int.from_bytes(data[14:16], "big")):
        if data.startswith(b"PROXY") and data.endswith(b"\r\n"):
            break
        data += connection.sock.recv(1) or b"\n" * 5000
    while data.startswith(b"PROXY") and not data.endswith(b"\r\n"):
        data += connection.sock.recv(1)
    return data


def introduced(origin, tls=None):
    """Makes the origin expect a header: `origin.headers` has one for each connection."""
    origin.headers = []

    def script(connection):
        header = receive_header(connection)
        if tls:
            connection.sock = tls.wrap_socket(connection.sock, server_side=True)
        origin.headers.append(header)
        origin.serve(connection)
    origin.script = script
    return origin


def group(origin, version, more=""):
    return (f'\n[upstream.app]\nservers = ["{origin.address}"]\n'
            f'proxy_protocol = "{version}"\n{more}\n')


def expected(version, source, source_port, destination, destination_port):
    if version == "v2":
        return v2_of(source, source_port, destination, destination_port)
    return (f"PROXY TCP{6 if ':' in source else 4} {source} {destination} {source_port} "
            f"{destination_port}\r\n").encode()


@pytest.mark.parametrize("version", HEADERS)
def test_the_origin_is_told_who_connected_to_what(gatehouse, config, origin, connect, version):
    introduced(origin)
    gatehouse(config.site("app") + group(origin, version))
    client = connect(source="127.0.0.5")
    port = client.sock.getsockname()[1]
    for i in range(5):
        assert client.get(f"/{i}", method="POST", body=b"x" * 1000).body == b"hello"
    assert origin.headers == [expected(version, "127.0.0.5", port,
                                       *client.sock.getpeername())], "one connection for one client"


@pytest.mark.parametrize("version", HEADERS)
def test_the_header_comes_before_tls(gatehouse, config, origin, connect, authority, tmp_path,
                                     version):
    chain, key = authority.issue(["app.internal"])
    (tmp_path / "app.pem").write_text(chain + key)
    (tmp_path / "root.pem").write_text(authority.root_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "app.pem")
    introduced(origin, context)
    gatehouse(config.site("app") + group(
        origin, version, f'''protocol = "https"
tls = {{ ca = "{tmp_path}/root.pem", name = "app.internal" }}'''))
    client = connect()
    assert client.get().body == client.get().body == b"hello"
    assert origin.headers == [expected(version, *client.sock.getsockname(),
                                       *client.sock.getpeername())]


def test_ipv6_clients_are_named(gatehouse, config, origin):
    introduced(origin)
    port = free_port()
    gatehouse(config.site("app", http=f"[::1]:{port}") + group(origin, "v1"))
    with socket.create_connection(("::1", port)) as sock:
        sock.sendall(request())
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
        assert origin.headers == [expected("v1", "::1", sock.getsockname()[1], "::1", port)]


def test_a_connection_is_not_shared_by_clients(gatehouse, config, origin, connect):
    introduced(origin)
    text = config.site("app").replace("workers = 2", "workers = 1") + group(origin, "v1")
    program = gatehouse(text)
    one, two = connect(), connect()
    for _ in range(3):
        assert one.get("/one").status == two.get("/two").status == 200
    assert len(origin.connections) == 2
    targets = {(r.connection, r.target) for r in origin.requests}
    assert targets == {(0, "/one"), (1, "/two")}
    one.close()
    assert origin.connections[0].closed_by_peer(), "nobody else may use it"
    assert two.get("/two").status == 200 and len(origin.connections) == 2
    until(lambda: program.metric("upstream_idle_connections") == 1, "the other to rest")


def test_many_clients_one_after_the_other_leave_nothing(gatehouse, config, origin, connect):
    introduced(origin)
    program = gatehouse(config.site("app") + group(origin, "v2"))
    for _ in range(50):
        client = connect()
        assert client.get().status == 200
        client.close()
    assert len(set(origin.headers)) == 50
    until(lambda: program.metric("upstream_idle_connections") == 0,
          "connections of clients that are gone end")


@pytest.mark.parametrize("version, said", [("v1", b"PROXY UNKNOWN\r\n"), ("v2", v2(family=0))])
def test_a_client_on_a_unix_socket_is_unknown(gatehouse, config, origin, socket_path, version,
                                              said):
    introduced(origin)
    gatehouse(config.site("app", http=f"unix:{socket_path}") + group(origin, version))
    with UnixClient(socket_path) as client:
        assert client.get().status == 200
    assert origin.headers == [said]


@pytest.mark.parametrize("version", HEADERS)
@pytest.mark.parametrize("came", HEADERS)
def test_what_came_in_goes_out(gatehouse, config, origin, arrive, came, version):
    introduced(origin)
    gatehouse(config.site("app", server=ON) + group(origin, version))
    assert arrive(HEADERS[came]).get().status == 200
    assert origin.headers == [HEADERS[version]]


def test_a_stale_connection_is_replaced_by_one_with_its_own_header(gatehouse, config, origin,
                                                                  connect):
    introduced(origin)
    serve_one = origin.script

    def script(connection):
        connection.origin.respond = lambda r: answer(b"bye")
        serve_one(connection)
    origin.script = script
    gatehouse(config.site("app") + group(origin, "v1"))
    client = connect()
    assert client.get().status == 200
    origin.connections[0].sock.shutdown(socket.SHUT_RDWR)
    assert client.get().status == 200
    assert len(origin.headers) == 2 and len(set(origin.headers)) == 1


def test_a_reload_that_turns_it_on_reuses_no_bare_connection(gatehouse, config, origin, connect):
    text = config.site("app").replace("workers = 2", "workers = 1")
    program = gatehouse(text + group(origin, ""))
    client = connect()
    assert client.get().status == 200
    introduced(origin)
    program.reload(text + group(origin, "v1"))
    assert client.get().status == 200
    assert len(origin.connections) == 2 and origin.headers[0].startswith(b"PROXY TCP4 127.0.0.1 ")


# --- others

NGINX = """daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{plain} proxy_protocol;
    listen 127.0.0.1:{encrypted} ssl proxy_protocol;
    ssl_certificate {folder}/app.pem; ssl_certificate_key {folder}/app.pem;
    location / {{
      default_type text/plain;
      return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr \
$proxy_protocol_server_port";
    }}
  }}
}}
"""


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("version", HEADERS)
def test_nginx_understands_our_header(gatehouse, config, connect, authority, tmp_path, run_beside,
                                      version, encrypted):
    chain, key = authority.issue(["app.internal"])
    (tmp_path / "app.pem").write_text(chain + key)
    plain, secure = free_port(), free_port()
    (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, plain=plain,
                                                      encrypted=secure))
    run_beside("nginx", ["nginx", "-c", str(tmp_path / "nginx.conf")], plain)
    more = 'protocol = "https"\ntls = { verify = false }' if encrypted else ""
    gatehouse(config.site("app") + f'''
[upstream.app]
servers = ["127.0.0.1:{secure if encrypted else plain}"]
proxy_protocol = "{version}"
{more}
''')
    client = connect(source="127.0.0.5")
    own, server = client.sock.getsockname(), client.sock.getpeername()
    for _ in range(3):
        assert client.get().text() == f"{own[0]} {own[1]} {server[0]} {server[1]}"


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_clients_at_the_same_time_are_not_mixed_up(gatehouse, config, authority, tmp_path,
                                                   run_beside, encrypted):
    chain, key = authority.issue(["app.internal"])
    (tmp_path / "app.pem").write_text(chain + key)
    plain, secure = free_port(), free_port()
    (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, plain=plain,
                                                      encrypted=secure))
    run_beside("nginx", ["nginx", "-c", str(tmp_path / "nginx.conf")], plain)
    more = 'protocol = "https"\ntls = { verify = false }' if encrypted else ""
    gatehouse(config.site("app").replace("workers = 2", "workers = 1") + f'''
[upstream.app]
servers = ["127.0.0.1:{secure if encrypted else plain}"]
proxy_protocol = "v2"
{more}
''')
    clients = [Client(config.http, source=f"127.0.0.{5 + i}") for i in range(24)]
    for _ in range(15):
        for client in clients:
            client.send(request())
        for client in clients:
            own = client.sock.getsockname()
            assert client.response().text() == f"{own[0]} {own[1]} 127.0.0.1 {config.http}"
    for client in clients:
        client.close()


HAPROXY = """global
  maxconn 100
defaults
  mode tcp
  timeout connect 5s
  timeout client 10s
  timeout server 10s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  source {source}
  server s {target} {options}
"""


@pytest.mark.parametrize("options, checked", [
    ("send-proxy", False), ("send-proxy-v2", False),
    ("send-proxy-v2 proxy-v2-options crc32c,ssl,unique-id", False),
    ("send-proxy check inter 100ms", True), ("send-proxy-v2 check inter 100ms", True)],
    ids=["v1", "v2", "v2 with TLVs", "v1 with checks", "v2 with checks"])
@pytest.mark.parametrize("scheme", ["http", "https", "unix"])
def test_haproxy_in_front(gatehouse, config, origin, tls, tmp_path, run_beside, socket_path, scheme,
                          options, checked):
    port = free_port()
    over_unix = scheme == "unix"
    program = gatehouse(config.site(origin.address, server=ON,
                                    http=f"unix:{socket_path}" if over_unix else None))
    target = {"http": f"127.0.0.1:{config.http}", "https": f"127.0.0.1:{config.https}",
              "unix": f"unix@{socket_path}"}[scheme]
    text = HAPROXY.format(port=port, target=target, options=options, source=BALANCER)
    (tmp_path / "haproxy.cfg").write_text(text)
    run_beside("haproxy", ["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")], port)
    secure = dict(tls=tls, name="example.test") if scheme == "https" else {}
    with Client(port, source="127.0.0.9", **secure) as client:
        for _ in range(3):
            assert client.get().status == 200
    assert {r.value("x-forwarded-for") for r in origin.requests} == {"127.0.0.9"}
    assert {line["client"] for line in logged(program, 3)} == {"127.0.0.9"}
    if checked:
        until(lambda: program.metric("connections_accepted") > 5, "health checks")
        time.sleep(0.2)
    assert program.metric(REFUSED) == 0 and "PROXY" not in program.log()
