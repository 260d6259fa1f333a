"""An HTTP/2 origin in raw frames: keeps what it was sent, answers well, or whatever it is told."""

import threading
from dataclasses import dataclass

from hpack import Decoder
from hyperframe import frame as h2

from harness.http2_frames import (
    FRAME_BYTES_MAX, PREFACE, WINDOW_BYTES, Setting, block, data, headers, ping, settings,
    window_update)
from harness.http2 import head_frames
from harness.origin import Origin, OriginConnection, Recorded

HEADER_LIST_BYTES_MAX = 1 << 20


@dataclass
class Http2Recorded(Recorded):
    """A request on a stream; `complete` once END_STREAM has come."""

    stream: int = 0
    pseudo: dict = None
    taken: bool = False


class Http2OriginConnection(OriginConnection):
    """Acknowledges SETTINGS and PING, and gives back windows, unless its origin is rude."""

    def __init__(self, sock, number, origin):
        super().__init__(sock, number, origin)
        self.decoder = Decoder(HEADER_LIST_BYTES_MAX)
        self.streams, self.resets, self.pings, self.kinds = {}, {}, [], []
        self.answered = set()
        self.open_peak = 0
        self.goaway, self.peer_settings, self.acks = None, {}, 0
        self.connection_window, self.windows = WINDOW_BYTES, {}
        self.sending = threading.Lock()
        self.ended = False

    def send(self, *parts):
        with self.sending:
            self.sock.sendall(b"".join(parts))

    def greet(self, values=()):
        """Both prefaces; False when the other side closed."""
        if self.exactly(len(PREFACE)) is None:
            return False
        self.send(settings(values))
        return isinstance(self.frame(), h2.SettingsFrame)

    # ---- reading

    def frame(self):
        """The next frame, None at the end; a header block counts as one frame and is decoded."""
        got = self.one_frame()
        if isinstance(got, h2.HeadersFrame):
            encoded, last = got.data, got
            while "END_HEADERS" not in last.flags:
                last = self.one_frame()
                if last is None:
                    return None
                encoded += last.data
            got.fields = [(n.decode("latin-1"), v.decode("latin-1"))
                          for n, v in self.decoder.decode(encoded, raw=True)]
        if got is not None:
            self.kinds.append(type(got).__name__)
            self.note(got)
        else:
            self.ended = True
        return got

    def one_frame(self):
        start = self.exactly(9)
        if start is None:
            return None
        got, length = h2.Frame.parse_frame_header(memoryview(start))
        assert length <= FRAME_BYTES_MAX, f"a frame of {length} bytes"
        payload = self.exactly(length)
        if payload is None:
            return None
        got.parse_body(memoryview(payload))
        return got

    def note(self, got):
        number, ended = got.stream_id, "END_STREAM" in got.flags
        polite = not self.origin.rude
        if isinstance(got, h2.HeadersFrame):
            self.note_headers(got, ended)
        elif isinstance(got, h2.DataFrame):
            self.streams[number].body += got.data
            self.streams[number].complete = ended
            if polite and got.flow_controlled_length:
                self.send(window_update(0, got.flow_controlled_length),
                          b"" if ended else window_update(number, got.flow_controlled_length))
        elif isinstance(got, h2.RstStreamFrame):
            self.resets[number] = got.error_code
            self.answered.add(number)
        elif isinstance(got, h2.GoAwayFrame):
            self.goaway = got
        elif isinstance(got, h2.WindowUpdateFrame) and number:
            self.windows[number] = self.windows.get(number, 0) + got.window_increment
        elif isinstance(got, h2.WindowUpdateFrame):
            self.connection_window += got.window_increment
        elif isinstance(got, h2.PingFrame) and "ACK" in got.flags:
            self.pings.append(got.opaque_data)
        elif isinstance(got, h2.SettingsFrame) and "ACK" in got.flags:
            self.acks += 1
        elif isinstance(got, h2.SettingsFrame):
            self.peer_settings.update(got.settings)
            if polite:
                self.send(settings(ack=True))
        elif isinstance(got, h2.PingFrame) and polite:
            self.send(ping(got.opaque_data, ack=True))

    def note_headers(self, got, ended):
        seen = self.streams.get(got.stream_id)
        if seen is not None:
            assert ended, "trailers that do not end the stream"
            seen.trailers, seen.complete = got.fields, True
            return
        pseudo = {n: v for n, v in got.fields if n.startswith(":")}
        seen = Http2Recorded(b"", pseudo[":method"], pseudo.get(":path", ""), "HTTP/2",
                             [f for f in got.fields if f[0] not in pseudo], complete=ended,
                             connection=self.number, stream=got.stream_id, pseudo=pseudo)
        self.streams[got.stream_id] = seen
        self.open_peak = max(self.open_peak, len(set(self.streams) - self.answered))
        self.origin.heads.append(seen)

    def until(self, condition):
        """Reads until it is true; False when the connection ended first."""
        while not condition():
            if self.frame() is None:
                return False
        return True

    def head(self):
        """The next request as soon as its head is here, or None at the end."""
        known = set(self.streams)
        if not self.until(lambda: set(self.streams) - known):
            return None
        return self.streams[(set(self.streams) - known).pop()]

    def next_whole(self):
        return next((r for r in self.streams.values()
                     if r.complete and not r.taken and r.stream not in self.resets), None)

    def request(self):
        """The next whole request that nobody has taken, recorded, or None."""
        if not self.until(self.next_whole):
            return None
        seen = self.next_whole()
        seen.taken = True
        self.origin.requests.append(seen)
        return seen

    def serve(self, values=None):
        """Greets, and answers one request after the other as the origin is told."""
        if self.greet(self.origin.settings if values is None else values):
            while (seen := self.request()) is not None:
                self.origin.answer(self, seen)

    # ---- sending

    def head_of_answer(self, stream, status=200, fields=(), end=False):
        self.send(*head_frames(stream, block([(":status", str(status)), *fields]), end))

    def reply(self, stream, body=b"", status=200, fields=(), trailers=()):
        """A whole answer, in keeping with the windows."""
        self.answered.add(stream)
        body = body.encode() if isinstance(body, str) else body
        self.head_of_answer(stream, status, fields, end=not body and not trailers)
        if body:
            self.send_body(stream, body, end=not trailers)
        if trailers:
            self.send(headers(stream, block(trailers)))

    def window(self, stream):
        initial = self.peer_settings.get(Setting.INITIAL_WINDOW_SIZE, WINDOW_BYTES)
        return min(self.connection_window, self.windows.get(stream, 0) + initial)

    def send_body(self, stream, body, end=True):
        """Only from the connection's own thread: it reads when it must wait."""
        sent = 0
        while sent < len(body):
            count = min(self.window(stream), FRAME_BYTES_MAX, len(body) - sent)
            if count <= 0:
                if self.frame() is None or stream in self.resets:
                    return False
                continue
            self.connection_window -= count
            self.windows[stream] = self.windows.get(stream, 0) - count
            sent += count
            self.send(data(stream, body[sent - count:sent], end=end and sent == len(body)))
        return True


class Http2Origin(Origin):
    """Answers each request with its target, or by `on(target, function(connection, stream))`."""

    connection_class = Http2OriginConnection

    def __init__(self, script=None, values=(), **more):
        self.settings, self.rude, self.scripts = list(values), False, {}
        super().__init__(script or Http2OriginConnection.serve, **more)

    def on(self, target, function):
        self.scripts[target] = function

    def answer(self, connection, seen):
        script = self.scripts.get(seen.target)
        if script is not None:
            script(connection, seen.stream)
        else:
            connection.reply(seen.stream, seen.target)
