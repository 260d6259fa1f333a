"""Ports for tests, the quickstart and the bench."""

import functools
import itertools
import socket

# Below the range from which the kernel takes ports for outgoing connections (32768 and up): one
# of those could take a port between the look and its use.
LOWEST, BLOCKS, BLOCK_PORTS = 12000, 100, 200


@functools.cache
def _block():
    """Ports that only this process gives away: what another has looked at and not yet bound looks
    free. Below them is one that stays bound for as long as the process lives, as a sign to others.
    """
    for first in range(LOWEST, LOWEST + BLOCKS * BLOCK_PORTS, BLOCK_PORTS):
        sign = socket.socket()
        try:
            sign.bind(("127.0.0.1", first))
        except OSError:
            sign.close()
            continue
        return sign, itertools.cycle(range(first + 1, first + BLOCK_PORTS))
    raise RuntimeError(f"each of the {BLOCKS} blocks of ports from {LOWEST} on is taken: "
                       "end some of the programs that have them")


def free_port(kind=socket.SOCK_STREAM):
    """A loopback port that nobody uses now, and that this process was not given lately."""
    _, ports = _block()
    for port in itertools.islice(ports, BLOCK_PORTS):
        with socket.socket(socket.AF_INET, kind) as s:
            if kind == socket.SOCK_STREAM:  # old connections do not count
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"no port from {port} on is free: end some of the programs that have them")
