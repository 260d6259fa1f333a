"""A CA that makes it hard: bad nonces, lost answers, lost accounts, new roots, wrong addresses."""

import re
import threading
import time

import pytest
from harness.fault_ca import FaultProxy
from harness.limits import LONG, SLOW, within
from harness.visitor import trusted, visit
from harness.wait import until
from local_ca import LocalCa

ANY = '[[site]]\nhosts = ["*"]\ncertificates = "on_demand"\nupstream = "{upstream}"\n'
MANY = 100 if LONG or SLOW == 1 else 20


@pytest.fixture
def cas(tmp_path):
    """Starts CAs: cas(port for challenges, …)."""
    started = []

    def start(*arguments, **settings):
        folder = tmp_path / f"ca-{len(started)}"
        started.append(LocalCa(folder, *arguments, **settings).start())
        return started[-1]
    yield start
    for ca in started:
        ca.stop()


@pytest.fixture
def on_demand(gatehouse, config, faults, ca, ask, origin):
    """A program that serves any name by the CA behind `faults`, its account not made yet."""
    program = gatehouse(config.acme(faults.directory, ca.trust, f'[on_demand]\nask = "{ask.url}"\n'
                                    + ANY.format(upstream=origin.address)))
    program.https = config.https
    return program


def sites(names, origin, more=""):
    hosts = ", ".join(f'"{name}"' for name in names)
    return f'[[site]]\nhosts = [{hosts}]\nupstream = "{origin.address}"\n{more}'


def active(program):
    return {n: r for n, r in program.certificates().items() if r["state"] == "active"}


# --- bad nonces

