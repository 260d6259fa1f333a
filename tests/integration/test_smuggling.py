"""Request smuggling: what public corpora know, with proof of what went upstream, byte for byte.

One worker, so that requests of different clients share upstream connections. After each attempt
another client asks: it has to get its own answer, and whatever reached the origin has to be the
canonical writing of what the attacker was answered for. Refusals by plain syntax are in
test_refusals, HTTP/2's in test_http2_conformance.
"""

import pytest
from harness.client import Client, Cut, request
from harness.http2_frames import Code, block, data, headers
from harness.origin import answer
from harness.wait import until

H = "Host: example.test\r\n"
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: example.test\r\n\r\n"
ENDED = "0\r\n\r\n"
LAST = request("GET", "/last", fields=[("Connection", "close")])
# Fields that the program writes itself, the same for every request of these clients.
OWN = {"host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via"}


@pytest.fixture(scope="module")
def world(http2_world):
    site = """
  [[site.route]]
  path = "/moved"
  redirect = "308 https://other.test/"

  [[site.route]]
  path = "/fixed"
  respond = "204"

"""
    world = http2_world("[limits]\nrequest_body = '1MiB'\n", workers=1,
                        more='request_headers = { set = { X-User = "proxy" } }\n' + site)
    world.echo = lambda r: answer(f"{r.method} {r.target}")
    return world


@pytest.fixture(autouse=True)
def fresh(world):
    world.fresh()
    world.origin.respond = world.echo


def attempt(world, *parts):
    """What is answered, [(status, body)], until the server closes; a last request makes it."""
    answers = []
    with Client(world.http, timeout=5) as client:
        client.send(b"".join(p if isinstance(p, bytes) else p.encode("latin-1")
                             for p in [*parts, LAST]))
        try:
            while client.buffer or client.more():
                response = client.response()
                answers.append((response.status, response.body.decode("latin-1")))
        except Cut:
            pass
    if answers[-1:] == [(200, "GET /last")]:
        answers.pop()
    return answers


def others_are_served(world):
    """Requests of somebody else get their own answers, on the connections that are kept."""
    with Client(world.http) as client:
        for i in range(3):
            assert client.get(f"/next{i}").body == f"GET /next{i}".encode()


def upstream(world):
    """What reached the origin before the others' requests, after proof that it is canonical."""
    for connection in world.origin.connections:
        assert connection.buffer == b"", f"left over at the origin: {connection.buffer!r}"
        mine = [r for r in world.origin.requests if r.connection == connection.number]
        assert connection.received == b"".join(written(r) for r in mine), connection.received
    return [r for r in world.origin.requests if not is_others(r)]


def is_others(seen):
    return seen.target.startswith(("/next", "/last"))


def written(seen):
    """A recorded request as bytes: its head as it came, its body by the one framing it names."""
    lengths, codings = seen.values("content-length"), seen.values("transfer-encoding")
    assert len(lengths) + len(codings) <= 1 and codings in ([], ["chunked"]), seen.head
    assert all(value.isdigit() for value in lengths), seen.head
    assert len(seen.values("host")) == 1 and not seen.values("upgrade"), seen.head
    assert b"\n" not in seen.head.replace(b"\r\n", b"") and b"\0" not in seen.head
    if not codings:
        return seen.head + seen.body
    # Chunks are cut anew as they come: for bodies as small as these, one each.
    trailers = "".join(f"{n}: {v}\r\n" for n, v in seen.trailers).encode("latin-1")
    chunk = b"%x\r\n%s\r\n" % (len(seen.body), seen.body) if seen.body else b""
    return seen.head + chunk + b"0\r\n" + trailers + b"\r\n"


# ---- CL.TE and TE.CL: a coding that one reads and the other does not

