"""What each request is, what its origin does to it, and how it may end.

All of it is drawn from the storm's seed and the request's id, so that clients, origins and checks
know it without telling each other. No I/O here.
"""

import hashlib
import random
from dataclasses import dataclass

KIBIBYTE = 1024

# Upstream groups by the first segment of the path, and how often each is asked.
GROUPS = {"h1": 36, "h2": 24, "h1rough": 10, "h2rough": 10, "half": 8, "dead": 2, "switch": 10}
# What an origin does wrong. "strict" ones concern nobody but the request itself.
HTTP1_FAULTS = ["close", "reset", "garbage", "lengths", "cut", "cut by reset", "early", "flood",
                "extra", "stall"]
HTTP2_FAULTS = ["reset", "refused", "cut by reset", "early", "flood", "stall", "lengths"]
# These end a connection that other streams share.
ROUGH_HTTP2_FAULTS = ["close", "goaway", "goaway at once", "garbage", "cut"]
FAULT_SHARE, STALL_SHARE = 0.25, 0.02
IDEMPOTENT = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}
STATUSES = [200] * 12 + [201, 203, 404, 500, 204, 304]
SIZES = [(30, 0, 0), (50, 1, 2 * KIBIBYTE), (25, 2 * KIBIBYTE, 40 * KIBIBYTE),
         (8, 40 * KIBIBYTE, 150 * KIBIBYTE), (3, 150 * KIBIBYTE, 500 * KIBIBYTE)]
# Beyond it the second configuration refuses.
SMALL_BODY_BYTES_MAX = 64 * KIBIBYTE
SMALL_HEAD_BYTES_MAX = 8 * KIBIBYTE
# Attempts by configuration, and one more when a kept connection turns out to be closed.
ARRIVALS_MAX = 3
INTERIM_FLOOD = 40
SWITCHED_OFF = b"switched off"


@dataclass(frozen=True)
class Plan:
    id: str
    group: str
    method: str
    up_bytes: int
    up_chunked: bool
    up_trailers: bool
    expects: bool        # Expect: 100-continue
    padding: int         # bytes of a field that makes the head large
    takes_trailers: bool
    status: int
    down_bytes: int
    framing: str         # of the response: length, chunked, until close
    interim: int
    trailers: bool
    delay: float
    read_delay: float    # before the origin reads the body
    fault: str           # "" for none
    once: bool           # the fault strikes the first attempt only
    cut_at: int          # bytes of the body before a cut
    closes_silently: bool  # after the response, without having said so

    @property
    def http2(self):
        return self.group in ("h2", "h2rough")

    @property
    def path(self):
        return f"/{self.group}/{self.id}"

    @property
    def bodyless(self):
        return self.method == "HEAD" or self.status in (204, 304)

    def upload(self):
        return body_of(self.id, "up", self.up_bytes)

    def download(self):
        """Of the response as planned, whatever the fault."""
        if self.bodyless:
            return b""
        return body_of(self.id, "down", self.cut_at if is_short(self) else self.down_bytes)


def body_of(number, direction, count):
    """Every byte is a function of the id; a shorter one is the beginning of a longer one."""
    return hashlib.shake_128(f"{number}/{direction}".encode()).digest(count)


def tag_of(number, direction):
    """A trailer's value."""
    return hashlib.sha256(f"{number}/{direction}".encode()).hexdigest()[:16]


def drawn_size(rng):
    _, low, high = rng.choices(SIZES, [s[0] for s in SIZES])[0]
    return rng.randint(low, high)


def plan_of(seed, number):
    """The plan of the request `number`; those whose id begins with "p" are fit for pipelines."""
    rng = random.Random(f"{seed}/{number}")
    plain = number.startswith("p")
    group = rng.choices(list(GROUPS), list(GROUPS.values()))[0]
    method = rng.choices(["GET", "HEAD", "DELETE", "POST", "PUT"], [50, 6, 4, 28, 12])[0]
    if plain:
        method = "GET"
    uploads = method in ("POST", "PUT")
    up_chunked = uploads and rng.random() < 0.5
    status = rng.choice(STATUSES)
    framing = rng.choices(["length", "chunked", "until close"], [5, 4, 1])[0]
    fault, down_bytes = drawn_fault(rng, group), drawn_size(rng)
    if fault == "stall" and plain:
        fault = "reset" if group.startswith("h2") else "close"
    if fault.startswith("cut"):
        status, down_bytes = 200, max(down_bytes, 2)
        method = "GET" if method == "HEAD" else method
    if fault == "extra":
        # Arrives in one piece, so that the unasked bytes are never behind the next request.
        down_bytes, framing, status = min(down_bytes, 4000), "length", 200
    return Plan(
        id=number, group=group, method=method,
        up_bytes=drawn_size(rng) if uploads else 0, up_chunked=up_chunked,
        up_trailers=up_chunked and rng.random() < 0.3,
        expects=uploads and rng.random() < 0.15,
        padding=rng.choice([9, 12]) * KIBIBYTE if rng.random() < 0.03 and not plain else 0,
        takes_trailers=rng.random() < 0.5,
        status=status, down_bytes=down_bytes, framing=framing,
        interim=rng.choice([0] * 8 + [1, 3]), trailers=framing == "chunked" and rng.random() < 0.4,
        delay=rng.choice([0] * 6 + [0.005, 0.03, 0.1]),
        read_delay=rng.choice([0] * 8 + [0.01, 0.1]),
        fault=fault, once=rng.random() < 0.5, cut_at=rng.randrange(max(down_bytes, 1)),
        closes_silently=group == "h1rough" and rng.random() < 0.3)


