"""What certificates must do when it is hard: every case of the comparison with Caddy, one a row.

Most rows are tests of the files they belong to, named in ELSEWHERE; the others are here. Each
prints its figure at the end of its run.
"""

import ast
import datetime
import pathlib
import signal
import statistics
import time

import pytest
from harness.client import PausedHandshake, trusting
from harness.fault_ca import FaultProxy
from harness.limits import SLOW, within
from harness.visitor import trusted, visit
from harness.wait import until
from local_ca import LocalCa

HERE = pathlib.Path(__file__).resolve().parent
ELSEWHERE = {
    "first on-demand handshake, test CA answering at once":
        "test_on_demand.test_the_first_request_is_answered_within_a_quarter_of_a_second",
    "100 handshakes at once, one name":
        "test_on_demand.test_a_hundred_handshakes_for_one_name_place_one_order",
    "40 different names at once":
        "test_on_demand.test_forty_names_at_once_are_served_within_three_seconds",
    "CA answers 500, hangs, or 429":
        "test_ca_faults.test_a_fault_gives_the_fallback_and_heals",
    "CA recovers":
        "test_ca_faults.test_a_fault_gives_the_fallback_and_heals",
    "429 with Retry-After":
        "test_ca_faults.test_retry_after_is_honoured",
    "denied name, 40 clients, ask takes 0.5 s":
        "test_on_demand.test_forty_clients_of_a_denied_name_wait_for_one_slow_ask",
    "configured name, CA dead at start":
        "test_ca_faults.test_a_configured_name_has_the_fallback_when_the_ca_is_dead_at_start",
    "disk full at save":
        "test_durability.test_a_full_disk_at_save_serves_from_memory_with_one_order",
    "reload during issuance":
        "test_on_demand.test_a_handshake_survives_a_reload_during_issuance",
    "SIGTERM during issuance, the CA too late":
        "test_durability.test_sigterm_during_issuance_resumes_the_order",
    "no SNI":
        "test_on_demand.test_no_name_never_orders",
}

ANY = '[[site]]\nhosts = ["*"]\ncertificates = "on_demand"\nupstream = "{upstream}"\n'
RESTARTS = 3


@pytest.mark.parametrize("row", ELSEWHERE)
def test_each_row_has_its_test(row):
    file, _, test = ELSEWHERE[row].partition(".")
    module = ast.parse((HERE / f"{file}.py").read_text())
    assert test in {node.name for node in module.body if isinstance(node, ast.FunctionDef)}


@pytest.fixture
def ending(tmp_path, config):
    """A CA, behind faults, whose certificates end after seconds."""
    lifetime = 6 if SLOW == 1 else 15
    ca = LocalCa(tmp_path / "ending-ca", config.http, lifetime_seconds=lifetime).start()
    proxy = FaultProxy(ca)
    yield proxy
    proxy.stop()
    ca.stop()


def test_an_expired_certificate_is_served_at_once_while_the_ca_hangs(gatehouse, config, ending,
                                                                     origin, ask, figure):
    program = gatehouse(config.acme(
        ending.directory, ending.ca.trust, f'[on_demand]\nask = "{ask.url}"\n'
        + ANY.format(upstream=origin.address)
        + f'[[site]]\nhosts = ["configured.ended.test"]\nupstream = "{origin.address}"\n'))
    root = ending.ca.root()
    names = ["configured.ended.test", "visited.ended.test"]
    firsts = {name: until(lambda: trusted(config.https, name, root), f"{name}'s certificate")
              for name in names}
    ending.fault("hang")
    until(lambda: all(seen.certificate.not_valid_after < datetime.datetime.utcnow()
                      for seen in firsts.values()), "the certificates' end", 15)
    for when in ("running on", "after kill -9"):
        if when == "after kill -9":
            program.kill()
            program.start()
        for name in names:
            seen = visit(config.https, name)
            serials = seen.certificate.serial_number, firsts[name].certificate.serial_number
            figure(f"expired certificate of {name}, CA hangs, {when}",
                   f"answered after {seen.seconds * 1000:.1f} ms")
            assert serials[0] == serials[1] and seen.response.status == 200
            assert seen.seconds < within(0.1)


def test_a_restart_after_kill_9_takes_no_longer_than_any_other(gatehouse, config, ca, origin,
                                                               ask, figure):
    program = gatehouse(config.acme(ca.directory, ca.trust, f'[on_demand]\nask = "{ask.url}"\n'
                                    + ANY.format(upstream=origin.address)))
    root, times = ca.root(), {"SIGTERM": [], "kill -9": []}
    visit(config.https, "www.restarted.test", root)
    for _ in range(RESTARTS):
        for way, end in (("SIGTERM", program.stop), ("kill -9", program.kill)):
            end()
            begun = time.monotonic()
            program.start()
            assert visit(config.https, "www.restarted.test", root).response.status == 200
            times[way].append(time.monotonic() - begun)
    clean, crashed = (statistics.median(t) for t in times.values())
    figure("start to first answer",
           f"{crashed:.2f} s after kill -9, {clean:.2f} s after SIGTERM")
    assert min(times["kill -9"]) <= min(times["SIGTERM"]) + within(0.25)
    assert ca.orders() == 1


def test_a_handshake_that_waits_at_sigterm_is_served_before_the_end(gatehouse, config, faults, ca,
                                                                    origin, ask, figure):
    program = gatehouse(config.acme(
        faults.directory, ca.trust, f'[on_demand]\nask = "{ask.url}"\n'
        + ANY.format(upstream=origin.address), server='grace = "10s"'))
    root = ca.root()
    visit(config.https, "warm.drained.test", root)
    before = len(faults.requests)
    faults.fault("hang", only="finalize")
    waiting = PausedHandshake(config.https, "www.drained.test", trusting(root))
    faults.wait_request("finalize", before)
    program.process.send_signal(signal.SIGTERM)
    until(lambda: "stop" in program.log() or "drain" in program.log(), "the stop to begin")
    begun = time.monotonic()
    faults.fault("pass")
    waiting.finish()
    assert waiting.get("www.drained.test") == (200, b"hello")
    figure("SIGTERM during issuance: the waiting handshake is answered after",
           f"{time.monotonic() - begun:.2f} s")
    waiting.close()
    program.stop()
    program.start()
    assert visit(config.https, "www.drained.test", root).response.status == 200
    assert ca.orders() == 2, "one a name"