# The line as it is sent, in the forms of http-request-smuggler, smuggler and http-garden.
CODINGS = {
    "plain": "Transfer-Encoding: chunked",
    "no space": "Transfer-Encoding:chunked",
    "upper case": "TRANSFER-ENCODING: CHUNKED",
    "mixed case": "tRANSFER-eNCODING: cHuNkEd",
    "spaces around": "Transfer-Encoding: \t chunked \t ",
    "space before the colon": "Transfer-Encoding : chunked",
    "tab before the colon": "Transfer-Encoding\t: chunked",
    "two colons": "Transfer-Encoding:: chunked",
    "an equals sign": "Transfer-Encoding= chunked",
    "no colon": "Transfer-Encoding chunked",
    "folded after the colon": "Transfer-Encoding:\r\n chunked",
    "folded after the value": "Transfer-Encoding: chunked\r\n x",
    "folded under another": "X-A: b\r\n Transfer-Encoding: chunked",
    "folded by a tab": "Transfer-Encoding:\r\n\tchunked",
    "LF before the line": "X-A: b\nTransfer-Encoding: chunked",
    "CR before the line": "X-A: b\rTransfer-Encoding: chunked",
    "LF CR before the line": "X-A: b\n\rTransfer-Encoding: chunked",
    "LF before the colon": "Transfer-Encoding\n : chunked",
    "LF after the colon": "Transfer-Encoding:\nchunked",
    "CR in the value": "Transfer-Encoding: chun\rked",
    "CR at the end": "Transfer-Encoding: chunked\r",
    "LF at the end": "Transfer-Encoding: chunked\n",
    "NUL in the name": "Transfer\0-Encoding: chunked",
    "NUL after the value": "Transfer-Encoding: chunked\0",
    "NUL before the value": "Transfer-Encoding: \0chunked",
    "a space in the name": "Transfer Encoding: chunked",
    "a space before the name": " Transfer-Encoding: chunked",
    "a vertical tab before": "Transfer-Encoding:\x0bchunked",
    "a vertical tab after": "Transfer-Encoding: chunked\x0b",
    "a form feed": "Transfer-Encoding:\x0cchunked",
    "a backspace": "Transfer-Encoding: chunked\x08",
    "DEL": "Transfer-Encoding: chunked\x7f",
    "a no-break space after": "Transfer-Encoding: chunked\xa0",
    "a no-break space before": "Transfer-Encoding:\xa0chunked",
    "0xff after": "Transfer-Encoding: chunked\xff",
    "0xff in the name": "Transfer-Encoding\xff: chunked",
    "an accent in the name": "Tr\xe0nsfer-Encoding: chunked",
    "an accent in the value": "Transfer-Encoding: ch\xfcnked",
    "a wide letter": "Transfer-Encoding: \xef\xbd\x83hunked",
    "an escape": "Transfer-%45ncoding: chunked",
    "an escape in the value": "Transfer-Encoding: %63hunked",
    "an underscore": "Transfer_Encoding: chunked",
    "a name with more before": "X-Transfer-Encoding: chunked",
    "a name with more after": "Transfer-Encoding-X: chunked",
    "Content-Encoding": "Content-Encoding: chunked",
    "Transfer-Coding": "Transfer-Coding: chunked",
    "TE": "TE: chunked",
    "in double quotes": 'Transfer-Encoding: "chunked"',
    "in single quotes": "Transfer-Encoding: 'chunked'",
    "a parameter": "Transfer-Encoding: chunked;q=1",
    "a comma behind": "Transfer-Encoding: chunked,",
    "a comma before": "Transfer-Encoding: ,chunked",
    "a list that ends with it": "Transfer-Encoding: cow, chunked",
    "a list that begins with it": "Transfer-Encoding: chunked, cow",
    "a list of itself": "Transfer-Encoding: chunked, chunked",
    "a list with identity": "Transfer-Encoding: chunked, identity",
    "identity before": "Transfer-Encoding: identity, chunked",
    "identity first": "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "identity second": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "nonsense first": "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    "nonsense second": "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    "empty first": "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
    "empty second": "Transfer-Encoding: chunked\r\nTransfer-Encoding:",
    "twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "twice in different cases": "Transfer-encoding: chunked\r\ntransfer-Encoding: chunked",
    "named in Connection": "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    "a prefix of it": "Transfer-Encoding: chunk",
    "more than it": "Transfer-Encoding: chunkedx",
    "a word before": "Transfer-Encoding: x chunked",
    "a word after": "Transfer-Encoding: chunked x",
    "a colon before": "Transfer-Encoding: :chunked",
    "brackets": "Transfer-Encoding: [chunked]",
    "a backslash": "Transfer\\-Encoding: chunked",
    "an empty value": "Transfer-Encoding:",
    "very long": "Transfer-Encoding: " + " " * 4000 + "chunked",
}
UNDERSTOOD = {"plain", "no space", "upper case", "mixed case", "spaces around", "very long",
              "named in Connection"}
