"""WebSocket ends in threads of their own, and the opening handshake byte by byte (RFC 6455)."""

import asyncio
import base64
import hashlib
import threading

import websockets

from harness.client import request
from harness.limits import within

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def accept_of(key):
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return base64.b64encode(digest).decode()


def opening(target="/", upgrade="websocket", fields=(), **changes):
    """A handshake request; `changes` replace or, being None, leave out a field."""
    default = {"Connection": "Upgrade", "Upgrade": upgrade, "Sec-WebSocket-Key": KEY,
               "Sec-WebSocket-Version": "13"}
    for name, value in changes.items():
        default["-".join(w.capitalize() for w in name.split("_"))
                .replace("Websocket", "WebSocket")] = value
    kept = [(n, v) for n, v in default.items() if v is not None]
    return request(target=target, fields=[*kept, *fields])


def granting(seen, **changes):
    """The 101 that answers a recorded request."""
    default = {"Upgrade": "websocket", "Connection": "Upgrade",
               "Sec-WebSocket-Accept": accept_of(seen.value("Sec-WebSocket-Key") or "")}
    default.update({n.replace("_", "-"): v for n, v in changes.items()})
    head = "HTTP/1.1 101 Switching Protocols\r\n"
    return head + "".join(f"{n}: {v}\r\n" for n, v in default.items() if v is not None) + "\r\n"


class WebSocketOrigin:
    """A server of `handle(websocket)` on a free port, in a loop and a thread of its own."""

    def __init__(self, handle, tls=None, **settings):
        self.handle, self.tls = handle, tls
        self.settings = {"max_size": None, "close_timeout": within(5), **settings}
        self.loop, self.started = asyncio.new_event_loop(), threading.Event()
        self.failures = []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        assert self.started.wait(10)

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.start())
        self.loop.run_forever()
        self.loop.run_until_complete(self.finish())
        self.loop.close()

    async def start(self):
        self.server = await websockets.serve(self.checked, "127.0.0.1", 0, ssl=self.tls,
                                             **self.settings)
        port = self.server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.started.set()

    async def checked(self, websocket):
        try:
            await self.handle(websocket)
        except websockets.ConnectionClosed:
            pass
        except Exception as failure:  # noqa: BLE001  a bug in a handler must fail its test
            self.failures.append(failure)

    async def finish(self):
        self.server.close()
        await self.server.wait_closed()

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(within(10))
        if self.failures:
            raise self.failures[0]


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


def open_client(port, tls=None, target="/", **settings):
    """An awaitable client connection to example.test through `port`."""
    settings = {"max_size": None, "open_timeout": within(10), "close_timeout": within(10),
                **settings}
    if tls:
        settings.update(ssl=tls, server_hostname="example.test")
    scheme = "wss" if tls else "ws"
    return websockets.connect(f"{scheme}://example.test{target}", host="127.0.0.1", port=port,
                              **settings)
