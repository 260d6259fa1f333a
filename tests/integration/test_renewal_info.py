"""Renewal information (RFC 9773): the CA says when, and learns what a new certificate replaces."""

import base64
import datetime
import json
import time

import pytest
from cryptography import x509
from harness.fault_ca import FaultProxy
from harness.limits import LONG, within
from harness.program import command
from harness.visitor import trusted, visit
from harness.wait import until
from local_ca import pem, rfc3339

NAME = "www.window.test"
LOOK = "/renewalInfo/"


@pytest.fixture
def newer(newer_ca):
    """A CA that knows renewal information, behind faults: its first answer to it waits."""
    proxy = FaultProxy(newer_ca)
    proxy.plan("hang", LOOK)
    yield proxy
    proxy.stop()


@pytest.fixture
def site(gatehouse, config, newer, origin):
    """A program with its first certificate, which has asked when to renew it."""
    program = gatehouse(config.acme(
        newer.directory, newer.ca.trust,
        f'[[site]]\nhosts = ["{NAME}"]\nupstream = "{origin.address}"\n'))
    program.https, program.root = config.https, newer.ca.root()
    program.first = until(lambda: trusted(config.https, NAME, program.root), "the certificate")
    newer.wait_request(LOOK)
    return program


def renewal_id(certificate):
    """RFC 9773 section 4.1."""
    authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    number = certificate.serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=")
                    for part in (authority.key_identifier, serial))


def moments(*days):
    now = datetime.datetime.utcnow().replace(microsecond=0)
    return [now + datetime.timedelta(days=count) for count in days]


def served(program):
    return visit(program.https, NAME, program.root).certificate


def row(program):
    return program.certificates()[NAME]


def renew_at(program):
    return datetime.datetime.strptime(row(program)["renew_at"][:19], "%Y-%m-%dT%H:%M:%S")


def renewed(program):
    return trusted(program.https, NAME, program.root) and (
        served(program).serial_number != program.first.certificate.serial_number)


def answer_always(faults, text):
    faults.plan("pass", LOOK, times=None,
                edit=lambda status, fields, _: (200, fields, text.encode()))