# Ordinary fields of other names: a body has its Content-Length, or there is none.
OTHER_FIELDS = {"an underscore", "a name with more before", "a name with more after",
                "Content-Encoding", "Transfer-Coding", "TE", "an escape"}


@pytest.mark.parametrize("form", CODINGS)
def test_a_coding_is_understood_or_refused_with_and_without_a_length(world, form):
    line = CODINGS[form] + "\r\n"
    head = "POST /a HTTP/1.1\r\n" + H
    body = ENDED + SMUGGLED
    length = f"Content-Length: {len(body)}\r\n"
    short = "Content-Length: 4\r\n"
    chunk = f"{len(SMUGGLED):x}\r\n{SMUGGLED}\r\n{ENDED}"
    for what, text in {"CL.TE": head + length + line + "\r\n" + body,
                       "TE.CL": head + line + length + "\r\n" + body,
                       "TE.CL, short": head + line + short + "\r\n" + chunk,
                       "CL.TE, short": head + short + line + "\r\n" + chunk}.items():
        answers = attempt(world, text)
        if form not in OTHER_FIELDS:
            assert [status for status, _ in answers] in ([400], [501]), (what, answers)
            assert world.origin.heads == [], what
        else:
            assert answers[0] == (200, "POST /a"), (what, answers)
            # By the short length the rest is this client's next request, and answered to it alone.
            mine = [(200, "GET /smuggled")] if "short" in what else []
            assert answers[1:1 + len(mine)] == mine, (what, answers)
            assert all(status == 400 for status, _ in answers[1 + len(mine):]), (what, answers)
        others_are_served(world)
        assert all(r.target == "/a" or "short" in what for r in upstream(world))
        world.origin.heads.clear()
    alone = attempt(world, head + line + "\r\n" + ENDED + SMUGGLED)
    if form in UNDERSTOOD:
        assert alone == [(200, "POST /a"), (200, "GET /smuggled")], "two requests, two answers"
    elif form in OTHER_FIELDS:
        assert [status for status, _ in alone] == [200, 400], "no body, then no request"
    else:
        assert [status for status, _ in alone] in ([400], [501]), alone
    others_are_served(world)
    upstream(world)


LENGTHS = {
    "zeros before": ("0004", True), "spaces around": (" \t4 \t", True),
    "a plus": ("+4", False), "a minus": ("-4", False), "minus zero": ("-0", False),
    "hexadecimal": ("0x4", False), "an exponent": ("4e0", False), "a fraction": ("4.0", False),
    "an underscore": ("0_4", False), "a quote": ('"4"', False), "a comma": ("4,", False),
    "a comma before": (",4", False), "a list": ("4, 4", False), "a semicolon": ("4;x", False),
    "NUL": ("4\0", False), "a vertical tab": ("\x0b4", False), "a no-break space": ("4\xa0", False),
    "a word": ("4 x", False), "wide digits": ("\xef\xbc\x94", False), "empty": ("", False),
    "2^64 and 4": ("18446744073709551620", False), "2^63": ("9223372036854775808", False),
    "another": ("4\r\nContent-Length: 5", False),
    "another before": ("5\r\ncontent-length: 4", False),
    "folded": ("\r\n 4", False), "another by LF": ("4\nContent-Length: 5", False),
}


