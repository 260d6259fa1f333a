"""What RFC 9113 demands of a server, row by row, by raw frames; with RFC 7541, 8441 and 9218.

A row says what is sent and which outcomes the RFC allows. Where it allows several they are all
listed: a stream error may be answered as a connection error (5.4.1), a connection error by closing
without GOAWAY. Where HTTP.md promises more than the RFC (a reset, not a closed connection, for a
malformed request), the row is as strict as the promise.
"""

from dataclasses import dataclass

import pytest
from harness.http2 import Ended, Http2
from harness.http2_frames import (
    FRAME_BYTES_MAX, PREFACE, WINDOW_BYTES, WINDOW_BYTES_MAX, Code, Flag, Kind, Setting, block,
    code_name, continuation, data, dependency, frame, goaway, headers, huffman, indexed, integer,
    literal, literal_kept, literal_never, ping, priority, priority_update, push_promise,
    rst_stream, settings, string, table_size, window_update)
from harness.origin import DeafListener, answer
from harness.wait import until

FLOW = Code.FLOW_CONTROL_ERROR
SIZE = Code.FRAME_SIZE_ERROR
PROTOCOL = Code.PROTOCOL_ERROR
CLOSED = Code.STREAM_CLOSED
COMPRESSION = Code.COMPRESSION_ERROR

STREAMS_MAX = 20
PROBE = 100001  # a stream far beyond those of the rows
BODY = b"0123456789" * 10
# A row may wait this long for what must come; far more than a loaded machine needs.
SECONDS_MAX = 5


# ---- Outcomes

@dataclass(frozen=True)
class Goaway:
    """GOAWAY with one of the codes and the connection closed, or only closed."""
    codes: tuple


@dataclass(frozen=True)
class Reset:
    """RST_STREAM with one of the codes; the connection goes on."""
    codes: tuple


@dataclass(frozen=True)
class Answer:
    """A whole response; the connection goes on."""
    statuses: tuple


@dataclass(frozen=True)
class Ignored:
    """Nothing comes of it; the connection goes on."""


def connection_error(*codes):
    return (Goaway(codes),)


def stream_error(*codes):
    return Reset(codes), Goaway(codes)


OK = (Answer((200,)),)
IGNORED = (Ignored(),)
RESET = (Reset((PROTOCOL,)),)
REFUSED = RESET + (Answer((400, 404, 405, 414, 421, 431, 501)),)
ANY_CLOSED = stream_error(CLOSED) + IGNORED
NOTHING, UNFINISHED, ANYTHING = "nothing", "unfinished", "anything"


@dataclass
class Row:
    act: callable
    outcomes: tuple
    upstream: str = ANYTHING
    handshake: bool = True
    plain: bool = False
    settings: tuple = ()


ROWS = {}


def row(name, outcomes, act, **settings_of_row):
    assert name not in ROWS, name
    ROWS[name] = Row(act, outcomes, **settings_of_row)


# ---- Things that rows do. Each returns the number of the stream it is about.

def sends(*frames, stream=1):
    """Just these bytes."""
    def act(c):
        c.send(*frames)
        return stream
    return act


def opens(*frames, stream=1):
    """A POST whose body has not ended, then these bytes."""
    def act(c):
        c.request("POST", c.hold, end=False, stream=1)
        c.send(*frames)
        return stream
    return act


def half_closes(*frames):
    """A GET that is not answered, then these bytes."""
    def act(c):
        c.request("GET", c.hold, stream=1)
        c.send(*frames)
        return 1
    return act


def completes(*frames):
    """A GET and its answer, then these bytes; what comes of them is looked at alone."""
    def act(c):
        assert c.get().status == 200
        del c.streams[1]
        c.send(*frames)
        return 1
    return act


def cancels(*frames):
    """A POST that the client resets, then these bytes."""
    return opens(rst_stream(1), *frames)


def asks(method="GET", more=(), end=True, then=(), replace=None, without=(), block_of=block):
    """A request, with fields added, replaced or left out, then these bytes."""
    def act(c):
        fields = c.fields(method, more=more)
        fields = [(n, (replace or {}).get(n, v)) for n, v in fields if n not in without]
        c.send(headers(1, block_of(fields), end=end), *then)
        return 1
    return act


def fields_only(*fields):
    """HEADERS with exactly these fields; PATH and SCHEME stand for the row's."""
    def act(c):
        own = {"PATH": c.path, "SCHEME": c.scheme}
        c.send(headers(1, block([(n, own.get(v, v)) for n, v in fields])))
        return 1
    return act


def encoded(make, end=True):
    """A GET with more after its block, as HPACK bytes."""
    def act(c):
        c.send(headers(1, block(c.fields()) + make, end=end))
        return 1
    return act


GET = (":method", "GET")
HTTP = (":scheme", "SCHEME")
HOST = (":authority", "example.test")
PATH = (":path", "PATH")
SMALL = block([("x-a", "b")])
WHOLE = block([GET, (":scheme", "https"), HOST, (":path", "/")])


# ---- 3. Starting

def starts_slowly(c):
    for i in range(len(PREFACE)):
        c.send(PREFACE[i:i + 1])
    c.send(settings())
    return c.request()


def starts_at_once(c):
    fields = block(c.fields())
    c.send(PREFACE + settings() + headers(1, fields) + headers(3, fields))
    assert c.expect_response(3).status == 200
    return 1


for transport in (False, True):
    kind = "h2c" if transport else "TLS"
    row(f"3.4 a request right behind the preface, over {kind}", OK, starts_at_once,
        handshake=False, plain=transport)
    row(f"3.4 the preface byte by byte, over {kind}", OK, starts_slowly, handshake=False,
        plain=transport)
    row(f"3.4 a first frame that is PING, over {kind}", connection_error(PROTOCOL),
        sends(PREFACE, ping()), handshake=False, plain=transport)
    row(f"3.4 a first frame that is HEADERS, over {kind}", connection_error(PROTOCOL),
        sends(PREFACE, headers(1, WHOLE)), handshake=False, plain=transport, upstream=NOTHING)
    row(f"3.4 a request, over {kind}", OK, asks(), plain=transport)
row("3.4 a wrong preface after ALPN", connection_error(PROTOCOL),
    sends(b"INVALID CONNECTION PREFACE\r\n\r\n"), handshake=False)
row("3.4 a preface whose end is wrong", connection_error(PROTOCOL),
    sends(PREFACE[:-4] + b"\n\n\n\n" + settings()), handshake=False)
row("3.4 HTTP/1.1 after ALPN chose HTTP/2", connection_error(PROTOCOL),
    sends(b"GET / HTTP/1.1\r\nHost: example.test\r\n\r\n"), handshake=False, upstream=NOTHING)
row("3.4 the preface twice", connection_error(PROTOCOL, SIZE), sends(PREFACE))
row("3.4 a first SETTINGS frame that is bad", connection_error(SIZE),
    sends(PREFACE, frame(Kind.SETTINGS, 0, 0, b"\0\0\0")), handshake=False)

# ---- 4.1 Frame format

row("4.1 an unknown frame type on stream 0", IGNORED, sends(frame(0x42, 0xff, 0, b"12345678")))
row("4.1 an unknown frame type on an idle stream", IGNORED, sends(frame(0x42, 0xff, 1, b"1234")))
row("4.1 an unknown frame type on an open stream", IGNORED, opens(frame(0x42, 0xff, 1, b"1234")))
row("4.1 an unknown frame type on a closed stream", IGNORED,
    completes(frame(0x42, 0xff, 1, b"1234")))
row("4.1 undefined flags on PING", IGNORED, sends(frame(Kind.PING, 0x16, 0, b"flagged!")))
row("4.1 undefined flags on HEADERS", OK,
    lambda c: c.send(frame(Kind.HEADERS, 0x05 | 0xd2, 1, block(c.fields()))) or 1)
row("4.1 undefined flags on DATA", OK, asks("POST", end=False,
                                            then=[frame(Kind.DATA, 0x01 | 0x46, 1, b"body")]))
