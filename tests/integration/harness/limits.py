"""How patient the tests are, and how far they go."""

import os

# A sanitizer or valgrind slows the program: the factor by which time limits are relaxed.
SLOW = float(os.environ.get("GATEHOUSE_SLOW", "1"))
# The whole length: 2 GiB bodies, 200 kills. Otherwise shorter runs of the same.
LONG = os.environ.get("GATEHOUSE_LONG", "0") not in ("", "0")


def within(seconds):
    """A time limit, relaxed where the program is known to be slowed."""
    return seconds * SLOW
