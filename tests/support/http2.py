"""As much of HTTP/2 (RFC 9113) as it takes to annoy a server: pings without end, and answers that are not taken."""

import socket
import struct
import time
from typing import Final

START: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
"""The preface, and settings that set nothing."""
_NO_WINDOW: Final = START[:-9] + b"\x00\x00\x06\x04\x00\x00\x00\x00\x00" + b"\x00\x04\x00\x00\x00\x00"
"""The preface, and settings by which nothing of a stream's data may be sent."""
_END_HEADERS, _END_STREAM = 0x4, 0x1
_PING: Final = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00epistrea"
_GOAWAY: Final = 7
_INITIAL_WINDOW_SIZE: Final = 4
_HEAD_BYTES: Final = 9


def ping_until_sent_away(connection: socket.socket, until: float = float("inf")) -> bytes | None:
    """Ping as fast as it is read, until the other end says that it is enough, or it is `until` by `time.monotonic`.

    Returns:
        What it says; empty when it ended the connection without a word, None when it said nothing in time.
    """
    received = b""
    try:
        connection.sendall(START)
        while time.monotonic() < until:
            connection.sendall(_PING * 100)
            received += (some := connection.recv(1 << 16))
            said, received = _goaway(received)
            if said is not None or not some:
                return said or b""
    except TimeoutError:
        return None
    except OSError:
        return b""
    return None


def call_without_room(connection: socket.socket, path: str, host: str, count: int) -> None:
    """Make so many unary gRPC calls with an empty request, whole, and give none of the answers room."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": host}
    fields |= {"te": "trailers", "content-type": "application/grpc"}
    head = b"".join(b"\0" + _string(name) + _string(value) for name, value in fields.items())
    frames = [_NO_WINDOW]
    for number in range(count):
        stream = 2 * number + 1
        frames += [_frame(0x1, _END_HEADERS, stream, head), _frame(0x0, _END_STREAM, stream, bytes(5))]
    connection.sendall(b"".join(frames))


def _string(text: str) -> bytes:
    """As HPACK has it, RFC 7541, when it is shorter than 127 bytes and not compressed."""
    return bytes([len(text)]) + text.encode()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def initial_window_bytes(connection: socket.socket) -> int | None:
    """How much of a stream a server lets come unread, as its settings say, which it sends first; None: they do not."""
    connection.sendall(START)
    head = connection.recv(_HEAD_BYTES, socket.MSG_WAITALL)
    length = struct.unpack(">I", b"\0" + head[:3])[0]
    pairs = struct.iter_unpack(">HI", connection.recv(length, socket.MSG_WAITALL))
    return dict(pairs).get(_INITIAL_WINDOW_SIZE)


def _goaway(received: bytes) -> tuple[bytes | None, bytes]:
    """What a GOAWAY frame among those received says, and what is left behind the last whole frame."""
    while len(received) >= _HEAD_BYTES:
        length, kind = struct.unpack(">I", b"\0" + received[:3])[0], received[3]
        if len(received) < _HEAD_BYTES + length:
            break
        if kind == _GOAWAY:
            return received[_HEAD_BYTES + 8 : _HEAD_BYTES + length], b""
        received = received[_HEAD_BYTES + length :]
    return None, received
