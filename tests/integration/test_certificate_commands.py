"""certs show, renew, revoke, export, root, rollover; custom certificates; doctor."""

import datetime
import json
import os
import pathlib
import stat
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from harness.client import Client, trusting_anything
from harness.limits import within
from harness.program import BINARY, AdminConnection, command
from harness.wait import until
from local_ca import Authority, LocalCa
from ports import free_port

NAME = "shop.test"


@pytest.fixture
def text(config, ca, origin):
    """One ordered name, one of gatehouse's own authority."""
    return config.acme(
        ca.directory, ca.trust,
        f'[[site]]\nhosts = ["{NAME}"]\nupstream = "{origin.address}"\n'
        f'[[site]]\nhosts = ["inside.test"]\ncertificates = "internal"\n'
        f'upstream = "{origin.address}"\n')


@pytest.fixture
def program(gatehouse, text):
    started = gatehouse(text)
    until(lambda: state(started) == "active", "the first certificate")
    until(lambda: state(started, "inside.test") == "active", "the internal certificate")
    # They are served before they are stored.
    for place in (f"certs/{NAME}", "internal/leaves/inside.test"):
        until((started.folder / "storage" / place / "current").exists, f"{place} in storage")
    return started


def state(program, name=NAME):
    return program.certificates().get(name, {}).get("state")


def certs(program, *arguments, **settings):
    return command("certs", *arguments, "--config", str(program.config), **settings)


def shown(program, name=NAME):
    status, text = program.admin(f"/api/certificates/{name}")
    assert status == 200, text
    return json.loads(text)


def served(config, name=NAME):
    """The serial number in a handshake, hexadecimal as gatehouse writes it."""
    with Client(config.https, tls=trusting_anything(), name=name) as client:
        return client.certificate().serial_number


def put(program, name, chain, key):
    return program.admin(f"/api/certificates/{name}", "PUT",
                         body=json.dumps({"certificate": chain, "key": key}))


