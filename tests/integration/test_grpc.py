"""gRPC end to end, by grpcio at both ends: statuses and metadata, streams, deadlines, cancellation.

Each test runs three times: over TLS to an origin without and with TLS, and without TLS at all.
"""

import itertools
import os
import queue
import threading
import time

import grpc
import pytest
from conftest import Configuration
from harness.grpc_ends import (
    BIDIRECTIONAL, CLIENT_STREAM, SERVER_STREAM, UNARY, GrpcOrigin, open_channel)
from harness.limits import SLOW, within
from harness.program import Gatehouse
from harness.wait import stands_still, until
from harness.watch import Watch, connections_to

PATHS = ["h2 to h2c", "h2 to h2", "h2c to h2c"]
MEBIBYTE = 1 << 20
GROWTH_KB_MAX = 8192 if SLOW == 1 else 131072
SECONDS = 20


class GrpcWorld:
    """A gRPC origin, a program in front of it, and channels to it."""

    def __init__(self, folder, path, site_files, authority):
        encrypted_client, encrypted_origin = (end == "h2" for end in path.split(" to "))
        chain, key = authority.issue(["app.internal"])
        self.origin = GrpcOrigin(grpc.ssl_server_credentials([(key.encode(), chain.encode())])
                                 if encrypted_origin else None)
        self.config = Configuration(site_files)
        self.port = self.config.https if encrypted_client else self.config.http
        self.root = authority.root_pem() if encrypted_client else None
        (folder / "root.pem").write_text(authority.root_pem())
        tls = f'tls = {{ ca = "{folder}/root.pem", name = "app.internal" }}'
        self.program = Gatehouse(folder, self.config.site("app", server="h2c = true") + f'''
[upstream.app]
servers = ["{self.origin.address}"]
protocol = "{'h2' if encrypted_origin else 'h2c'}"
{tls if encrypted_origin else ""}
''').start()

    def open(self):
        return open_channel(self.port, self.root)

    def stop(self):
        try:
            self.program.stop()
        finally:
            self.origin.stop()


@pytest.fixture(scope="module", params=PATHS)
def world(request, site_files, authority, tmp_path_factory):
    made = GrpcWorld(tmp_path_factory.mktemp("grpc"), request.param, site_files, authority)
    yield made
    made.stop()


@pytest.fixture(params=PATHS)
def own_world(request, site_files, authority, tmp_path):
    """For what would disturb the others."""
    made = GrpcWorld(tmp_path, request.param, site_files, authority)
    yield made
    made.stop()


@pytest.fixture
def origin(world):
    yield world.origin
    world.origin.methods.clear()


@pytest.fixture
def channel(world):
    with world.open() as opened:
        yield opened


def failure(call):
    """The error that a call ends with."""
    with pytest.raises(grpc.RpcError) as raised:
        list(call()) if not isinstance(call, grpc.RpcError) else call
    return raised.value


def unary(channel, path, message=b"", seconds=SECONDS, **more):
    return channel.unary_unary(path)(message, timeout=within(seconds), **more)


def unary_failure(channel, path, message=b"", seconds=SECONDS, **more):
    return failure(lambda: unary(channel, path, message, seconds, **more))


class Feed:
    """Requests of a streaming call, one when it is given and the end when it is told."""

    def __init__(self):
        self.messages = queue.Queue()

    def give(self, message):
        self.messages.put(message)

    def end(self):
        self.messages.put(None)

    def __iter__(self):
        return iter(self.messages.get, None)


# ---- The four kinds

@pytest.mark.parametrize("size", [0, 1, 16_379, 100_000, 3 << 20])
def test_a_unary_call_has_its_answer(origin, channel, size):
    message = os.urandom(size)
    origin.method(UNARY, "/test.Echo/Unary", lambda request, context: request[::-1])
    assert unary(channel, "/test.Echo/Unary", message) == message[::-1]


def test_a_server_stream_comes_whole_and_in_order(origin, channel):
    origin.method(SERVER_STREAM, "/test.Echo/Count",
                  lambda request, context: (b"%d" % i * 50 for i in range(int(request))))
    got = list(channel.unary_stream("/test.Echo/Count")(b"1000", timeout=within(SECONDS)))
    assert got == [b"%d" % i * 50 for i in range(1000)]