row("4.1 the reserved bit of HEADERS", OK,
    lambda c: c.send(frame(Kind.HEADERS, 5, 0x80000001, block(c.fields()))) or 1)
row("4.1 the reserved bit of PING", IGNORED, sends(frame(Kind.PING, 0, 0x80000000, b"reserved")))
row("4.1 the reserved bit of SETTINGS", IGNORED, sends(frame(Kind.SETTINGS, 0, 0x80000000)))

# ---- 4.2 Frame size

TOO_LONG = bytes(FRAME_BYTES_MAX + 1)


def asks_with_a_full_frame(c):
    fields = block(c.fields())
    fields += literal("x-a", "v" * (FRAME_BYTES_MAX - len(fields) - 8))
    assert len(fields) == FRAME_BYTES_MAX
    c.send(headers(1, fields))
    return 1


def asks_with_a_long_frame(c):
    fields = block(c.fields())
    c.send(headers(1, fields + literal("x-a", "v" * (FRAME_BYTES_MAX - len(fields) + 1))))
    return 1


row("4.2 DATA of 16384 bytes", OK, asks("POST", end=False,
                                        then=[data(1, bytes(FRAME_BYTES_MAX), end=True)]))
row("4.2 HEADERS of 16384 bytes", OK, asks_with_a_full_frame)
row("4.2 DATA over the maximum", stream_error(SIZE), opens(data(1, TOO_LONG)))
row("4.2 HEADERS over the maximum", connection_error(SIZE), asks_with_a_long_frame)
row("4.2 CONTINUATION over the maximum", connection_error(SIZE),
    sends(headers(1, WHOLE, end_headers=False),
          continuation(1, literal("x-a", "v" * (FRAME_BYTES_MAX - 7)))), upstream=NOTHING)
