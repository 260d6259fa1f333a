"""HTTP/2 connections of the storm: many requests under way at once, and frames that are wrong."""

import time

from harness.http2 import head_frames
from harness.http2_frames import (
    FRAME_BYTES_MAX, Code, Flag, Kind, block, data, frame, headers, literal, ping,
    priority_update, rst_stream, settings, window_update)
from harness.limits import within
from storm.http1 import HOST, REQUEST_SECONDS_MAX
from storm.plan import tag_of


class Upload:
    """What of a stream's request is not sent yet."""

    def __init__(self, record, rng):
        self.record, self.plan = record, record.plan
        self.body, self.at = record.plan.upload(), 0
        self.waits = record.plan.expects
        self.ended = record.plan.method not in ("POST", "PUT")
        self.cancel_at = (time.monotonic() + rng.choice([0, 0.002, 0.02, 0.2])
                          if rng.random() < 0.12 else None)


def progress(got):
    """Whether a frame carries some of a response."""
    return got.type in (Kind.DATA, Kind.HEADERS) and (got.data or "END_STREAM" in got.flags)


class Http2Session:
    """Many requests on one connection, all under way at the same time."""

    def __init__(self, client, rng, slow):
        self.client, self.rng, self.slow = client, rng, slow
        self.open = {}
        self.fatal = False  # the connection is expected to end

    def add(self, record, fields):
        client, upload = self.client, Upload(record, self.rng)
        stream = client.take_stream()
        pseudo = client.fields(record.plan.method, record.plan.path, fields)
        self.open[stream] = upload
        record.sent_all = upload.ended or not (upload.body or upload.plan.up_chunked)
        client.send(*head_frames(stream, block(pseudo), end=upload.ended))
        record.note(f"stream {stream} begun")

    def run(self):
        client, last = self.client, time.monotonic()
        try:
            while self.open:
                moved = self.turn()
                # Who is slow and has small windows may take longer, but not for nothing.
                still = time.monotonic() - last
                assert still < within(REQUEST_SECONDS_MAX), "a session stands still"
                if not self.open:
                    break
                try:
                    if client.frame(0.0001 if moved else 0.05) is None:
                        break
                except TimeoutError:
                    continue
                if progress(client.frames[-1]):
                    last = time.monotonic()
                if self.slow:
                    time.sleep(0.003)
        except AssertionError as failure:
            for stream in list(self.open):
                self.finish(stream, "hung", f"{failure} {client.what_came()}")
            raise
        except OSError as error:
            for stream in list(self.open):
                self.finish(stream, None, repr(error))
        for stream in list(self.open):
            self.finish(stream, None, client.what_came()[:400])

    def turn(self):
        """Everything that can be done without reading; whether something was."""
        client, moved = self.client, False
        for stream, upload in list(self.open.items()):
            found = client.streams.get(stream)
            if client.over(stream):
                self.finish(stream, None, f"reset {found.reset}")
            elif upload.cancel_at and time.monotonic() >= upload.cancel_at:
                client.send(rst_stream(stream, Code.CANCEL))
                self.finish(stream, "cancelled")
            elif not upload.ended:
                moved = self.send_some(stream, upload, found) or moved
        if self.rng.random() < 0.02:
            client.send(self.rng.choice([ping(), settings(), window_update(0, 1),
                                         priority_update(1, b"u=1, i")]))
        return moved

    def send_some(self, stream, upload, found):
        client = self.client
        if upload.waits:
            upload.waits = not (found and found.interim)
            return False
        count = min(client.window(stream), len(upload.body) - upload.at, FRAME_BYTES_MAX)
        if count <= 0 and upload.at < len(upload.body):
            return False
        trailers = upload.plan.up_trailers
        last = upload.at + count == len(upload.body)
        client.spend(stream, count)
        client.send(data(stream, upload.body[upload.at:upload.at + count],
                         end=last and not trailers))
        upload.at += count
        if last and trailers:
            client.send(headers(stream, block([("x-up", tag_of(upload.plan.id, "up"))])))
        if last:
            upload.ended = upload.record.sent_all = True
            upload.record.note("all sent")
        return True

    def finish(self, stream, end, why=""):
        """Records how a stream ended; `end` where that is not to be seen from its frames."""
        record, found = self.open.pop(stream).record, self.client.streams.get(stream)
        if found is not None and found.response is not None:
            record.head(found.response)
            record.take(bytes(found.response.body))
            record.trailers = found.response.trailers
        if end is None:
            whole = found is not None and found.ended
            end = "whole" if whole else "closed" if record.status is None else "cut"
        if self.fatal and end != "whole":
            end = "cancelled"
        record.finish(end, why)
        self.client.streams.pop(stream, None) if found and found.ended else None


def bad_stream(*fields, end=True):
    return lambda client, stream: [headers(stream, block([*client.fields("GET", "/smuggled"),
                                                          *fields]), end=end)]


# Frames on a stream of their own, and whether the connection ends with them.
MALFORMED_HTTP2 = {
    "an upper case name": (bad_stream(("X-A", "b")), False),
    "a connection field": (bad_stream(("connection", "close")), False),
    "a line end in a value": (bad_stream(("x-a", "b\r\nx-evil: 1")), False),
    "two paths": (bad_stream((":path", "/smuggled")), False),
    "another host": (bad_stream(("host", "other.example.test")), False),
    "a length without a body": (bad_stream(("content-length", "5")), False),
    "no path": (lambda c, s: [headers(s, block([(":method", "GET"), (":scheme", c.scheme),
                                                (":authority", HOST)]))], False),
    "DATA on an idle stream": (lambda c, s: [data(s + 100, b"x")], True),
    "a broken block": (lambda c, s: [headers(s, b"\xff\xff\xff\xff\xff\xff")], True),
    "SETTINGS of a wrong size": (lambda c, s: [frame(Kind.SETTINGS, 0, 0, b"12345")], True),
    "a window of zero": (lambda c, s: [window_update(0, 0)], True),
    "an unfinished block": (lambda c, s: [
        frame(Kind.HEADERS, Flag.END_STREAM, s, literal("x-a", "b")), ping()], True),
}
