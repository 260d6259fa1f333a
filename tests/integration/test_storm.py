"""A storm: random clients, faulty origins, reloads and new certificates, all at the same time.

GATEHOUSE_STORM_SEED repeats a storm as far as threads let it; GATEHOUSE_STORM_SECONDS sets its
length, GATEHOUSE_LONG=1 makes it five minutes.
"""

import os
import random
import shutil
import signal
import time

import pytest
from harness.client import trusting
from harness.http2 import trusting_h2
from harness.limits import LONG, SLOW, within
from harness.program import Gatehouse
from harness.wait import until
from ports import free_port
from storm.checks import Verdict
from storm.clients import Clients
from storm.origins import Origins
from storm.plan import SMALL_BODY_BYTES_MAX, SMALL_HEAD_BYTES_MAX, SWITCHED_OFF
from storm.weather import Weather, issue

SEED = os.environ.get("GATEHOUSE_STORM_SEED") or str(random.SystemRandom().randrange(1 << 32))
SECONDS = float(os.environ.get("GATEHOUSE_STORM_SECONDS") or (300 if LONG else 10))
CLIENTS = 24
# A sanitizer keeps what was freed for a while.
GROWTH_KB_MAX = 16384 if SLOW == 1 else 262144
UPSTREAM_IDLE_SECONDS = 2


class Storm:
    """The program, its origins and the weather; clients come and go."""

    def __init__(self, folder, config, authority):
        self.config, self.authority = config, authority
        # Listens nowhere, and nobody else gets it.
        self.dead, self.extra = free_port(), free_port()
        self.files = [folder / "chain.pem", folder / "key.pem"]
        for old, new in zip((config.chain, config.key), self.files, strict=True):
            shutil.copy(old, new)
        config.chain, config.key = self.files
        self.serials = [issue(authority, self.files)]
        self.origins = Origins(SEED)
        self.texts = {name: self.text(name) for name in ("a", "b")}
        (folder / "gatehouse").mkdir()
        options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=16"
        self.program = Gatehouse(folder / "gatehouse", self.texts["a"],
                                 environment={"ASAN_OPTIONS": options}).start()
        self.records = {}

    def text(self, name):
        """The configurations differ in a field, a route's answer, an origin, limits, a listener."""
        ports, first = self.origins.ports, name == "a"
        http1 = ports["http1" if first else "http1 too"]
        often = "\nretry = { budget = 1.0 }"  # or the faults' retries leave none for the others'
        groups = {"h1": f'servers = ["127.0.0.1:{http1}"]{often}',
                  "h1rough": f'servers = ["127.0.0.1:{ports["http1"]}"]{often}',
                  "h2": f'servers = ["127.0.0.1:{ports["http2"]}"]\nprotocol = "h2c"{often}',
                  "h2rough": f'servers = ["127.0.0.1:{ports["http2 rough"]}"]\n'
                             f'protocol = "h2c"{often}',
                  "half": f'servers = ["127.0.0.1:{self.dead}", "127.0.0.1:{http1}"]\n'
                          'balance = "round_robin"\nretry = { attempts = 2, budget = 1.0 }',
                  "dead": f'servers = ["127.0.0.1:{self.dead}"]'}
        routes = "".join(f'[[site.route]]\npath = "/{g}/*"\nupstream = "{g}"\n' for g in groups)
        if not first:
            routes += ('[[site.route]]\npath = "/switch/*"\n'
                       f'respond = "503 {SWITCHED_OFF.decode()}"\n')
        limits = "" if first else (f"[limits]\nrequest_body = {SMALL_BODY_BYTES_MAX}\n"
                                   f"request_header = {SMALL_HEAD_BYTES_MAX}\n")
        sections = (f'{limits}[timeouts]\nupstream_response = "{within(4):.0f}s"\n'
                    f'upstream_idle = "{UPSTREAM_IDLE_SECONDS}s"\n')
        http = [f"127.0.0.1:{p}" for p in [self.config.http] + ([] if first else [self.extra])]
        text = self.config.site(
            "h1", http=http, server=f'h2c = true\ngrace = "{within(5):.0f}s"', sections=sections,
            more=f'response_headers = {{ set = {{ X-Config = "{name}" }} }}\n{routes}')
        return text + "".join(f"\n[upstream.{g}]\n{lines}\n" for g, lines in groups.items())

    def clients(self, first=0):
        """Clients under way, numbered from `first`."""
        root = self.authority.root_pem()
        old = {"maximum_version": 0x0303}
        contexts = {"http/1.1": [trusting(root), trusting(root, **old)],
                    "h2": [trusting_h2(root), trusting_h2(root)]}
        contexts["h2"][1].maximum_version = 0x0303
        clients = Clients(SEED, self.config.http, self.config.https, self.extra, contexts,
                          range(first, first + CLIENTS))
        clients.records = self.records
        return clients.start()

    def weather(self):
        return Weather(SEED, self.program, self.texts, self.authority, self.files).start()

    def calm(self):
        """Waits until nothing is open any more, also not to the origins."""
        for gauge in ("requests_active", "tunnels_active", "connections_open",
                      "upstream_idle_connections"):
            until(lambda: self.program.metric(f"gatehouse_{gauge}") == 0, f"{gauge} to be 0",
                  20 + UPSTREAM_IDLE_SECONDS)
        until(self.log_is_complete, "a line in the access log for each request")

    def log_is_complete(self):
        metrics = self.program.metrics()
        assert metrics["gatehouse_access_log_dropped_total"] == 0
        return len(self.program.access_lines()) == metrics["gatehouse_requests_total"]

    def descriptors(self):
        """Once they do not change any more."""
        counts = []

        def steady():
            counts.append(self.program.descriptors())
            time.sleep(0.1)
            return counts[-5:] == counts[-1:] * 5
        until(steady, "steady descriptors")
        return counts[-1]

    def check(self, possible, failures=(), stopping=False):
        verdict = Verdict(SEED, self.records, self.origins.ledger(), self.program.access_lines())
        verdict.judge(possible, stopping)
        for failure in failures:
            verdict.blame("clients", failure)
        assert not verdict.problems, verdict.tell()

    def stop(self):
        try:
            self.program.stop()
        finally:
            self.origins.stop()


