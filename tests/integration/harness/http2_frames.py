"""HTTP/2 frames and HPACK fields as bytes, the wrong ones too.

Libraries refuse to write nonsense; here every part of a frame may be any value. What the server
sends is read by hyperframe and hpack, which are strict.
"""

import enum

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_BYTES_MAX = 16384  # SETTINGS_MAX_FRAME_SIZE until the peer says otherwise
WINDOW_BYTES = 65535     # of a stream and the connection until the peer says otherwise
WINDOW_BYTES_MAX = 2**31 - 1


class Kind(enum.IntEnum):
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9
    PRIORITY_UPDATE = 0x10


class Flag(enum.IntFlag):
    END_STREAM = 0x1
    ACK = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


class Setting(enum.IntEnum):
    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6
    ENABLE_CONNECT_PROTOCOL = 8
    NO_RFC7540_PRIORITIES = 9


class Code(enum.IntEnum):
    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


def code_name(code):
    return Code(code).name if code in set(Code) else str(code)


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    """Any frame; `length` lies about the payload's."""
    length = len(payload) if length is None else length
    return (length.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload)


def padded(payload, pad):
    """The pad length in front and zeros behind."""
    return bytes([pad]) + payload + bytes(pad)


def data(stream, payload=b"", end=False, pad=None):
    flags = Flag.END_STREAM if end else 0
    if pad is not None:
        flags, payload = flags | Flag.PADDED, padded(payload, pad)
    return frame(Kind.DATA, flags, stream, payload)


def headers(stream, block, end=True, end_headers=True, pad=None, priority=None):
    """`priority` is the payload of a PRIORITY frame, five bytes."""
    flags = (Flag.END_STREAM if end else 0) | (Flag.END_HEADERS if end_headers else 0)
    if priority is not None:
        flags, block = flags | Flag.PRIORITY, priority + block
    if pad is not None:
        flags, block = flags | Flag.PADDED, padded(block, pad)
    return frame(Kind.HEADERS, flags, stream, block)


def continuation(stream, block=b"", end_headers=True):
    return frame(Kind.CONTINUATION, Flag.END_HEADERS if end_headers else 0, stream, block)


def dependency(on=0, weight=16, exclusive=False):
    return (on | (exclusive << 31)).to_bytes(4, "big") + bytes([weight - 1])


def priority(stream, on=0, weight=16, exclusive=False):
    return frame(Kind.PRIORITY, 0, stream, dependency(on, weight, exclusive))


def rst_stream(stream, code=Code.CANCEL):
    return frame(Kind.RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def settings(values=(), ack=False, stream=0):
    """`values` are pairs: the same setting may come twice."""
    values = values.items() if isinstance(values, dict) else values
    payload = b"".join(k.to_bytes(2, "big") + v.to_bytes(4, "big") for k, v in values)
    return frame(Kind.SETTINGS, Flag.ACK if ack else 0, stream, payload)


def push_promise(stream, promised, block):
    return frame(Kind.PUSH_PROMISE, Flag.END_HEADERS, stream, promised.to_bytes(4, "big") + block)


def ping(payload=b"gatehous", ack=False, stream=0):
    return frame(Kind.PING, Flag.ACK if ack else 0, stream, payload)


def goaway(last=0, code=Code.NO_ERROR, debug=b"", stream=0):
    return frame(Kind.GOAWAY, 0, stream, last.to_bytes(4, "big") + code.to_bytes(4, "big") + debug)


def window_update(stream, increment):
    return frame(Kind.WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def priority_update(prioritized, value, stream=0):
    return frame(Kind.PRIORITY_UPDATE, 0, stream, prioritized.to_bytes(4, "big") + value)


# ---- HPACK

def integer(value, prefix_bits, pattern=0):
    """RFC 7541 section 5.1; `pattern` fills the bits before the prefix."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes([pattern | value])
    octets, value = [pattern | most], value - most
    while value >= 128:
        octets.append(value % 128 + 128)
        value //= 128
    return bytes([*octets, value])


def huffman(text):
    return HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(as_bytes(text))


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode("latin-1")


def string(text, coded=False):
    text = huffman(text) if coded else as_bytes(text)
    return integer(len(text), 7, 0x80 if coded else 0) + text


def indexed(index):
    return integer(index, 7, 0x80)


def literal(name, value, pattern=0x00, prefix_bits=4, coded=False):
    """A field that no table knows; `name` may be the index of one in a table."""
    start = (integer(name, prefix_bits, pattern) if isinstance(name, int)
             else bytes([pattern]) + string(name, coded))
    return start + string(value, coded)


def literal_kept(name, value, coded=False):
    """With incremental indexing: goes into the dynamic table."""
    return literal(name, value, 0x40, 6, coded)


def literal_never(name, value, coded=False):
    return literal(name, value, 0x10, 4, coded)


def table_size(size):
    return integer(size, 5, 0x20)


def block(fields):
    """Needs no table, so that nothing on the connection depends on it."""
    return b"".join(literal(name, value) for name, value in fields)
