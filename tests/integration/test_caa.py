"""CAA records, served by a real DNS server, are looked at before the CA is asked for anything."""

import re

import pytest
from harness.dns import NameServer
from harness.program import command
from harness.wait import until

OTHER_ACCOUNT = "https://ca.test/account/of/another"
ZONE = [
    "closed CAA 0 issue \"other.test\"",
    "closed CAA 0 iodef \"mailto:root@closed.test\"",
    "parent CAA 0 issue \";\"",
    "open.parent CAA 0 issue \"ca.test\"",
    "wild CAA 0 issuewild \";\"",
    "plain A 127.0.0.1",
    "critical CAA 0 issue \"ca.test\"",
    "critical CAA 128 tbs \"unknown\"",
    f"account CAA 0 issue \"ca.test; accounturi={OTHER_ACCOUNT}\"",
    "method CAA 0 issue \"ca.test; validationmethods=dns-01\"",
    "alias CNAME target.other.test.",
    "large CAA 0 issue \"ca.test\"",
    *[f"large CAA 0 issue \"n{i}.{'x' * 60}.test\"" for i in range(40)],
]
OTHER_ZONE = ["target CAA 0 issue \"third.test\""]


@pytest.fixture
def dns(tmp_path):
    # The root and the top are asked for too: they are answered, with nothing.
    server = NameServer(tmp_path / "dns", {"test": ZONE, "other.test": OTHER_ZONE,
                                           "broken.test": None})
    yield server.start()
    server.stop()


@pytest.fixture
def start(gatehouse, config, faults, ca, origin, dns):
    """start(host, …): a program that orders for them, and whose CA is known in CAA records."""
    def run(*hosts, resolver=dns.address, more="", **settings):
        listed = ", ".join(f'"{host}"' for host in hosts)
        return gatehouse(config.acme(
            faults.directory, ca.trust,
            f'caa_identities = ["ca.test"]\n'
            f'[[site]]\nhosts = [{listed}]\nupstream = "{origin.address}"\n',
            more=f'resolvers = ["{resolver}"]\n{more}'), **settings)
    return run


def row(program, name):
    return program.certificates().get(name, {})


def error(program, name):
    """What is said of a name for which no certificate was ordered."""
    return until(lambda: row(program, name).get("last_error"), f"an error for {name}", 30)


def obtained(program, name):
    until(lambda: row(program, name).get("state") == "active",
          f"a certificate for {name}", 30)


def test_a_forbidden_name_costs_the_ca_no_request_and_the_way_out_works(start, faults, dns):
    program = start("www.closed.test")
    said = error(program, "www.closed.test")
    assert said == (
        'www.closed.test: local was not asked, because the CAA record of closed.test forbids it: '
        'closed.test. CAA 0 issue "other.test": it allows other CAs only (add to the zone test: '
        'closed.test. CAA 0 issue "ca.test")')
    assert said in program.log()
    assert "next attempt" in program.log()
    listed = command("certs", "list", "--config", str(program.config))
    assert said in listed.stdout
    assert faults.requests == [], "not one request"
    # The line that the message names is what helps.
    line = re.search(r"add to the zone test: (.*)\)$", said).group(1)
    dns.change("test", [*ZONE, line])
    folder = program.folder
    program.stop()
    again = start("www.closed.test", folder=folder)
    obtained(again, "www.closed.test")


def test_what_forbids_and_what_does_not(start, faults):
    """Each name by its own record; the CA is asked for those that are allowed alone."""
    forbidden = {
        "deep.sub.parent.test": 'parent.test. CAA 0 issue ";": it forbids every CA',
        "critical.test": 'critical.test. CAA 128 tbs "unknown": it is critical',
        "method.test": "it accepts the challenges dns-01 only",
        "alias.test": "target.other.test, to which alias.test leads by CNAME, forbids it: "
                      'target.other.test. CAA 0 issue "third.test": it allows other CAs only '
                      "(add to the zone other.test: ",
    }
    allowed = ["a.open.parent.test", "wild.test", "plain.test", "large.test", "missing.test"]
    program = start(*forbidden, *allowed)
    for name, text in forbidden.items():
        assert text in error(program, name)
    for name in allowed:
        obtained(program, name)
    assert sorted(order.names[0] for order in faults.placed) == sorted(allowed)


def test_a_record_for_another_account_forbids_and_for_ours_allows(start, dns, faults):
    program = start("plain.test")
    obtained(program, "plain.test")
    folder = program.folder
    program.stop()
    program = start("plain.test", "account.test", folder=folder)
    said = error(program, "account.test")
    assert f"accounturi={OTHER_ACCOUNT}\": it is for another account at the CA than ours, " in said
    line = re.search(r"add to the zone test: (.*)\)$", said).group(1)
    assert "accounturi=https://127.0.0.1:" in line
    dns.change("test", [*ZONE, line])
    program.stop()
    again = start("plain.test", "account.test", folder=folder)
    obtained(again, "account.test")
    assert [order.names[0] for order in faults.placed] == ["plain.test", "account.test"]


def test_records_that_cannot_be_read_forbid_nothing_and_are_warned_of_once(start):
    program = start("x.broken.test", "y.broken.test")
    for name in ("x.broken.test", "y.broken.test"):
        obtained(program, name)
        assert program.log().count(f"{name}: its CAA records are not known (SERVFAIL from ") == 1


def test_without_a_resolver_that_answers_certificates_are_obtained(start):
    program = start("www.closed.test", resolver="127.0.0.1:1")
    obtained(program, "www.closed.test")
    assert "CAA records are not known (127.0.0.1:1 refuses connections)" in program.log()


def test_the_look_can_be_turned_off(start):
    program = start("www.closed.test", more="caa = false\n")
    obtained(program, "www.closed.test")
