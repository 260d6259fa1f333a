"""Small services around the program: the `ask` endpoint, and faults between it and the CA."""

import base64
import http.client
import http.server
import json
import socketserver
import ssl
import threading
import time
import urllib.parse

from harness.wait import until


class ThreadingServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512

    def handle_error(self, *_):
        pass  # a client that goes away is what these tests are about


class Ask:
    """Answers `GET URL?domain=NAME`: denies what is in `denied` or does not end in a suffix."""

    def __init__(self, suffixes=(".test",)):
        self.suffixes, self.denied, self.asked = tuple(suffixes), set(), []
        self.delay_seconds, self.status = 0, None
        ask = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                name = query.get("domain", [""])[0]
                ask.asked.append((name, query.get("client_ip", [""])[0]))
                if ask.delay_seconds:
                    time.sleep(ask.delay_seconds)
                self.send_response(ask.status or (200 if ask.allows(name) else 403))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/allowed"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def allows(self, name):
        return name.endswith(self.suffixes) and name not in self.denied

    def count(self, name):
        return sum(1 for asked, _ in self.asked if asked == name)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class FaultProxy:
    """HTTPS in front of the CA: passes on, or answers by `mode`.

    Modes: "pass", "500", "hang" (accepts and never answers), "429" (with `retry_after` seconds),
    "refuse" (closes at once). `only` narrows a fault to paths that contain it.
    """

    def __init__(self, ca):
        self.ca, self.mode, self.only, self.retry_after = ca, "pass", "", 2
        self.drop = False
        self.requests = []
        self.ordered = []  # (name, when the CA's answer had been sent back)
        self.released = threading.Event()
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

    def wait_request(self, word, since):
        """Until a request whose path has `word` in it comes after the first `since` ones."""
        until(lambda: any(word in path for _, _, path in self.requests[since:]),
              f"a request for {word} at the CA")

    def fault(self, mode, only="", drop=False):
        """From the next request on; requests that hang go on by the new mode, or are dropped."""
        self.mode, self.only, self.drop = mode, only, drop
        if mode != "hang":
            self.released.set()
            self.released = threading.Event()

    def handle(self, handler):
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length) if length else None
        self.requests.append((time.monotonic(), handler.command, handler.path))
        if self.mode_for(handler.path) == "hang":
            self.released.wait(300)
            if self.drop:
                handler.close_connection = True
                return
        mode = self.mode_for(handler.path)
        if mode == "refuse":
            handler.close_connection = True
        elif mode == "500":
            self.problem(handler, 500, "serverInternal", [])
        elif mode == "429":
            self.problem(handler, 429, "rateLimited", [("Retry-After", str(self.retry_after))])
        else:
            self.forward(handler, body)
            self.note_order(handler, body)

    def mode_for(self, path):
        return self.mode if self.only in path else "pass"

    def note_order(self, handler, body):
        """A new order's payload is signed, not secret: it tells the names."""
        if handler.command != "POST" or not handler.path.startswith("/order-plz"):
            return
        payload = json.loads(body)["payload"]
        identifiers = json.loads(base64.urlsafe_b64decode(payload + "==")).get("identifiers", [])
        self.ordered += [(i["value"], time.monotonic()) for i in identifiers]

    def problem(self, handler, status, kind, fields):
        text = (f'{{"type":"urn:ietf:params:acme:error:{kind}","detail":"a fault of the test",'
                f'"status":{status}}}').encode()
        handler.send_response(status)
        for name, value in fields + [("Content-Type", "application/problem+json"),
                                     ("Content-Length", str(len(text)))]:
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(text)

    def forward(self, handler, body):
        context = ssl.create_default_context(cafile=str(self.ca.trust))
        connection = http.client.HTTPSConnection("127.0.0.1", self.ca.port, context=context,
                                                 timeout=30)
        # The Host stays: Pebble builds its URLs from it, so they lead through here again.
        fields = {n: v for n, v in handler.headers.items() if n.lower() != "connection"}
        connection.request(handler.command, handler.path, body=body, headers=fields)
        response = connection.getresponse()
        data = response.read()
        handler.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date"):
                handler.send_header(name, value)
        length = response.getheader("Content-Length") if handler.command == "HEAD" else len(data)
        if response.status != 204:
            handler.send_header("Content-Length", str(length or 0))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(data)
        connection.close()

    def stop(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
