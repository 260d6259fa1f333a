"""Fixtures: everything that a test starts ends with it."""

import datetime
import itertools
import pathlib
import sys
import threading

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tools")]

from harness.client import Client, trusting, trusting_anything  # noqa: E402
from harness.fault_ca import FaultProxy  # noqa: E402
from harness.http2 import Http2, trusting_h2  # noqa: E402
from harness.origin import Origin  # noqa: E402
from harness.program import Gatehouse  # noqa: E402
from harness.services import Ask  # noqa: E402
from harness.wait import until  # noqa: E402
from local_ca import Authority, LocalCa  # noqa: E402
from ports import free_port  # noqa: E402


MEASURED = pytest.StashKey()


@pytest.fixture
def figure(request):
    """figure(case, measured): printed at the end of the run, whatever becomes of the test."""
    return request.config.stash.setdefault(MEASURED, {}).__setitem__


def pytest_terminal_summary(terminalreporter, config):
    for case, measured in config.stash.get(MEASURED, {}).items():
        terminalreporter.write_line(f"{case}: {measured}")


@pytest.fixture(scope="session")
def authority():
    """Signs certificates of sites and origins that need no ACME."""
    return Authority("Integration test root")


@pytest.fixture(scope="session")
def site_files(authority, tmp_path_factory):
    """(chain, key) for example.test and *.example.test."""
    folder = tmp_path_factory.mktemp("site")
    chain, key = authority.issue(["example.test", "*.example.test"], datetime.timedelta(days=90))
    (folder / "chain.pem").write_text(chain)
    (folder / "key.pem").write_text(key)
    return folder / "chain.pem", folder / "key.pem"


@pytest.fixture(scope="session")
def tls(authority):
    """Trusts `authority`."""
    return trusting(authority.root_pem())


@pytest.fixture
def origins():
    """Starts origins: origins(script=None, …)."""
    started = []

    def start(*arguments, **settings):
        started.append(Origin(*arguments, **settings))
        return started[-1]
    yield start
    for origin in started:
        origin.stop()


@pytest.fixture
def origin(origins):
    return origins()


@pytest.fixture
def gatehouse(tmp_path):
    """Starts programs: gatehouse(text, …). Each in a folder of its own, or in `folder`."""
    started, numbers = [], itertools.count()

    def start(text, wait=True, folder=None, **settings):
        if folder is None:
            folder = tmp_path / f"gatehouse-{next(numbers)}"
            folder.mkdir()
        started.append(Gatehouse(folder, text, **settings).start(wait))
        return started[-1]
    yield start
    failures = []
    for program in started:
        try:
            program.stop()
        except AssertionError as failure:
            failures.append(failure)
    if failures:
        raise failures[0]


@pytest.fixture
def config(site_files):
    """Configuration texts on free ports: config.site(origin, …) for a site with a certificate."""
    return Configuration(site_files)


class Configuration:
    """Builds the text of a gatehouse.toml; the ports are known before anything starts."""

    def __init__(self, site_files):
        self.chain, self.key = site_files
        self.http, self.https = free_port(), free_port()

    def base(self, http=None, https=None, server="", log="", sections=""):
        """The sections that every test needs; `server` and `log` add lines to theirs."""
        http = f"127.0.0.1:{self.http}" if http is None else http
        https = f"127.0.0.1:{self.https}" if https is None else https
        return (f'[server]\nhttp = {listing(http)}\nhttps = {listing(https)}\nworkers = 2\n'
                f'storage = "file:@FOLDER@/storage"\nadmin = "unix:@ADMIN@"\n{server}\n'
                f'[log]\nlevel = "info"\naccess = "@FOLDER@/access.log"\n{log}\n{sections}\n')

    def site(self, upstream, hosts='["example.test", "*.example.test"]', more="", **settings):
        """One site with a certificate of its own, served on both listeners without redirect."""
        return self.base(**settings) + (
            f'[[site]]\nhosts = {hosts}\nupstream = "{upstream}"\ncertificate = "{self.chain}"\n'
            f'key = "{self.key}"\nredirect_http = false\n{more}\n')

    def acme(self, directory, trust, sites, more="", **settings):
        """Sites whose certificates come from the CA at `directory`."""
        return self.base(**settings) + (
            f'[acme]\nemail = "ops@example.test"\nca = ["local"]\n{more}\n'
            f'[ca.local]\ndirectory = "{directory}"\ntrust = "{trust}"\n\n{sites}\n')


