"""Faults between the program and the CA: HTTPS in front of it that passes on, or does as told."""

import base64
import http.client
import http.server
import json
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Callable, NamedTuple, Optional
from urllib.parse import urlsplit

from harness.services import ThreadingServer
from harness.wait import until

ENDLESS_BYTES_MAX = 64 << 20
PROBLEM = "application/problem+json"


class Signed(NamedTuple):
    """A request that the program signed: what it says is no secret."""
    at: float
    path: str
    protected: dict
    payload: Optional[dict]  # None: POST-as-GET


class Placed(NamedTuple):
    """An order that the CA took, by when its request came and the paths of its URLs."""
    at: float
    names: list
    path: str
    authorizations: list
    finalize: str


@dataclass
class Fault:
    """What happens to requests whose path contains `only`: the next `times` after `skip` of them.

    mode            the program sees
    pass            the CA's answer, after `edit(status, fields, body)` if there is one
    500, 503, 429   a problem document of `kind` and `detail`, with Retry-After if that is given;
                    any other status by `problem` with `status`
    hang            nothing, until release(): then what holds by that time
    hold            the CA's answer, but only after release()
    refuse          an end of the connection; the CA sees nothing
    lose            the same, after the CA did what was asked
    cut             half of the CA's answer, then the end
    garbage         bytes that are not HTTP
    nonsense        200 with a body that is not JSON, or not what it should be (`body`)
    endless         200 with a body that has no end
    """
    mode: str
    only: str = ""
    times: Optional[int] = None  # None: always
    skip: int = 0
    method: Optional[str] = None
    status: int = 400
    kind: str = ""
    detail: str = "a fault of the test"
    retry_after: Optional[str] = None
    body: bytes = b"<html>not the CA</html>"
    edit: Optional[Callable] = None

    def takes(self, method, path):
        """Whether this request is one of its own; counts those that are."""
        if self.only not in path or self.method not in (None, method) or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class FaultProxy:
    """HTTPS in front of `ca`, by the CA's own certificate, that records every request.

    fault() sets what holds until the next fault(); plan() adds faults that come before that, each
    for the requests it names.
    """

    def __init__(self, ca):
        self.ca, self.retry_after = ca, 2
        self.standing, self.planned, self.drop = Fault("pass"), [], False
        self.requests = []  # (when it came, method, path)
        self.signed = []
        self.placed = []
        self.invalid = set()  # paths of orders and authorizations that the CA called so
        self.endless_bytes = 0
        self.lock, self.released = threading.Lock(), threading.Event()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                proxy.handle(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(ca.folder / "https.pem", ca.folder / "https-key.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.directory = f"https://127.0.0.1:{self.port}/dir"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def fault(self, mode, only="", drop=False, **details):
        """From the next request on; requests that hang go on by the new mode, or are dropped."""
        self.standing, self.drop = Fault(mode, only, **details), drop
        if mode != "hang":
            self.release()

    def plan(self, mode, only="", times=1, **details):
        """For `times` requests to come; None: all of them, whatever fault() says."""
        fault = Fault(mode, only, times, **details)
        with self.lock:
            self.planned.append(fault)
        return fault

    def release(self):
        """Lets go what hangs or is held."""
        self.released.set()
        self.released = threading.Event()

    def wait_request(self, word, since=0, seconds=10):
        """Until a request whose path has `word` in it comes after the first `since` ones."""
        until(lambda: any(word in path for _, _, path in self.requests[since:]),
              f"a request for {word} at the CA", seconds)

    def count(self, word, method="POST"):
        return sum(1 for _, m, path in list(self.requests) if word in path and m == method)

    def orders(self, name=None):
        """The payloads of new orders that arrived here, of all names or of one."""
        return [s.payload for s in list(self.signed) if s.path.startswith("/order-plz")
                and (name is None or name in identifiers(s.payload))]

    def stop(self):
        self.release()
        self.server.shutdown()
        self.server.server_close()

    def handle(self, handler):
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length) if length else None
        handler.came = time.monotonic()
        self.requests.append((handler.came, handler.command, handler.path))
        self.note_signed(handler.path, body)
        fault = self.fault_for(handler)
        if fault.mode == "hang":
            self.released.wait(300)
            if self.drop:
                handler.close_connection = True
                return
            fault = self.fault_for(handler)
        self.act(fault, handler, body)

    def fault_for(self, handler):
        with self.lock:
            for fault in self.planned:
                if fault.takes(handler.command, handler.path):
                    return fault
        standing = self.standing
        return standing if standing.takes(handler.command, handler.path) else Fault("pass")

    def act(self, fault, handler, body):
        mode = fault.mode
        if mode in ("refuse", "hang"):
            handler.close_connection = True
        elif mode in ("500", "503", "429", "problem"):
            self.problem(fault, handler)
        elif mode == "garbage":
            handler.wfile.write(bytes(range(256)) * 4)
            handler.close_connection = True
        elif mode == "nonsense":
            answer(handler, 200, [("Content-Type", "application/json")], fault.body)
        elif mode == "endless":
            self.endless(handler)
        else:
            self.forward(fault, handler, body)

    def problem(self, fault, handler):
        status = fault.status if fault.mode == "problem" else int(fault.mode)
        kind = fault.kind or {429: "rateLimited"}.get(status, "serverInternal")
        wait = fault.retry_after or (str(self.retry_after) if status == 429 else None)
        fields = [("Content-Type", PROBLEM)] + ([("Retry-After", wait)] if wait else [])
        answer(handler, status, fields, json.dumps({
            "type": f"urn:ietf:params:acme:error:{kind}", "detail": fault.detail,
            "status": status}).encode())

    def endless(self, handler):
        handler.close_connection = True
        handler.send_response_only(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        try:
            while self.endless_bytes < ENDLESS_BYTES_MAX:
                handler.wfile.write(b" " * 16384)
                self.endless_bytes += 16384
        except OSError:
            pass

    def forward(self, fault, handler, body):
        context = ssl.create_default_context(cafile=str(self.ca.trust))
        connection = http.client.HTTPSConnection("127.0.0.1", self.ca.port, context=context,
                                                 timeout=30)
        # The Host stays: Pebble builds its URLs from it, so they lead through here again.
        fields = {n: v for n, v in handler.headers.items() if n.lower() != "connection"}
        connection.request(handler.command, handler.path, body=body, headers=fields)
        response = connection.getresponse()
        status, fields, data = response.status, response.getheaders(), response.read()
        connection.close()
        self.note_answer(handler, response, data)
        if fault.mode == "hold":
            self.released.wait(300)
        if fault.edit:
            status, fields, data = fault.edit(status, fields, data)
        if fault.mode == "lose":
            handler.close_connection = True
        elif fault.mode == "cut":
            handler.close_connection = True
            answer(handler, status, fields, data, send=len(data) // 2)
        else:
            answer(handler, status, fields, data)

    def note_signed(self, path, body):
        if not body:
            return
        jws = json.loads(body)
        payload = decoded(jws["payload"]) if jws["payload"] else None
        self.signed.append(Signed(time.monotonic(), path, decoded(jws["protected"]), payload))

    def note_answer(self, handler, response, data):
        if response.getheader("Content-Type", "").startswith("application/json"):
            said = json.loads(data)
            if said.get("status") == "invalid":
                self.invalid.add(handler.path)
            if handler.path.startswith("/order-plz") and response.status == 201:
                location, *parts = (urlsplit(url).path for url in (
                    response.getheader("Location"), *said["authorizations"], said["finalize"]))
                self.placed.append(Placed(handler.came, identifiers(said), location, parts[:-1],
                                          parts[-1]))


def decoded(text):
    return json.loads(base64.urlsafe_b64decode(text + "=="))


def identifiers(order):
    return [i["value"] for i in (order or {}).get("identifiers", [])]


def answer(handler, status, fields, body, send=None):
    """Sends the fields as they are, and at most `send` bytes of the body."""
    handler.send_response_only(status)
    hop = ("content-length", "transfer-encoding", "connection")
    length = next((v for n, v in fields if n.lower() == "content-length"), "0")
    for name, value in fields:
        if name.lower() not in hop:
            handler.send_header(name, value)
    if status != 204:
        length = length if handler.command == "HEAD" else str(len(body))
        handler.send_header("Content-Length", length)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body if send is None else body[:send])