def test_each_message_of_a_server_stream_comes_when_it_is_sent(origin, channel):
    taken = queue.Queue()

    def count(request, context):
        for i in range(20):
            yield b"%d" % i
            taken.get(timeout=within(SECONDS))
    origin.method(SERVER_STREAM, "/test.Echo/Count", count)
    for i, message in enumerate(channel.unary_stream("/test.Echo/Count")(b"",
                                                                        timeout=within(SECONDS))):
        assert message == b"%d" % i
        taken.put(i)


def test_a_client_stream_arrives_whole_and_in_order(origin, channel):
    origin.method(CLIENT_STREAM, "/test.Echo/Join", lambda requests, context: b"".join(requests))
    parts = [os.urandom(i * 37) for i in range(300)]
    got = channel.stream_unary("/test.Echo/Join")(iter(parts), timeout=within(SECONDS))
    assert got == b"".join(parts)


def test_each_message_of_a_client_stream_arrives_when_it_is_sent(origin, channel):
    arrived, feed = queue.Queue(), Feed()

    def join(requests, context):
        for message in requests:
            arrived.put(message)
        return b"all"
    origin.method(CLIENT_STREAM, "/test.Echo/Join", join)
    call = channel.stream_unary("/test.Echo/Join").future(iter(feed), timeout=within(SECONDS))
    for i in range(20):
        feed.give(b"%d" % i)
        assert arrived.get(timeout=within(SECONDS)) == b"%d" % i
    feed.end()
    assert call.result() == b"all"


def test_a_bidirectional_stream_goes_message_by_message(origin, channel):
    origin.method(BIDIRECTIONAL, "/test.Echo/Talk",
                  lambda requests, context: (b"re: " + message for message in requests))
    feed = Feed()
    call = channel.stream_stream("/test.Echo/Talk")(iter(feed), timeout=within(SECONDS))
    for i in range(100):
        feed.give(b"%d" % i * (1 + i * 20))
        assert next(call) == b"re: " + b"%d" % i * (1 + i * 20)
    feed.end()
    assert list(call) == [] and call.code() == grpc.StatusCode.OK


def test_a_stream_goes_on_after_the_client_has_said_its_end(origin, channel):
    def talk(requests, context):
        said = list(requests)
        yield from said
    origin.method(BIDIRECTIONAL, "/test.Echo/Talk", talk)
    call = channel.stream_stream("/test.Echo/Talk")(iter([b"a", b"b"]), timeout=within(SECONDS))
    assert list(call) == [b"a", b"b"]


def test_compressed_messages_pass(origin, channel):
    origin.method(UNARY, "/test.Echo/Unary", lambda request, context: (
        context.set_compression(grpc.Compression.Gzip), request)[1])
    message = b"compressible " * 10_000
    assert unary(channel, "/test.Echo/Unary", message, compression=grpc.Compression.Gzip) == message


# ---- Statuses

@pytest.mark.parametrize("code", list(grpc.StatusCode)[1:], ids=lambda code: code.name)
def test_an_error_without_a_body_keeps_its_status_and_details(origin, channel, code):
    origin.method(UNARY, "/test.Echo/Fail",
                  lambda request, context: context.abort(code, "what went wrong: 100 % \n grün ✓"))
    error = unary_failure(channel, "/test.Echo/Fail")
    assert (error.code(), error.details()) == (code, "what went wrong: 100 % \n grün ✓")


def test_an_error_after_messages_comes_behind_them(origin, channel):
    def fail(request, context):
        yield from (b"one", b"two")
        context.set_trailing_metadata([("x-why", "because")])
        context.abort(grpc.StatusCode.DATA_LOSS, "no third")
    origin.method(SERVER_STREAM, "/test.Echo/Fail", fail)
    call = channel.unary_stream("/test.Echo/Fail")(b"", timeout=within(SECONDS))
    assert next(call) == b"one" and next(call) == b"two"
    error = failure(lambda: call)
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "no third")
    assert ("x-why", "because") in call.trailing_metadata()


def test_a_method_that_is_not_there_is_unimplemented(origin, channel):
    assert unary_failure(channel, "/test.Echo/Nothing").code() == grpc.StatusCode.UNIMPLEMENTED


