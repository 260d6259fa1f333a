"""The program's memory and its connections to an origin, watched while something goes on."""

import pathlib
import threading


class Watch:
    """The program's memory, from a warmed-up start to its peak; with a port, connections to it."""

    def __init__(self, program, upstream_port=None):
        self.program, self.port = program, upstream_port
        self.peak_kb, self.upstream_peak = 0, 0
        self.before_kb = program.rss_kb()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.sample)

    def __enter__(self):
        self.thread.start()
        return self

    def sample(self):
        while not self.ended.wait(0.02):
            self.peak_kb = max(self.peak_kb, self.program.rss_kb())
            if self.port:
                self.upstream_peak = max(self.upstream_peak, connections_to(self.port))

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def growth_kb(self):
        return self.peak_kb - self.before_kb


def connections_to(port):
    """Established or being established on loopback, by the kernel's own list."""
    wanted, count = f"0100007F:{port:04X}", 0
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, _ = line.split(None, 4)
        count += remote == wanted and state in ("01", "02")
    return count