@pytest.mark.parametrize("percent, count", [(30, MANY), (50, MANY if LONG else MANY // 5)])
@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_bad_nonces_cost_no_certificate(gatehouse, config, cas, origin, figure, challenge, percent,
                                        count):
    ca = cas(config.http, bad_nonces=percent, tls_port=config.https)
    names = [f"www.nonce-{i}.test" for i in range(count)]
    begun = time.monotonic()
    program = gatehouse(config.acme(ca.directory, ca.trust, sites(names, origin),
                                    f'challenges = ["{challenge}"]'))
    # At a half, one request in a thousand meets ten bad ones in a row: its order goes on later.
    until(lambda: len(active(program)) == count, f"{count} certificates", 60 if LONG else 40)
    figure(f"{percent} % bad nonces: certificates by {challenge}", f"{count} of {count}, "
           f"{time.monotonic() - begun:.1f} s, {ca.orders()} orders, "
           f"{program.metric('certificate_failures'):.0f} failures")
    assert ca.orders() == count
    if percent == 30:
        assert program.metric("certificate_failures") == 0
    assert visit(config.https, names[-1], ca.root()).response.status == 200


# --- one fault at one step

STEPS = {"directory": "/dir", "nonce": "/nonce-plz", "account": "/sign-me-up",
         "order": "/order-plz", "authorization": "/authZ", "challenge": "/chalZ",
         "finalize": "/finalize-order", "certificate": "/certZ"}
AT_FIRST = ["directory", "nonce", "account"]
ONCE = ["refuse", "lose", "cut", "garbage", "nonsense", "endless", "500", "503"]


@pytest.mark.parametrize("mode", ONCE)
def test_one_fault_at_any_step_costs_neither_the_handshake_nor_an_order(
        on_demand, faults, ca, figure, mode):
    root, longest = ca.root(), (0, "")
    # The program meets the first three once: one fault of them, or all in a row.
    first = AT_FIRST if LONG else [AT_FIRST[ONCE.index(mode) % 3]]
    for steps in (first, *([step] for step in STEPS if step not in AT_FIRST)):
        planned = [faults.plan(mode, STEPS[step]) for step in steps]
        orders = ca.orders()
        seen = visit(on_demand.https, f"www.{mode}-{steps[0]}.test", root)
        longest = max(longest, (seen.seconds, steps[0]))
        assert seen.response.status == 200 and not any(f.times for f in planned), steps
        assert ca.orders() == orders + 1, steps
    figure(f"one {mode} at a step: longest first handshake",
           f"{longest[0]:.2f} s (at the {longest[1]})")
    assert longest[0] < within(12)
    assert "now 1 accounts" in ca.log_text() and "now 2 accounts" not in ca.log_text()
    assert faults.endless_bytes < 8 * len(STEPS) << 20, "no more is read than a CA may send"


@pytest.mark.parametrize("mode", ["lose", "hold"] if LONG else ["lose"])
def test_an_answer_lost_after_finalize_means_one_certificate_and_one_order(
        gatehouse, config, cas, origin, mode):
    ca = cas(config.http)
    faults = FaultProxy(ca)
    try:
        fault = faults.plan(mode, "finalize")
        program = gatehouse(config.acme(faults.directory, ca.trust,
                                        sites(["www.finalized.test"], origin)))
        # Held, it is given up by the client's own clock.
        until(lambda: "www.finalized.test" in active(program), "the certificate",
              20 if mode == "lose" else 150)
        assert fault.times == 0
        assert ca.orders() == 1 and faults.count("finalize") == 1
        assert ca.log_text().count("Issued certificate serial") == 1
    finally:
        faults.stop()


# --- what the CA forgets and changes

def test_an_account_that_the_ca_has_lost_is_registered_once_more(on_demand, faults, ca):
    visit(on_demand.https, "www.before.test", ca.root())
    registered = faults.count("sign-me-up")
    assert registered == 1
    ca.restart()
    root, seen = ca.root(), []
    threads = [threading.Thread(target=lambda i=i: seen.append(
        trusted(on_demand.https, f"www.after-{i}.test", root))) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 5 and all(seen), on_demand.log()
    assert faults.count("sign-me-up") - registered == 1
    assert len(list((on_demand.folder / "storage/issuers").rglob("account.json"))) <= 2
    on_demand.kill()
    on_demand.start()
    assert trusted(on_demand.https, "www.restarted.test", root)
    assert faults.count("sign-me-up") - registered == 1


def test_a_renewal_brings_the_new_chain_when_the_ca_has_a_new_root(gatehouse, config, cas, origin):
    lifetime = 12 if SLOW == 1 else 40
    ca = cas(config.http, lifetime_seconds=lifetime)
    program = gatehouse(config.acme(ca.directory, ca.trust, sites(["www.rooted.test"], origin)))
    old = ca.root()
    first = until(lambda: trusted(config.https, "www.rooted.test", old), "the first certificate")
    ca.restart()
    new, intermediate = ca.root(), ca.intermediate()
    second = until(lambda: trusted(config.https, "www.rooted.test", new),
                   "a certificate of the new root", lifetime)
    assert second.certificate.serial_number != first.certificate.serial_number
    assert trusted(config.https, "www.rooted.test", old) is None
    # Served first, then stored.
    until(lambda: any(unwrapped(intermediate) in unwrapped(p.read_text()) for p in
                      (program.folder / "storage/certs").rglob("current/fullchain.pem")),
          "the new chain in the storage")
    assert program.metric("certificate_failures") == 0


def unwrapped(text):
    return re.sub(r"\s", "", text)


def test_a_profile_that_the_ca_no_longer_offers_is_done_without(gatehouse, config, cas, origin,
                                                                ask):
    days = 24 * 3600
    ca = cas(config.http, version="2.10", profiles={"short": 6 * days, "classic": 90 * days})
    program = gatehouse(config.acme(
        ca.directory, ca.trust,
        f'profile = "short"\n\n[on_demand]\nask = "{ask.url}"\n'
        + ANY.format(upstream=origin.address)))
    first = visit(config.https, "www.profile-1.test", ca.root())
    assert lifetime_days(first) == 6
    ca.profiles = {"classic": 90 * days}
    ca.restart()
    second = visit(config.https, "www.profile-2.test", ca.root())
    assert second.response.status == 200 and lifetime_days(second) == 90
    assert re.search(r'www\.profile-2\.test: local has no profile "short"', program.log())


def lifetime_days(seen):
    life = seen.certificate.not_valid_after - seen.certificate.not_valid_before
    return round(life.total_seconds() / 86400)


# --- challenges at a wrong address

def test_a_wrong_address_costs_few_failures_and_is_told_clearly(on_demand, faults, ca, figure):
    ca.point("www.elsewhere.test", "127.0.0.9")
    name = "www.elsewhere.test"
    first = visit(on_demand.https, name)
    assert first.response.status == 503 and first.self_signed
    row = until(lambda: told(on_demand, name), "the failure's sentence")
    for word in (name, "local", "http-01", "80"):
        assert word in row["last_error"], row
    until(lambda: any(name in path.read_text() for path in
                      (on_demand.folder / "storage/setbacks").glob("*.json")), "its record")
    # However often it is asked for, and however often the program starts anew.
    for _ in range(6):
        on_demand.kill()
        on_demand.start()
        for _ in range(3):
            assert visit(on_demand.https, name).response.status == 503
    tried = faults.count("/chalZ")
    figure("challenge at a wrong address: tries at the CA, 7 starts, 19 visits", f"{tried}")
    assert tried <= 4
    ca.point(name, "127.0.0.1")


def told(program, name):
    row = program.certificates().get(name)
    return row if row and row["last_error"] else None