@pytest.mark.parametrize("form", LENGTHS)
def test_a_length_is_understood_or_refused(world, form):
    value, understood = LENGTHS[form]
    answers = attempt(world, "POST /a HTTP/1.1\r\n" + H, f"Content-Length:{value}\r\n\r\nbody",
                      SMUGGLED)
    if understood:
        assert answers == [(200, "POST /a"), (200, "GET /smuggled")]
        assert [r.body for r in upstream(world)] == [b"body", b""]
    elif form in ("2^63",):
        assert [status for status, _ in answers] in ([400], [413])
    else:
        assert [status for status, _ in answers] == [400]
    if not understood:
        assert world.origin.heads == []
    others_are_served(world)
    upstream(world)


# ---- Chunk syntax (TERM.EXT, EXT.TERM and their like)

CHUNKS = {
    "a space behind the size": ("3 \r\nabc\r\n0\r\n\r\n", None),
    "a tab behind the size": ("3\t\r\nabc\r\n0\r\n\r\n", None),
    "an empty extension": ("3;\r\nabc\r\n0\r\n\r\n", None),
    "a quoted extension": ('3;a="b;c"\r\nabc\r\n0\r\n\r\n', b"abc"),
    "an extension of the last chunk": ("3\r\nabc\r\n0;a=b\r\n\r\n", b"abc"),
    "upper case digits": ("A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    "zeros before": ("0003\r\nabc\r\n000\r\n\r\n", b"abc"),
    "LF in an extension": ("3;a\nabc\r\n0\r\n\r\n", False),
    "LF in a quoted extension": ('3;a="\n"\r\nabc\r\n0\r\n\r\n', False),
    "CR LF in a quoted extension": ('3;a="\r\n"\r\nabc\r\n0\r\n\r\n', False),
    "CR in an extension": ("3;a\rb\r\nabc\r\n0\r\n\r\n", False),
    "CR CR LF": ("3\r\r\nabc\r\n0\r\n\r\n", False),
    "LF CR": ("3\n\rabc\r\n0\r\n\r\n", False),
    "CR alone": ("3\rabc\r\n0\r\n\r\n", False),
    "two bytes for the data's end": ("3\r\nabcXX0\r\n\r\n", False),
    "CR X for the data's end": ("3\r\nabc\rX0\r\n\r\n", False),
    "an empty line before a size": ("3\r\nabc\r\n\r\n0\r\n\r\n", False),
    "a comma": ("3,0\r\nabc\r\n0\r\n\r\n", False),
    "an underscore": ("0_3\r\nabc\r\n0\r\n\r\n", False),
    "a vertical tab": ("\x0b3\r\nabc\r\n0\r\n\r\n", False),
    "NUL behind the size": ("3\0\r\nabc\r\n0\r\n\r\n", False),
    "a last chunk with 0x": ("3\r\nabc\r\n0x0\r\n\r\n", False),
    "a last chunk with a minus": ("3\r\nabc\r\n-0\r\n\r\n", False),
    "a size that wraps at 64 bits": ("10000000000000003\r\nabc\r\n0\r\n\r\n", False),
    "an extension without an end": ("3;" + "a" * 70000, False),
    "a request for a trailer": ("3\r\nabc\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n", False),
    "a trailer that begins with a space": ("3\r\nabc\r\n0\r\n X-A: b\r\n\r\n", False),
    "CR in a trailer": ("3\r\nabc\r\n0\r\nX-A: b\rX-B: c\r\n\r\n", False),
    "NUL in a trailer": ("3\r\nabc\r\n0\r\nX-A: b\0\r\n\r\n", False),
    "a trailer's name with a space": ("3\r\nabc\r\n0\r\nX-A : b\r\n\r\n", False),
    "trailers without an end": ("3\r\nabc\r\n0\r\n" + "X-A: b\r\n" * 9000, False),
}


@pytest.mark.parametrize("form", CHUNKS)
def test_chunks_are_written_anew_or_refused(world, form):
    """None: either is right, but nothing of how the client wrote it may pass."""
    text, body = CHUNKS[form]
    answers = attempt(world, "POST /a HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\r\n\r\n",
                      text, SMUGGLED)
    whole = [r for r in world.origin.requests if r.complete]
    if body is None:
        body = b"abc" if answers[0][0] == 200 else False
    if body is False:
        assert [status for status, _ in answers] in ([400], [431], [408]), answers
        assert whole == [], "it never looks whole"
    else:
        assert answers == [(200, "POST /a"), (200, "GET /smuggled")]
        assert whole[0].body == body and whole[0].trailers == []
        upstream(world)
    assert b"smuggled" not in world.origin.bytes_received or body is not False
    others_are_served(world)
    cut = {r.connection for r in world.origin.requests if not r.complete}
    assert not cut & {r.connection for r in world.origin.requests if r.complete}


# ---- Trailers

DROPPED_TRAILERS = [
    "Content-Length: 5", "Transfer-Encoding: chunked", "Host: evil.test", "Trailer: X-A",
    "Connection: close", "Keep-Alive: timeout=1", "Upgrade: h2c", "TE: trailers",
    "Authorization: Basic Og==", "Proxy-Authorization: Basic Og==", "Cookie: a=b",
    "Set-Cookie: a=b", "Content-Type: text/html", "Content-Encoding: gzip",
    "Content-Range: bytes 0-1/2", "Expect: 100-continue", "Max-Forwards: 0",
    "Cache-Control: no-store", "Range: bytes=0-1", "Forwarded: for=6.6.6.6",
    "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "Via: 1.1 evil",
]


@pytest.mark.parametrize("line", DROPPED_TRAILERS)
def test_trailers_that_frame_route_or_authenticate_are_dropped(world, line):
    answers = attempt(world, "POST /a HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\r\n\r\n"
                      f"3\r\nabc\r\n0\r\nX-First: 1\r\n{line}\r\nX-Last: 2\r\n\r\n")
    assert answers == [(200, "POST /a")]
    assert upstream(world)[-1].trailers == [("X-First", "1"), ("X-Last", "2")]
    others_are_served(world)
    upstream(world)


@pytest.mark.parametrize("line", [
    line for line in DROPPED_TRAILERS
    if line.split(":")[0] not in ("Expect", "Max-Forwards", "Range", "Via")])
def test_trailers_of_an_answer_are_dropped_too(world, line):
    world.origin.respond = lambda r: (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-First: 1\r\n"
        f"{line}\r\n\r\n")
    with Client(world.http) as client:
        assert client.get(fields=[("TE", "trailers")]).trailers in ([("X-First", "1")], [])


# ---- Hop-by-hop abuse

NAMED = ["Content-Length", "Transfer-Encoding", "Host", "X-Forwarded-For", "X-Forwarded-Proto",
         "X-Forwarded-Host", "Via", "X-User", "close, Content-Length", "Content-Length, close",
         "keep-alive, Host", ", ,Content-Length", "content-length", "connection", "*", ""]


@pytest.mark.parametrize("named", NAMED)
def test_connection_names_away_nothing_that_is_ours(world, named):
    for framing, body in (("Content-Length: 4\r\n", "body"),
                          ("Transfer-Encoding: chunked\r\n", "4\r\nbody\r\n0\r\n\r\n")):
        answers = attempt(world, "POST /a HTTP/1.1\r\n" + H, f"Connection: {named}\r\n", framing,
                          "\r\n", body)
        assert answers in ([(200, "POST /a")], [(400, answers[0][1])])
        if answers[0][0] == 400:
            continue
        seen = upstream(world)[-1]
        assert seen.body == b"body" and seen.value("host") == "example.test"
        assert {n.lower() for n, _ in seen.fields} >= OWN
        assert seen.value("x-forwarded-for") == "127.0.0.1" and seen.value("x-user") == "proxy"
    others_are_served(world)
    upstream(world)


def test_connection_in_several_lines_drops_what_each_names(world):
    attempt(world, "GET /a HTTP/1.1\r\n" + H, "Connection: X-One\r\nX-One: 1\r\nX-Two: 2\r\n"
            "connection: keep-alive,\tx-two\r\nX-Three: 3\r\n\r\n")
    names = {n.lower() for n, _ in upstream(world)[-1].fields}
    assert not names & {"x-one", "x-two", "connection"} and "x-three" in names


# ---- Upgrade smuggling

UPGRADES = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"),
    "h2c without its settings": "Connection: Upgrade\r\nUpgrade: h2c\r\n",
    "h2c unnamed": "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    "h2c in mixed case": "Connection: uPgRaDe\r\nUpgrade: H2C\r\n",
    "h2c behind websocket": "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
    "h2c before websocket": "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n",
    "two fields": "Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
    "h2": "Connection: Upgrade\r\nUpgrade: h2\r\n",
    "TLS": "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n",
    "a proxy's": "Connection: Upgrade\r\nUpgrade: connect-tcp\r\n",
}


