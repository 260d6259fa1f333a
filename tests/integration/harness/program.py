"""The real program under test: started, asked through its admin socket, reloaded, stopped."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time

from harness.limits import within
from harness.wait import until

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.environ.get("GATEHOUSE_BINARY", str(ROOT / "build/release/gatehouse"))
START_SECONDS_MAX = 10
STOP_SECONDS_MAX = 15


def command(*arguments, environment=None, folder=None, seconds=20):
    """Runs a command of the program to its end."""
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, cwd=folder,
                          timeout=within(seconds), env={**os.environ, **(environment or {})})


class AdminConnection(http.client.HTTPConnection):
    """HTTP over the admin socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Gatehouse:
    """Runs of `gatehouse run` on one folder, one after the other."""

    def __init__(self, folder, text, environment=None, wrapper=()):
        self.folder = pathlib.Path(folder)
        self.config = self.folder / "gatehouse.toml"
        # Not in `folder`: the path of a Unix socket holds 107 bytes.
        self.socket_folder = tempfile.TemporaryDirectory(prefix="gh-")
        self.admin_path = pathlib.Path(self.socket_folder.name) / "admin.sock"
        self.log_path = self.folder / "gatehouse.log"
        self.access_path = self.folder / "access.log"
        self.environment = {**os.environ, **(environment or {})}
        self.wrapper = list(wrapper)
        self.process = None
        self.expected_exit = 0
        self.write_config(text)

    def write_config(self, text):
        """@FOLDER@ and @ADMIN@ stand for this run's folder and admin socket."""
        text = text.replace("@FOLDER@", str(self.folder)).replace("@ADMIN@", str(self.admin_path))
        self.config.write_text(text)

    def start(self, wait=True):
        with open(self.log_path, "a") as log, open(self.folder / "stdout.log", "a") as out:
            self.process = subprocess.Popen(
                [*self.wrapper, BINARY, "run", "--config", str(self.config)], stderr=log,
                stdout=out, stdin=subprocess.DEVNULL, env=self.environment, cwd=self.folder)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        end = time.monotonic() + within(START_SECONDS_MAX)
        while not self.healthy():
            assert self.process.poll() is None, f"the program ended at once:\n{self.log()}"
            assert time.monotonic() < end, f"the program did not get ready:\n{self.log()}"
            time.sleep(0.005)

    def healthy(self):
        try:
            return self.admin("/healthz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def admin(self, path, method="GET", timeout=10, body=None):
        connection = AdminConnection(self.admin_path, within(timeout))
        try:
            # "Content-Type: application/json" is demanded of whatever changes something.
            if body is None and method == "POST":
                body = "{}"
            connection.request(method, path, body=body,
                               headers={"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metrics(self):
        """Name → value; a labelled sample under "name{labels}"."""
        status, text = self.admin("/metrics")
        assert status == 200
        samples = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[name] = float(value)
        return samples

    def metric(self, word):
        """The sum of the samples whose name has `word` in it; fails when there is none."""
        found = [v for k, v in self.metrics().items() if re.search(word, k)]
        assert found, f"no metric named like {word}"
        return sum(found)

    def certificates(self):
        """Name → its row in /api/certificates."""
        status, text = self.admin("/api/certificates")
        assert status == 200
        return {row["name"]: row for row in json.loads(text)["certificates"]}

    def reload(self, text=None):
        """Reloads by SIGHUP and waits until it has happened, well or not."""
        if text is not None:
            self.write_config(text)
        before = self.reload_count()
        self.process.send_signal(signal.SIGHUP)
        until(lambda: self.reload_count() > before, "a reload")

    def reload_count(self):
        return self.metric("gatehouse_(config_)?reload")

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def access_lines(self):
        return self.access_path.read_text().splitlines() if self.access_path.exists() else []

    def rss_kb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def queued_seconds(self):
        """Of each thread but the main one: how long it could have run and had no processor,
        because other programs did. Zero where the kernel does not say."""
        def queued(task):
            file = task / "schedstat"
            return int(file.read_text().split()[1]) / 1e9 if file.exists() else 0
        return {task.name: queued(task)
                for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
                if task.name != str(self.process.pid)}

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def kill(self):
        """As a crash: kill -9."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self):
        """SIGTERM; fails unless the end is clean and no sanitizer had something to say."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(within(STOP_SECONDS_MAX))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the program did not stop at SIGTERM:\n{self.log()}") from None
        self.process = None
        assert "Sanitizer" not in self.log() and "runtime error" not in self.log(), self.log()
        assert status == self.expected_exit, f"ended with {status}:\n{self.log()}"
