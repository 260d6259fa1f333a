"""Mail servers: Exim as it comes from Debian, and one that says what a test wants it to."""

import email
import email.policy
import os
import pathlib
import socket
import subprocess
import tempfile
import threading

from harness.wait import until
from ports import free_port

EXIM = "/usr/sbin/exim4"
USER, PASSWORD = "gatehouse", "correct horse battery"

CONFIG = """
primary_hostname = mail.test
qualify_domain = mail.test
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
pid_file_path = {folder}/exim.pid
exim_user = {user}
exim_group = {group}
local_interfaces = 127.0.0.1
daemon_smtp_ports = {starttls} : {implicit}
tls_on_connect_ports = {implicit}
tls_advertise_hosts = *
tls_certificate = {folder}/chain.pem
tls_privatekey = {folder}/key.pem
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
host_lookup =
rfc1413_hosts =
keep_environment =
queue_only = true
acl_smtp_rcpt = recipients

begin acl
recipients:
  deny  domains = refused.test
        message = no such mailbox here
  require authenticated = *
          message = authenticate first
  accept

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{name}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
"""


class Exim:
    """A mail server that takes mail for its queue and delivers none: TLS and a password needed."""

    def __init__(self, authority, names=("localhost", "127.0.0.1")):
        # Not in a test's own folder: its path would be too long for Exim's spool.
        self.kept = tempfile.TemporaryDirectory(prefix="gh-mail-")
        self.folder = pathlib.Path(self.kept.name)
        self.starttls, self.implicit = free_port(), free_port()
        for name in ("spool", "log"):
            (self.folder / name).mkdir()
        chain, key = authority.issue(list(names))
        (self.folder / "chain.pem").write_text(chain)
        (self.folder / "key.pem").write_text(key)
        self.config = self.folder / "exim.conf"
        self.config.write_text(CONFIG.format(
            folder=self.folder, user=os.getuid(), group=os.getgid(), starttls=self.starttls,
            implicit=self.implicit, name=USER, password=PASSWORD))
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [EXIM, "-C", str(self.config), "-bdf"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: self.process.poll() is not None or listening(self.starttls), "Exim")
        assert self.process.poll() is None, f"Exim ended at once:\n{self.log()}"
        return self

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
        self.process = None

    def log(self):
        return "".join(p.read_text() for p in (self.folder / "log").glob("*log"))

    def messages(self):
        """What is in the queue, parsed, in the order of arrival."""
        found = []
        for header in (self.folder / "spool/input").glob("*-H"):
            name = header.name.removesuffix("-H")
            text = subprocess.run([EXIM, "-C", str(self.config), "-Mvc", name],
                                  capture_output=True, check=True).stdout
            found.append((header.stat().st_mtime_ns,
                          email.message_from_bytes(text, policy=email.policy.default)))
        return [message for _, message in sorted(found, key=lambda one: one[0])]

    def wait_message(self, count=1):
        until(lambda: len(list((self.folder / "spool/input").glob("*-H"))) >= count,
              f"message {count} at Exim")
        return self.messages()[count - 1]


def listening(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class BareMailServer:
    """Speaks SMTP without TLS. `replies` (verb → line) take the place of its own; None: silence."""

    def __init__(self, replies=None, extensions=()):
        self.replies, self.extensions = replies or {}, list(extensions)
        self.commands, self.messages = [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rwb") as stream:
            self.say(stream, self.replies.get("", "220 bare.test"))
            while line := stream.readline():
                command = line.decode("latin-1").strip()
                self.commands.append(command)
                verb = command.split(" ")[0].upper()
                if verb in self.replies:
                    if self.replies[verb] is None:
                        continue
                    self.say(stream, self.replies[verb])
                elif verb == "EHLO":
                    lines = ["bare.test", *self.extensions]
                    for each in lines[:-1]:
                        self.say(stream, f"250-{each}")
                    self.say(stream, f"250 {lines[-1]}")
                elif verb == "DATA":
                    self.say(stream, "354 go on")
                    text = b""
                    while not text.endswith(b"\r\n.\r\n"):
                        more = stream.readline()
                        if not more:
                            return
                        text += more
                    self.messages.append(text)
                    self.say(stream, "250 taken")
                elif verb == "QUIT":
                    self.say(stream, "221 bye")
                    return
                else:
                    self.say(stream, "250 well")

    @staticmethod
    def say(stream, line):
        if line is not None:
            stream.write(line.encode() + b"\r\n")
            stream.flush()

    def stop(self):
        self.listener.close()
