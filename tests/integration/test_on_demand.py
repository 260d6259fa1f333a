"""Certificates ordered at the first ClientHello, from a real ACME CA on loopback."""

import select
import ssl
import statistics
import threading
import time

import pytest
from harness.client import Client, PausedHandshake, trusting, trusting_anything
from harness.limits import SLOW, within
from harness.wait import until

ANY = '[[site]]\nhosts = ["*"]\ncertificates = "on_demand"\nupstream = "{upstream}"\n'
UNRECOGNIZED_NAME = 112


@pytest.fixture
def on_demand(gatehouse, config, ca, ask, origin):
    """A program that serves any name that `ask` allows."""
    program = gatehouse(config.acme(ca.directory, ca.trust,
                                    f'[on_demand]\nask = "{ask.url}"\n'
                                    + ANY.format(upstream=origin.address)))
    program.root = ca.root()
    program.https = config.https
    return program


def served(port, name, root):
    """Seconds from the ClientHello to the origin's answer behind a certificate of `root`."""
    context = trusting(root)
    begun = time.monotonic()
    with Client(port, tls=context, name=name) as client:
        response = client.get(host=name)
        assert response.status == 200, response.text()
    return time.monotonic() - begun


def test_the_first_request_is_answered_within_a_quarter_of_a_second(on_demand, ca, figure):
    served(on_demand.https, "warm.first.test", on_demand.root)  # the account is made once
    # Each of a registered domain of its own: one domain gets 20 a day.
    times = [served(on_demand.https, f"www.first-{i}.test", on_demand.root) for i in range(20)]
    median = statistics.median(times)
    figure("first on-demand request", f"median {median:.3f} s, longest {max(times):.3f} s (0.25 s)")
    assert median <= within(0.25), times
    assert ca.orders() == 21
    again = served(on_demand.https, "www.first-0.test", on_demand.root)
    assert again < within(0.05) and ca.orders() == 21


def test_a_hundred_handshakes_for_one_name_place_one_order(on_demand, ca, figure):
    served(on_demand.https, "www.crowd-0.test", on_demand.root)
    spreads = []
    for number in (1, 2, 3):
        before = ca.orders()
        spreads.append(crowd(on_demand, f"www.crowd-{number}.test"))
        assert ca.orders() == before + 1
    figure("100 handshakes for one name, first to last",
           ", ".join(f"{whole * 1000:.1f} ({own * 1000:.1f} with the processors to itself)"
                     for whole, own in spreads) + " ms (30 ms), 1 order each")
    assert statistics.median(own for _, own in spreads) <= within(0.03), spreads


def crowd(program, name):
    """Seconds between the first and the last answer to 100 handshakes that wait for one order, as
    they arrive; and without those in which a worker had to wait for a processor."""
    context = trusting(program.root)
    # At most 16 of one client address may wait: these come from loopback addresses of their own.
    waiting = [paused_from(program.https, name, context, i) for i in range(100)]
    queued = program.queued_seconds()
    first_bytes(waiting)
    lost = max(seconds - queued.get(thread, 0)
               for thread, seconds in program.queued_seconds().items())
    for handshake in waiting:
        handshake.finish()
        assert handshake.get(name) == (200, b"hello")
        handshake.close()
    moments = sorted(h.first_byte_at for h in waiting)
    spread = moments[-1] - moments[0]
    return spread, spread - lost


def paused_from(port, name, context, number):
    return PausedHandshake(port, name, context, source=f"127.0.1.{number + 1}")


def first_bytes(waiting, seconds=20):
    left, end = set(waiting), time.monotonic() + within(seconds)
    while left:
        assert time.monotonic() < end, f"{len(left)} handshakes unanswered"
        for handshake in select.select(list(left), [], [], 1)[0]:
            handshake.take()
            left.discard(handshake)


