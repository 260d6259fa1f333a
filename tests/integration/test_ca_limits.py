"""The limits of CAs: what one refuses another gives, what is spent is waited for, in good order."""

import datetime
import time

import pytest
from harness.fault_ca import FaultProxy
from harness.limits import SLOW
from harness.services import Tunnel
from harness.visitor import trusted, visit
from harness.wait import until
from local_ca import LocalCa

HOUR = 3600
LETS_ENCRYPT = "acme-v02.api.letsencrypt.org"


@pytest.fixture
def cas(tmp_path, config):
    """Starts CAs, each behind faults: cas(name, …)."""
    started = []

    def start(name, **settings):
        ca = LocalCa(tmp_path / name, config.http, **settings).start()
        started.append(FaultProxy(ca))
        return started[-1]
    yield start
    for faults in started:
        faults.stop()
        faults.ca.stop()


def section(name, faults, more=""):
    return (f'[ca.{name}]\ndirectory = "{faults.directory}"\ntrust = "{faults.ca.trust}"\n'
            f'{more}\n')


def two_cas(config, first, second, origin, hosts, more=""):
    names = ", ".join(f'"{host}"' for host in hosts)
    return config.base() + (
        f'[acme]\nemail = "ops@example.test"\nca = ["first", "second"]\n{more}\n'
        + section("first", first) + section("second", second)
        + f'[[site]]\nhosts = [{names}]\nupstream = "{origin.address}"\n')


def row(program, name):
    return program.certificates().get(name) or {}


def kept(program, ca):
    """Whether a refusal of this CA is in storage."""
    files = (program.folder / "storage/setbacks").glob("*.json")
    return any(f'"{ca}":{{"until"' in file.read_text() for file in files)


def moment(text):
    return datetime.datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")


# --- 429: the next CA at once, and nothing to the first before its time

def http_date(seconds):
    at = datetime.datetime.utcnow() + datetime.timedelta(seconds=seconds)
    return at.strftime("%a, %d %b %Y %H:%M:%S GMT")


def in_words(seconds):
    at = datetime.datetime.utcnow() + datetime.timedelta(seconds=seconds)
    return f"too many certificates already issued, retry after {at:%Y-%m-%d %H:%M:%S} UTC"


TOLD = {"seconds": {"retry_after": str(HOUR)}, "a date": {"retry_after": http_date},
        "words": {"retry_after": "", "detail": in_words}}


@pytest.mark.parametrize("how", TOLD)
def test_a_limit_at_one_ca_sends_the_name_to_the_next_and_nothing_to_the_first(
        gatehouse, config, cas, origin, figure, how):
    first, second = cas("first"), cas("second")
    name = "www.limited.test"
    told = {k: v(HOUR) if callable(v) else v for k, v in TOLD[how].items()}
    first.retry_after = ""
    first.plan("429", "/order-plz", times=None, **told)
    begun = time.monotonic()
    program = gatehouse(two_cas(config, first, second, origin, [name]))
    until(lambda: trusted(config.https, name, second.ca.root()), "the second CA's certificate")
    figure(f"429 for an hour, told by {how}: the next CA's certificate after",
           f"{time.monotonic() - begun:.2f} s")
    assert first.count("/order-plz") == 1 and second.ca.orders() == 1
    asked = len(first.requests)
    # What is stored is served, and the limit is remembered.
    program.kill()
    program.start()
    assert visit(config.https, name, second.ca.root()).response.status == 200
    program.reload(program.config.read_text() + "\n# changed\n")
    assert visit(config.https, name, second.ca.root()).response.status == 200
    assert first.count("/order-plz") == 1
    assert not any("/order-plz" in path for _, _, path in first.requests[asked:])


def test_a_limit_at_every_ca_is_waited_for_and_told(gatehouse, config, cas, origin):
    first, second = cas("first"), cas("second")
    for faults, hours in ((first, 2), (second, 1)):
        faults.plan("429", "/order-plz", times=None, retry_after=str(hours * HOUR))
    name = "www.everywhere.test"
    program = gatehouse(two_cas(config, first, second, origin, [name]))
    until(lambda: second.count("/order-plz"), "the second CA's refusal")
    until(lambda: row(program, name).get("next_attempt"), "the next attempt's time")
    assert visit(config.https, name).self_signed
    for restart in (False, True):
        if restart:
            until(lambda: kept(program, "second"), "the refusals in storage")
            program.kill()
            program.start()
            until(lambda: row(program, name).get("next_attempt"), "the next attempt's time")
        wait = moment(row(program, name)["next_attempt"]) - datetime.datetime.utcnow()
        assert HOUR * 0.9 < wait.total_seconds() < HOUR * 1.2, "the sooner of the two"
        assert first.count("/order-plz") == second.count("/order-plz") == 1


