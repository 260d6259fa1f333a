"""An HTTP/2 connection in raw frames: sends what it is given, reads strictly, hides nothing."""

import socket
import ssl
import time
from dataclasses import dataclass, field

from hpack import Decoder
from hyperframe import frame as h2

from harness.client import Response, trusting
from harness.http2_frames import (
    FRAME_BYTES_MAX, PREFACE, WINDOW_BYTES, Setting, block, code_name, continuation, data, headers,
    ping,    settings, window_update)
from harness.limits import within

SECONDS_MAX = 10
HEADER_LIST_BYTES_MAX = 1 << 20


class Ended(Exception):
    """The connection or the stream ended before what was waited for."""


@dataclass
class Stream:
    """What came on one stream so far."""

    interim: list = field(default_factory=list)
    response: Response = None
    ended: bool = False
    reset: int = None
    data_frames: int = 0


def trusting_h2(root_pem, protocols=("h2",)):
    context = trusting(root_pem)
    context.set_alpn_protocols(list(protocols))
    return context


class Http2:
    """One connection, TLS with ALPN or plain with prior knowledge.

    Nothing is answered by itself unless `polite`: then SETTINGS and PING are acknowledged and
    every DATA frame that is read is given back to its windows.
    """

    def __init__(self, port, tls=None, name="example.test", settings=(), handshake=True,
                 polite=False, receive_buffer=None, timeout=SECONDS_MAX, source=None):
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.sock.bind((source, 0))
        self.sock.settimeout(within(timeout))
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.scheme, self.authority, self.path = "https" if tls else "http", name, "/"
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname=name)
            assert self.sock.selected_alpn_protocol() == "h2"
        self.polite = polite
        self.decoder = Decoder(HEADER_LIST_BYTES_MAX)
        self.buffer = bytearray()
        self.at_end = False
        self.streams, self.frames = {}, []
        self.goaway = None
        self.pings, self.settings_acks = [], 0
        self.server_settings = {}
        # What the server lets us send.
        self.connection_window, self.windows = WINDOW_BYTES, {}
        self.stream_next = 1
        if handshake:
            self.handshake(settings)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    # ---- sending

    def send(self, *frames):
        self.sock.settimeout(within(SECONDS_MAX))
        self.sock.sendall(b"".join(frames))

    def send_unless_closed(self, *frames, seconds=SECONDS_MAX):
        """False when the server closed, or took nothing for the time."""
        self.sock.settimeout(within(seconds))
        try:
            self.sock.sendall(b"".join(frames))
            return True
        except (OSError, ssl.SSLError):
            return False

    def handshake(self, values=()):
        """Both prefaces and both acknowledgements."""
        values = list(values.items() if isinstance(values, dict) else values)
        self.decoder.max_allowed_table_size = dict(values).get(Setting.HEADER_TABLE_SIZE, 4096)
        self.send(PREFACE, settings(values))
        first = self.frame()
        assert isinstance(first, h2.SettingsFrame) and "ACK" not in first.flags, (
            f"a connection starts with SETTINGS, not {first}")
        self.send(settings(ack=True))
        self.until(lambda: self.settings_acks, "SETTINGS acknowledged")

    def fields(self, method="GET", path=None, more=(), authority=None, scheme=None):
        return [(":method", method), (":scheme", scheme or self.scheme),
                (":authority", authority or self.authority), (":path", path or self.path), *more]

    def request(self, method="GET", path=None, more=(), end=True, stream=None, **pseudo):
        """Sends HEADERS, and CONTINUATION where they are long, on the next stream; its number."""
        stream = stream or self.take_stream()
        self.send(*head_frames(stream, block(self.fields(method, path, more, **pseudo)), end))
        return stream

    def take_stream(self):
        stream, self.stream_next = self.stream_next, self.stream_next + 2
        return stream

    def window(self, stream):
        initial = self.server_settings.get(Setting.INITIAL_WINDOW_SIZE, WINDOW_BYTES)
        return min(self.connection_window, self.windows.get(stream, 0) + initial)

    def spend(self, stream, count):
        self.connection_window -= count
        self.windows[stream] = self.windows.get(stream, 0) - count

    def send_body(self, stream, body, end=True, frame_bytes=FRAME_BYTES_MAX):
        """Keeps to the windows; False when the stream ended first."""
        sent = 0
        while sent < len(body):
            if self.over(stream):
                return False
            count = min(self.window(stream), frame_bytes, len(body) - sent)
            if count <= 0:
                if self.frame() is None:
                    raise Ended(f"inside a body: {self.what_came()}")
                continue
            self.spend(stream, count)
            last = end and sent + count == len(body)
            self.send(data(stream, body[sent:sent + count], end=last))
            sent += count
        if end and not body:
            self.send(data(stream, b"", end=True))
        return True

    # ---- reading

    def fill(self, end):
        """Reads once; False at the end of the connection."""
        if self.at_end:
            return False
        self.sock.settimeout(max(end - time.monotonic(), 0.001))
        try:
            got = self.sock.recv(65536)
        except TimeoutError:
            raise TimeoutError(f"nothing more came: {self.what_came()}") from None
        except (ConnectionError, ssl.SSLError):
            got = b""
        self.buffer += got
        self.at_end = not got
        return bool(got)

    def have(self, count, end):
        while len(self.buffer) < count:
            if not self.fill(end):
                return False
        return True

    def frame(self, seconds=SECONDS_MAX):
        """The next frame, None at the end; a header block counts as one frame and is decoded."""
        end = time.monotonic() + within(seconds)
        got = self.one_frame(end)
        if isinstance(got, h2.HeadersFrame):
            encoded, last = got.data, got
            while "END_HEADERS" not in last.flags:
                last = self.one_frame(end)
                assert isinstance(last, h2.ContinuationFrame) and last.stream_id == got.stream_id
                encoded += last.data
            got.fields = [(n.decode("latin-1"), v.decode("latin-1"))
                          for n, v in self.decoder.decode(encoded, raw=True)]
        if got is not None:
            self.frames.append(got)
            self.note(got)
        return got

    def one_frame(self, end):
        if not self.have(9, end):
            return None
        got, length = h2.Frame.parse_frame_header(memoryview(bytes(self.buffer[:9])))
        assert length <= FRAME_BYTES_MAX, f"a frame of {length} bytes"
        if not self.have(9 + length, end):
            return None
        got.parse_body(memoryview(bytes(self.buffer[9:9 + length])))
        del self.buffer[:9 + length]
        return got

    def note(self, got):
        """Keeps what a frame says."""
        number = got.stream_id
        if isinstance(got, h2.HeadersFrame):
            self.note_headers(got)
        elif isinstance(got, h2.DataFrame):
            stream = self.streams[number]
            assert stream.response and not stream.ended, f"DATA out of place on {number}"
            stream.response.body.extend(got.data)
            stream.data_frames += 1
            stream.ended = "END_STREAM" in got.flags
            if self.polite and got.flow_controlled_length:
                self.send_unless_closed(*self.credit(number, got.flow_controlled_length))
        elif isinstance(got, h2.RstStreamFrame):
            self.streams.setdefault(number, Stream()).reset = got.error_code
        elif isinstance(got, h2.GoAwayFrame):
            self.goaway = got
        elif isinstance(got, h2.WindowUpdateFrame) and number:
            self.windows[number] = self.windows.get(number, 0) + got.window_increment
        elif isinstance(got, h2.WindowUpdateFrame):
            self.connection_window += got.window_increment
        elif isinstance(got, h2.PingFrame) and "ACK" in got.flags:
            self.pings.append(got.opaque_data)
        elif isinstance(got, h2.SettingsFrame) and "ACK" in got.flags:
            self.settings_acks += 1
        elif isinstance(got, h2.SettingsFrame):
            self.server_settings.update(got.settings)
            if self.polite and len(self.frames) > 1:
                self.send_unless_closed(settings(ack=True))
        elif isinstance(got, h2.PingFrame) and self.polite:
            self.send_unless_closed(ping(got.opaque_data, ack=True))

    def credit(self, stream, count):
        yield window_update(0, count)
        if not self.streams[stream].ended:
            yield window_update(stream, count)

    def note_headers(self, got):
        stream = self.streams.setdefault(got.stream_id, Stream())
        assert not stream.ended, f"HEADERS after the end of stream {got.stream_id}"
        ended = "END_STREAM" in got.flags
        if stream.response is not None:
            assert ended and not any(n.startswith(":") for n, _ in got.fields), got.fields
            stream.response.trailers = got.fields
        else:
            response = response_of(got.fields)
            if response.status < 200:
                assert not ended
                stream.interim.append(response)
                return
            response.interim = stream.interim
            stream.response = response
        stream.ended = ended

    def until(self, condition, what, seconds=SECONDS_MAX):
        """Reads frames until the condition is true; Ended when the connection ends first."""
        end = time.monotonic() + within(seconds)
        while not condition():
            left = (end - time.monotonic()) / within(1)
            if left <= 0:
                raise TimeoutError(f"not within {seconds} s: {what}; {self.what_came()}")
            if self.frame(left) is None:
                raise Ended(f"before {what}: {self.what_came()}")

    def over(self, stream):
        found = self.streams.get(stream)
        return found is not None and (found.ended or found.reset is not None)

    def what_came(self):
        end = ["the end"] if self.at_end else []
        return "came: " + "; ".join([tell(f) for f in self.frames[-12:]] + end)

    # ---- expectations

    def expect_response(self, stream, seconds=SECONDS_MAX):
        """The whole response; Ended when it is cut."""
        self.until(lambda: self.over(stream), f"the response on stream {stream}", seconds)
        found = self.streams[stream]
        if not found.ended:
            raise Ended(f"stream {stream} was reset: {code_name(found.reset)}")
        found.response.body = bytes(found.response.body)
        return found.response

    def expect_head(self, stream):
        """The response as far as it came, with its head at least."""
        self.until(lambda: self.over(stream) or self.response_of(stream), f"the head on {stream}")
        if self.response_of(stream) is None:
            raise Ended(f"stream {stream} was reset: {code_name(self.streams[stream].reset)}")
        return self.streams[stream].response

    def response_of(self, stream):
        return self.streams[stream].response if stream in self.streams else None

    def expect_reset(self, stream, *codes, seconds=SECONDS_MAX):
        """RST_STREAM with one of the codes (any, if none is given)."""
        self.until(lambda: self.reset_of(stream) is not None or self.goaway,
                   f"a reset of {stream}", seconds)
        reset = self.reset_of(stream)
        assert reset is not None, f"stream {stream} was not reset; {self.what_came()}"
        assert not codes or reset in codes, f"reset with {code_name(reset)}"
        return reset

    def reset_of(self, stream):
        return self.streams[stream].reset if stream in self.streams else None

    def expect_goaway(self, *codes, seconds=SECONDS_MAX):
        """GOAWAY with one of the codes (any, if none is given)."""
        self.until(lambda: self.goaway, "GOAWAY", seconds)
        assert not codes or self.goaway.error_code in codes, self.what_came()
        return self.goaway

    def expect_end(self, seconds=SECONDS_MAX):
        """The server closes the connection, whatever comes before."""
        end = time.monotonic() + within(seconds)
        while self.frame((end - time.monotonic()) / within(1)) is not None:
            pass

    def expect_ping(self, payload=b"in order"):
        """Everything before the PING was processed when its acknowledgement is here."""
        self.send(ping(payload))
        self.until(lambda: payload in self.pings, "a PING acknowledged")

    def get(self, path=None, method="GET", body=None, more=(), **pseudo):
        """A request and its whole response."""
        stream = self.request(method, path, more, end=body is None, **pseudo)
        if body is not None:
            self.send_body(stream, body)
        return self.expect_response(stream)


def head_frames(stream, encoded, end=True):
    """A header block of any length in frames of legal ones."""
    pieces = [encoded[i:i + FRAME_BYTES_MAX]
              for i in range(0, len(encoded), FRAME_BYTES_MAX)] or [b""]
    yield headers(stream, pieces[0], end=end, end_headers=len(pieces) == 1)
    for i, piece in enumerate(pieces[1:], 2):
        yield continuation(stream, piece, end_headers=i == len(pieces))


def tell(frame):
    fields = getattr(frame, "fields", None)
    return f"HEADERS on {frame.stream_id}: {fields}" if fields else repr(frame)


def response_of(fields):
    """Strict about what RFC 9113 demands of a response's fields."""
    assert [n for n, _ in fields if n[0] == ":"] == [":status"] == [fields[0][0]], fields
    assert all(n == n.lower() for n, _ in fields), fields
    banned = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
    assert not banned & {n for n, _ in fields}, fields
    return Response(int(fields[0][1]), "", "HTTP/2", fields[1:], body=bytearray())