def within_a_while(condition, seconds=0.4):
    """Whether it came true: what must not happen has had its time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_a_window_that_is_past_renews_soon_and_names_what_it_replaces(newer, site, figure):
    asked = [path for _, _, path in newer.requests if LOOK in path]
    assert asked[0].endswith(renewal_id(site.first.certificate)), asked
    newer.ca.suggest_renewal(pem(site.first.certificate), *moments(-2, -1),
                             explanation="https://ca.test/incident-7")
    newer.release()
    begun = time.monotonic()
    until(lambda: renewed(site), "the renewed certificate", 20)
    figure("renewal window in the past, certificate just issued: the next one after",
           f"{time.monotonic() - begun:.2f} s")
    orders = newer.orders(NAME)
    assert "replaces" not in orders[0]
    assert orders[1]["replaces"] == renewal_id(site.first.certificate)
    assert newer.ca.orders() == 2
    assert "is a replacement of" in newer.ca.log_text()
    assert "https://ca.test/incident-7" in site.log()
    until(lambda: any(path.endswith(renewal_id(served(site))) for _, _, path in newer.requests),
          "a look at the new certificate's window")


def test_a_moment_within_the_window_is_chosen_once_and_kept(newer, site):
    start, end = moments(10, 20)
    before = renew_at(site)
    newer.ca.suggest_renewal(pem(site.first.certificate), start, end)
    newer.release()
    until(lambda: renew_at(site) != before, "another time of renewal")
    chosen = renew_at(site)
    assert start <= chosen <= end
    site.stop()
    site.start()
    until(lambda: row(site)["state"] == "active", "the stored certificate")
    assert renew_at(site) == chosen
    assert newer.ca.orders() == 1


@pytest.mark.parametrize("text", [
    "", "no JSON", "[]", '{"suggestedWindow": {}}', '{"suggestedWindow": {"start": 1, "end": 2}}',
    "ends before it starts", "ends where it starts", "no dates"])
def test_an_answer_without_sense_is_no_answer(newer, site, text):
    start, end = (rfc3339(moment) for moment in moments(-3, -4))
    window = {"ends before it starts": (start, end), "ends where it starts": (start, start),
              "no dates": ("yesterday", "tomorrow")}.get(text)
    if window:
        text = json.dumps({"suggestedWindow": dict(zip(("start", "end"), window))})
    before = renew_at(site)
    answer_always(newer, text)
    newer.release()
    assert not within_a_while(lambda: renew_at(site) != before or newer.ca.orders() > 1)
    assert row(site)["state"] == "active" and not row(site)["last_error"]


def test_a_ca_that_fails_to_answer_changes_nothing(newer, site):
    before = renew_at(site)
    newer.fault("500", LOOK)
    assert not within_a_while(lambda: renew_at(site) != before or newer.ca.orders() > 1)
    assert row(site)["state"] == "active"
    assert visit(site.https, NAME, site.root).seconds < within(0.1)


def test_a_replacement_that_the_ca_refuses_is_ordered_once_without_it(newer, site):
    refusal = newer.plan("problem", "/order-plz", status=409, kind="alreadyReplaced",
                         detail="it was replaced already")
    newer.ca.suggest_renewal(pem(site.first.certificate), *moments(-2, -1))
    newer.release()
    until(lambda: renewed(site), "the renewed certificate", 20)
    orders = newer.orders(NAME)
    assert refusal.times == 0 and len(orders) == 3
    assert orders[1]["replaces"] and "replaces" not in orders[2]
    assert newer.ca.orders() == 2 and not row(site)["last_error"]


def test_a_ca_that_has_forgotten_the_certificate_gives_another_all_the_same(newer, site):
    """It started anew: no account, no such certificate, another root."""
    newer.ca.restart()
    site.root = newer.ca.root()
    start, end = (rfc3339(moment) for moment in moments(-2, -1))
    window = json.dumps({"suggestedWindow": {"start": start, "end": end}})
    newer.plan("pass", LOOK, edit=lambda status, fields, _: (200, fields, window.encode()))
    newer.release()
    until(lambda: renewed(site), "a certificate of the new root", 20)
    orders = newer.orders(NAME)
    assert any("replaces" in order for order in orders[1:]) and "replaces" not in orders[-1]
    assert len(orders) <= 4, "the first, one without account, one with and one without `replaces`"


def test_a_window_that_is_always_past_makes_no_storm_of_orders(newer, site, figure):
    start, end = (rfc3339(moment) for moment in moments(-2, -1))
    answer_always(newer, json.dumps({"suggestedWindow": {"start": start, "end": end}}))
    newer.release()
    # One at once, as the CA may be in earnest; the next one has to wait.
    until(lambda: renewed(site), "the renewed certificate", 20)
    issued = served(site).not_valid_before
    until(lambda: renew_at(site) - issued < datetime.timedelta(days=1), "another time of renewal")
    assert not within_a_while(lambda: newer.ca.orders() > 2, 20 if LONG else 2)
    figure("a window that is past whenever it is asked for: renewed again after",
           f"{renew_at(site) - issued}")
    assert renew_at(site) - issued > datetime.timedelta(hours=1)


@pytest.mark.skipif(not LONG, reason="waits a minute: GATEHOUSE_LONG=1")
def test_the_ca_is_asked_again_when_it_says_but_not_within_a_minute(newer, site):
    def soon(status, fields, body):
        fields = [(n, v) for n, v in fields if n.lower() != "retry-after"]
        return status, [*fields, ("Retry-After", "1")], body
    newer.plan("pass", LOOK, times=None, edit=soon)
    newer.release()
    until(lambda: sum(LOOK in path for _, _, path in newer.requests) >= 2, "another look", 80)
    times = [at for at, _, path in newer.requests if LOOK in path]
    assert times[1] - times[0] >= 59


def test_why_a_window_was_set_is_shown(newer, site):
    newer.ca.suggest_renewal(pem(site.first.certificate), *moments(10, 20),
                             explanation="https://ca.test/incident-8")
    newer.release()

    def reason():
        window = json.loads(site.admin(f"/api/certificates/{NAME}")[1])["renewal_window"]
        return window and window["explanation"]
    until(lambda: reason() == "https://ca.test/incident-8", "the CA's reason")
    shown = command("certs", "show", NAME, "--config", str(site.config)).stdout
    assert "https://ca.test/incident-8" in shown
