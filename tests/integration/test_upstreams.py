"""How origins are reached: addresses, TLS, Unix sockets, several servers, routes and rewrites."""

import ssl

import pytest
from harness.origin import answer
from harness.wait import until
from local_ca import Authority


def server_context(authority, folder, names, client_root=None):
    chain, key = authority.issue(names)
    (folder / "origin.pem").write_text(chain + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "origin.pem")
    if client_root:
        context.load_verify_locations(cadata=client_root)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def group(name, lines):
    return f"\n[upstream.{name}]\n{lines}\n"


@pytest.fixture
def root_file(authority, tmp_path):
    (tmp_path / "root.pem").write_text(authority.root_pem())
    return tmp_path / "root.pem"


def test_a_unix_socket(gatehouse, config, origins, connect, tmp_path_factory):
    import tempfile
    with tempfile.TemporaryDirectory(prefix="gh-") as folder:
        origin = origins(unix_path=f"{folder}/app.sock")
        gatehouse(config.site(origin.address))
        client = connect()
        for i in range(5):
            assert client.get(f"/{i}").body == b"hello"
        assert len(origin.connections) == 1


def test_an_https_upstream_is_verified(gatehouse, config, origins, connect, authority, tmp_path,
                                       root_file):
    origin = origins(tls=server_context(authority, tmp_path, ["app.internal"]))
    gatehouse(config.site("app") + group("app", f'''servers = ["{origin.address}"]
protocol = "https"
tls = {{ ca = "{root_file}", name = "app.internal" }}'''))
    client = connect()
    for i in range(5):
        assert client.get(f"/{i}", method="POST", body=b"x" * 100000).body == b"hello"
    assert len(origin.connections) == 1 and origin.last().body == b"x" * 100000


@pytest.mark.parametrize("fault", ["wrong name", "unknown root", "expired"])
def test_an_https_upstream_that_fails_verification_is_502(gatehouse, config, origins, connect,
                                                         authority, tmp_path, root_file, fault):
    import datetime
    signer = Authority("Somebody else") if fault == "unknown root" else authority
    lifetime = datetime.timedelta(minutes=-10 if fault == "expired" else 60)
    chain, key = signer.issue(["app.internal"], lifetime)
    (tmp_path / "bad.pem").write_text(chain + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "bad.pem")
    origin = origins(tls=context)
    name = "other.internal" if fault == "wrong name" else "app.internal"
    program = gatehouse(config.site("app") + group("app", f'''servers = ["{origin.address}"]
protocol = "https"
tls = {{ ca = "{root_file}", name = "{name}" }}'''))
    assert connect().get().status == 502
    assert origin.requests == []
    until(lambda: any("certificate" in line for line in
                      program.access_lines() + program.log().splitlines()), "the reason in a log")


def test_verification_can_be_turned_off_by_name(gatehouse, config, origins, connect, tmp_path):
    origin = origins(tls=server_context(Authority("Nobody"), tmp_path, ["x.internal"]))
    gatehouse(config.site("app") + group("app", f'''servers = ["{origin.address}"]
protocol = "https"
tls = {{ verify = false }}'''))
    assert connect().get().body == b"hello"


def test_a_client_certificate_is_shown_to_the_upstream(gatehouse, config, origins, connect,
                                                       authority, tmp_path, root_file):
    chain, key = authority.issue(["gatehouse.internal"], client=True)
    (tmp_path / "client.pem").write_text(chain)
    (tmp_path / "client.key").write_text(key)
    origin = origins(tls=server_context(authority, tmp_path, ["app.internal"],
                                        client_root=authority.root_pem()))
    gatehouse(config.site("app") + group("app", f'''servers = ["{origin.address}"]
protocol = "https"
tls = {{ ca = "{root_file}", name = "app.internal", certificate = "{tmp_path}/client.pem", \
key = "{tmp_path}/client.key" }}'''))
    assert connect().get().body == b"hello"


def test_a_refused_connection_is_502_and_named_in_the_log(gatehouse, config, origin, connect):
    program = gatehouse(config.site(origin.address))
    origin.close_listener()
    assert connect().get().status in (502, 503)
    until(lambda: any("refused" in line for line in
                      program.access_lines() + program.log().splitlines()), "the reason in a log")


def test_another_server_is_tried_when_one_refuses(gatehouse, config, origins, connect):
    dead, alive = origins(), origins()
    dead.close_listener()
    gatehouse(config.site("app") + group(
        "app", f'servers = ["{dead.address}", "{alive.address}"]\nbalance = "round_robin"'))
    client = connect()
    assert [client.get().status for _ in range(10)] == [200] * 10
    assert [client.get(method="POST", body=b"x").status for _ in range(4)] == [200] * 4