row("4.2 SETTINGS over the maximum", connection_error(SIZE),
    sends(settings([(0x77, 0)] * (FRAME_BYTES_MAX // 6 + 1))))
row("4.2 an unknown type over the maximum", connection_error(SIZE),
    sends(frame(0x42, 0, 0, TOO_LONG)))
row("4.2 PRIORITY over the maximum", stream_error(SIZE), sends(frame(2, 0, 1, TOO_LONG)))
row("4.2 a length of 2^24-1", connection_error(SIZE),
    sends(frame(Kind.HEADERS, 5, 1, TOO_LONG, length=0xffffff)))
row("4.2 GOAWAY too short for its fields", connection_error(SIZE),
    sends(frame(Kind.GOAWAY, 0, 0, bytes(7))))
row("4.2 HEADERS too short for its priority", connection_error(SIZE, PROTOCOL),
    sends(frame(Kind.HEADERS, Flag.PRIORITY | 5, 1, bytes(4))))
row("4.2 HEADERS padded without a pad length", connection_error(SIZE, PROTOCOL),
    sends(frame(Kind.HEADERS, Flag.PADDED | 5, 1, b"")))
row("4.2 DATA padded without a pad length", stream_error(SIZE, PROTOCOL),
    opens(frame(Kind.DATA, Flag.PADDED, 1, b"")))

# ---- 4.3 Field section compression

row("4.3 a block that cannot be decoded", connection_error(COMPRESSION),
    sends(headers(1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff")), upstream=NOTHING)
row("4.3 a block that ends inside a field", connection_error(COMPRESSION),
    sends(headers(1, WHOLE[:-1])), upstream=NOTHING)
row("4.3 trailers that cannot be decoded", connection_error(COMPRESSION),
    opens(headers(1, indexed(0))), upstream=UNFINISHED)
INSIDE = {
    "PRIORITY": priority(1), "PING": ping(), "SETTINGS": settings(), "DATA": data(1, b"x"),
    "WINDOW_UPDATE": window_update(0, 1), "RST_STREAM": rst_stream(1), "GOAWAY": goaway(),
    "an unknown frame": frame(0x42, 0, 1, b"x"), "HEADERS of the same stream": headers(1, SMALL),
    "HEADERS of another stream": headers(3, WHOLE),
    "CONTINUATION of another stream": continuation(3, SMALL),
    "CONTINUATION of stream 0": continuation(0, SMALL),
    "PRIORITY_UPDATE": priority_update(1, b"u=1"),
}
for what, inside in INSIDE.items():
    row(f"4.3 {what} inside a header block", connection_error(PROTOCOL),
        sends(headers(1, WHOLE, end_headers=False), inside, continuation(1)), upstream=NOTHING)


def keeps_the_table(c, first):
    """What a failed request put into the dynamic table is there for the next."""
    c.send(first)
    c.expect_reset(1)
    c.send(headers(3, block(c.fields()) + indexed(62)))
    assert c.expect_response(3).status == 200
    assert ("x-kept", "yes") in [(n.lower(), v) for n, v in c.origin_head().fields]
    return 1


row("4.3 the block of a malformed request changes the table", RESET,
    lambda c: keeps_the_table(c, headers(1, block(c.fields() + [("X-Upper", "1")])
                                         + literal_kept("x-kept", "yes"))))
row("4.3 the block of a request without :path changes the table", RESET,
    lambda c: keeps_the_table(c, headers(1, block([GET]) + literal_kept("x-kept", "yes"))))


def trailers_change_the_table(c):
    c.request("POST", end=False)
    c.send(data(1, b"body"), headers(1, literal_kept("x-kept", "yes")),
           headers(3, block(c.fields()) + indexed(62)))
    assert c.expect_response(1).status == 200
    return 3


def a_late_block_changes_the_table(c):
    """HEADERS that cross the client's own RST_STREAM... sent before the server can have acted."""
    c.request("POST", c.hold, end=False)
    c.send(data(1, b"x"), headers(1, literal_kept("x-kept", "yes")), rst_stream(1),
           headers(3, block(c.fields()) + indexed(62)))
    return 3


row("4.3 trailers change the table", OK, trailers_change_the_table)
row("4.3 trailers of a request that is then cancelled change the table", OK,
    a_late_block_changes_the_table)

# ---- 5.1 Stream states

row("5.1 idle: DATA", connection_error(PROTOCOL), sends(data(1, b"x", end=True)))
row("5.1 idle: RST_STREAM", connection_error(PROTOCOL), sends(rst_stream(1)))
row("5.1 idle: WINDOW_UPDATE", connection_error(PROTOCOL), sends(window_update(1, 100)))
row("5.1 idle: CONTINUATION", connection_error(PROTOCOL), sends(continuation(1, WHOLE)))
row("5.1 idle: PUSH_PROMISE", connection_error(PROTOCOL), sends(push_promise(1, 2, WHOLE)))
row("5.1 idle: PRIORITY", IGNORED, sends(priority(1)))
row("5.1 idle, higher than any used: DATA", connection_error(PROTOCOL), opens(data(3, b"x")))
row("5.1 idle, higher than any used: RST_STREAM", connection_error(PROTOCOL), opens(rst_stream(3)))
for what, bad in {"DATA": data(2, b"x"), "WINDOW_UPDATE": window_update(2, 1),
                  "RST_STREAM": rst_stream(2), "CONTINUATION": continuation(2, SMALL)}.items():
    row(f"5.1 idle, the server's own: {what}", connection_error(PROTOCOL), sends(bad))
row("5.1 half-closed: DATA", stream_error(CLOSED), half_closes(data(1, b"x", end=True)))
row("5.1 half-closed: empty DATA", stream_error(CLOSED), half_closes(data(1, b"", end=True)))
row("5.1 half-closed: HEADERS", stream_error(CLOSED), half_closes(headers(1, SMALL)))
row("5.1 half-closed: a second request", stream_error(CLOSED), half_closes(headers(1, WHOLE)))
row("5.1 half-closed: CONTINUATION", stream_error(CLOSED, PROTOCOL),
    half_closes(continuation(1, SMALL)))
row("5.1 half-closed: WINDOW_UPDATE", IGNORED, half_closes(window_update(1, 1)))
row("5.1 half-closed: PRIORITY", IGNORED, half_closes(priority(1)))
row("5.1 half-closed: RST_STREAM", IGNORED, half_closes(rst_stream(1)))
row("5.1 half-closed by trailers: DATA", stream_error(CLOSED),
    opens(headers(1, SMALL), data(1, b"x")))
row("5.1 cancelled: DATA", ANY_CLOSED, cancels(data(1, b"x", end=True)))
row("5.1 cancelled: HEADERS", ANY_CLOSED + connection_error(PROTOCOL), cancels(headers(1, WHOLE)),
    upstream=ANYTHING)
row("5.1 cancelled: CONTINUATION", stream_error(CLOSED, PROTOCOL), cancels(continuation(1, SMALL)))
row("5.1 cancelled: WINDOW_UPDATE", ANY_CLOSED, cancels(window_update(1, 1)))
row("5.1 cancelled: RST_STREAM again", ANY_CLOSED, cancels(rst_stream(1)))
row("5.1 cancelled: PRIORITY", IGNORED, cancels(priority(1)))
row("5.1 closed: DATA", ANY_CLOSED, completes(data(1, b"x", end=True)))
row("5.1 closed: HEADERS", ANY_CLOSED + connection_error(PROTOCOL), completes(headers(1, WHOLE)))
row("5.1 closed: CONTINUATION", stream_error(CLOSED, PROTOCOL), completes(continuation(1, SMALL)))
row("5.1 closed: WINDOW_UPDATE", IGNORED, completes(window_update(1, 1)))
row("5.1 closed: RST_STREAM", IGNORED, completes(rst_stream(1)))
row("5.1 closed: PRIORITY", IGNORED, completes(priority(1)))


def late_frames_of_a_reset_stream(c):
    """All of it is on its way before the reset can be seen: discarded, but decoded."""
    c.send(headers(1, block(c.fields("POST") + [("X-Upper", "1")]), end=False), data(1, b"late"),
           window_update(1, 5), priority(1), headers(1, literal_kept("x-kept", "yes")))
    c.expect_reset(1, PROTOCOL)
    c.send(headers(3, block(c.fields()) + indexed(62)))
    return 3


def window_of_discarded_data(c):
    """The connection's window comes back for DATA that is on its way when the server resets."""
    left = 3 * c.connection_window
    while left > 0:
        c.until(lambda: c.connection_window >= 3 * 16000, "room in the connection's window")
        c.connection_window -= 3 * 16000
        left -= 3 * 16000
        stream = c.take_stream()
        c.send(headers(stream, block(c.fields("POST") + [("X-Upper", "1")]), end=False),
               *[data(stream, bytes(16000)) for _ in range(3)])
        c.expect_reset(stream, PROTOCOL)
    return c.request()


def continues_after_a_reset(c):
    c.send(headers(1, block([*c.fields(), ("X-Upper", "1")])))
    c.expect_reset(1)
    del c.streams[1]
    c.send(continuation(1, SMALL))
    return 1


row("5.1 frames on their way when the server resets", OK, late_frames_of_a_reset_stream)
row("5.1 DATA on its way when the server resets gives its window back", OK,
    window_of_discarded_data)
row("5.1 reset by the server: CONTINUATION", stream_error(CLOSED, PROTOCOL),
    continues_after_a_reset)

# ---- 5.1.1 Stream identifiers

row("5.1.1 HEADERS on stream 0", connection_error(PROTOCOL), sends(headers(0, WHOLE)),
    upstream=NOTHING)
row("5.1.1 an even stream", connection_error(PROTOCOL), sends(headers(2, WHOLE), stream=2),
    upstream=NOTHING)
# Opening 5 closes 3, and closed streams may be processed minimally (5.1).
row("5.1.1 a number below the last", connection_error(PROTOCOL, CLOSED) + IGNORED,
    lambda c: c.request("GET", c.hold, stream=5) and c.send(headers(3, WHOLE)) or 3)
row("5.1.1 a number that was skipped: DATA", stream_error(CLOSED, PROTOCOL) + IGNORED,
    lambda c: c.request("GET", c.hold, stream=5) and c.send(data(3, b"x")) or 3)
row("5.1.1 a number that was skipped: WINDOW_UPDATE", ANY_CLOSED + stream_error(PROTOCOL),
    lambda c: c.request("GET", c.hold, stream=5) and c.send(window_update(3, 1)) or 3)
row("5.1.1 the first request on stream 77", OK, lambda c: c.request(stream=77))


def uses_the_last_number(c):
    c.probe = False
    return c.request(stream=2**31 - 1)


row("5.1.1 the last number there is", OK, uses_the_last_number)

# ---- 5.1.2 Concurrency


def opens_too_many(c):
    most = c.server_settings[Setting.MAX_CONCURRENT_STREAMS]
    assert most == STREAMS_MAX
    for i in range(most):
        c.request("POST", c.hold, end=False)
    return c.request("POST", c.hold, end=False)


def as_many_again(c):
    for _ in range(3):
        streams = [c.request() for _ in range(STREAMS_MAX)]
        assert [c.expect_response(s).status for s in streams] == [200] * STREAMS_MAX
    return c.request()


def cancelled_make_room(c):
    held = [c.request("POST", c.hold, end=False) for _ in range(STREAMS_MAX)]
    c.send(rst_stream(held[3]), rst_stream(held[7]))
    # They may count until the request upstream has been given up.
    until(lambda: accepted(c), "room for a stream")
    return c.request()


def accepted(c):
    stream = c.request()
    c.until(lambda: c.over(stream), "an outcome")
    assert c.reset_of(stream) in (None, Code.REFUSED_STREAM)
    return c.reset_of(stream) is None


row("5.1.2 one stream more than announced", stream_error(PROTOCOL, Code.REFUSED_STREAM),
    opens_too_many)
row("5.1.2 answered streams no longer count", OK, as_many_again)
row("5.1.2 cancelled streams make room", OK, cancelled_make_room)
row("5.1.2 idle streams by PRIORITY do not count", OK,
    lambda c: c.send(*[priority(n) for n in range(201, 401, 2)]) or c.request(stream=1))

# ---- 5.3 Priorities, deprecated: their frames are read and may be passed over

SELF = stream_error(PROTOCOL) + IGNORED + OK
row("5.3 HEADERS that depends on itself", SELF,
    lambda c: c.send(headers(1, block(c.fields()), priority=dependency(1))) or 1)
row("5.3 PRIORITY that depends on itself", SELF, opens(priority(1, on=1)))
row("5.3 HEADERS with a priority", OK,
    lambda c: c.send(headers(1, block(c.fields()), priority=dependency(0, 256, True))) or 1)
row("5.3 HEADERS that depends on an unknown stream", OK,
    lambda c: c.send(headers(1, block(c.fields()), priority=dependency(77, 1))) or 1)
row("5.3 PRIORITY on the way, weights 1 and 256, exclusive", OK,
    lambda c: c.send(priority(3, 1, 1), priority(5, 3, 256, True), priority(1, 5, 7, True),
                     priority(3, 5)) or c.request(stream=1))

# ---- 5.4 Errors


def errors_after_an_answer(c):
    assert c.get().status == 200
    c.send(data(0, b"x"))
    c.expect_end()
    assert c.goaway is None or c.goaway.last_stream_id >= 1, "it names the stream it answered"
    return 3


def resets_an_open_stream(c):
    c.request("POST", c.hold, end=False)
    c.send(rst_stream(1))
    c.expect_ping()
    assert c.get(path=c.path).status == 200
    assert 1 not in c.streams, "RST_STREAM is not answered"
    return 1


row("5.4.1 GOAWAY names the last stream", connection_error(PROTOCOL), errors_after_an_answer)
row("5.4.2 RST_STREAM is not answered by RST_STREAM", IGNORED, resets_an_open_stream)
row("5.5 an unknown setting", IGNORED, sends(settings([(0xfa1a, 7), (0, 1), (0xffff, 2**32 - 1)])))

# ---- 6.1 DATA

row("6.1 DATA on stream 0", connection_error(PROTOCOL), sends(data(0, b"x")))
row("6.1 padding as long as the frame", connection_error(PROTOCOL),
    opens(frame(Kind.DATA, Flag.PADDED, 1, b"\x05" + bytes(4))), upstream=UNFINISHED)
row("6.1 padding longer than the frame", connection_error(PROTOCOL),
    opens(frame(Kind.DATA, Flag.PADDED, 1, b"\xff" + bytes(10))), upstream=UNFINISHED)
row("6.1 padding that is all of the payload", OK,
    asks("POST", end=False, then=[data(1, b"", pad=255), data(1, b"x", end=True, pad=0)]))
row("6.1 padded DATA", OK, asks("POST", more=[("content-length", "6")], end=False, then=[
    data(1, b"abc", pad=7), data(1, b"def", end=True, pad=200)]))
row("6.1 empty DATA that ends", OK, asks("POST", end=False, then=[data(1, b"", end=True)]))
row("6.1 a few empty DATA frames", OK, asks("POST", end=False, then=[
    data(1, b""), data(1, b""), data(1, b"x"), data(1, b""), data(1, b"", end=True)]))

# ---- 6.2 HEADERS

row("6.2 padding longer than the frame", connection_error(PROTOCOL),
    sends(frame(Kind.HEADERS, Flag.PADDED | 5, 1, bytes([len(WHOLE) + 1]) + WHOLE)),
    upstream=NOTHING)
row("6.2 padding longer than what the priority leaves", connection_error(PROTOCOL),
    sends(frame(Kind.HEADERS, Flag.PADDED | Flag.PRIORITY | 5, 1,
                bytes([len(WHOLE) + 1]) + dependency() + WHOLE)), upstream=NOTHING)
row("6.2 padded HEADERS", OK, lambda c: c.send(headers(1, block(c.fields()), pad=100)) or 1)
row("6.2 padded HEADERS with a priority", OK,
    lambda c: c.send(headers(1, block(c.fields()), pad=3, priority=dependency())) or 1)
row("6.2 an empty block", stream_error(PROTOCOL), sends(headers(1, b"")), upstream=NOTHING)

# ---- 6.3 PRIORITY

row("6.3 PRIORITY on stream 0", connection_error(PROTOCOL), sends(priority(0)))
for length in (0, 4, 6):
    row(f"6.3 PRIORITY of {length} bytes", stream_error(SIZE),
        opens(frame(Kind.PRIORITY, 0, 1, bytes(length))))

# ---- 6.4 RST_STREAM

row("6.4 RST_STREAM on stream 0", connection_error(PROTOCOL), sends(rst_stream(0)))
for length in (0, 3, 5):
    row(f"6.4 RST_STREAM of {length} bytes", connection_error(SIZE),
        opens(frame(Kind.RST_STREAM, 0, 1, bytes(length))))
row("6.4 RST_STREAM with an unknown code", IGNORED, opens(rst_stream(1, 0xfafafafa)))

# ---- 6.5 SETTINGS

row("6.5 an acknowledgement with a payload", connection_error(SIZE),
    sends(settings([(Setting.ENABLE_PUSH, 0)], ack=True)))
row("6.5 SETTINGS on stream 1", connection_error(PROTOCOL), sends(settings(stream=1)))
row("6.5 an acknowledgement on stream 1", connection_error(PROTOCOL),
    sends(settings(ack=True, stream=1)))
for length in (1, 5, 7):
    row(f"6.5 SETTINGS of {length} bytes", connection_error(SIZE),
        sends(frame(Kind.SETTINGS, 0, 0, bytes(length))))
row("6.5.2 ENABLE_PUSH 2", connection_error(PROTOCOL), sends(settings([(2, 2)])))
row("6.5.2 ENABLE_PUSH 0 and 1", IGNORED, sends(settings([(2, 0), (2, 1), (2, 0)])))
row("6.5.2 INITIAL_WINDOW_SIZE 2^31", connection_error(FLOW), sends(settings([(4, 2**31)])))
row("6.5.2 INITIAL_WINDOW_SIZE 2^32-1", connection_error(FLOW), sends(settings([(4, 2**32 - 1)])))
row("6.5.2 INITIAL_WINDOW_SIZE 2^31-1", IGNORED, sends(settings([(4, WINDOW_BYTES_MAX)])))
row("6.5.2 MAX_FRAME_SIZE 16383", connection_error(PROTOCOL), sends(settings([(5, 16383)])))
row("6.5.2 MAX_FRAME_SIZE 0", connection_error(PROTOCOL), sends(settings([(5, 0)])))
row("6.5.2 MAX_FRAME_SIZE 2^24", connection_error(PROTOCOL), sends(settings([(5, 2**24)])))
row("6.5.2 MAX_FRAME_SIZE 2^24-1", IGNORED, sends(settings([(5, 2**24 - 1)])))
row("6.5.2 the extremes of the others", IGNORED,
    sends(settings([(1, 0), (3, 0), (6, 0)]), settings([(1, 2**32 - 1), (3, 2**32 - 1),
                                                        (6, 2**32 - 1)])))


def settings_acks(c):
    before = c.settings_acks
    c.send(*[settings([(Setting.INITIAL_WINDOW_SIZE, 1000 + i)]) for i in range(5)])
    c.until(lambda: c.settings_acks == before + 5, "five acknowledgements")
    return 1


row("6.5.3 every SETTINGS frame is acknowledged", IGNORED, settings_acks)
row("6.5.3 an acknowledgement that nobody waits for", IGNORED + connection_error(PROTOCOL),
    sends(settings(ack=True)))

# ---- 6.6 PUSH_PROMISE

row("6.6 PUSH_PROMISE from a client", connection_error(PROTOCOL),
    half_closes(push_promise(1, 2, WHOLE)))
row("6.6 PUSH_PROMISE on stream 0", connection_error(PROTOCOL), sends(push_promise(0, 2, WHOLE)))

# ---- 6.7 PING


def pings(c):
    c.send(ping(b"12345678"), ping(b"abcdefgh"))
    c.until(lambda: len(c.pings) == 2, "both acknowledgements")
    assert c.pings == [b"12345678", b"abcdefgh"]
    return 1


def unasked_acknowledgement(c):
    c.send(ping(b"nonsense", ack=True))
    c.expect_ping()
    assert c.pings == [b"in order"]
    return 1


row("6.7 PING is acknowledged with its payload", IGNORED, pings)
row("6.7 an acknowledgement is not acknowledged", IGNORED, unasked_acknowledgement)
row("6.7 PING on stream 1", connection_error(PROTOCOL), sends(ping(stream=1)))
for length in (0, 6, 7, 9):
    row(f"6.7 PING of {length} bytes", connection_error(SIZE),
        sends(frame(Kind.PING, 0, 0, bytes(length))))

# ---- 6.8 GOAWAY


def goes_away_with_a_request_open(c):
    c.probe = False
    c.request("POST", end=False)
    c.send(goaway(), data(1, b"body", end=True))
    return 1


row("6.8 GOAWAY on stream 1", connection_error(PROTOCOL), sends(goaway(stream=1)))
row("6.8 a request in flight is answered after the client's GOAWAY", OK,
    goes_away_with_a_request_open)

# ---- 6.9 WINDOW_UPDATE and flow control

row("6.9 an increment of 0 on the connection", connection_error(PROTOCOL),
    sends(window_update(0, 0)))
row("6.9 an increment of 0 on a stream", stream_error(PROTOCOL), half_closes(window_update(1, 0)))
row("6.9 an increment of 0 with the reserved bit", stream_error(PROTOCOL),
    half_closes(window_update(1, 0x80000000)))
for length in (0, 3, 5):
    row(f"6.9 WINDOW_UPDATE of {length} bytes", connection_error(SIZE),
        half_closes(frame(Kind.WINDOW_UPDATE, 0, 1, bytes(length))))
row("6.9 the reserved bit of WINDOW_UPDATE", IGNORED, half_closes(window_update(1, 0x80000001)))
row("6.9.1 a connection window over 2^31-1", connection_error(FLOW),
    sends(window_update(0, WINDOW_BYTES_MAX)))
row("6.9.1 a connection window over 2^31-1 in two steps", connection_error(FLOW),
    sends(window_update(0, 2**30), window_update(0, 2**30)))
row("6.9.1 a stream window over 2^31-1", stream_error(FLOW),
    half_closes(window_update(1, WINDOW_BYTES_MAX)))
row("6.9.1 a stream window over 2^31-1 in two steps", stream_error(FLOW),
    half_closes(window_update(1, 2**30), window_update(1, 2**30)))
row("6.9.1 a window of exactly 2^31-1", IGNORED,
    half_closes(window_update(1, WINDOW_BYTES_MAX - WINDOW_BYTES),
                window_update(0, WINDOW_BYTES_MAX - WINDOW_BYTES)))
row("6.9.2 a setting that pushes a window over 2^31-1", connection_error(FLOW),
    half_closes(window_update(1, 1), settings([(4, WINDOW_BYTES_MAX)])))


AS_BEFORE = settings([(Setting.INITIAL_WINDOW_SIZE, WINDOW_BYTES)])


def bytes_of(c, stream):
    """How much of a body came until a PING was acknowledged, which passes DATA by."""
    found = c.response_of(stream)
    return len(found.body) if found else 0


def settles(c, stream, count):
    """Exactly `count` bytes come, and no more of them however long."""
    c.until(lambda: bytes_of(c, stream) >= count, f"{count} bytes")
    c.expect_ping(b"settled?")
    c.pings.clear()
    assert bytes_of(c, stream) == count and not c.streams[stream].ended


def windows_of_one_byte(c):
    c.send(settings([(Setting.INITIAL_WINDOW_SIZE, 1)]))
    c.request()
    settles(c, 1, 1)
    c.send(window_update(1, 5))
    settles(c, 1, 6)
    c.send(window_update(1, 1000), AS_BEFORE)
    assert c.expect_response(1).body == BODY
    return 1


def window_of_zero(c):
    c.send(settings([(Setting.INITIAL_WINDOW_SIZE, 0)]))
    c.request()
    assert c.expect_head(1).status == 200, "HEADERS needs no window"
    settles(c, 1, 0)
    c.send(settings([(Setting.INITIAL_WINDOW_SIZE, 10)]))
    settles(c, 1, 10)
    c.send(settings([(Setting.INITIAL_WINDOW_SIZE, 200)]))
    return 1


def negative_window(c):
    c.send(settings([(Setting.INITIAL_WINDOW_SIZE, 10)]))
    c.request()
    settles(c, 1, 10)
    c.send(settings([(Setting.INITIAL_WINDOW_SIZE, 2)]))
    settles(c, 1, 10)
    c.send(window_update(1, 8))  # back to zero
    settles(c, 1, 10)
    c.send(window_update(1, 1))
    settles(c, 1, 11)
    c.send(settings([(Setting.INITIAL_WINDOW_SIZE, 3)]))
    settles(c, 1, 12)
    c.send(window_update(1, 500), AS_BEFORE)
    return 1


def last_value_counts(c):
    c.send(settings([(4, 100), (4, 1), (4, 3)]))
    c.request()
    settles(c, 1, 3)
    c.send(window_update(1, 500), AS_BEFORE)
    return 1


def window_of_the_connection(c):
    c.send(settings([(Setting.INITIAL_WINDOW_SIZE, 10**6)]))
    c.request(path="/large")
    settles(c, 1, WINDOW_BYTES)
    c.send(window_update(0, 100))
    settles(c, 1, WINDOW_BYTES + 100)
    c.send(window_update(0, 10**6))
    assert len(c.expect_response(1).body) == 200000
    return 1


row("6.9.1 windows of one byte are kept to", OK, windows_of_one_byte)
row("6.9.1 a window of zero holds the body, not the head", OK, window_of_zero)
row("6.9.2 a window that becomes negative", OK, negative_window)
row("6.5.3 of a setting given twice the last counts", OK, last_value_counts)
row("6.9.2 the connection's window is not the setting's", OK, window_of_the_connection)


def overruns_a_stream(c):
    """The body has nowhere to go, so its window stays shut; far more than it is sent."""
    stream = c.request("POST", "/deaf" + c.path, end=False)
    for _ in range(64):
        c.send_unless_closed(data(stream, bytes(FRAME_BYTES_MAX)))
        quiet_for(c, 0.001)
        if c.goaway or c.over(stream):
            break
    return stream


def overruns_the_connection(c):
    """Many streams, each within a window of its own."""
    opened = [c.request("POST", "/deaf" + c.path, end=False) for _ in range(STREAMS_MAX)]
    for stream in opened * 4:
        count = min(c.windows.get(stream, 0) + c.server_settings.get(4, WINDOW_BYTES),
                    4 * FRAME_BYTES_MAX)
        c.spend(stream, count)
        c.send_unless_closed(*[data(stream, bytes(min(FRAME_BYTES_MAX, count - at)))
                               for at in range(0, count, FRAME_BYTES_MAX)])
        quiet_for(c, 0.001)
        if c.goaway or c.at_end:
            break
    return opened[-1]


def quiet_for(c, seconds):
    """Reads what comes within a short time."""
    try:
        while c.frame(seconds) is not None:
            pass
    except TimeoutError:
        pass


row("6.9.1 DATA past the stream's window", stream_error(FLOW),
    overruns_a_stream, upstream=UNFINISHED)
row("6.9.1 DATA past the connection's window", connection_error(FLOW), overruns_the_connection,
    upstream=UNFINISHED)

# ---- 6.10 CONTINUATION


def continued(c):
    fields = block(c.fields())
    c.send(headers(1, fields[:1], end_headers=False),
           *[continuation(1, fields[i:i + 1], end_headers=False) for i in range(1, 8)],
           continuation(1, fields[8:]))
    return 1


def continued_with_empty_ones(c):
    c.send(headers(1, block(c.fields()), end_headers=False), continuation(1, end_headers=False),
           continuation(1))
    return 1


def continued_trailers(c):
    c.request("POST", end=False)
    trailers = block([("x-sum", "42")])
    c.send(data(1, b"body"), headers(1, trailers[:3], end_headers=False),
           continuation(1, trailers[3:]))
    return 1


row("6.10 a block in pieces", OK, continued)
row("6.10 a block with empty pieces", OK, continued_with_empty_ones)
row("6.10 trailers in pieces", OK, continued_trailers)
row("6.10 CONTINUATION on stream 0", connection_error(PROTOCOL), sends(continuation(0, WHOLE)))
row("6.10 CONTINUATION after a whole block", stream_error(PROTOCOL, CLOSED),
    opens(continuation(1, SMALL)))
row("6.10 CONTINUATION after the last CONTINUATION", stream_error(PROTOCOL, CLOSED),
    lambda c: c.send(headers(1, block(c.fields("POST", c.hold)), end=False, end_headers=False),
                     continuation(1), continuation(1, SMALL)) or 1)
row("6.10 CONTINUATION after DATA", stream_error(PROTOCOL, CLOSED),
    opens(data(1, b"x"), continuation(1, SMALL)))

# ---- 7. Error codes

row("7 RST_STREAM with a code nobody knows", IGNORED, half_closes(rst_stream(1, 0xff)))


def goes_away_oddly(c):
    c.probe = False
    stream = c.request("POST", end=False)
    c.send(goaway(0, 0xff, b"because"), data(1, b"x", end=True))
    return stream


row("7 GOAWAY with a code nobody knows", OK + connection_error(Code.NO_ERROR), goes_away_oddly)

# ---- 8.1 Framing of messages

row("8.1 a second HEADERS that does not end", RESET,
    opens(data(1, b"x"), headers(1, SMALL, end=False)), upstream=UNFINISHED)
row("8.1 HEADERS behind HEADERS that does not end", RESET, opens(headers(1, SMALL, end=False)),
    upstream=UNFINISHED)
row("8.1 trailers", OK, asks("POST", end=False, then=[data(1, b"x"), headers(1, SMALL)]))
row("8.1 trailers without a body", OK, asks("POST", end=False, then=[headers(1, SMALL)]))
row("8.1 trailers after empty DATA", OK, asks("POST", end=False, then=[
    data(1, b""), headers(1, SMALL)]))
for name in (":method", ":path", ":status", ":authority", ":unknown"):
    row(f"8.1 {name} in trailers", RESET,
        opens(data(1, b"x"), headers(1, block([(name, "/x")]))), upstream=UNFINISHED)
row("8.1 an upper case name in trailers", RESET,
    opens(data(1, b"x"), headers(1, block([("X-A", "b")]))), upstream=UNFINISHED)
row("8.1 CR LF in a trailer", RESET,
    opens(data(1, b"x"), headers(1, block([("x-a", "b\r\nx-b: c")]))), upstream=UNFINISHED)
row("8.1 connection in trailers", RESET,
    opens(data(1, b"x"), headers(1, block([("connection", "close")]))), upstream=UNFINISHED)

# ---- 8.1.1 Content-Length

LENGTHS = {
    "more DATA than content-length": ("3", [data(1, b"four", end=True)]),
    "less DATA than content-length": ("5", [data(1, b"four", end=True)]),
    "no DATA though content-length": ("5", [data(1, b"", end=True)]),
    "more DATA in several frames": ("5", [data(1, b"four"), data(1, b"four", end=True)]),
    "less DATA in several frames": ("9", [data(1, b"four"), data(1, b"four", end=True)]),
    "less DATA before trailers": ("5", [data(1, b"four"), headers(1, SMALL)]),
    "more DATA hidden in padding": ("3", [data(1, b"four", end=True, pad=9)]),
    "more DATA without an end": ("3", [data(1, b"four")]),
}
for what, (length, then) in LENGTHS.items():
    row(f"8.1.1 {what}", RESET, asks("POST", [("content-length", length)], end=False, then=then),
        upstream=UNFINISHED)
# What was announced as empty is whole before the DATA comes: it may have gone upstream.
row("8.1.1 DATA though content-length 0", RESET,
    asks("POST", [("content-length", "0")], end=False, then=[data(1, b"x", end=True)]))
row("8.1.1 content-length on HEADERS that end", RESET, asks("POST", [("content-length", "5")]),
    upstream=NOTHING)
row("8.1.1 content-length as it is", OK, asks("POST", [("content-length", "4")], end=False,
                                              then=[data(1, b"four", end=True)]))
row("8.1.1 content-length 0 on HEADERS that end", OK, asks("POST", [("content-length", "0")]))
for bad in ("-1", "+4", "4 4", "0x4", "", "four", "4,5", "99999999999999999999", "4.0"):
    row(f"8.1.1 content-length '{bad}'", REFUSED,
        asks("POST", [("content-length", bad)], end=False, then=[data(1, b"four", end=True)]),
        upstream=NOTHING)
row("8.1.1 two different content-lengths", REFUSED,
    asks("POST", [("content-length", "4"), ("content-length", "5")], end=False,
         then=[data(1, b"four", end=True)]), upstream=NOTHING)

# ---- 8.2 Fields

BAD_FIELDS = {
    "an upper case name": ("X-A", "b"),
    "an upper case letter in a name": ("x-A", "b"),
    "an empty name": ("", "b"),
    "a space in a name": ("x a", "b"),
    "a space at the end of a name": ("x-a ", "b"),
    "a colon inside a name": ("x:a", "b"),
    "a colon at the end of a name": ("x-a:", "b"),
    "NUL in a name": ("x\0a", "b"),
    "LF in a name": ("x\na", "b"),
    "CR LF in a name": ("x-a: b\r\nx-b", "c"),
    "DEL in a name": ("x\x7fa", "b"),
    "a high byte in a name": ("x\xe9a", "b"),
    "a bracket in a name": ("x(a", "b"),
    "NUL in a value": ("x-a", "a\0b"),
    "LF in a value": ("x-a", "a\nb"),
    "CR in a value": ("x-a", "a\rb"),
    "CR LF and a field in a value": ("x-a", "b\r\ntransfer-encoding: chunked"),
    "CR LF and a request in a value": ("x-a", "b\r\n\r\nGET /smuggled HTTP/1.1\r\n"),
    "a space before a value": ("x-a", " b"),
    "a space after a value": ("x-a", "b "),
    "a tab before a value": ("x-a", "\tb"),
    "a tab after a value": ("x-a", "b\t"),
}
for what, bad in BAD_FIELDS.items():
    row(f"8.2.1 {what}", RESET, asks(more=[bad]), upstream=NOTHING)
row("8.2.1 a control character in a value", REFUSED, asks(more=[("x-a", "a\x01b")]),
    upstream=NOTHING)
row("8.2.1 an empty value", OK, asks(more=[("x-a", "")]))
row("8.2.1 a tab inside a value", OK, asks(more=[("x-a", "a\tb")]))
row("8.2.1 high bytes in a value", OK, asks(more=[("x-a", "caf\xe9")]))
for name, value in [("connection", "close"), ("connection", "keep-alive"), ("keep-alive", "9"),
                    ("proxy-connection", "close"), ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "identity"), ("upgrade", "h2c"), ("te", "gzip"),
                    ("te", "trailers, deflate;q=0.5"), ("te", "")]:
    row(f"8.2.2 {name}: {value}", RESET, asks(more=[(name, value)]), upstream=NOTHING)
row("8.2.2 te: trailers", OK, asks(more=[("te", "trailers")]))
row("8.2.2 transfer-encoding with a body", RESET,
    asks("POST", [("transfer-encoding", "chunked")], end=False,
         then=[data(1, b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n", end=True)]), upstream=NOTHING)

# ---- 8.3 Control data

row("8.3 an unknown pseudo-field", RESET, asks(more=[(":unknown", "x")]), upstream=NOTHING)
row("8.3 :status in a request", RESET, asks(more=[(":status", "200")]), upstream=NOTHING)
row("8.3 a pseudo-field without a name", RESET, asks(more=[(":", "x")]), upstream=NOTHING)
row("8.3 a pseudo-field in upper case", RESET,
    fields_only((":Method", "GET"), HTTP, HOST, PATH), upstream=NOTHING)
for late in (GET, HTTP, HOST, PATH):
    fields = [f for f in (GET, HTTP, HOST, PATH) if f != late]
    row(f"8.3 {late[0]} after a regular field", RESET, fields_only(*fields, ("x-a", "b"), late),
        upstream=NOTHING)
    row(f"8.3 {late[0]} twice", RESET, fields_only(GET, HTTP, HOST, PATH, late), upstream=NOTHING)
for without in (":method", ":scheme", ":path"):
    row(f"8.3.1 no {without}", RESET, asks(without=[without]), upstream=NOTHING)
row("8.3.1 only regular fields", RESET, fields_only(("x-a", "b")), upstream=NOTHING)
for name, value in [(":method", "other"), (":path", "/other"), (":authority", "other.test")]:
    row(f"8.3 {name} twice with other values", RESET,
        fields_only(GET, HTTP, HOST, PATH, (name, value)), upstream=NOTHING)
row("8.3.1 an empty :path", RESET, asks(replace={":path": ""}), upstream=NOTHING)
BAD_PSEUDO = {
    "an empty :method": (":method", ""),
    "a :method with a space": (":method", "GET /x HTTP/1.1"),
    "a :method with CR LF": (":method", "GET\r\n"),
    "a :method that is no token": (":method", "G(T"),
    "an empty :scheme": (":scheme", ""),
    "a :scheme with CR LF": (":scheme", "https\r\nx: y"),
    "a :scheme that is no scheme": (":scheme", "1ttp"),
    "a :path without a slash": (":path", "x"),
    "a :path that is a URL": (":path", "https://example.test/"),
    "a :path with a space": (":path", "/a b"),
    "a :path with a request in it": (":path", "/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"),
    "a :path with NUL": (":path", "/a\0b"),
    "a :path with a fragment": (":path", "/a#b"),
    "a :path above the root": (":path", "/../x"),
    "an asterisk with GET": (":path", "*"),
    "an empty :authority": (":authority", ""),
    "an :authority with a user": (":authority", "user@example.test"),
    "an :authority with a path": (":authority", "example.test/x"),
    "an :authority with a space": (":authority", "example.test x"),
    "an :authority with CR LF": (":authority", "example.test\r\nx: y"),
    "an :authority with a bad port": (":authority", "example.test:x"),
    "an :authority with two hosts": (":authority", "example.test,evil.test"),
}
for what, (name, value) in BAD_PSEUDO.items():
    row(f"8.3.1 {what}", REFUSED, asks(replace={name: value}), upstream=NOTHING)
row("8.3.1 neither :authority nor host", REFUSED, asks(without=[":authority"]), upstream=NOTHING)
row("8.3.1 host instead of :authority", OK,
    asks(without=[":authority"], more=[("host", "example.test")]))
row("8.3.1 host equal to :authority", OK, asks(more=[("host", "example.test")]))
row("8.3.1 host unlike :authority", RESET, asks(more=[("host", "other.example.test")]),
    upstream=NOTHING)
row("8.3.1 host twice", REFUSED, asks(more=[("host", "example.test")] * 2), upstream=NOTHING)
row("8.3.1 two hosts, the first equal", REFUSED,
    asks(more=[("host", "example.test"), ("host", "evil.test")]), upstream=NOTHING)
row("8.3.1 OPTIONS of an asterisk", OK, asks("OPTIONS", replace={":path": "*"}))
row("8.3 TRACE", REFUSED, asks("TRACE"), upstream=NOTHING)

# ---- 8.4 and 8.5

row("8.4 a promise for a stream of its own", connection_error(PROTOCOL),
    opens(push_promise(1, 3, WHOLE)))
row("8.5 CONNECT", REFUSED, fields_only((":method", "CONNECT"), (":authority", "example.test:443")),
    upstream=NOTHING)
row("8.5 CONNECT with :path", RESET,
    fields_only((":method", "CONNECT"), (":authority", "example.test:443"), PATH),
    upstream=NOTHING)
row("8.5 CONNECT with :scheme", RESET,
    fields_only((":method", "CONNECT"), (":authority", "example.test:443"), HTTP),
    upstream=NOTHING)
row("8.5 CONNECT with :scheme and :path", RESET,
    fields_only((":method", "CONNECT"), HTTP, HOST, PATH), upstream=NOTHING)
row("8.5 CONNECT without :authority", RESET, fields_only((":method", "CONNECT")),
    upstream=NOTHING)

# ---- RFC 8441, extended CONNECT

EXTENDED = ((":method", "CONNECT"), (":protocol", "websocket"))
row("8441 4 :protocol without CONNECT", RESET,
    fields_only(GET, (":protocol", "websocket"), HTTP, HOST, PATH), upstream=NOTHING)
row("8441 4 extended CONNECT without :scheme", RESET, fields_only(*EXTENDED, HOST, PATH),
    upstream=NOTHING)
row("8441 4 extended CONNECT without :path", RESET, fields_only(*EXTENDED, HTTP, HOST),
    upstream=NOTHING)
row("8441 4 :protocol twice", RESET,
    fields_only(*EXTENDED, (":protocol", "websocket"), HTTP, HOST, PATH), upstream=NOTHING)
row("8441 4 extended CONNECT of an unknown protocol", REFUSED,
    fields_only((":method", "CONNECT"), (":protocol", "gopher"), HTTP, HOST, PATH),
    upstream=NOTHING)
row("8441 4 extended CONNECT with CR LF in its protocol", REFUSED,
    fields_only((":method", "CONNECT"), (":protocol", "websocket\r\nx: y"), HTTP, HOST, PATH),
    upstream=NOTHING)
row("8441 3 the setting from a client has no effect", IGNORED, sends(settings([(8, 1)])))
row("8441 3 the setting with a bad value", IGNORED + connection_error(PROTOCOL),
    sends(settings([(8, 2)])))

# ---- RFC 9218, extensible priorities

row("9218 2.1 NO_RFC7540_PRIORITIES 2", connection_error(PROTOCOL),
    sends(PREFACE, settings([(9, 2)])), handshake=False)
row("9218 2.1 NO_RFC7540_PRIORITIES 1", OK,
    lambda c: c.send(PREFACE, settings([(9, 1)])) or c.request(), handshake=False)
row("9218 7.1 PRIORITY_UPDATE on a stream", connection_error(PROTOCOL),
    half_closes(priority_update(1, b"u=1", stream=1)))
row("9218 7.1 PRIORITY_UPDATE for stream 0", connection_error(PROTOCOL),
    sends(priority_update(0, b"u=1")))
row("9218 7.1 PRIORITY_UPDATE too short", connection_error(SIZE),
    sends(frame(Kind.PRIORITY_UPDATE, 0, 0, bytes(3))))
row("9218 7.1 PRIORITY_UPDATE for an idle push", connection_error(PROTOCOL),
    sends(priority_update(2, b"u=1")))
row("9218 7.1 PRIORITY_UPDATE for an idle stream", OK,
    lambda c: c.send(priority_update(1, b"u=1, i")) or c.request(stream=1))
row("9218 7.1 PRIORITY_UPDATE for an open stream", IGNORED, half_closes(priority_update(1, b"u=7")))
row("9218 7.1 PRIORITY_UPDATE for a closed stream", IGNORED, completes(priority_update(1, b"u=7")))
row("9218 7.1 PRIORITY_UPDATE with no value", IGNORED, half_closes(priority_update(1, b"")))
row("9218 7.1 PRIORITY_UPDATE with unknown parameters", IGNORED,
    half_closes(priority_update(1, b"u=3, x=?1, other")))
row("9218 7.1 PRIORITY_UPDATE that cannot be read", IGNORED + connection_error(PROTOCOL),
    half_closes(priority_update(1, b"u=,,;;\xff")))
for name in ROWS:
    if name.startswith("9218 7.1"):
        ROWS[name].settings = ((Setting.NO_RFC7540_PRIORITIES, 1),)
for value in ("u=0", "u=7, i", "i", "u=9", "u=-1", "", "nonsense;;;", "u=1;x"):
    row(f"9218 5 priority: {value}", OK, asks(more=[("priority", value)]))

# ---- RFC 7541

row("7541 2.3.3 an index past both tables", connection_error(COMPRESSION), encoded(indexed(70)))
row("7541 2.3.3 the first index past the static table", connection_error(COMPRESSION),
    encoded(indexed(62)))
row("7541 2.3.3 a name's index past both tables", connection_error(COMPRESSION),
    encoded(literal(70, "x", 0x40, 6)))
row("7541 2.3.3 a name's index past both tables, not kept", connection_error(COMPRESSION),
    encoded(literal(70, "x")))
row("7541 6.1 the index 0", connection_error(COMPRESSION), encoded(indexed(0)))
row("7541 5.1 an integer without end", connection_error(COMPRESSION),
    encoded(b"\xff" + b"\x80" * 20 + b"\x01"))
row("7541 5.1 an integer past 32 bits", connection_error(COMPRESSION),
    encoded(b"\xff" + b"\xff" * 5 + b"\x7f"))
row("7541 5.1 a length past 64 bits", connection_error(COMPRESSION),
    encoded(b"\x00\x7f" + b"\xff" * 9 + b"\x01" + b"x"))
row("7541 5.2 a name longer than the block", connection_error(COMPRESSION),
    encoded(b"\x00" + integer(1000, 7) + b"x"))
row("7541 5.2 a value longer than the block", connection_error(COMPRESSION),
    encoded(b"\x00" + string("x-a") + integer(1000, 7) + b"x"))
row("7541 5.2 Huffman padding of more than seven bits", connection_error(COMPRESSION),
    encoded(b"\x00" + string("x-a") + integer(len(huffman("test")) + 1, 7, 0x80)
            + huffman("test") + b"\xff"))
row("7541 5.2 Huffman padding of zeros", connection_error(COMPRESSION),
    encoded(b"\x00" + string("x-a") + integer(1, 7, 0x80) + bytes([0b00011000])))
row("7541 5.2 Huffman with EOS", connection_error(COMPRESSION),
    encoded(b"\x00" + string("x-a") + integer(4, 7, 0x80) + b"\xff\xff\xff\xff"))
row("7541 4.2 a table size past the setting", connection_error(COMPRESSION),
    lambda c: c.send(headers(1, table_size(c.server_settings.get(1, 4096) + 1)
                             + block(c.fields()))) or 1, upstream=NOTHING)
row("7541 4.2 a table size past 32 bits", connection_error(COMPRESSION),
    lambda c: c.send(headers(1, b"\x3f" + b"\xff" * 5 + b"\x7f" + block(c.fields()))) or 1)
row("7541 4.2 a table size at the end of a block", connection_error(COMPRESSION),
    encoded(table_size(0)))
row("7541 4.2 a table size inside a block", connection_error(COMPRESSION),
    encoded(table_size(0) + SMALL))
row("7541 4.2 a table size as it is", OK,
    lambda c: c.send(headers(1, table_size(c.server_settings.get(1, 4096))
                             + block(c.fields()))) or 1)
row("7541 4.2 two table sizes", OK,
    lambda c: c.send(headers(1, table_size(0) + table_size(100) + block(c.fields()))) or 1)


def evicts(c, last):
    """The first field is gone when the table is emptied."""
    c.send(headers(1, block(c.fields()) + literal_kept("x-kept", "yes")))
    assert c.expect_response(1).status == 200
    c.send(headers(3, table_size(0) + table_size(4096) + block(c.fields()) + last))
    return 3


def evicts_by_filling(c):
    kept = literal_kept("x-kept", "yes")
    fill = b"".join(literal_kept("x-fill", f"{i:04d}" + "v" * 996) for i in range(5))
    c.send(headers(1, block(c.fields()) + kept), headers(3, block(c.fields()) + fill))
    assert c.expect_response(3).status == 200
    c.send(headers(5, block(c.fields()) + indexed(62 + 5)))
    return 5


def each_representation(c):
    fields = c.fields()
    c.send(headers(1, indexed(2) + indexed(7 if c.scheme == "https" else 6)
                   + literal_kept(1, c.authority, coded=True) + literal(4, c.path, coded=True)
                   + literal_kept("x-one", "1") + literal_never("x-two", "2", coded=True)
                   + literal("x-three", "3" * 300, coded=True)))
    assert c.expect_response(1).status == 200
    seen = {n.lower(): v for n, v in c.origin_head().fields}
    assert {"x-one": "1", "x-two": "2", "x-three": "3" * 300}.items() <= seen.items(), seen
    c.send(headers(3, block(fields[:2]) + indexed(63) + block(fields[3:]) + indexed(62)))
    return 3


row("7541 4.3 a field that an emptied table forgot", connection_error(COMPRESSION),
    lambda c: evicts(c, indexed(62)))
row("7541 4.3 a table emptied and used again", OK,
    lambda c: evicts(c, literal_kept("x-a", "b") + indexed(62)))
row("7541 4.4 a field that fell out of a full table", connection_error(COMPRESSION),
    evicts_by_filling)
row("7541 4.4 a field larger than the table empties it", OK,
    lambda c: c.send(headers(1, block(c.fields()) + literal_kept("x-a", "v" * 5000))) or 1)
row("7541 6 every representation", OK, each_representation)


# ---- Running the rows

def serve(connection):
    """Answers with BODY; /hold… is never answered."""
    while (seen := connection.head()) is not None:
        if seen.target.startswith("/hold"):
            if connection.body(seen):
                connection.origin.requests.append(seen)
                connection.closed_by_peer(60)
            return
        if not connection.body(seen):
            return
        connection.origin.requests.append(seen)
        connection.send(answer(bytes(200000) if seen.target == "/large" else BODY))


@pytest.fixture(scope="module")
def world(http2_world):
    with DeafListener() as deaf:
        route = f'[[site.route]]\npath = "/deaf/*"\nupstream = "{deaf.address}"\n'
        world = http2_world(f"[limits]\nhttp2_streams = {STREAMS_MAX}", more=route)
        world.origin.script = serve
        world.origin.keep_bytes_max = 0
        yield world


@pytest.fixture
def case(world, request):
    """The row's connection and its own targets."""
    name = request.node.callspec.params["name"]
    number, wanted = list(ROWS).index(name), ROWS[name]
    with Http2(world.http if wanted.plain else world.https, handshake=wanted.handshake,
               settings=wanted.settings, tls=None if wanted.plain else world.tls) as c:
        c.path, c.hold, c.probe = f"/row/{number}", f"/hold/row/{number}", True
        c.heads = lambda: [h for h in world.origin.heads if f"/row/{number}" in h.target]
        c.origin_head = lambda: c.heads()[-1]
        yield c


@pytest.mark.parametrize("name", ROWS)
def test_row(world, case, name):
    wanted = ROWS[name]
    smuggled = len([h for h in world.origin.heads if "smuggled" in h.target])
    stream = wanted.act(case)
    outcome = observe(case, stream, Ignored() in wanted.outcomes)
    assert any(matches(outcome, o) for o in wanted.outcomes), (
        f"{tell(outcome)}, but allowed: {wanted.outcomes}; {case.what_came()}")
    if not isinstance(outcome, Goaway) and case.probe:
        assert case.get("/probe", stream=PROBE + 2).status == 200, "the connection goes on"
    if wanted.upstream == NOTHING:
        assert case.heads() == []
    if wanted.upstream == UNFINISHED:
        whole = [r.target for r in world.origin.requests]
        assert [h.target for h in case.heads() if h.target in whole] == []
    assert len([h for h in world.origin.heads if "smuggled" in h.target]) == smuggled


def observe(c, stream, ask):
    """What came of it: an outcome with one code or status."""
    if ask:
        c.send_unless_closed(ping(b"ignored?"))
        c.send_unless_closed(headers(PROBE, block(c.fields(path="/probe"))))
    try:
        c.until(lambda: c.goaway or c.over(stream) or (ask and c.over(PROBE)), "an outcome",
                SECONDS_MAX)
    except Ended:
        return Goaway(())
    if c.goaway and not (c.over(stream) and c.goaway.error_code == Code.NO_ERROR):
        c.expect_end(SECONDS_MAX)
        return Goaway((c.goaway.error_code,))
    if c.over(stream):
        found = c.streams[stream]
        return Reset((found.reset,)) if found.reset is not None else Answer((
            c.expect_response(stream).status,))
    assert c.expect_response(PROBE).status == 200 and b"ignored?" in c.pings
    return Ignored()


def matches(outcome, allowed):
    if type(outcome) is not type(allowed):
        return False
    if isinstance(outcome, Goaway):
        return set(outcome.codes) <= set(allowed.codes)
    if isinstance(outcome, Reset):
        return set(outcome.codes) <= set(allowed.codes)
    return isinstance(outcome, Ignored) or set(outcome.statuses) <= set(allowed.statuses)


def tell(outcome):
    codes = [code_name(c) for c in getattr(outcome, "codes", ())]
    return f"{type(outcome).__name__} {codes or getattr(outcome, 'statuses', '')}"
