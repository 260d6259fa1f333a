"""Notifications: mail through Exim, signed webhooks, commands, and what is said when one fails."""

import base64
import datetime
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import ssl
import subprocess
import threading
import time

import pytest
from harness.mail import PASSWORD, USER, BareMailServer, Exim
from harness.program import command
from harness.services import ThreadingServer
from harness.wait import until

SECRET, PATH = "webhook secret", "/hooks/T0PSECRETPATH"


@pytest.fixture
def exim(authority):
    server = Exim(authority).start()
    yield server
    server.stop()


@pytest.fixture
def bare():
    started = []

    def start(*arguments, **settings):
        started.append(BareMailServer(*arguments, **settings))
        return started[-1]
    yield start
    for server in started:
        server.stop()


class Hook:
    """Takes webhooks over TLS, and remembers those whose signature is right."""

    def __init__(self, authority, folder):
        self.taken, self.refused, self.status = [], [], 204
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                stamp = self.headers["X-Gatehouse-Timestamp"]
                code = hmac.new(SECRET.encode(), stamp.encode() + b"." + body, hashlib.sha256)
                well = (self.path == PATH and abs(int(stamp) - time.time()) < 300 and
                        hmac.compare_digest(self.headers["X-Gatehouse-Signature"],
                                            "sha256=" + code.hexdigest()))
                (hook.taken if well else hook.refused).append(json.loads(body))
                self.send_response(hook.status if well else 403)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingServer(("127.0.0.1", 0), Handler)
        chain, key = authority.issue(["localhost"])
        (folder / "hook.pem").write_text(chain + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "hook.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        self.url = f"https://localhost:{self.server.server_address[1]}{PATH}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hook(authority, tmp_path):
    server = Hook(authority, tmp_path)
    yield server
    server.stop()


@pytest.fixture
def world(authority, config, tmp_path, origin):
    return World(authority, config, tmp_path, origin)


class World:
    """Texts of configurations with a certificate whose last twentieth has begun."""

    def __init__(self, authority, config, folder, origin):
        self.config, self.folder, self.origin = config, folder, origin
        chain, key = authority.issue(["example.test"], datetime.timedelta(minutes=2))
        config.chain, config.key = folder / "ending.pem", folder / "ending-key.pem"
        config.chain.write_text(chain)
        config.key.write_text(key)
        self.trust = folder / "root.pem"
        self.trust.write_text(authority.root_pem())
        self.password = folder / "password"
        self.password.write_text(PASSWORD + "\n")
        self.secret = folder / "secret"
        self.secret.write_text(SECRET + "\n")

    def text(self, *lines):
        return self.config.site(self.origin.address, hosts='["example.test"]',
                                sections="[notify]\n" + "\n".join(lines))

    def email(self, server, to="ops@mail.test", trust=True, user=USER):
        more = f', trust = "{self.trust}"' if trust else ""
        if user:
            more += f', user = "{user}", password_file = "{self.password}"'
        return (f'email = {{ to = ["{to}"], from = "gatehouse@mail.test", server = "{server}"'
                f'{more} }}')

    def webhook(self, url, trust=True):
        more = f', trust = "{self.trust}"' if trust else ""
        return f'webhook = {{ url = "{url}", secret_file = "{self.secret}"{more} }}'

    def script(self, text):
        path = self.folder / "tell"
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o700)
        return f'exec = ["{path}", "an argument"]'

    def test_command(self, *lines):
        """`gatehouse notify test --json`: (exit status, way → row, all that it printed)."""
        path = self.folder / "test.toml"
        path.write_text(self.text(*lines).replace("@FOLDER@", str(self.folder))
                        .replace("@ADMIN@", str(self.folder / "none.sock")))
        ran = command("notify", "test", "--config", str(path), "--json", seconds=90)
        rows = json.loads(ran.stdout)["notifications"] if ran.stdout else []
        return ran.returncode, {row["way"]: row for row in rows}, ran.stdout + ran.stderr


def keeps_secrets(text):
    encoded = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
    for secret in (PASSWORD, encoded, SECRET, "T0PSECRET"):
        assert secret not in text, text


def sent(program, way, result="sent"):
    return program.metric(f'notifications_total.*way="{way}",result="{result}"')


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_mail_goes_out_encrypted_and_authenticated(gatehouse, world, exim, scheme):
    port = exim.starttls if scheme == "smtp" else exim.implicit
    program = gatehouse(world.text(world.email(f"{scheme}://localhost:{port}")))
    message = exim.wait_message()
    assert message["To"] == "ops@mail.test"
    assert message["From"] == "gatehouse@mail.test"
    assert message["Subject"].startswith("example.test: certificate ends soon (gatehouse on ")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@mail.test>")
    assert message["Date"].datetime.tzinfo is not None
    text = message.get_content()
    assert "under 5 % of its lifetime are left" in text and "in use until" in text
    assert "P=esmtpsa" in exim.log() and f"A=plain:{USER}" in exim.log()
    until(lambda: sent(program, "email") == 1, "the mail is counted")
    keeps_secrets(program.log())


