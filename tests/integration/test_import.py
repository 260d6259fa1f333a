"""What certbot left is taken over: served at once without an order, renewed with its account."""

import base64
import json
import os
import pathlib
import pwd

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from harness.client import Client, trusting
from harness.program import command
from harness.wait import until
from local_ca import LocalCa

LIFETIME_SECONDS = 40
NAME = "adopted.test"


@pytest.fixture
def short_ca(tmp_path, config):
    ca = LocalCa(tmp_path / "short-ca", config.http, lifetime_seconds=LIFETIME_SECONDS).start()
    yield ca
    ca.stop()


def pem_in(path):
    """Without the checksum that our storage keeps in the file."""
    text = path.read_text()
    return text[text.index("-----BEGIN"):].rpartition("-----\n")[0] + "-----\n"


def jwk_of(pem):
    """A private EC key as certbot writes it."""
    private = load_pem_private_key(pem.encode(), None).private_numbers()

    def number(value):
        return base64.urlsafe_b64encode(value.to_bytes(32, "big")).rstrip(b"=").decode()
    return {"kty": "EC", "crv": "P-256", "d": number(private.private_value),
            "x": number(private.public_numbers.x), "y": number(private.public_numbers.y)}


def as_certbot(storage, folder, directory):
    """A certbot folder with what a storage of ours holds: its real layout, links included."""
    stored = storage / "certs" / NAME / "current"
    archive, live = folder / "archive" / NAME, folder / "live" / NAME
    archive.mkdir(parents=True)
    live.mkdir(parents=True)
    for name in ("cert", "chain", "fullchain", "privkey"):
        (archive / f"{name}1.pem").write_text((stored / f"{name}.pem").read_text())
        (live / f"{name}.pem").symlink_to(f"../../archive/{NAME}/{name}1.pem")
    (folder / "renewal").mkdir()
    (folder / "renewal" / f"{NAME}.conf").write_text(
        f"version = 2.1.0\narchive_dir = {archive}\n\n[renewalparams]\naccount = 11aa\n"
        f"server = {directory}\nauthenticator = webroot\n")
    ours = next((storage / "issuers" / "local" / "accounts").iterdir())
    record = (ours / "account.json").read_text()
    theirs = folder / "accounts" / directory.removeprefix("https://") / "11aa"
    theirs.mkdir(parents=True)
    (theirs / "private_key.json").write_text(json.dumps(jwk_of(pem_in(ours / "key.pem"))))
    url = json.loads(record[record.index("{"):record.rindex("}") + 1])["url"]
    (theirs / "regr.json").write_text(json.dumps({"body": {}, "uri": url}))


def test_what_certbot_left_is_served_without_an_order_and_renewed_with_its_account(
        gatehouse, config, short_ca, origin, tmp_path):
    text = config.acme(short_ca.directory, short_ca.trust,
                       f'[[site]]\nhosts = ["{NAME}"]\nupstream = "{origin.address}"\n')
    other = gatehouse(text)
    until(lambda: other.certificates().get(NAME, {}).get("state") == "active", "a certificate")
    with Client(config.https, tls=trusting(short_ca.root()), name=NAME) as client:
        left = client.certificate()
    other.stop()
    certbot = tmp_path / "letsencrypt"
    as_certbot(other.folder / "storage", certbot, short_ca.directory)
    orders, accounts = short_ca.orders(), short_ca.log_text().count("accounts in memory")

    folder = tmp_path / "adopting"
    folder.mkdir()
    (folder / "gatehouse.toml").write_text(
        text.replace("@FOLDER@", str(folder)).replace("@ADMIN@", str(folder / "admin.sock")))
    source = f"certbot:{certbot}"
    arguments = ["certs", "import", source, "--config", str(folder / "gatehouse.toml")]
    dry = command(*arguments, "--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    assert [row["outcome"] for row in json.loads(dry.stdout)["certificates"]] == ["imported"]
    assert not os.path.exists(folder / "storage")
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"imported      {NAME}" in done.stdout
    assert "account at local" in done.stdout

    program = gatehouse(text, folder=folder)
    with Client(config.https, tls=trusting(short_ca.root()), name=NAME) as client:
        assert client.certificate().serial_number == left.serial_number
        assert client.get(host=NAME).status == 200
    assert short_ca.orders() == orders
    refused = command(*arguments)
    assert refused.returncode == 1
    assert "gatehouse stop" in refused.stderr and refused.stderr.count("\n") == 1

    def renewed():
        with Client(config.https, tls=trusting(short_ca.root()), name=NAME) as client:
            return client.certificate().serial_number != left.serial_number
    until(renewed, "the renewal", LIFETIME_SECONDS)
    assert program.metric("orders") >= 1
    assert short_ca.log_text().count("accounts in memory") == accounts


def test_a_source_that_is_none_is_refused_in_one_line(config, tmp_path, origin):
    file = tmp_path / "gatehouse.toml"
    file.write_text(config.site(origin.address).replace("@FOLDER@", str(tmp_path))
                    .replace("@ADMIN@", str(tmp_path / "admin.sock")))
    for source, status in (("nginx:/etc", 2), ("certbot:", 2), (f"caddy:{tmp_path}/nowhere", 1),
                           (f"traefik:{tmp_path}", 2)):
        outcome = command("certs", "import", source, "--config", str(file))
        assert outcome.returncode == status, outcome.stderr
        assert outcome.stderr.count("\n") == 1 and outcome.stdout == ""
    assert not (tmp_path / "storage").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="root alone may become another")
def test_root_imports_for_the_user_before_the_first_start(config, origin, authority, tmp_path):
    for folder in [tmp_path, *tmp_path.parents]:
        if folder == pathlib.Path("/tmp"):
            break
        folder.chmod(0o755)
    source = tmp_path / "lego" / "certificates"
    source.mkdir(parents=True, mode=0o700)
    chain, key = authority.issue([NAME])
    (source / f"{NAME}.crt").write_text(chain)
    (source / f"{NAME}.key").write_text(key)
    (source / f"{NAME}.json").write_text(json.dumps({"domain": NAME}))
    (tmp_path / "lib").mkdir(mode=0o755)  # only root may make a folder in it
    file = tmp_path / "import.toml"
    file.write_text(config.site(origin.address, server='user = "nobody"')
                    .replace("@FOLDER@", str(tmp_path / "lib"))
                    .replace("@ADMIN@", str(tmp_path / "admin.sock")))
    source_name = f"lego:{tmp_path}/lego"
    dry = command("certs", "import", source_name, "--dry-run", "--config", str(file))
    assert dry.returncode == 0 and "would import" in dry.stdout, dry.stderr
    assert not (tmp_path / "lib/storage").exists()
    done = command("certs", "import", source_name, "--config", str(file))
    assert done.returncode == 0, done.stderr
    nobody = pwd.getpwnam("nobody").pw_uid
    stored = list((tmp_path / "lib/storage").rglob("*"))
    assert any(path.name == "privkey.pem" for path in stored)
    assert {path.lstat().st_uid for path in stored} == {nobody}
