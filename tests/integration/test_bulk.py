"""Bodies far larger than memory pass through a bounded piece of it."""

import hashlib
import os
import time

from harness.client import request
from harness.limits import LONG, SLOW
from harness.origin import answer
from harness.watch import Watch

SIZE = (2 << 30) if LONG else (256 << 20)
PIECE = os.urandom(1 << 20)
# Sanitizers keep freed memory in quarantine: there, only endless growth can be told.
GROWTH_KB_MAX = 2048 if SLOW == 1 else 65536


def warm_up(connect):
    for _ in range(20):
        assert connect().get(method="POST", body=PIECE).status == 200


def expected_digest():
    digest = hashlib.sha256()
    for _ in range(SIZE // len(PIECE)):
        digest.update(PIECE)
    return digest.hexdigest()


def test_a_download_to_a_slow_client_adds_little_memory(proxy, origin, connect):
    def script(connection):
        while (seen := connection.request()) is not None:
            if seen.target != "/bulk":
                connection.send(answer(b"warm"))
                continue
            connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")
            for _ in range(SIZE // len(PIECE)):
                connection.send(PIECE)
    origin.script = script
    warm_up(connect)
    client = connect(receive_buffer=65536)
    with Watch(proxy) as watch:
        client.send(request(target="/bulk"))
        assert client.head().value("content-length") == str(SIZE)
        digest = read_slowly(client)
    assert digest == expected_digest()
    assert watch.growth_kb() < GROWTH_KB_MAX, f"grew by {watch.growth_kb()} KB"


def test_an_upload_to_a_slow_origin_adds_little_memory(proxy, origin, connect):
    digests = []

    def script(connection):
        while (seen := connection.head()) is not None:
            if seen.target != "/bulk":
                connection.body(seen)
                connection.send(answer(b"warm"))
                continue
            digests.append(read_slowly(connection))
            connection.send(answer(b"done"))
    origin.script = script
    warm_up(connect)
    client = connect(timeout=300)
    with Watch(proxy) as watch:
        client.send(f"POST /bulk HTTP/1.1\r\nHost: example.test\r\nContent-Length: {SIZE}\r\n\r\n")
        for _ in range(SIZE // len(PIECE)):
            client.send(PIECE)
        assert client.response().body == b"done"
    assert digests == [expected_digest()]
    assert watch.growth_kb() < GROWTH_KB_MAX, f"grew by {watch.growth_kb()} KB"


def read_slowly(reader):
    """SIZE bytes, standing still ten times on the way while the sender could send all at once."""
    digest, left, pauses = hashlib.sha256(), SIZE, 10
    while left:
        if left <= SIZE * pauses // 10:
            pauses -= 1
            time.sleep(0.2)
        piece, reader.buffer = reader.buffer, b""
        if not piece:
            assert reader.more(), f"{left} bytes missing"
            continue
        digest.update(piece)
        left -= len(piece)
    return digest.hexdigest()