def test_an_answer_ahead_of_the_uploads_end_is_the_calls_status(origin, channel):
    def refuse(requests, context):
        next(requests)
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")
    origin.method(CLIENT_STREAM, "/test.Echo/Join", refuse)
    endless = itertools.repeat(b"x" * 10_000)
    error = failure(lambda: channel.stream_unary("/test.Echo/Join")(endless,
                                                                   timeout=within(SECONDS)))
    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")
    origin.method(UNARY, "/test.Echo/Unary", lambda request, context: request)
    assert unary(channel, "/test.Echo/Unary", b"next") == b"next"


def test_an_exception_in_the_origin_is_unknown(origin, channel):
    origin.method(UNARY, "/test.Echo/Raise", lambda request, context: 1 / 0)
    assert unary_failure(channel, "/test.Echo/Raise").code() == grpc.StatusCode.UNKNOWN


# ---- Metadata

BINARY = bytes(range(256))


def test_metadata_passes_both_ways(origin, channel):
    seen = []

    def tell(request, context):
        seen.extend(context.invocation_metadata())
        context.send_initial_metadata([("x-first", "1"), ("x-first-bin", BINARY),
                                       ("x-many", "a"), ("x-many", "b")])
        context.set_trailing_metadata([("x-last", "2"), ("x-last-bin", BINARY[::-1]),
                                       ("x-last", "3")])
        return b""
    origin.method(UNARY, "/test.Echo/Tell", tell)
    sent = [("x-mine", "a b"), ("x-mine-bin", BINARY), ("x-empty-bin", b""), ("x-two", "1"),
            ("x-two", "2"), ("authorization", "Bearer abc")]
    _, call = channel.unary_unary("/test.Echo/Tell").with_call(b"", metadata=sent,
                                                              timeout=within(SECONDS))
    assert [pair for pair in seen if pair[0] in dict(sent)] == sent
    assert ("x-first", "1") in call.initial_metadata()
    assert ("x-first-bin", BINARY) in call.initial_metadata()
    assert [v for k, v in call.initial_metadata() if k == "x-many"] == ["a", "b"]
    assert ("x-last-bin", BINARY[::-1]) in call.trailing_metadata()
    assert [v for k, v in call.trailing_metadata() if k == "x-last"] == ["2", "3"]


def test_metadata_comes_ahead_of_the_first_message(origin, channel):
    release = threading.Event()

    def wait(request, context):
        context.send_initial_metadata([("x-first", "1")])
        release.wait(within(SECONDS))
        yield b"at last"
    origin.method(SERVER_STREAM, "/test.Echo/Wait", wait)
    call = channel.unary_stream("/test.Echo/Wait")(b"", timeout=within(SECONDS))
    assert ("x-first", "1") in call.initial_metadata()
    release.set()
    assert list(call) == [b"at last"]


def test_metadata_of_an_error_without_a_body_passes(origin, channel):
    def fail(request, context):
        context.set_trailing_metadata([("x-retry-bin", BINARY)])
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "")
    origin.method(UNARY, "/test.Echo/Fail", fail)
    assert ("x-retry-bin", BINARY) in unary_failure(channel, "/test.Echo/Fail").trailing_metadata()


# ---- Deadlines and cancellation

def test_a_deadline_reaches_the_origin(origin, channel):
    left = []
    origin.method(UNARY, "/test.Echo/Left",
                  lambda request, context: left.append(context.time_remaining()) or b"")
    unary(channel, "/test.Echo/Left", seconds=1000 / within(1))
    assert 900 < left[0] < 1100, "the timeout may be rounded on its way"


def test_a_call_past_its_deadline_ends_at_both_ends(origin, channel):
    ended, release = threading.Event(), threading.Event()

    def wait(request, context):
        context.add_callback(ended.set)
        release.wait(within(SECONDS))
        return b"too late"
    origin.method(UNARY, "/test.Echo/Wait", wait)
    error = unary_failure(channel, "/test.Echo/Wait", seconds=0.3)
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert ended.wait(within(5))
    release.set()


@pytest.mark.parametrize("when", ["before the answer", "inside a stream"])
def test_a_call_that_the_client_cancels_is_cancelled_at_the_origin(world, origin, channel, when):
    begun, ended, release = threading.Event(), threading.Event(), threading.Event()

    def wait(request, context):
        context.add_callback(ended.set)
        begun.set()
        if when == "inside a stream":
            yield b"one"
        release.wait(within(SECONDS))
        assert not context.is_active()
    origin.method(SERVER_STREAM, "/test.Echo/Wait", wait)
    call = channel.unary_stream("/test.Echo/Wait")(b"", timeout=within(SECONDS))
    assert begun.wait(within(5)) and (when == "before the answer" or next(call) == b"one")
    call.cancel()
    assert ended.wait(within(5)), "the origin hears of it"
    release.set()
    assert call.code() == grpc.StatusCode.CANCELLED
    until(lambda: world.program.metric("requests_active") == 0, "the request to end")