def listing(addresses):
    addresses = [addresses] if isinstance(addresses, str) else addresses
    return "[" + ", ".join(f'"{a}"' for a in addresses if a) + "]"


@pytest.fixture
def proxy(gatehouse, config, origin):
    """A program with one site in front of `origin`, on plain HTTP and TLS."""
    program = gatehouse(config.site(origin.address))
    program.http, program.https = config.http, config.https
    return program


@pytest.fixture(params=["http", "https"])
def connect(request, config, tls):
    """Opens client connections, once plain and once over TLS: every test using it runs twice."""
    opened = []

    def open_one(name="example.test", **settings):
        port = config.http if request.param == "http" else config.https
        context = None if request.param == "http" else tls
        opened.append(Client(port, tls=context, name=name, **settings))
        return opened[-1]
    open_one.scheme = request.param
    yield open_one
    for client in opened:
        client.close()


class Http2World:
    """A program that speaks HTTP/2 on both listeners, an origin behind it, and how to reach it."""

    def __init__(self, folder, site_files, authority, sections="", server="", workers=0,
                 **settings):
        self.config = Configuration(site_files)
        self.http, self.https = self.config.http, self.config.https
        self.tls = trusting_h2(authority.root_pem())
        self.origin = Origin()
        self.origin.released = threading.Event()
        text = self.config.site(self.origin.address, sections=sections,
                                server="h2c = true\n" + server, **settings)
        if workers:
            text = text.replace("workers = 2", f"workers = {workers}")
        self.program = Gatehouse(folder, text).start()

    def connect(self, plain=False, **settings):
        return Http2(self.http if plain else self.https, tls=None if plain else self.tls,
                     **settings)

    def fresh(self):
        """The origin as it was at the beginning, with no connection and nothing recorded."""
        self.origin.drop_connections()
        until(lambda: self.program.metric("upstream_idle") == 0, "no upstream connection is left")
        self.origin.forget()

    def stop(self):
        self.origin.released.set()
        try:
            self.program.stop()
        finally:
            self.origin.stop()


@pytest.fixture(scope="module")
def http2_world(site_files, authority, tmp_path_factory):
    """Starts worlds that the tests of a file share: http2_world(sections, …)."""
    started = []

    def start(*arguments, **settings):
        started.append(Http2World(tmp_path_factory.mktemp("http2"), site_files, authority,
                                  *arguments, **settings))
        return started[-1]
    yield start
    for world in started:
        world.stop()


@pytest.fixture
def ca(tmp_path, config):
    """A running ACME CA that validates at the configuration's listeners."""
    running = LocalCa(tmp_path / "ca", config.http, tls_port=config.https).start()
    yield running
    running.stop()


@pytest.fixture
def newer_ca(tmp_path, config):
    """As `ca`, but one that knows renewal information and profiles, and locks itself up less."""
    running = LocalCa(tmp_path / "newer-ca", config.http, tls_port=config.https, version="2.10",
                      profiles={"only": 90 * 24 * 3600}).start()
    yield running
    running.stop()


@pytest.fixture
def faults(ca):
    proxy = FaultProxy(ca)
    yield proxy
    proxy.stop()


@pytest.fixture
def ask():
    service = Ask()
    yield service
    service.stop()


@pytest.fixture
def anything():
    return trusting_anything()