def test_forty_names_at_once_are_served_within_three_seconds(on_demand, ca, figure):
    served(on_demand.https, "warm.many.test", on_demand.root)
    failures, begun = [], time.monotonic()

    def one(i):
        try:
            # Names of forty registered domains, as forty customers have.
            served(on_demand.https, f"www.customer-{i}.test", on_demand.root)
        except Exception as failure:  # noqa: BLE001
            failures.append(f"{i}: {failure!r}")
    threads = [threading.Thread(target=one, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begun
    figure("40 different names at once", f"{seconds:.2f} s (3 s)")
    assert failures == []
    assert seconds <= within(3) and ca.orders() == 41


def test_a_denied_name_costs_one_ask_and_no_order(on_demand, ca, ask):
    ask.denied.add("denied.test")
    for _ in range(5):
        with pytest.raises(ssl.SSLError) as refused:
            Client(on_demand.https, tls=trusting_anything(), name="denied.test")
        assert "UNRECOGNIZED_NAME" in str(refused.value).upper().replace(" ", "_")
    assert ask.count("denied.test") == 1 and ca.orders() == 0


def test_forty_clients_of_a_denied_name_wait_for_one_slow_ask(on_demand, ca, ask, figure):
    ask.denied.add("slow-denied.test")
    ask.delay_seconds = 0.5
    begun, times = time.monotonic(), []

    def one(i):
        try:
            handshake = paused_from(on_demand.https, "slow-denied.test", trusting_anything(), i)
            first_bytes([handshake])
            times.append(time.monotonic() - begun)
            handshake.close()
        except OSError:
            times.append(time.monotonic() - begun)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    figure("denied name, 40 clients, ask takes 0.5 s",
           f"median {statistics.median(times):.2f} s, longest {max(times):.2f} s (0.6 s), one ask")
    assert statistics.median(times) <= within(0.6) and max(times) <= within(0.75), times
    assert ask.count("slow-denied.test") == 1 and ca.orders() == 0


def test_no_name_never_orders(on_demand, ca, ask, figure):
    asked = len(ask.asked)
    for _ in range(3):
        try:
            Client(on_demand.https, tls=trusting_anything(), name=None).close()
        except (ssl.SSLError, OSError):
            pass
    figure("no SNI, 3 handshakes", f"{ca.orders()} orders, {len(ask.asked) - asked} asks")
    assert ca.orders() == 0 and len(ask.asked) == asked


@pytest.mark.parametrize("name", [
    "a.a.a.test", "1.2.3.4", "a.b.c.d.e.f.g.h.i.j.k.test", "under_score.test", "-dash.test",
    "x" * 64 + ".test", "single"])
def test_a_name_that_cannot_be_is_neither_asked_nor_ordered(on_demand, ca, ask, name):
    asked = len(ask.asked)
    context = trusting_anything()
    try:
        Client(on_demand.https, tls=context, name=name).close()
        assert ask.count(name) == 0
    except (ssl.SSLError, OSError, ValueError, UnicodeError):
        pass
    if name != "single":
        assert len(ask.asked) == asked
    assert ca.orders() == 0


def test_ask_is_told_the_name_and_the_client(on_demand, ask):
    served(on_demand.https, "told.test", on_demand.root)
    assert ("told.test", "127.0.0.1") in ask.asked


def test_ask_that_fails_is_a_denial(on_demand, ca, ask):
    ask.status = 500
    with pytest.raises((ssl.SSLError, OSError)):
        Client(on_demand.https, tls=trusting_anything(), name="broken-ask.test")
    assert ca.orders() == 0


def test_allow_globs_are_enough_without_ask(gatehouse, config, ca, origin):
    gatehouse(config.acme(ca.directory, ca.trust, '[on_demand]\nallow = ["*.mine.test"]\n'
                          + ANY.format(upstream=origin.address)))
    served(config.https, "shop.mine.test", ca.root())
    with pytest.raises((ssl.SSLError, OSError)):
        Client(config.https, tls=trusting_anything(), name="other.test")
    assert ca.orders() == 1


def test_an_ask_that_allows_everything_stops_the_start(gatehouse, config, ca, ask, origin):
    ask.suffixes = ("",)
    program = gatehouse(config.acme(ca.directory, ca.trust, f'[on_demand]\nask = "{ask.url}"\n'
                                    + ANY.format(upstream=origin.address)), wait=False)
    program.expected_exit = program.process.wait(within(15))
    assert program.expected_exit in (1, 2)
    assert ask.url in program.log()


def test_a_configured_site_gets_its_certificate_unasked(gatehouse, config, ca, origin):
    program = gatehouse(config.acme(
        ca.directory, ca.trust,
        f'[[site]]\nhosts = ["www.configured.test"]\nupstream = "{origin.address}"\n'))
    until(lambda: program.certificates().get("www.configured.test", {}).get("state") == "active",
          "the certificate")
    served(config.https, "www.configured.test", ca.root())
    with Client(config.http) as client:
        response = client.get(host="www.configured.test")
        assert response.status in (301, 308)
    assert ca.orders() == 1


def test_a_handshake_survives_a_reload_during_issuance(gatehouse, config, faults, ca, ask, origin,
                                                       figure):
    text = config.acme(faults.directory, ca.trust, f'[on_demand]\nask = "{ask.url}"\n'
                       + ANY.format(upstream=origin.address))
    program = gatehouse(text)
    served(config.https, "warm.reload.test", ca.root())
    before = len(faults.requests)
    faults.fault("hang", only="order")
    waiting = PausedHandshake(config.https, "held.reload.test", trusting(ca.root()))
    faults.wait_request("order", before)
    program.reload(text + "\n# changed\n")
    faults.fault("pass")
    begun = time.monotonic()
    waiting.finish()
    assert waiting.get("held.reload.test") == (200, b"hello")
    figure("reload during issuance: the waiting handshake is answered after",
           f"{time.monotonic() - begun:.2f} s")
    waiting.close()


def test_challenges_are_answered_exactly(on_demand, config, ca, faults, ask, origin):
    with Client(config.http) as client:
        response = client.get("/.well-known/acme-challenge/unknown-token", host="x.test")
        assert response.status != 200 or response.body == b"hello"


def test_a_thousand_random_names_order_nothing(on_demand, ca, ask):
    count = 1000 if SLOW == 1 else 200
    ask.suffixes = (".never",)
    before = on_demand.rss_kb()
    for i in range(count):
        handshake = PausedHandshake(on_demand.https, f"r{i}.flood.test", trusting_anything())
        first_bytes([handshake])
        handshake.close()
    assert ca.orders() == 0
    if SLOW == 1:
        assert on_demand.rss_kb() - before < 8192
