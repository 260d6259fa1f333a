"""A legitimate HTTP/2 client with an origin of its own, in a process of its own.

So neither the interpreter lock of the tests nor their origin is in its times. As a program:
prints the origin's port, reads a line {"port", "root", "name", "every"} and requests at that rate
until its input ends. At each further line it prints what it saw since the last.
"""

import json
import pathlib
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent


class Steady:
    """The other side: starts it, and asks for its times at the end."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, "-B", __file__], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.origin = f"127.0.0.1:{int(self.process.stdout.readline())}"

    def start(self, port, root_path, name="steady.example.test", every=0.004):
        """The first request is answered when this returns."""
        self.tell(json.dumps({"port": port, "root": str(root_path), "name": name, "every": every}))
        assert self.process.stdout.readline() == "ready\n", "no first answer"

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def seen(self):
        """Since the last time: {"times": [seconds, …], "errors": [text, …]}"""
        self.tell("seen")
        return json.loads(self.process.stdout.readline())

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Requests:
    """One connection, a request whenever one is due, and as many as the server allows at once.

    Each time counts from when the request was due, so that a stall is not left out.
    """

    def __init__(self, wanted):
        from harness.http2 import trusting_h2
        self.wanted, self.client, self.open = wanted, None, {}
        self.tls = trusting_h2(pathlib.Path(wanted["root"]).read_text())
        self.times, self.errors = [], []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        due = time.monotonic()
        while True:
            try:
                self.connect()
                self.read_until(due)
                while len(self.open) >= self.open_max():
                    self.read_until(time.monotonic() + 0.001)
                self.open[self.client.request(path="/steady")] = due
            except Exception as error:  # noqa: BLE001  whatever it is, the test is to see it
                self.errors.append(repr(error)[:500])
                self.client = None
                time.sleep(0.1)
            due = max(due + self.wanted["every"], time.monotonic() - 1)

    def connect(self):
        from harness.http2 import Http2
        if self.client is None:
            self.open = {}
            self.client = Http2(self.wanted["port"], tls=self.tls, name=self.wanted["name"],
                                polite=True)

    def open_max(self):
        from harness.http2_frames import Setting
        return self.client.server_settings.get(Setting.MAX_CONCURRENT_STREAMS, 1)

    def read_until(self, due):
        while (left := due - time.monotonic()) > 0:
            try:
                assert self.client.frame(left) is not None, "the connection ended"
            except TimeoutError:
                return
            for stream in [s for s in self.open if self.client.over(s)]:
                response = self.client.expect_response(stream)
                assert (response.status, response.body) == (200, b"steady"), response
                self.times.append(time.monotonic() - self.open.pop(stream))
                del self.client.streams[stream]
            del self.client.frames[:]
        oldest = min(self.open.values(), default=due)
        assert due - oldest < 10, "no answer for ten seconds"

    def take(self):
        times, errors, self.times, self.errors = self.times, self.errors, [], []
        return {"times": times, "errors": errors}


def main():
    sys.path[:0] = [str(HERE.parent)]
    from harness.origin import Origin, answer
    origin = Origin()
    origin.keep_bytes_max = 0
    origin.respond = lambda request: (origin.requests.clear(), origin.heads.clear(),
                                      answer(b"steady"))[-1]
    print(origin.port, flush=True)
    first = sys.stdin.readline()
    if not first:
        return
    requests = Requests(json.loads(first))
    while not requests.times and not requests.errors:
        time.sleep(0.01)
    print("ready" if requests.times else requests.errors[0], flush=True)
    for _ in sys.stdin:
        print(json.dumps(requests.take()), flush=True)


if __name__ == "__main__":
    main()
