"""A CA that answers 500, hangs, or says 429: traffic goes on, and the certificate comes soon."""

import ssl
import time

import pytest
from harness.client import Client, trusting_anything
from harness.limits import LONG, within
from harness.visitor import trusted, visit
from harness.wait import until

ANY = '[[site]]\nhosts = ["*"]\ncertificates = "on_demand"\nupstream = "{upstream}"\n'


@pytest.fixture
def faulty(gatehouse, config, faults, ca, ask, origin):
    """A program whose CA is behind `faults`, its account made."""
    program = gatehouse(config.acme(faults.directory, ca.trust, f'[on_demand]\nask = "{ask.url}"\n'
                                    + ANY.format(upstream=origin.address)))
    program.https, program.root = config.https, ca.root()
    assert visit(config.https, "warm.faults.test", program.root).response.status == 200
    return program


def is_trusted(program, name):
    return trusted(program.https, name, program.root)


@pytest.mark.parametrize("mode", ["500", "hang", "429"])
def test_a_fault_gives_the_fallback_and_heals(faulty, faults, origin, mode, figure):
    faults.retry_after = 5
    faults.fault(mode)
    before = len(origin.requests)
    first = visit(faulty.https, "new.faults.test")
    assert first.seconds <= within(12.5)
    assert first.response.status == 503 and first.response.value("retry-after")
    assert first.self_signed
    assert len(origin.requests) == before, "a request behind the fallback reaches no origin"
    if mode != "hang":  # which is not over yet
        visit(faulty.https, "new.faults.test")
        until(lambda: any("certificate is not there yet: new.faults.test: local" in line
                          for line in faulty.access_lines()), "the reason, for the operator")
    page = first.response.body.decode()
    assert "local" not in page and "faults.test" not in page, "a visitor is told no reason"

    times = [visit(faulty.https, "new.faults.test").seconds for _ in range(5)]
    figure(f"CA answers {mode}: fallback after", f"{first.seconds:.2f} s, then "
           f"{min(times) * 1000:.1f} ms (12 s, then 20 ms)")
    assert sorted(times)[2] < within(0.02), times

    faults.fault("pass", drop=True)
    begun = time.monotonic()
    until(lambda: is_trusted(faulty, "new.faults.test"), "a certificate after the CA recovered", 20)
    figure(f"CA recovers from {mode}: certificate after",
           f"{time.monotonic() - begun:.1f} s (20 s)")


def test_a_ca_that_hangs_at_new_orders_alone_keeps_nobody_waiting_twice(faulty, faults, ca):
    faults.fault("hang", "/order-plz")
    first = visit(faulty.https, "new.faults.test")
    assert first.self_signed and first.seconds <= within(12.5)
    times = [visit(faulty.https, "new.faults.test").seconds for _ in range(3)]
    assert sorted(times)[1] < within(0.02), times
    faults.fault("pass")
    until(lambda: is_trusted(faulty, "new.faults.test"), "the certificate, when it is let go")
    assert ca.orders() == 2


def test_names_with_certificates_are_served_whatever_the_ca_does(faulty, faults):
    faults.fault("hang")
    seen = visit(faulty.https, "warm.faults.test", faulty.root)
    assert seen.response.status == 200 and seen.seconds < within(0.2)


def test_retry_after_is_honoured(faulty, faults, figure):
    faults.retry_after = 30 if LONG else 8
    faults.fault("429", only="order")
    visit(faulty.https, "limited.faults.test")
    limited_at = next(at for at, _, path in reversed(faults.requests) if "order" in path)
    faults.fault("pass")
    until(lambda: is_trusted(faulty, "limited.faults.test"), "the certificate",
          faults.retry_after + 22)
    orders = [at for at, method, path in faults.requests
              if method == "POST" and path.startswith("/order-plz") and at > limited_at]
    assert orders and orders[0] - limited_at >= faults.retry_after - 0.5, "not before Retry-After"
    figure(f"429 with Retry-After {faults.retry_after}: next order after",
           f"{orders[0] - limited_at:.1f} s")


