"""Certificates of seconds: renewed before they end, and served at the next handshake."""

import datetime
import time

import pytest
from harness.client import Client, trusting
from harness.wait import until
from local_ca import LocalCa

LIFETIME_SECONDS = 30


@pytest.fixture
def short_ca(tmp_path, config):
    ca = LocalCa(tmp_path / "short-ca", config.http, lifetime_seconds=LIFETIME_SECONDS).start()
    yield ca
    ca.stop()


def test_a_renewed_certificate_is_served_and_no_connection_ends(gatehouse, config, short_ca,
                                                              origin):
    program = gatehouse(config.acme(
        short_ca.directory, short_ca.trust,
        f'[[site]]\nhosts = ["renewed.test"]\nupstream = "{origin.address}"\n'))
    until(lambda: program.certificates().get("renewed.test", {}).get("state") == "active",
          "the first certificate")
    context = trusting(short_ca.root())

    def connect():
        return Client(config.https, tls=context, name="renewed.test")
    kept = connect()
    first = kept.certificate()
    assert kept.get(host="renewed.test").status == 200

    def renewed():
        assert kept.get(host="renewed.test").status == 200
        with connect() as client:
            fresh = client.certificate()
        time.sleep(0.1)
        return fresh if fresh.serial_number != first.serial_number else None
    second = until(renewed, "a renewed certificate at a new handshake", LIFETIME_SECONDS)
    assert datetime.datetime.utcnow() < first.not_valid_after, "renewed before the old one ended"
    assert second.not_valid_after > first.not_valid_after
    assert kept.get(host="renewed.test").status == 200, "the old connection goes on"
    assert program.metric("renew") >= 1
    assert short_ca.orders() <= 3


def test_a_renewal_that_fails_keeps_the_old_certificate(gatehouse, config, tmp_path, origin):
    from harness.fault_ca import FaultProxy
    ca = LocalCa(tmp_path / "short-ca", config.http, lifetime_seconds=40).start()
    faults = FaultProxy(ca)
    try:
        program = gatehouse(config.acme(
            faults.directory, ca.trust,
            f'[[site]]\nhosts = ["kept.test"]\nupstream = "{origin.address}"\n'))
        until(lambda: program.certificates().get("kept.test", {}).get("state") == "active",
              "the first certificate")
        faults.fault("500")
        context = trusting(ca.root())
        with Client(config.https, tls=context, name="kept.test") as client:
            first = client.certificate()
        until(lambda: any(at > 0 and program.certificates()["kept.test"]["last_error"]
                          for at, _, _ in faults.requests[-1:]), "a failed renewal", 40)
        with Client(config.https, tls=context, name="kept.test") as client:
            assert client.certificate().serial_number == first.serial_number
            assert client.get(host="kept.test").status == 200
        faults.fault("pass")

        def replaced():
            with Client(config.https, tls=trusting(ca.root(), check_hostname=True),
                        name="kept.test") as fresh:
                return fresh.certificate().serial_number != first.serial_number
        until(lambda: attempt(replaced), "the renewal after the CA recovered", 25)
    finally:
        faults.stop()
        ca.stop()


def attempt(action):
    try:
        return action()
    except OSError:
        return False