@pytest.fixture
def storm(tmp_path, config, authority):
    print(f"GATEHOUSE_STORM_SEED={SEED}")
    made = Storm(tmp_path, config, authority)
    yield made
    made.stop()


def test_a_storm_passes_and_leaves_nothing_behind(storm):
    program = storm.program
    warming = storm.clients(first=100)
    time.sleep(max(3, SECONDS / 10))
    warming.stop()
    storm.calm()
    descriptors, memory = storm.descriptors(), program.rss_kb()

    weather, clients, begun = storm.weather(), storm.clients(), time.monotonic()
    time.sleep(SECONDS)
    clients.stop()
    weather.stop()
    seconds = time.monotonic() - begun
    storm.calm()
    grown = program.rss_kb() - memory
    counts = {**clients.counts, **weather.counts}
    print(f"seed {SEED}: {len(storm.records)} requests, {len(storm.records) / seconds:.0f} a "
          f"second, {grown} KB grown from {memory} KB, {descriptors} descriptors: {counts}")
    storm.check(weather.possible, warming.failures + clients.failures)
    assert grown < GROWTH_KB_MAX, f"seed {SEED}"
    assert storm.descriptors() <= descriptors, f"seed {SEED}"
    assert clients.serials <= {*storm.serials, *weather.serials}
    assert min(counts.values()) > 0, f"something did not happen: {counts}"
    assert "ASSERT" not in program.log()


def test_a_stop_inside_a_storm_is_clean(storm):
    """Whoever is served still gets what is his; whoever is not sees it."""
    weather, clients = storm.weather(), storm.clients()
    time.sleep(min(SECONDS, 3))
    weather.stop()
    clients.ended.set()  # each goes on with what it has begun
    storm.program.process.send_signal(signal.SIGTERM)
    assert storm.program.process.wait(within(15)) == 0, f"seed {SEED}"
    clients.stop()
    storm.check(weather.possible, stopping=True)
