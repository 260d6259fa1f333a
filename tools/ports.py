"""Ports for tests, the quickstart and the bench."""

import random
import socket

# Below the range from which the kernel takes ports for outgoing connections (32768 and up): one
# of those could take a port between the look and its use.
LOWEST, HIGHEST = 12000, 31999
_given = set()


def free_port(kind=socket.SOCK_STREAM):
    """A loopback port that nobody uses now and that this process was not given before."""
    while True:
        port = random.randint(LOWEST, HIGHEST)
        if port in _given:
            continue
        with socket.socket(socket.AF_INET, kind) as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