@pytest.mark.parametrize("form", UPGRADES)
def test_an_upgrade_reaches_no_origin_and_opens_no_tunnel(world, form):
    """The origin would grant it: what follows must not reach it."""
    def script(connection):
        while (seen := connection.request()) is not None:
            if seen.values("upgrade"):
                connection.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                                f"Upgrade: {seen.values('upgrade')[0]}\r\n\r\n")
            else:
                connection.send(world.echo(seen))
    world.origin.script = script
    answers = attempt(world, "GET /a HTTP/1.1\r\n" + H, UPGRADES[form], "\r\n", "RAW BYTES\r\n\r\n")
    assert [status for status, _ in answers] in ([200, 400], [400]), answers
    assert b"RAW BYTES" not in world.origin.bytes_received
    assert b"h2c" not in world.origin.bytes_received.lower()
    others_are_served(world)
    upstream(world)


# ---- What is left over when a request is answered before its body has come

@pytest.mark.parametrize("target", ["/moved", "/fixed", "/../x", "/a"])
@pytest.mark.parametrize("framing", ["length", "chunked", "too long"])
def test_an_unread_body_is_never_the_next_request(world, target, framing):
    host = H if target != "/a" else "Host: unknown.invalid\r\n"
    line = {"length": f"Content-Length: {len(SMUGGLED)}\r\n\r\n",
            "chunked": "Transfer-Encoding: chunked\r\n\r\n",
            "too long": "Content-Length: 99999999\r\n\r\n"}[framing]
    answers = attempt(world, f"POST {target} HTTP/1.1\r\n", host, line, SMUGGLED)
    assert len(answers) == 1 and answers[0][0] in (204, 308, 400, 404, 413), answers
    assert world.origin.heads == []
    others_are_served(world)


