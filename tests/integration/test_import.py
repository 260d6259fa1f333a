"""What other clients left is taken over: served at once without an order, renewed with the account
they had, and the CA learns which certificate the new one replaces."""

import base64
import json
import os
import pathlib
import pwd

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding, NoEncryption, PrivateFormat, load_pem_private_key)
from harness.account import number, register
from harness.fault_ca import FaultProxy
from harness.program import command
from harness.visitor import trusted
from harness.wait import until
from local_ca import pem
from test_renewal_info import LOOK, moments, renewal_id

NAME = "adopted.test"
EMAIL = "ops@example.test"
ORDER = "/order-plz"


@pytest.fixture
def newer(newer_ca):
    """A CA that knows what a certificate replaces, behind a proxy that sees each order."""
    proxy = FaultProxy(newer_ca)
    yield proxy
    proxy.stop()


class Left:
    """What a storage of ours holds of NAME and its account, for the folder of another client."""

    def __init__(self, storage, directory):
        self.directory = directory
        self.files = storage / "certs" / NAME / "current"
        self.chain, self.key = (self.text(n) for n in ("fullchain", "privkey"))
        ours = next((storage / "issuers" / "local" / "accounts").iterdir())
        self.account_key = load_pem_private_key(unsealed(ours / "key.pem").encode(), None)
        record = (ours / "account.json").read_text()
        self.account = json.loads(record[record.index("{"):record.rindex("}") + 1])["url"]

    def text(self, name):
        return (self.files / f"{name}.pem").read_text()

    def own_form(self, encoding=Encoding.PEM):
        """The certificate's key as Go's clients write it: SEC1."""
        return load_pem_private_key(self.key.encode(), None).private_bytes(
            encoding, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def unsealed(path):
    """Without the checksum that our storage keeps in the file."""
    text = path.read_text()
    return text[text.index("-----BEGIN"):].rpartition("-----\n")[0] + "-----\n"


def certbot_account(folder, directory, key, url):
    """accounts/ of certbot: an RSA key as a JWK, as it makes them by default."""
    theirs = folder / "accounts" / directory.removeprefix("https://") / "11aa"
    theirs.mkdir(parents=True)
    private = key.private_numbers()
    public = private.public_numbers
    (theirs / "private_key.json").write_text(json.dumps({
        "kty": "RSA", "n": number(public.n), "e": number(public.e), "d": number(private.d),
        "p": number(private.p), "q": number(private.q), "dp": number(private.dmp1),
        "dq": number(private.dmq1), "qi": number(private.iqmp)}))
    (theirs / "regr.json").write_text(json.dumps({"body": {}, "uri": url}))
    return f"certbot:{folder}"


def as_certbot(folder, left):
    """Its real layout, links included."""
    archive, live = folder / "archive" / NAME, folder / "live" / NAME
    archive.mkdir(parents=True)
    live.mkdir(parents=True)
    for name in ("cert", "chain", "fullchain", "privkey"):
        (archive / f"{name}1.pem").write_text(left.text(name))
        (live / f"{name}.pem").symlink_to(f"../../archive/{NAME}/{name}1.pem")
    (folder / "renewal").mkdir()
    (folder / "renewal" / f"{NAME}.conf").write_text(
        f"version = 2.1.0\narchive_dir = {archive}\n\n[renewalparams]\naccount = 11aa\n"
        f"server = {left.directory}\nauthenticator = webroot\n")
    return certbot_account(folder, left.directory, left.account_key, left.account)


def as_caddy(folder, left):
    """CertMagic's files, in the folder that it names after the CA's directory."""
    issuer = left.directory.removeprefix("https://").replace(":", "-").replace("/", "-")
    site = folder / "certificates" / issuer / NAME
    site.mkdir(parents=True)
    (site / f"{NAME}.crt").write_text(left.chain)
    (site / f"{NAME}.key").write_bytes(left.own_form())
    (site / f"{NAME}.json").write_text(json.dumps({"sans": [NAME], "issuer_data": {
        "url": left.directory.replace("/dir", "/certZ/1"), "ca": left.directory,
        "account": left.account}}))
    user = folder / "acme" / issuer / "users" / EMAIL
    user.mkdir(parents=True)
    (user / "ops.key").write_bytes(left.account_key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    (user / "ops.json").write_text(json.dumps({
        "status": "valid", "contact": [f"mailto:{EMAIL}"], "termsOfServiceAgreed": True,
        "location": left.account}))
    return f"caddy:{folder}"


def as_traefik(folder, left):
    """acme.json: the account's RSA key as PKCS#1 DER, the rest as PEM, all in base64."""
    folder.mkdir()

    def coded(data):
        return base64.b64encode(data).decode()
    store = folder / "acme.json"
    store.write_text(json.dumps({"resolver": {
        "Account": {
            "Email": EMAIL, "KeyType": "4096",
            "Registration": {"body": {"status": "valid"}, "uri": left.account},
            "PrivateKey": coded(left.account_key.private_bytes(
                Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()))},
        "Certificates": [{"domain": {"main": NAME}, "certificate": coded(left.chain.encode()),
                          "key": coded(left.own_form()), "Store": "default"}]}}))
    store.chmod(0o600)
    return f"traefik:{store}"


def prepared(folder, text):
    """A new folder with a configuration that no program runs with yet; the import's arguments."""
    folder.mkdir()
    file = folder / "gatehouse.toml"
    file.write_text(text.replace("@FOLDER@", str(folder))
                    .replace("@ADMIN@", str(folder / "admin.sock")))
    return ["--config", str(file)]


@pytest.mark.parametrize("client, algorithm",
                         [(as_certbot, "RS256"), (as_caddy, "ES256"), (as_traefik, "RS256")])
def test_what_a_client_left_is_served_without_an_order_and_goes_on_from_there(
        gatehouse, config, newer, origin, tmp_path, client, algorithm):
    text = config.acme(newer.directory, newer.ca.trust,
                       f'[[site]]\nhosts = ["{NAME}"]\nupstream = "{origin.address}"\n')
    # What there is to leave: certificates of an RSA account need that account first.
    arguments = prepared(tmp_path / "left", text)
    if algorithm == "RS256":
        key = rsa.generate_private_key(65537, 2048)
        source = certbot_account(tmp_path / "account", newer.directory, key,
                                 register(newer, key, EMAIL))
        assert command("certs", "import", source, *arguments).returncode == 0
    other = gatehouse(text, folder=tmp_path / "left")
    root = newer.ca.root()
    left = until(lambda: trusted(config.https, NAME, root), "a certificate").certificate
    other.stop()
    held = Left(tmp_path / "left" / "storage", newer.directory)
    source = client(tmp_path / "client", held)
    accounts = newer.ca.log_text().count("accounts in memory")

    arguments = prepared(tmp_path / "adopting", text)
    dry = command("certs", "import", source, *arguments, "--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    assert [row["outcome"] for row in json.loads(dry.stdout)["certificates"]] == ["imported"]
    assert not os.path.exists(tmp_path / "adopting" / "storage")
    done = command("certs", "import", source, *arguments)
    assert done.returncode == 0, done.stderr
    assert f"imported      {NAME}" in done.stdout
    assert "account at local" in done.stdout

    looks = len(newer.requests)
    newer.plan("hang", LOOK)
    gatehouse(text, folder=tmp_path / "adopting")
    assert trusted(config.https, NAME, root).certificate.serial_number == left.serial_number
    newer.wait_request(LOOK, looks)
    assert len(newer.orders(NAME)) == 1
    refused = command("certs", "import", source, *arguments)
    assert refused.returncode == 1
    assert "gatehouse stop" in refused.stderr and refused.stderr.count("\n") == 1

    # The CA wants it renewed within seconds.
    newer.ca.suggest_renewal(pem(left), *moments(0, 2 / 86400))
    newer.release()
    until(lambda: trusted(config.https, NAME, root).certificate.serial_number
          != left.serial_number, "the renewal", 20)
    orders = [s for s in newer.signed if s.path.startswith(ORDER)]
    assert [s.payload.get("replaces") for s in orders] == [None, renewal_id(left)]
    assert {s.protected["alg"] for s in orders} == {algorithm}
    assert {s.protected["kid"] for s in orders} == {held.account}
    assert "is a replacement of" in newer.ca.log_text()
    assert newer.ca.log_text().count("accounts in memory") == accounts


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