def one_line(done, status=1):
    assert done.returncode == status, (done.stdout, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and not done.stdout, done.stderr
    return lines[0]


# --- show and list

def test_show_is_a_sheet_for_people_and_json_for_programs(program):
    done = certs(program, "show", NAME)
    assert done.returncode == 0, done.stderr
    for words in (NAME, "active", "P-256", "Pebble Intermediate", "valid until", "local"):
        assert words in done.stdout, done.stdout
    details = json.loads(certs(program, "show", NAME, "--json").stdout)
    assert details["names"] == [NAME] and details["authority"] == "local"
    assert details["orders_today"] == 1 and details["failures"] == 0
    assert len(details["chain"]) >= 2 and details["budgets"][0]["authority"] == "local"
    assert "PRIVATE" not in done.stdout + json.dumps(details)


def test_show_and_list_read_the_storage_when_nothing_runs(program):
    before = shown(program)
    program.stop()
    done = certs(program, "show", NAME, "--json")
    assert done.returncode == 0, done.stderr
    after = json.loads(done.stdout)
    for key in ("serial", "fingerprint", "names", "not_after", "key_type", "authority"):
        assert after[key] == before[key], key
    listed = certs(program, "list")
    assert listed.returncode == 0 and NAME in listed.stdout and "inside.test" in listed.stdout


@pytest.mark.parametrize("verb", ["show", "renew", "revoke"])
def test_an_unknown_name_comes_with_the_nearest(program, verb):
    line = one_line(certs(program, verb, "shpo.test"))
    assert "shpo.test" in line and f"did you mean '{NAME}'" in line


def test_an_unknown_name_comes_with_the_nearest_also_from_storage(program, tmp_path):
    program.stop()
    assert f"did you mean '{NAME}'" in one_line(certs(program, "show", "shpo.test"))
    assert f"did you mean '{NAME}'" in one_line(
        certs(program, "export", "shpo.test", str(tmp_path / "out")))


@pytest.mark.parametrize("name", ["", "a b", "../../etc", "a\nb", "$(id)", "x" * 300, "*", "a..b"])
@pytest.mark.parametrize("verb", [["show"], ["renew"], ["revoke"], ["export", "/tmp/never"]])
def test_a_name_that_is_none_is_wrong_usage(tmp_path, config, origin, verb, name):
    path = tmp_path / "gatehouse.toml"
    path.write_text(config.site(origin.address).replace("@FOLDER@", str(tmp_path))
                    .replace("@ADMIN@", str(tmp_path / "a.sock")))
    done = command("certs", verb[0], "--config", str(path), "--", name, *verb[1:])
    assert done.returncode == 2 and not done.stdout
    assert 1 <= len(done.stderr.strip().splitlines()) <= 2


@pytest.mark.parametrize("arguments", [["renew", NAME], ["revoke", NAME], ["rollover"]])
def test_commands_that_change_something_need_a_running_program(program, arguments):
    program.stop()
    assert "is it running?" in one_line(certs(program, *arguments))


def test_a_wrong_token_is_told(gatehouse, config, origin, tmp_path):
    port = free_port()
    (tmp_path / "token").write_text("right\n")
    os.chmod(tmp_path / "token", 0o600)
    text = config.site(origin.address).replace(
        'admin = "unix:@ADMIN@"',
        f'admin = "127.0.0.1:{port}"\nadmin_token_file = "{tmp_path}/token"')
    program = gatehouse(text, wait=False)
    address = ["--admin", f"127.0.0.1:{port}"]

    def listed(token):
        return command("certs", "list", *address, environment={"GATEHOUSE_ADMIN_TOKEN": token})
    until(lambda: listed("right").returncode == 0, "the admin interface")
    for arguments in (["list"], ["show", "example.test"], ["renew", "example.test"],
                      ["revoke", "example.test"], ["rollover"]):
        line = one_line(command("certs", *arguments, *address,
                                environment={"GATEHOUSE_ADMIN_TOKEN": "wrong"}))
        assert "token" in line.lower()
    assert program.process.poll() is None


# --- renew

def test_renew_is_refused_before_it_is_due_and_forced_at_once(program, config, ca):
    before = served(config)
    due = shown(program)["renew_at"]
    line = one_line(certs(program, "renew", NAME))
    assert due in line and "--force" in line
    assert served(config) == before and ca.orders() == 1
    done = certs(program, "renew", NAME, "--force", seconds=60)
    assert done.returncode == 0, done.stderr
    assert NAME in done.stdout and "valid until" in done.stdout
    assert served(config) != before and ca.orders() == 2
    machine = certs(program, "renew", NAME, "--force", "--json", seconds=60)
    assert json.loads(machine.stdout)["state"] == "active"
    assert json.loads(machine.stdout)["previous_generation"]


def test_renew_tells_how_an_order_fails(gatehouse, config, faults, ca, origin):
    program = gatehouse(config.acme(
        faults.directory, ca.trust,
        f'[[site]]\nhosts = ["{NAME}"]\nupstream = "{origin.address}"\n'))
    until(lambda: state(program) == "active", "the first certificate")
    before = served(config)
    faults.fault("500")
    line = one_line(certs(program, "renew", NAME, "--force", seconds=120))
    assert NAME in line and "next attempt" in line
    assert served(config) == before
    faults.fault("pass")


# --- revoke

def test_what_is_revoked_is_replaced(program, config, ca):
    before = served(config)
    done = certs(program, "revoke", NAME)
    assert done.returncode == 0, done.stderr
    until(lambda: served(config) != before, "a new certificate")
    assert ca.orders() == 2
    until(lambda: state(program) == "active", "the new one is active")
    assert json.loads(certs(program, "revoke", NAME, "--reason", "superseded", "--json").stdout) \
        == {"status": "revoked"}


def test_what_is_revoked_already_is_told(gatehouse, config, faults, ca, origin):
    """No new certificate can be had meanwhile."""
    program = gatehouse(config.acme(
        faults.directory, ca.trust,
        f'[[site]]\nhosts = ["{NAME}"]\nupstream = "{origin.address}"\n'))
    until(lambda: state(program) == "active", "the first certificate")
    before = served(config)
    assert certs(program, "revoke", NAME).returncode == 0
    second = certs(program, "revoke", NAME)
    if second.returncode != 0:
        assert "revoked already" in second.stderr or "certificate" in second.stderr
    until(lambda: served(config) != before, "a new certificate")


def test_a_compromised_key_is_no_longer_served(program, config):
    before = served(config)
    folder = program.folder / "storage"
    done = certs(program, "revoke", NAME, "--reason", "keyCompromise")
    assert done.returncode == 0, done.stderr
    until(lambda: served(config) != before, "the revoked one is gone")
    kept = [p.name for p in (folder / "archive").iterdir()]
    assert any(name.startswith(f"{NAME}+revoked-") for name in kept), kept
    until(lambda: state(program) == "active", "a new certificate")
    program.stop()
    program.start()
    assert served(config) != before


def test_a_reason_that_is_none_is_wrong_usage(program):
    line = one_line(certs(program, "revoke", NAME, "--reason", "boredom"), status=2)
    assert "keyCompromise" in line


def test_an_internal_certificate_cannot_be_revoked(program):
    assert "own authority" in one_line(certs(program, "revoke", "inside.test"))


# --- rollover

def test_the_account_gets_a_new_key(program):
    keys = list((program.folder / "storage/issuers/local").rglob("key.pem"))
    before = sorted(k.read_bytes() for k in keys)
    done = certs(program, "rollover", "local")
    assert done.returncode == 0, done.stderr
    after = sorted(k.read_bytes()
                   for k in (program.folder / "storage/issuers/local").rglob("key.pem"))
    assert after and after != before
    assert certs(program, "renew", NAME, "--force", seconds=60).returncode == 0
    assert certs(program, "rollover").returncode == 0
    assert "local" in one_line(certs(program, "rollover", "elsewhere"))


# --- export and root

@pytest.mark.parametrize("running", [True, False])
def test_export_writes_what_is_served(program, config, tmp_path, running):
    serial = served(config)
    if not running:
        program.stop()
    target = tmp_path / "out"
    done = certs(program, "export", NAME, str(target))
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((target / "privkey.pem").stat().st_mode) == 0o600
    leaf = x509.load_pem_x509_certificate((target / "cert.pem").read_bytes())
    key = load_pem_private_key((target / "privkey.pem").read_bytes(), None)
    assert leaf.serial_number == serial
    assert key.public_key().public_numbers() == leaf.public_key().public_numbers()
    assert (target / "fullchain.pem").read_text() == \
        (target / "cert.pem").read_text() + (target / "chain.pem").read_text()
    line = one_line(certs(program, "export", NAME, str(target)))
    assert "--force" in line and "cert.pem" in line
    again = certs(program, "export", NAME, str(target), "--force", "--json")
    assert len(json.loads(again.stdout)["files"]) == 4


def test_export_names_a_folder_that_cannot_be_written(program):
    for target in ("/proc/nowhere", "/dev/null"):
        assert target in one_line(certs(program, "export", NAME, target))


def test_export_of_a_file_of_the_users_own_names_it(gatehouse, config, origin, tmp_path):
    program = gatehouse(config.site(origin.address))
    line = one_line(certs(program, "export", "example.test", str(tmp_path / "out")))
    assert str(config.chain) in line


def test_root_is_printed_and_how_to_trust_it(program, config):
    done = certs(program, "root")
    assert done.returncode == 0 and "update-ca-certificates" in done.stderr
    root = x509.load_pem_x509_certificate(done.stdout.encode())
    assert "BEGIN CERTIFICATE" in json.loads(certs(program, "root", "--json").stdout)["root"]
    with Client(config.https, tls=trusting_anything(), name="inside.test") as client:
        assert client.certificate().issuer == root.subject
    assert "PRIVATE" not in done.stdout
    program.stop()
    assert certs(program, "root").stdout == done.stdout


def test_a_root_that_is_not_there_is_told(gatehouse, config, origin):
    program = gatehouse(config.site(origin.address))
    assert "internal" in one_line(certs(program, "root"))


# --- custom certificates

def test_a_custom_certificate_is_served_until_it_is_deleted(program, config, authority, ca):
    managed = served(config)
    chain, key = authority.issue([NAME], datetime.timedelta(days=30))
    custom = x509.load_pem_x509_certificate(chain.encode()).serial_number
    status, answer = put(program, NAME, chain, key)
    assert status == 200, answer
    assert json.loads(answer)["state"] == "custom"
    secret = "".join(key.splitlines()[1:2])
    assert "PRIVATE" not in answer and secret not in answer
    until(lambda: served(config) == custom, "the custom certificate")
    folder = program.folder / "storage/custom" / NAME
    for file in folder.rglob("*.pem"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "your own" in one_line(certs(program, "renew", NAME, "--force"))
    assert "your own" in one_line(certs(program, "revoke", NAME))

    rows = json.loads(program.admin("/api/certificates")[1])["certificates"]
    assert [row["state"] for row in rows if row["name"] == NAME] == ["custom"]

    program.stop()
    assert json.loads(certs(program, "show", NAME, "--json").stdout)["state"] == "custom"
    program.start()
    assert served(config) == custom
    assert state(program) == "custom" and ca.orders() == 1

    status, answer = program.admin(f"/api/certificates/{NAME}", "DELETE")
    assert status == 200, answer
    until(lambda: served(config) == managed, "the managed certificate again")
    assert ca.orders() == 1
    assert program.admin(f"/api/certificates/{NAME}", "DELETE")[0] == 404
    assert secret not in program.log() and "PRIVATE" not in program.log()


def test_a_further_put_replaces_the_first(program, config, authority):
    for _ in range(2):
        chain, key = authority.issue([NAME])
        assert put(program, NAME, chain, key)[0] == 200
        serial = x509.load_pem_x509_certificate(chain.encode()).serial_number
        until(lambda wanted=serial: served(config) == wanted, "the newest custom certificate")


def test_a_custom_certificate_survives_a_reload_and_a_crash(program, config, authority):
    chain, key = authority.issue([NAME])
    assert put(program, NAME, chain, key)[0] == 200
    serial = x509.load_pem_x509_certificate(chain.encode()).serial_number
    until(lambda: served(config) == serial, "the custom certificate")
    program.reload()
    assert served(config) == serial
    program.kill()
    program.start()
    assert served(config) == serial


def test_a_custom_certificate_that_does_not_fit_is_refused(program, config, authority):
    before = served(config)
    chain, key = authority.issue([NAME])
    other_chain, other_key = authority.issue([NAME])
    foreign_chain, foreign_key = authority.issue(["elsewhere.test"])
    old_chain, old_key = authority.issue([NAME], datetime.timedelta(minutes=-30))
    keys = (key, other_key, foreign_key, old_key)
    secrets = [line for one in keys for line in one.splitlines() if not line.startswith("-----")]
    for words, body in (("key", (chain, other_key)), ("cover", (foreign_chain, foreign_key)),
                        ("expired", (old_chain, old_key)), (NAME, ("garbage", key)),
                        (NAME, (chain, "garbage")), (NAME, (key, key)),
                        ("chain", (chain + other_chain, key))):
        status, answer = put(program, NAME, *body)
        assert status == 422, (words, answer)
        assert words in json.loads(answer)["error"]
        assert not any(line in answer for line in secrets)
    assert served(config) == before and state(program) == "active"
    assert not list((program.folder / "storage/custom").iterdir())


def test_requests_that_make_no_sense_are_refused(program, config, authority):
    chain, key = authority.issue([NAME])
    path = f"/api/certificates/{NAME}"
    for body in ("{", "[]", "{}", '{"certificate": 1, "key": 2}', "\x00", "null"):
        assert program.admin(path, "PUT", body=body)[0] == 400, body
    assert put(program, "nobody.example", chain, key)[0] == 404
    assert put(program, "..%2f..%2fetc", chain, key)[0] == 400
    assert put(program, "%zz", chain, key)[0] == 400
    assert program.admin(path, "POST")[0] == 405
    assert program.admin(path, "PATCH")[0] == 405
    connection = AdminConnection(program.admin_path, within(10))
    connection.putrequest("PUT", path)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(1024 * 1024 + 1))
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413 and "error" in json.loads(response.read())
    connection.close()
    assert state(program) == "active"


def test_the_sites_own_file_goes_before_a_custom_certificate(gatehouse, config, origin, authority):
    program = gatehouse(config.site(origin.address))
    chain, key = authority.issue(["example.test"])
    status, answer = put(program, "example.test", chain, key)
    assert status == 409 and str(config.chain) in json.loads(answer)["error"]
    # A name below its wildcard has no file of its own.
    chain, key = authority.issue(["a.example.test"])
    assert put(program, "a.example.test", chain, key)[0] == 200
    serial = x509.load_pem_x509_certificate(chain.encode()).serial_number
    until(lambda: served(config, "a.example.test") == serial, "the custom certificate")
    assert served(config, "b.example.test") != serial


# --- doctor

@pytest.fixture
def doctor(program, config, ca, tmp_path):
    root = tmp_path / "root.pem"
    root.write_text(ca.root())

    def run(host=NAME, *arguments, trust=True, http=config.http, https=config.https):
        return command("doctor", host, "--config", str(program.config), "--address", "127.0.0.1",
                       "--http-port", str(http), "--https-port", str(https),
                       *arguments, seconds=60,
                       environment={"SSL_CERT_FILE": str(root)} if trust else {})
    return run


def test_the_doctor_finds_a_well_host_well(doctor):
    done = doctor()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answered by this gatehouse" in done.stdout
    assert "the one that gatehouse has" in done.stdout
    assert done.stdout.strip().splitlines()[-1].startswith(f"{NAME} is well")
    machine = json.loads(doctor(NAME, "--json").stdout)
    assert machine["well"] is True and machine["host"] == NAME


def test_the_doctor_trusts_the_own_authority_of_this_gatehouse(doctor):
    done = doctor("inside.test")
    assert done.returncode == 0, done.stdout


def test_the_doctor_says_that_clients_refuse_the_certificate(doctor):
    done = doctor(trust=False)
    assert done.returncode == 1 and "clients refuse" in done.stdout


def test_the_doctor_finds_another_server_on_port_80(doctor, origin):
    port = origin.address.rpartition(":")[2]
    done = doctor(http=port)
    assert "answered by another server" in done.stdout
    nobody = doctor(http=free_port(), https=free_port())
    assert nobody.returncode == 1 and "not reached on HTTPS" in nobody.stdout


def test_the_doctor_knows_hosts_that_no_site_has(doctor):
    done = doctor("shpo.test")
    assert done.returncode == 1 and f"did you mean '{NAME}'" in done.stdout


def test_the_doctor_says_what_it_cannot_see_when_nothing_runs(doctor, program):
    program.stop()
    done = doctor()
    assert done.returncode == 1
    for words in ("no gatehouse runs here", "was not asked", "valid until"):
        assert words in done.stdout, done.stdout


def test_the_doctor_tells_the_last_error_and_the_next_attempt(gatehouse, config, origin, tmp_path):
    """The CA asks for the challenge at a port where nobody is."""
    ca = LocalCa(tmp_path / "misled-ca", free_port()).start()
    try:
        program = gatehouse(config.acme(
            ca.directory, ca.trust,
            f'[[site]]\nhosts = ["{NAME}"]\nupstream = "{origin.address}"\n',
            more='challenges = ["http-01"]'))
        until(lambda: program.certificates()[NAME]["last_error"], "a failure")
        done = command("doctor", NAME, "--config", str(program.config), "--address", "127.0.0.1",
                       "--http-port", str(config.http), "--https-port", str(config.https),
                       seconds=60)
        assert done.returncode == 1
        verdict = done.stdout.strip().splitlines()[-1]
        assert NAME in verdict and "next attempt" in verdict, done.stdout
    finally:
        ca.stop()


@pytest.mark.parametrize("host", ["", "a b", "-x", "*.shop.test", "http://shop.test/", "a:80",
                                  "$(id)", "a\nb", "../x", "x" * 300, "\u00fc.test"])
def test_the_doctor_refuses_what_is_no_host(tmp_path, config, origin, host):
    path = tmp_path / "gatehouse.toml"
    path.write_text(config.site(origin.address).replace("@FOLDER@", str(tmp_path))
                    .replace("@ADMIN@", str(tmp_path / "a.sock")))
    done = command("doctor", "--config", str(path), "--", host)
    assert done.returncode == 2 and not done.stdout, done.stdout
    assert 1 <= len(done.stderr.strip().splitlines()) <= 2


def test_the_doctor_and_show_know_sites_that_have_no_certificate_yet_or_ever(
        gatehouse, config, ca, origin, tmp_path):
    program = gatehouse(config.acme(
        ca.directory, ca.trust,
        '[on_demand]\nallow = ["*.visited.test"]\n'
        f'[[site]]\nhosts = ["*.visited.test"]\ncertificates = "on_demand"\n'
        f'upstream = "{origin.address}"\n'
        f'[[site]]\nhosts = ["plain.test"]\ncertificates = "off"\n'
        f'upstream = "{origin.address}"\n'))
    assert "first visited" in one_line(certs(program, "show", "a.visited.test"))
    assert "first visited" in one_line(certs(program, "renew", "a.visited.test"))
    assert "plain HTTP only" in one_line(certs(program, "show", "plain.test"))
    (tmp_path / "root.pem").write_text(ca.root())
    done = command("doctor", "a.visited.test", "--config", str(program.config), "--address",
                   "127.0.0.1", "--http-port", str(config.http), "--https-port",
                   str(config.https), seconds=60,
                   environment={"SSL_CERT_FILE": str(tmp_path / "root.pem")})
    assert done.returncode == 0, done.stdout
    assert done.stdout.strip().splitlines()[-1].startswith("a.visited.test is well")


def test_what_a_certificate_says_of_itself_is_no_command_to_a_terminal(program):
    hostile = Authority("Root\x1b[31m\nforged.test  active")
    assert put(program, NAME, *hostile.issue([NAME]))[0] == 200
    for done in (certs(program, "show", NAME), certs(program, "list")):
        assert done.returncode == 0 and "Root" in done.stdout
        assert "\x1b" not in done.stdout and "\nforged" not in done.stdout


@pytest.mark.skipif(os.getuid() != 0, reason="root alone may become another")
def test_who_may_not_ask_is_told_who_may(program, tmp_path):
    for folder in [tmp_path, *tmp_path.parents]:
        if folder == pathlib.Path("/tmp"):
            break
        folder.chmod(0o755)
    os.chmod(program.admin_path.parent, 0o755)
    for arguments in (["list"], ["export", NAME, "/tmp/never"], ["root"]):
        done = subprocess.run(
            [BINARY, "certs", *arguments, "--config", str(program.config)], user="nobody",
            group="nogroup", extra_groups=[], capture_output=True, text=True, timeout=within(20))
        assert "run this as one of them" in one_line(done)