@pytest.mark.parametrize("form", ["100-continue", "100-Continue", "100-continue, x", "x",
                                  "y 100-continue", "", "100-continue\r\nExpect: 100-continue"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_expectation_changes_no_framing(world, form, method):
    """With a body that comes at once, and an origin that never says 100."""
    answers = attempt(world, f"{method} /a HTTP/1.1\r\n", H, f"Expect: {form}\r\n",
                      f"Content-Length: {len(SMUGGLED)}\r\n\r\n", SMUGGLED)
    assert answers in ([(200, f"{method} /a")], [(417, answers[0][1])], [(400, answers[0][1])])
    others_are_served(world)
    assert [(r.target, r.body) for r in upstream(world)] in ([("/a", SMUGGLED.encode())], [])


def test_an_answer_before_the_body_ends_both_connections(world):
    """The origin answers at the head and would take the body for requests."""
    def script(connection):
        while (seen := connection.head()) is not None:
            connection.origin.requests.append(seen)
            connection.send(world.echo(seen))
    world.origin.script = script
    with Client(world.http) as client:
        client.send("POST /a HTTP/1.1\r\n" + H + "Content-Length: 500\r\n\r\n")
        response = client.response()
        assert response.body == b"POST /a"
        try:
            client.send(SMUGGLED)
        except OSError:
            pass
        assert client.closed()
    others_are_served(world)
    assert [r.target for r in world.origin.requests][:1] == ["/a"]
    assert b"smuggled" not in world.origin.bytes_received
    answered = {r.connection for r in world.origin.requests if r.target == "/a"}
    assert len(answered) == 1
    assert not answered & {r.connection for r in world.origin.requests if r.target != "/a"}


@pytest.mark.parametrize("framing", ["CL.0", "TE.0"])
def test_an_origin_that_answers_a_body_as_a_request_poisons_nobody(world, framing):
    def script(connection):
        while (seen := connection.head()) is not None:
            connection.origin.requests.append(seen)
            if seen.target != "/a":
                connection.send(world.echo(seen))
                continue
            connection.send(world.echo(seen) + answer("poison"))
            connection.closed_by_peer()
            return
    world.origin.script = script
    body = {"CL.0": f"Content-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}",
            "TE.0": f"Transfer-Encoding: chunked\r\n\r\n{len(SMUGGLED):x}\r\n{SMUGGLED}\r\n{ENDED}"}
    answers = attempt(world, "POST /a HTTP/1.1\r\n" + H, body[framing])
    assert answers == [(200, "POST /a")]
    others_are_served(world)
    poisoned = world.origin.requests[0].connection
    others = {r.connection for r in world.origin.requests if r.target.startswith("/next")}
    assert poisoned not in others


# ---- HTTP/2 to HTTP/1.1

def fields(method="POST", path="/a", more=(), authority="example.test", scheme="http"):
    return [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path),
            *more]


INJECTED = {
    "a length below the body": (fields(more=[("content-length", "0")]), SMUGGLED),
    "a length inside the body": (fields(more=[("content-length", "5")]), "12345" + SMUGGLED),
    "a length past the body": (fields(more=[("content-length", "500")]), SMUGGLED),
    "two lengths": (fields(more=[("content-length", "0"), ("content-length", "50")]), SMUGGLED),
    "a coding": (fields(more=[("transfer-encoding", "chunked")]), ENDED + SMUGGLED),
    "a coding by a line": (fields(more=[("x-a", "b\r\ntransfer-encoding: chunked")]),
                           ENDED + SMUGGLED),
    "a coding by a name": (fields(more=[("x-a: b\r\ntransfer-encoding", "chunked")]),
                           ENDED + SMUGGLED),
    "a coding by LF": (fields(more=[("x-a", "b\ntransfer-encoding: chunked")]), ENDED + SMUGGLED),
    "a coding by CR": (fields(more=[("x-a", "b\rtransfer-encoding: chunked")]), ENDED + SMUGGLED),
    "an upper case coding": (fields(more=[("Transfer-Encoding", "chunked")]), ENDED + SMUGGLED),
    "a connection": (fields(more=[("connection", "close")]), SMUGGLED),
    "an upgrade": (fields(more=[("upgrade", "h2c")]), SMUGGLED),
    "a request in the path": (fields(path="/a HTTP/1.1\r\nHost: x\r\n\r\nGET /smuggled"), ""),
    "a space in the path": (fields(path="/a HTTP/1.1"), ""),
    "a tab in the path": (fields(path="/a\tHTTP/1.1"), ""),
    "a request in the method": (fields(method="GET /smuggled HTTP/1.1\r\nX: x"), ""),
    "a space in the method": (fields(method="GET /smuggled"), ""),
    "a line in the authority": (fields(authority="example.test\r\nX-A: b"), ""),
    "a path in the authority": (fields(authority="example.test/x"), ""),
    "a space in the authority": (fields(authority="example.test x"), ""),
    "a line in the scheme": (fields(scheme="http\r\nX-A: b"), ""),
    "a path in the scheme": (fields(scheme="http://evil.test/x?"), ""),
    "another host": (fields(more=[("host", "other.test")]), SMUGGLED),
    "two hosts": (fields(more=[("host", "example.test"), ("host", "other.test")]), SMUGGLED),
    "a line in a cookie": (fields(more=[("cookie", "a=b\r\nX-A: b")]), SMUGGLED),
    "a colon in a name": (fields(more=[("x-a:b", "c")]), SMUGGLED),
    "a pseudo-field behind the others": (fields(more=[("x-a", "b"), (":path", "/smuggled")]), ""),
    "an unknown pseudo-field": (fields(more=[(":x", "b")]), ""),
}


@pytest.mark.parametrize("form", INJECTED)
def test_http2_injects_nothing(world, form):
    pseudo, body = INJECTED[form]
    with world.connect(plain=True) as c:
        # In one piece: a length of 0 would be answered before a body that came later.
        c.send(headers(1, block(pseudo), end=not body),
               data(1, body.encode(), end=True) if body else b"")
        c.until(lambda: c.over(1) or c.goaway, "an answer or a reset")
        response = c.response_of(1)
        assert c.goaway or c.reset_of(1) is not None or 400 <= response.status < 500
    others_are_served(world)
    # A length of 0 is a whole request, before anything contradicts it.
    assert all(r.value("content-length") == "0" and not r.body for r in world.origin.requests
               if r.complete and not is_others(r))
    assert b"X-A" not in world.origin.bytes_received
    assert not any(r.target == "/smuggled" for r in world.origin.heads)


def test_a_body_behind_the_answer_to_its_length_of_0_reaches_nobody(world):
    pseudo, body = INJECTED["a length below the body"]
    with world.connect(plain=True) as c:
        c.send(headers(1, block(pseudo), end=False))
        assert c.expect_response(1).status == 200
        c.send(data(1, body.encode(), end=True), headers(3, block(fields("GET", "/own"))))
        assert c.expect_response(3).body == b"GET /own"
        c.until(lambda: c.reset_of(1) is not None, "the reset of what broke its length")
        assert c.reset_of(1) == Code.PROTOCOL_ERROR
    others_are_served(world)
    assert [(r.target, bytes(r.body)) for r in upstream(world)] == [("/a", b""), ("/own", b"")]


def test_http2_trailers_frame_and_route_nothing(world):
    with world.connect(plain=True) as c:
        c.send(headers(1, block(fields()), end=False), data(1, b"abc"))
        lines = [line.split(": ") for line in DROPPED_TRAILERS
                 if line.split(":")[0] not in ("Connection", "Keep-Alive", "Upgrade", "TE",
                                               "Transfer-Encoding")]
        c.send(headers(1, block([(n.lower(), v) for n, v in lines] + [("x-last", "1")])))
        try:
            assert c.expect_response(1).status == 200
            assert upstream(world)[-1].trailers == [("x-last", "1")]
        except Exception:  # noqa: BLE001  a reset is right as well
            assert c.reset_of(1) in (Code.PROTOCOL_ERROR, Code.CANCEL), c.what_came()
    others_are_served(world)


def test_pipelined_requests_of_every_kind_keep_their_answers(world):
    kinds = [request("GET", "/0"), request("POST", "/1", body=SMUGGLED.encode()),
             (request("POST", "/2", fields=[("Transfer-Encoding", "chunked")])
              + f"{len(SMUGGLED):x}\r\n{SMUGGLED}\r\n{ENDED}".encode()),
             request("GET", "/3", body=b"fat"), request("DELETE", "/4"),
             request("OPTIONS", "/5", body=b"")]
    answers = attempt(world, *kinds * 3)
    wanted = ["GET /0", "POST /1", "POST /2", "GET /3", "DELETE /4", "OPTIONS /5"] * 3
    assert answers == [(200, text) for text in wanted]
    others_are_served(world)
    assert len(upstream(world)) == len(wanted)