def test_a_restart_does_not_repeat_what_was_told(gatehouse, world, exim):
    text = world.text(world.email(f"smtp://localhost:{exim.starttls}"))
    program = gatehouse(text)
    exim.wait_message()
    noted = program.folder / "storage/notify/expiry.json"
    until(noted.exists, "it is noted")
    program.stop()
    program.start()
    program.reload()
    assert len(exim.messages()) == 1
    assert sent(program, "email") == 0


def test_a_wrong_password_is_told_and_a_reload_with_the_right_one_delivers(gatehouse, world, exim):
    world.password.write_text("wrong " + PASSWORD)
    text = world.text(world.email(f"smtp://localhost:{exim.starttls}"))
    program = gatehouse(text)
    until(lambda: "refused the user or its password" in program.log(), "the refusal is logged")
    keeps_secrets(program.log())
    assert not exim.messages()
    world.password.write_text(PASSWORD)
    program.reload()
    exim.wait_message()
    keeps_secrets(program.log())


def test_an_untrusted_mail_server_gets_nothing(world, exim, authority):
    for scheme, port in (("smtp", exim.starttls), ("smtps", exim.implicit)):
        status, rows, printed = world.test_command(
            world.email(f"{scheme}://localhost:{port}", trust=False))
        assert status == 1 and not rows["email"]["delivered"]
        assert "certificate" in rows["email"]["error"]
        keeps_secrets(printed)
    other = Exim(authority, names=("elsewhere.test",)).start()
    status, rows, _ = world.test_command(world.email(f"smtp://localhost:{other.starttls}"))
    other.stop()
    assert status == 1 and "localhost" in rows["email"]["error"]
    assert "A=plain" not in exim.log() + other.log()


def test_a_password_is_never_sent_unencrypted(world, bare):
    server = bare(extensions=["AUTH PLAIN LOGIN"])
    status, rows, printed = world.test_command(world.email(f"smtp://127.0.0.1:{server.port}"))
    assert status == 1 and "offers no STARTTLS" in rows["email"]["error"]
    assert not any(c.startswith(("AUTH", "MAIL")) for c in server.commands)
    keeps_secrets(printed)
    # A server that says it would, and then does not.
    server = bare(extensions=["STARTTLS", "AUTH PLAIN"], replies={"STARTTLS": "454 not now"})
    status, rows, _ = world.test_command(world.email(f"smtp://127.0.0.1:{server.port}"))
    assert status == 1
    assert not any(c.startswith(("AUTH", "MAIL")) for c in server.commands)


def test_without_a_user_a_server_without_tls_will_do(world, bare):
    server = bare()
    status, rows, _ = world.test_command(
        world.email(f"smtp://127.0.0.1:{server.port}", user="", trust=False))
    assert status == 0, rows
    assert b"Subject: " in server.messages[0]
    assert "RCPT TO:<ops@mail.test>" in server.commands


@pytest.mark.parametrize("replies, words", [
    ({"": "554 go away"}, "554"),
    ({"MAIL": "550 your kind is not wanted"}, "your kind is not wanted"),
    ({"RCPT": "550 5.1.1 no such user"}, "no such user"),
    ({"DATA": "451 later"}, "later"),
    ({"": "garbage"}, "did not take the mail"),
    ({"MAIL": "550 \x1b[2J" + "x" * 2000}, "did not take the mail"),
])
def test_a_refusal_is_told_in_the_servers_words(world, bare, replies, words):
    server = bare(replies=replies)
    status, rows, printed = world.test_command(
        world.email(f"smtp://127.0.0.1:{server.port}", user="", trust=False))
    assert status == 1
    assert words in rows["email"]["error"]
    assert "\x1b" not in printed and len(rows["email"]["error"]) < 1000


def test_a_mail_server_that_falls_silent_holds_up_neither_the_program_nor_its_stop(
        gatehouse, world, bare):
    for replies in ({"MAIL": "550 no", "QUIT": None}, {"DATA": None}, {"": None}):
        server = bare(replies=replies)
        program = gatehouse(world.text(
            world.email(f"smtp://127.0.0.1:{server.port}", user="", trust=False)))
        if "" not in replies:
            until(lambda: any(c.startswith(next(iter(replies))) for c in server.commands), "a mail")
        for _ in range(20):
            begin = time.monotonic()
            assert program.healthy()
            assert time.monotonic() - begin < 1
        begin = time.monotonic()
        program.stop()
        assert time.monotonic() - begin < 8


def test_an_unknown_recipient_is_told(world, exim):
    status, rows, _ = world.test_command(
        world.email(f"smtp://localhost:{exim.starttls}", to="who@refused.test"))
    assert status == 1 and "no such mailbox here" in rows["email"]["error"]