@pytest.mark.parametrize("mode", ["500", "refuse"])
def test_a_ca_that_is_down_leaves_its_names_to_the_next(gatehouse, config, cas, origin, mode,
                                                        figure):
    first, second = cas("first"), cas("second")
    first.fault(mode)
    begun = time.monotonic()
    gatehouse(two_cas(config, first, second, origin, ["www.down.test"]))
    until(lambda: trusted(config.https, "www.down.test", second.ca.root()),
          "the second CA's certificate", 20)
    figure(f"first CA answers {mode}: the next CA's certificate after",
           f"{time.monotonic() - begun:.2f} s")


# --- the budget

@pytest.fixture
def lets_encrypt(cas):
    """A CA at Let's Encrypt's address, for programs that reach it through a tunnel."""
    faults = cas("letsencrypt", names=(LETS_ENCRYPT,))
    tunnel = Tunnel({f"{LETS_ENCRYPT}:443": faults.port})
    faults.environment = {"HTTPS_PROXY": tunnel.url, "https_proxy": tunnel.url, "NO_PROXY": "",
                          "no_proxy": ""}
    yield faults
    tunnel.stop()


def lets_encrypt_text(config, faults, origin, hosts):
    names = ", ".join(f'"{host}"' for host in hosts)
    return config.base() + (
        '[acme]\nemail = "ops@example.test"\nca = ["letsencrypt"]\n'
        f'[ca.letsencrypt]\ndirectory = "https://{LETS_ENCRYPT}/dir"\n'
        f'trust = "{faults.ca.trust}"\n'
        f'[[site]]\nhosts = [{names}]\nupstream = "{origin.address}"\n')


def test_a_ca_that_no_proxy_names_is_reached_without_the_proxy(gatehouse, config, cas, origin):
    ca = cas("near")
    tunnel, direct = Tunnel({}), "example.test,127.0.0.1"  # it leads nowhere
    try:
        gatehouse(config.acme(
            ca.directory, ca.ca.trust,
            f'[[site]]\nhosts = ["www.near.test"]\nupstream = "{origin.address}"\n'),
            environment={"HTTPS_PROXY": tunnel.url, "https_proxy": tunnel.url,
                         "NO_PROXY": direct, "no_proxy": direct})
        until(lambda: trusted(config.https, "www.near.test", ca.ca.root()), "the certificate")
    finally:
        tunnel.stop()


def test_a_spent_budget_is_waited_for_and_says_until_when(gatehouse, config, lets_encrypt, origin,
                                                          figure):
    """Fifty certificates a registered domain in a week."""
    names = [f"host-{i:02}.spent.test" for i in range(52)]
    program = gatehouse(lets_encrypt_text(config, lets_encrypt, origin, names),
                        environment=lets_encrypt.environment)
    until(lambda: sum(r["state"] == "active" for r in program.certificates().values()) == 50,
          "fifty certificates", 40)
    for restart in (False, True):
        if restart:
            program.stop()
            program.start()
            until(lambda: sum(r["state"] == "active" for r in program.certificates().values())
                  == 50, "fifty stored certificates")
        waiting = until(lambda: [r for r in program.certificates().values()
                                 if r["state"] != "active" and r["next_attempt"]],
                        "those that wait")
        assert len(waiting) == 2
        for one in waiting:
            wait = (moment(one["next_attempt"]) - datetime.datetime.utcnow()).total_seconds()
            figure("budget of 50 a week spent: the 51st waits for", f"{wait / HOUR:.1f} h")
            assert 3 * HOUR < wait < 8 * HOUR, one
        assert lets_encrypt.ca.orders() == 50
    assert any(one["name"] in line and "it is ordered" in line
               for line in program.log().splitlines() for one in waiting)


# --- what is urgent goes first

def test_an_expiring_certificate_goes_before_new_ones(gatehouse, config, cas, origin):
    lifetime = 8 if SLOW == 1 else 24
    faults = cas("slow", lifetime_seconds=lifetime)
    old, new = "www.expiring.test", [f"www.new-{i}.test" for i in range(80)]

    def text(hosts):
        return config.acme(faults.directory, faults.ca.trust,
                           "[[site]]\nhosts = [" + ", ".join(f'"{h}"' for h in hosts)
                           + f']\nupstream = "{origin.address}"\n')
    program = gatehouse(text([old]))
    first = until(lambda: trusted(config.https, old, faults.ca.root()), "the certificate")
    faults.fault("hang", "/order-plz")
    program.reload(text([old, *new]))
    # As many as may run have asked; the others queue, and so does the renewal when it is due.
    until(lambda: len(faults.orders()) > 24, "orders that hang")
    until(lambda: row(program, old)["state"] == "ordering", "the renewal", lifetime)
    begun = len(faults.orders())
    assert begun < len(new)
    faults.fault("pass")
    until(lambda: len(faults.orders(old)) == 2, "the renewal's order")
    place = max(i for i, order in enumerate(faults.orders()) if order in faults.orders(old))
    assert place < begun + 8, f"{place - begun} new ones went first"
    until(lambda: visit(config.https, old, faults.ca.root()).certificate.serial_number
          != first.certificate.serial_number, "the renewed certificate")
