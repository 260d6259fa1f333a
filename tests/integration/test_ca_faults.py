"""A CA that answers 500, hangs, or says 429: traffic goes on, and the certificate comes soon."""

import ssl
import time

import pytest
from harness.client import Client, trusting, trusting_anything
from harness.limits import within
from harness.wait import until

ANY = '[[site]]\nhosts = ["*"]\ncertificates = "on_demand"\nupstream = "{upstream}"\n'


@pytest.fixture
def faulty(gatehouse, config, faults, ca, ask, origin):
    """A program whose CA is behind `faults`, its account made."""
    program = gatehouse(config.acme(faults.directory, ca.trust, f'[on_demand]\nask = "{ask.url}"\n'
                                    + ANY.format(upstream=origin.address)))
    program.https, program.root = config.https, ca.root()
    assert trusted_get(program, "warm.faults.test").status == 200
    return program


def trusted_get(program, name):
    with Client(program.https, tls=trusting(program.root), name=name, timeout=40) as client:
        return client.get(host=name)


def fallback_get(program, name):
    """(seconds, response, certificate) accepting any certificate."""
    begun = time.monotonic()
    with Client(program.https, tls=trusting_anything(), name=name, timeout=40) as client:
        return time.monotonic() - begun, client.get(host=name), client.certificate()


def is_trusted(program, name):
    try:
        return trusted_get(program, name).status == 200
    except (ssl.SSLError, OSError):
        return False


@pytest.mark.parametrize("mode", ["500", "hang", "429"])
def test_a_fault_gives_the_fallback_and_heals(faulty, faults, origin, mode):
    faults.retry_after = 5
    faults.fault(mode)
    before = len(origin.requests)
    seconds, response, certificate = fallback_get(faulty, "new.faults.test")
    assert seconds <= within(12.5)
    assert response.status == 503 and response.value("retry-after")
    assert certificate.issuer == certificate.subject, "self-signed"
    assert len(origin.requests) == before, "a request behind the fallback reaches no origin"

    times = [fallback_get(faulty, "new.faults.test")[0] for _ in range(5)]
    print(f"CA {mode}: first {seconds:.2f} s, then {min(times) * 1000:.1f} ms")
    assert sorted(times)[2] < within(0.02), times

    faults.fault("pass", drop=True)
    begun = time.monotonic()
    until(lambda: is_trusted(faulty, "new.faults.test"), "a certificate after the CA recovered", 20)
    print(f"CA {mode}: certificate {time.monotonic() - begun:.1f} s after the recovery")


def test_names_with_certificates_are_served_whatever_the_ca_does(faulty, faults):
    faults.fault("hang")
    begun = time.monotonic()
    assert trusted_get(faulty, "warm.faults.test").status == 200
    assert time.monotonic() - begun < within(0.2)


def test_retry_after_is_honoured(faulty, faults):
    faults.retry_after = 8
    faults.fault("429", only="order")
    fallback_get(faulty, "limited.faults.test")
    limited_at = next(at for at, _, path in reversed(faults.requests) if "order" in path)
    faults.fault("pass")
    until(lambda: is_trusted(faulty, "limited.faults.test"), "the certificate", 30)
    orders = [at for at, method, path in faults.requests
              if method == "POST" and path.startswith("/order-plz") and at > limited_at]
    assert orders and orders[0] - limited_at >= 7.5, "not before Retry-After"


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
                                                                        ca, origin):
    faults.fault("refuse")
    program = gatehouse(config.acme(
        faults.directory, ca.trust,
        f'[[site]]\nhosts = ["dead.test"]\nupstream = "{origin.address}"\n'))
    program.https, program.root = config.https, ca.root()
    seconds, response, certificate = fallback_get(program, "dead.test")
    assert certificate.issuer == certificate.subject and seconds < within(12.5)
    assert response.status in (200, 503)
    assert fallback_get(program, "dead.test")[0] < within(0.05)
    faults.fault("pass")
    until(lambda: is_trusted(program, "dead.test"), "the certificate after the CA's return", 20)


def test_a_failure_is_a_sentence_with_the_name_and_the_ca(faulty, faults):
    faults.fault("500")
    fallback_get(faulty, "told.faults.test")
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
        program.https = config.https
        _, response, _ = fallback_get(program, "closed.faults.test")
        assert response.status == 503
        row = until(lambda: (program.certificates().get("closed.faults.test") or {}).get(
            "last_error"), "the failure's sentence")
        assert "closed.faults.test" in row and "80" in row
    finally:
        elsewhere.stop()