def test_a_webhook_is_signed_and_verified(gatehouse, world, hook):
    program = gatehouse(world.text(world.webhook(hook.url)))
    until(lambda: hook.taken, "the webhook")
    notice = hook.taken[0]
    assert (notice["event"], notice["name"], notice["count"]) == ("expiring", "example.test", 1)
    assert notice["certificates"][0]["not_after"].endswith("Z")
    assert not hook.refused
    until(lambda: sent(program, "webhook") == 1, "the webhook is counted")
    keeps_secrets(program.log())


def test_a_webhook_that_fails_is_tried_again_and_holds_up_nobody(gatehouse, world, hook, exim):
    hook.status = 500
    program = gatehouse(world.text(world.webhook(hook.url),
                                   world.email(f"smtp://localhost:{exim.starttls}")))
    exim.wait_message()
    until(lambda: "answered 500, where 2xx was due" in program.log(), "the failure is logged")
    hook.status = 204
    until(lambda: sent(program, "webhook") == 1, "the webhook is sent once more", 30)
    assert hook.taken[0]["id"] == hook.taken[1]["id"]
    assert "notifications by webhook reach" in program.log()
    keeps_secrets(program.log())


def test_a_webhook_without_trust_gets_nothing(world, hook):
    status, rows, printed = world.test_command(world.webhook(hook.url, trust=False))
    assert status == 1 and "certificate" in rows["webhook"]["error"]
    assert not hook.taken and not hook.refused
    keeps_secrets(printed)


def test_a_command_is_run_without_a_shell_and_leaves_nothing_behind(gatehouse, world, tmp_path):
    told = tmp_path / "told"
    program = gatehouse(
        world.text(world.script(f'{{ echo "$1"; env; cat; }} > {told}.new; mv {told}.new {told}')),
        environment={"SECRET_OF_OURS": SECRET})
    until(told.exists, "the command")
    text = told.read_text()
    assert text.startswith("an argument\n")
    assert "GATEHOUSE_EVENT=expiring\n" in text and "GATEHOUSE_NAME=example.test\n" in text
    assert json.loads(text.splitlines()[-1])["event"] == "expiring"
    keeps_secrets(text)
    until(lambda: sent(program, "exec") == 1, "the command is counted")
    assert not children(program)


def test_a_command_that_hangs_or_fails_holds_up_no_stop(gatehouse, world, tmp_path):
    ran = tmp_path / "ran"
    program = gatehouse(world.text(world.script(f"echo $$ > {ran}; trap '' TERM; sleep 1000")))
    until(lambda: ran.exists() and ran.read_text(), "the command")
    begin = time.monotonic()
    program.stop()
    assert time.monotonic() - begin < 10
    process = pathlib.Path("/proc") / ran.read_text().strip()
    until(lambda: not process.exists() or " Z " in (process / "stat").read_text(),
          "the command is killed")
    assert "stopped before 1 notification by exec could be delivered" in program.log()


def test_a_command_that_fails_is_told_with_its_words(world):
    status, rows, _ = world.test_command(world.script("echo no route to the pager >&2; exit 4"))
    assert status == 1
    assert rows["exec"]["error"].endswith("ended with status 4; it said: no route to the pager")


def test_every_way_is_tried_by_the_test_command(world, exim, hook, tmp_path):
    status, rows, printed = world.test_command(
        world.email(f"smtps://localhost:{exim.implicit}"), world.webhook(hook.url),
        world.script(f"cat > {tmp_path}/tested"))
    assert status == 0, printed
    assert all(rows[way]["delivered"] for way in ("email", "webhook", "exec"))
    assert exim.wait_message()["Subject"].startswith(os.uname().nodename + ": test")
    assert hook.taken[0]["event"] == "test"
    assert json.loads((tmp_path / "tested").read_text())["event"] == "test"
    keeps_secrets(printed)


def test_the_test_command_says_who_cannot_be_reached(world, config):
    status, rows, printed = world.test_command(
        world.email("smtp://127.0.0.1:1"), world.webhook("https://127.0.0.1:1" + PATH))
    assert status == 1
    assert "127.0.0.1:1 did not take the mail: " in rows["email"]["error"]
    assert "127.0.0.1:1 gave no answer: " in rows["webhook"]["error"]
    keeps_secrets(printed)
    status, rows, printed = world.test_command("max_reminders = 1")
    assert status == 2 and "tells nobody" in printed


def test_the_check_command_shows_no_secret(world, exim):
    path = world.folder / "check.toml"
    path.write_text(world.text(world.email(f"smtp://localhost:{exim.starttls}"),
                               world.webhook("https://hooks.test" + PATH))
                    .replace("@FOLDER@", str(world.folder)).replace("@ADMIN@", "/tmp/none.sock"))
    for more in ([], ["--json"]):
        ran = command("check", "--config", str(path), *more)
        assert ran.returncode == 0, ran.stderr
        assert "https://hooks.test" in ran.stdout and "ops@mail.test" in ran.stdout
        keeps_secrets(ran.stdout + ran.stderr)


def children(program):
    listed = subprocess.run(["ps", "--ppid", str(program.process.pid), "-o", "pid=,stat=,args="],
                            capture_output=True, text=True)
    return listed.stdout.split()