def test_a_client_stream_that_is_cancelled_is_no_whole_request(origin, channel):
    feed, got, ended = Feed(), queue.Queue(), threading.Event()

    def join(requests, context):
        context.add_callback(ended.set)
        try:
            for message in requests:
                got.put(message)
            # grpcio may end the requests of a call that is cancelled like any others.
            got.put("an error" if ended.wait(within(5)) else "a whole request")
        except grpc.RpcError:
            got.put("an error")
        return b""
    origin.method(CLIENT_STREAM, "/test.Echo/Join", join)
    call = channel.stream_unary("/test.Echo/Join").future(iter(feed), timeout=within(SECONDS))
    feed.give(b"one")
    assert got.get(timeout=within(5)) == b"one"
    call.cancel()
    assert got.get(timeout=within(10)) == "an error"
    feed.end()


def test_a_channel_that_is_closed_cancels_its_calls_at_the_origin(world, origin):
    begun, ended = threading.Semaphore(0), threading.Semaphore(0)
    release = threading.Event()

    def wait(request, context):
        context.add_callback(ended.release)
        begun.release()
        release.wait(within(SECONDS))
        yield b""
    origin.method(SERVER_STREAM, "/test.Echo/Wait", wait)
    with world.open() as channel:
        calls = [channel.unary_stream("/test.Echo/Wait")(b"") for _ in range(10)]
        for _ in calls:
            assert begun.acquire(timeout=within(5))
    for _ in calls:
        assert ended.acquire(timeout=within(5))
    release.set()


@pytest.mark.parametrize("when", ["before the answer", "inside a stream"])
def test_a_call_that_the_origin_cancels_fails_at_the_client(origin, channel, when):
    def cancel(request, context):
        if when == "inside a stream":
            yield b"one"
        context.cancel()
        yield b"never"
    origin.method(SERVER_STREAM, "/test.Echo/Cancel", cancel)
    origin.method(UNARY, "/test.Echo/Unary", lambda request, context: request)
    call = channel.unary_stream("/test.Echo/Cancel")(b"", timeout=within(SECONDS))
    if when == "inside a stream":
        assert next(call) == b"one"
    error = failure(lambda: call)
    assert error.code() == grpc.StatusCode.CANCELLED
    assert unary(channel, "/test.Echo/Unary", b"next") == b"next"


# ---- Much at once

def test_messages_of_64_mebibytes_pass_both_ways_through_bounded_memory(world, origin, channel):
    message = os.urandom(64 * MEBIBYTE)
    origin.method(UNARY, "/test.Echo/Unary", lambda request, context: request)
    assert unary(channel, "/test.Echo/Unary", b"warm") == b"warm"
    with Watch(world.program) as watch:
        assert unary(channel, "/test.Echo/Unary", message, seconds=60) == message
    assert watch.growth_kb() < GROWTH_KB_MAX, f"grew by {watch.growth_kb()} KB"