def test_alert_instead_of_the_fallback(gatehouse, config, faults, ca, ask, origin):
    gatehouse(config.acme(
        faults.directory, ca.trust,
        f'[on_demand]\nask = "{ask.url}"\nwait = "1s"\non_timeout = "alert"\n'
        + ANY.format(upstream=origin.address)))
    faults.fault("hang")
    begun = time.monotonic()
    with pytest.raises((ssl.SSLError, OSError)):
        Client(config.https, tls=trusting_anything(), name="alerted.test")
    assert 0.5 < time.monotonic() - begun < within(3)


def test_a_configured_name_has_the_fallback_when_the_ca_is_dead_at_start(gatehouse, config, faults,
                                                                        ca, origin, figure):
    faults.fault("refuse")
    program = gatehouse(config.acme(
        faults.directory, ca.trust,
        f'[[site]]\nhosts = ["dead.test"]\nupstream = "{origin.address}"\n'))
    program.https, program.root = config.https, ca.root()
    first = visit(config.https, "dead.test")
    assert first.self_signed and first.seconds < within(12.5)
    assert first.response.status in (200, 503)
    again = visit(config.https, "dead.test").seconds
    assert again < within(0.05)
    figure("configured name, CA dead at start: fallback after",
           f"{first.seconds * 1000:.1f} ms, then {again * 1000:.1f} ms")
    faults.fault("pass")
    until(lambda: is_trusted(program, "dead.test"), "the certificate after the CA's return", 20)


def test_the_users_own_fallback_is_served_where_there_is_no_certificate(
        gatehouse, config, faults, ca, ask, origin, authority, tmp_path):
    chain, key = authority.issue(["*.own.test"])
    (tmp_path / "own.pem").write_text(chain)
    (tmp_path / "own-key.pem").write_text(key)
    faults.fault("problem", only="/order-plz", kind="rejectedIdentifier")
    site = (f'upstream = "{origin.address}"\nfallback_certificate = "{tmp_path}/own.pem"\n'
            f'fallback_key = "{tmp_path}/own-key.pem"\n')
    gatehouse(config.acme(
        faults.directory, ca.trust, f'[on_demand]\nask = "{ask.url}"\n'
        f'[[site]]\nhosts = ["configured.own.test"]\n{site}'
        f'[[site]]\nhosts = ["*.own.test"]\ncertificates = "on_demand"\n{site}'))
    # Verified: by the root that signed it, and for the name.
    stranger = visit(config.https, "stranger.own.test", authority.root_pem()).response
    assert stranger.status == 503 and stranger.value("retry-after") and origin.requests == []
    assert visit(config.https, "configured.own.test", authority.root_pem()).response.status == 200


def test_a_failure_is_a_sentence_with_the_name_and_the_ca(faulty, faults):
    faults.fault("500")
    visit(faulty.https, "told.faults.test")
    log = faulty.log()
    assert "told.faults.test" in log
    row = faulty.certificates().get("told.faults.test")
    assert row and row["last_error"], row


def test_a_challenge_that_fails_names_the_way_out(gatehouse, config, ca, ask, origin, tmp_path):
    """The CA asks at a port where nobody listens."""
    from local_ca import LocalCa
    from ports import free_port
    elsewhere = LocalCa(tmp_path / "elsewhere", free_port()).start()
    try:
        program = gatehouse(config.acme(
            elsewhere.directory, elsewhere.trust,
            f'[on_demand]\nask = "{ask.url}"\nwait = "8s"\n' + ANY.format(upstream=origin.address)))
        assert visit(config.https, "closed.faults.test").response.status == 503
        row = until(lambda: (program.certificates().get("closed.faults.test") or {}).get(
            "last_error"), "the failure's sentence")
        assert "closed.faults.test" in row and "80" in row
    finally:
        elsewhere.stop()
