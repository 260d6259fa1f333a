"""What became of one request, noted by its client as it happens."""

import time

# Ends of a request, beside "whole" and "cut": closed (nothing of a response came), cancelled (by
# the client), dropped (never sent, or behind a response that closed the connection), hung.


class Record:
    """One request and what came of it."""

    def __init__(self, plan, session, fragile=False):
        self.plan, self.session = plan, session
        self.fragile = fragile      # its listener may be taken away
        self.begun, self.ended = time.time(), None
        self.end, self.status, self.fields = "dropped", None, []
        self.got, self.wrong = 0, ""      # bytes of the body, and what was wrong with them
        self.text = b""                   # the body of a page of the program's own
        self.trailers = []
        self.sent_all = False
        self.shows_cuts = True            # of a tunnel
        self.history = []
        self.expected = None

    def note(self, text):
        self.history.append((time.time() - self.begun, text))

    def head(self, response):
        self.status, self.fields = response.status, response.fields
        self.note(f"head {response.status}")

    def value(self, name):
        return next((v for n, v in self.fields if n.lower() == name), None)

    def own(self):
        """Whether a page of the program's own answered."""
        return self.value("x-id") is None

    def take(self, piece):
        """Compares a piece of the body with what it must be."""
        if self.own():
            self.text += piece
        elif not self.wrong:
            if self.expected is None:
                self.expected = self.plan.download()
            if piece != self.expected[self.got:self.got + len(piece)]:
                self.wrong = f"wrong bytes after {self.got} of the body: {piece[:60]!r}"
        self.got += len(piece)

    def finish(self, end, why=""):
        self.end, self.ended, self.expected = end, time.time(), None
        self.note(f"{end} after {self.got} bytes {why}".rstrip())

    def tell(self):
        lines = [f"{self.plan}", f"  {self.session}: {self.end} {self.status} {self.wrong}"]
        return "\n".join(lines + [f"  {at:8.3f} s  {text}" for at, text in self.history])
