"""A peer that says exactly what a test wants: bytes on a blocking socket, with a deadline on every read."""
import socket
import struct

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
DEADLINE = 10   # seconds for whatever must come

REQUEST_LINES = [
    "GET / HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
]


def request(*more, lines=None):
    """An opening handshake (RFC 6455 section 1.3) with further header lines."""
    return ("\r\n".join([*(lines or REQUEST_LINES), *more]) + "\r\n\r\n").encode("latin-1")


def frame(opcode, payload=b"", fin=True, mask=b"\x37\xfa\x21\x3d", first=None, length=None):
    """A masked client frame; `first` overrides the first byte, `length` announces something else than what follows."""
    if isinstance(payload, str):
        payload = payload.encode()
    announced = len(payload) if length is None else length
    bits = 0x80 if mask else 0
    head = bytes([first if first is not None else (0x80 if fin else 0) | opcode])
    if announced < 126 and length is None:
        head += bytes([bits | announced])
    elif announced < 1 << 16 and length is None:
        head += struct.pack("!BH", bits | 126, announced)
    else:
        head += struct.pack("!BQ", bits | 127, announced)
    if not mask:
        return head + payload
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def close(code, reason=b""):
    return frame(CLOSE, struct.pack("!H", code) + reason)


class Peer:
    """A raw connection; `with` closes it."""

    def __init__(self, echo, hello=None):
        self.socket = socket.create_connection(echo.address, timeout=DEADLINE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        if hello is None:
            self.send(request())
            status, head, _ = self.response()
            assert status == 101, head
        elif hello:
            self.send(hello)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        """Reads on; False at the end of the stream (a reset counts as one)."""
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            return False
        self.buffer += data
        return bool(data)

    def take(self, count):
        while len(self.buffer) < count:
            assert self.more(), f"the stream ended with {self.buffer!r}, {count} bytes were due"
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def rest(self):
        """Everything up to the end of the stream."""
        while self.more():
            pass
        taken, self.buffer = self.buffer, b""
        return taken

    def response(self):
        """The head of the answer to a handshake: status, lower-case head text, body so far (all of it unless 101)."""
        while b"\r\n\r\n" not in self.buffer:
            assert self.more(), f"the stream ended inside the head: {self.buffer!r}"
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        status = int(head.split(b" ", 2)[1])
        body = b"" if status == 101 else self.rest()
        return status, head.decode("latin-1").lower(), body

    def frame(self):
        """The next frame as (opcode, payload); servers neither mask nor, here, fragment."""
        first, second = self.take(2)
        assert first & 0x70 == 0 and second & 0x80 == 0, "reserved bits or a mask from a server"
        length = second & 0x7F
        if length == 126:
            length, = struct.unpack("!H", self.take(2))
        elif length == 127:
            length, = struct.unpack("!Q", self.take(8))
        assert first & 0x80, "a fragment"
        return first & 0x0F, self.take(length)

    def close_code(self):
        """The code of the Close that comes next; the end of the stream must follow it once it is answered."""
        opcode, payload = self.frame()
        assert opcode == CLOSE, f"opcode {opcode} where a Close was due"
        try:
            self.send(frame(CLOSE, payload))
        except ConnectionError:
            pass
        assert self.rest() == b""
        return struct.unpack("!H", payload[:2])[0] if payload else 1005

    def vanish(self):
        """A reset instead of an end: what a crashed or unplugged machine looks like, only sooner."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
