"""Small services around the program: the `ask` endpoint, and a proxy on its way out."""

import http.server
import socket
import socketserver
import threading
import time
import urllib.parse


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


class Tunnel:
    """An HTTP proxy that answers CONNECT alone: `ports` says which loopback port stands for
    "host:port"; anything else is refused."""

    def __init__(self, ports):
        self.asked = []
        tunnel = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_CONNECT(self):
                tunnel.asked.append(self.path)
                if self.path not in ports:
                    self.send_error(403)
                    return
                with socket.create_connection(("127.0.0.1", ports[self.path])) as inner:
                    self.send_response_only(200)
                    self.end_headers()
                    back = threading.Thread(target=pump, args=(inner, self.connection))
                    back.start()
                    pump(self.connection, inner)
                    back.join()

            def log_message(self, *_):
                pass

        self.server = ThreadingServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