def drawn_fault(rng, group):
    faults = {"h1": HTTP1_FAULTS, "h2": HTTP2_FAULTS, "h1rough": HTTP1_FAULTS,
              "h2rough": ROUGH_HTTP2_FAULTS + HTTP2_FAULTS}.get(group, [])
    fault = rng.choice(faults) if faults and rng.random() < FAULT_SHARE else ""
    if fault == "stall" and rng.random() > STALL_SHARE * 10:
        fault = ""
    return fault


def strikes(plan, arrival):
    """The fault of the plan's n-th arrival at the origin, counted from 1."""
    repeats = plan.fault in ("close", "reset", "refused", "goaway at once")
    return "" if repeats and plan.once and arrival > 1 else plan.fault


# ---- How it may end

# A response of the origin's, complete or visibly cut. Numbers are pages of the program's own.
WHOLE, CUT = "whole", "cut"


def allowed_ends(plan):
    """Whatever may come of it under some configuration, its client being well-behaved."""
    ends = {
        "": {WHOLE}, "early": {WHOLE}, "extra": {WHOLE},
        "close": {502}, "reset": {502}, "refused": {502, 503}, "goaway at once": {502, 503},
        "goaway": {WHOLE}, "garbage": {502}, "lengths": {502}, "flood": {502}, "stall": {504},
        "cut": {CUT, 502}, "cut by reset": {CUT, 502},
    }[plan.fault]
    ends = set(ends)
    if plan.fault in ("close", "reset", "refused", "goaway at once") and plan.once:
        ends.add(WHOLE)
    if plan.fault == "lengths" and plan.http2:
        ends = {WHOLE} if plan.bodyless else {CUT, 502}
    if is_short(plan):
        ends = {WHOLE, 502}
    if plan.bodyless and plan.fault.startswith("cut"):
        ends.add(WHOLE)
    if plan.group == "h2rough":  # what strikes others may strike it
        ends |= {WHOLE, CUT, 502, 503}
    if plan.group == "h1rough" and plan.up_bytes:
        ends.add(502)  # a body under way, or a large one, is not sent twice
    if plan.group == "half":
        ends.add(502)  # with the budget for retries spent
    if plan.group == "dead":
        ends = {502}
    if plan.up_bytes > SMALL_BODY_BYTES_MAX:
        ends.add(413)
        if plan.up_chunked:  # found out in the middle, when the answer may have begun
            ends.add(CUT)
    if plan.padding >= SMALL_HEAD_BYTES_MAX:
        ends.add(431)
    return ends


def is_short(plan):
    """Whether a cut looks like an end: a response without length that ends with a FIN."""
    return plan.fault == "cut" and plan.framing == "until close" and not plan.http2


def arrivals_max(plan):
    """How often the origin may see the plan's request."""
    if plan.group == "dead":
        return 0
    if plan.group == "h2rough":
        return ARRIVALS_MAX
    if plan.fault in ("close", "reset", "refused") or plan.group == "h1rough":
        return ARRIVALS_MAX if plan.method in IDEMPOTENT or plan.group == "h2" else 2
    return 1


# ---- Tunnels

@dataclass(frozen=True)
class TunnelPlan:
    id: str
    pieces: tuple   # sizes of what the client sends; each comes back before the next is sent
    fault: str      # "", refuse, cut, ends (the origin says its end and listens on)
    after: int      # bytes that the origin echoes before that

    @property
    def path(self):
        return f"/ws/{self.id}"


def tunnel_plan_of(seed, number):
    rng = random.Random(f"{seed}/{number}")
    pieces = tuple(rng.choice([1, 100, 5000, 30000]) for _ in range(rng.randint(1, 8)))
    return TunnelPlan(number, pieces, rng.choice([""] * 6 + ["refuse", "cut", "ends"]),
                      rng.randrange(sum(pieces)))