def test_round_robin_shares_by_weight(gatehouse, config, origins, connect):
    one, two = origins(), origins()
    text = config.site("app").replace("workers = 2", "workers = 1")
    gatehouse(text + group("app", f'''servers = [
  "{one.address}", {{ address = "{two.address}", weight = 3 }}]
balance = "round_robin"'''))
    client = connect()
    for _ in range(40):
        assert client.get().status == 200
    assert (len(one.requests), len(two.requests)) == (10, 30)


def test_a_backup_serves_only_when_the_others_fail(gatehouse, config, origins, connect):
    main, backup = origins(), origins()
    gatehouse(config.site("app") + group("app", f'''servers = [
  "{main.address}", {{ address = "{backup.address}", backup = true }}]'''))
    client = connect()
    for _ in range(10):
        client.get()
    assert backup.requests == []
    main.stop()
    until(lambda: connect().get().status == 200 and backup.requests, "the backup to serve")


def test_hash_client_keeps_a_client_on_one_server(gatehouse, config, origins, connect):
    group_of = [origins() for _ in range(3)]
    servers = ", ".join(f'"{o.address}"' for o in group_of)
    gatehouse(config.site("app") + group("app", f'servers = [{servers}]\nbalance = "hash_client"'))
    for _ in range(12):
        connect().get()
    assert sorted(len(o.requests) for o in group_of) == [0, 0, 12]


@pytest.mark.parametrize("setting, expected", [
    ("request", "example.test"), ("server", None), ("app.internal", "app.internal")])
def test_the_host_sent_upstream(gatehouse, config, origin, connect, setting, expected):
    gatehouse(config.site("app") + group(
        "app", f'servers = ["{origin.address}"]\nhost = "{setting}"'))
    assert connect().get().status == 200
    assert origin.last().value("host") == (expected or origin.address)
    assert origin.last().value("x-forwarded-host") == "example.test"


def test_routes_choose_by_path_method_and_field(gatehouse, config, origins, connect):
    main, api, upload = origins(), origins(), origins()
    gatehouse(config.site(main.address, more=f'''
  [[site.route]]
  path = "/api/*"
  methods = ["POST"]
  upstream = "{upload.address}"

  [[site.route]]
  path = "/api/*"
  strip_prefix = "/api"
  upstream = "{api.address}"

  [[site.route]]
  path = "/old"
  redirect = "308 https://other.test{{uri}}"

  [[site.route]]
  path = "/teapot"
  respond = "503 down for maintenance"

  [[site.route]]
  path = "/*"
  headers = {{ x-beta = "yes*" }}
  upstream = "{api.address}"
'''))
    client = connect()
    assert client.get("/api/x?y=1").status == 200 and api.last().target == "/x?y=1"
    assert client.get("/api/x", method="POST", body=b"").status == 200
    assert upload.last().target == "/api/x"
    moved = client.get("/old?q=1")
    assert (moved.status, moved.value("location")) == (308, "https://other.test/old?q=1")
    fixed = client.get("/teapot")
    assert (fixed.status, fixed.body) == (503, b"down for maintenance")
    assert client.get("/z", fields=[("X-Beta", "yes, please")]).status == 200
    assert api.last().target == "/z"
    assert client.get("/z").status == 200 and main.last().target == "/z"
    assert client.get("/%61pi/q").status == 200, "routes look at the decoded path"
    assert api.last().target in ("/q",)


def test_fields_are_set_added_and_removed(gatehouse, config, origin, connect):
    gatehouse(config.site(origin.address, more='''
request_headers = { set = { X-Set = "new" }, add = { X-Add = "2" }, remove = ["X-Gone"] }
response_headers = { set = { Server = "mine" }, add = { X-More = "b" }, remove = ["X-Secret"] }
'''))
    origin.respond = lambda r: answer(b"x", fields=[("Server", "theirs"), ("X-More", "a"),
                                                    ("X-Secret", "1")])
    response = connect().get(fields=[("X-Set", "old"), ("X-Add", "1"), ("X-Gone", "1")])
    seen = origin.last()
    assert seen.value("x-set") == "new" and seen.values("x-add") == ["1", "2"]
    assert seen.values("x-gone") == []
    assert response.value("server") == "mine" and response.values("x-more") == ["a", "b"]
    assert response.values("x-secret") == []


def test_access_rules_refuse_by_address(gatehouse, config, origin, connect):
    gatehouse(config.site(origin.address, more='access = { deny = ["127.0.0.2/32"] }'))
    assert connect().get().status == 200
    assert connect(source="127.0.0.2").get().status == 403
    assert len(origin.requests) == 1


def test_idle_upstream_connections_are_closed_after_their_time(gatehouse, config, origin, connect):
    gatehouse(config.site(origin.address, sections='[timeouts]\nupstream_idle = "500ms"'))
    assert connect().get().status == 200
    assert origin.connections[0].closed_by_peer(10)
