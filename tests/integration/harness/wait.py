"""Waiting for a condition, never for a time."""

import time

from harness.limits import within


def until(condition, what, seconds=10):
    """The first true value of `condition()`; fails naming `what` after `seconds`."""
    end = time.monotonic() + within(seconds)
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {within(seconds):.0f} s: {what}"
        time.sleep(0.01)


def stands_still(value, seconds=0.3):
    """Whether a counter, kept in a list, stays as it is for that long."""
    before = value[0]
    time.sleep(seconds)
    return value[0] == before