def test_a_client_that_reads_slowly_holds_the_origin_up(world, origin, channel):
    sent = [0]

    def pour(request, context):
        for _ in range(512):
            yield bytes(MEBIBYTE // 4)
            sent[0] += MEBIBYTE // 4
    origin.method(SERVER_STREAM, "/test.Echo/Pour", pour)
    origin.method(UNARY, "/test.Echo/Unary", lambda request, context: request)
    with Watch(world.program) as watch:
        call = channel.unary_stream("/test.Echo/Pour")(b"", timeout=within(SECONDS))
        next(call)
        until(lambda: stands_still(sent), "the origin to be held up")
        assert unary(channel, "/test.Echo/Unary", b"past it") == b"past it"
    assert sent[0] < 64 * MEBIBYTE
    call.cancel()
    assert watch.growth_kb() < GROWTH_KB_MAX, f"grew by {watch.growth_kb()} KB"


def test_a_hundred_calls_at_once_have_each_its_own_answer(world, origin, channel):
    together = threading.Barrier(100)

    def wait(request, context):
        together.wait(within(SECONDS))
        return b"re: " + request
    origin.method(UNARY, "/test.Echo/Together", wait)
    calls = {i: channel.unary_unary("/test.Echo/Together").future(b"%d" % i * (i + 1),
                                                                 timeout=within(SECONDS))
             for i in range(100)}
    for i, call in calls.items():
        assert call.result() == b"re: " + b"%d" % i * (i + 1)
    assert connections_to(world.origin.port) <= 4


def test_a_hundred_streams_at_once_stay_apart(origin, channel):
    origin.method(BIDIRECTIONAL, "/test.Echo/Talk",
                  lambda requests, context: (message * 2 for message in requests))
    feeds = [Feed() for _ in range(100)]
    talk = channel.stream_stream("/test.Echo/Talk")
    calls = [talk(iter(feed), timeout=within(SECONDS)) for feed in feeds]
    for turn in range(3):
        for i, feed in enumerate(feeds):
            feed.give(b"%d.%d " % (i, turn))
        for i, call in enumerate(calls):
            assert next(call) == b"%d.%d " % (i, turn) * 2
    for feed in feeds:
        feed.end()
    assert [list(call) for call in calls] == [[]] * 100


# ---- The origin comes and goes

def test_an_origin_that_restarts_is_found_again(own_world):
    own_world.origin.method(UNARY, "/test.Echo/Unary", lambda request, context: request)
    with own_world.open() as channel:
        for i in range(3):
            assert unary(channel, "/test.Echo/Unary", b"%d" % i) == b"%d" % i
        own_world.origin.stop()
        error = unary_failure(channel, "/test.Echo/Unary", b"down")
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        own_world.origin.start()
        for i in range(3):
            assert unary(channel, "/test.Echo/Unary", b"%d" % i) == b"%d" % i


def test_calls_go_on_while_the_origin_restarts(own_world):
    """Each is answered right, or UNAVAILABLE."""
    own_world.origin.method(UNARY, "/test.Echo/Unary", lambda request, context: request)
    outcomes, ended = [], threading.Event()

    def call_on():
        for i in itertools.count():
            if ended.is_set():
                return
            try:
                outcomes.append(unary(channel, "/test.Echo/Unary", b"%d" % i) == b"%d" % i)
            except grpc.RpcError as error:
                outcomes.append(error.code())
                time.sleep(0.01)
    with own_world.open() as channel:
        unary(channel, "/test.Echo/Unary")
        callers = [threading.Thread(target=call_on) for _ in range(4)]
        for caller in callers:
            caller.start()
        for _ in range(2):
            before = outcomes.count(True)
            until(lambda: outcomes.count(True) > before + 20, "calls that are answered")
            own_world.origin.stop()
            own_world.origin.start()
        before = outcomes.count(True)
        until(lambda: outcomes.count(True) > before + 20, "calls that are answered again")
        ended.set()
        for caller in callers:
            caller.join()
    # The origin itself cuts and cancels what it works on when it is stopped at once.
    assert set(outcomes) <= {True, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_an_origin_that_is_not_there_is_unavailable(own_world):
    own_world.origin.stop()
    with own_world.open() as channel:
        error = unary_failure(channel, "/test.Echo/Unary", seconds=5)
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert any(status in error.details() for status in ("502", "503")), error.details()
        stream = channel.unary_stream("/test.Echo/Count")(b"", timeout=within(5))
        assert failure(lambda: stream).code() == grpc.StatusCode.UNAVAILABLE


def test_a_stop_lets_calls_finish(own_world):
    import signal
    begun, release = threading.Event(), threading.Event()

    def wait(request, context):
        yield b"before"
        begun.set()
        release.wait(within(SECONDS))
        yield b"after"
    own_world.origin.method(SERVER_STREAM, "/test.Echo/Wait", wait)
    with own_world.open() as channel:
        call = channel.unary_stream("/test.Echo/Wait")(b"", timeout=within(SECONDS))
        assert next(call) == b"before"
        own_world.program.process.send_signal(signal.SIGTERM)
        until(lambda: not listens(own_world.port), "the listener to close")
        release.set()
        assert list(call) == [b"after"] and call.code() == grpc.StatusCode.OK
    assert own_world.program.process.wait(within(10)) == 0


def listens(port):
    import socket
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
        return True
    except OSError:
        return False
