"""The other end of a connection: raw bytes on a blocking socket, as client or as server, with a deadline on every wait.

TLS is in secure.py, compression in deflate.py: neither is the engine's own."""
import base64
import functools
import hashlib
import re
import socket
import ssl
import struct

import secure
from deflate import Deflate

DEADLINE = 20   # seconds for whatever must come
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
OPCODES = {"cont": CONTINUATION, "text": TEXT, "binary": BINARY, "close": CLOSE, "ping": PING, "pong": PONG}
KINDS = {opcode: kind for kind, opcode in OPCODES.items()}
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
RSV1 = 0x40     # this message is compressed (RFC 7692 section 6)
NARROW = 4096   # bytes of the receive buffer of a peer that is to be slow


def accept_of(key):
    """The proof that a server has read the key (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return base64.b64encode(digest).decode()


def mask_with(key, payload):
    whole = (key * (len(payload) // 4 + 1))[:len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(whole)).to_bytes(len(payload))


def frame(opcode, payload=b"", *, masked, fin=True, first=None, announced=None):
    """A frame; `first` overrides its first byte, `announced` its length."""
    length = len(payload) if announced is None else announced
    bit = 0x80 if masked else 0
    head = bytes([first if first is not None else (0x80 if fin else 0) | opcode])
    if length < 126:
        head += bytes([bit | length])
    elif length < 1 << 16:
        head += struct.pack("!BH", bit | 126, length)
    else:
        head += struct.pack("!BQ", bit | 127, length)
    key = b"\x37\xfa\x21\x3d"
    return head + key + mask_with(key, payload) if masked else head + payload


class Listener:
    """Where a raw server waits for the program's clients; over TLS where it is said how."""

    def __init__(self, narrow=False, path=None, tls=None, address=("127.0.0.1", 0)):
        self.tls = tls
        self.socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.socket.settimeout(DEADLINE)
        if narrow:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
        self.socket.bind(path or address)
        self.socket.listen(64)
        self.port = 0 if path else self.socket.getsockname()[1]

    @classmethod
    def full(cls):
        """One whose queue is full: who connects now gets no answer at all."""
        listener = cls()
        listener.socket.listen(0)
        listener.waiting = socket.create_connection(("127.0.0.1", listener.port))
        return listener

    def accept(self):
        accepted, _ = self.socket.accept()
        return Peer(accepted, is_client=False, tls=self.tls)

    def close(self):
        self.socket.close()


class Peer:
    def __init__(self, connected, is_client, tls=None):
        connected.settimeout(DEADLINE)
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connected if tls is None else secure.over_tls(connected, is_client, **tls)
        self.is_client = is_client
        self.buffer = bytearray()
        self.request = ""       # a raw server: the head that came
        self.agreed = None      # the extensions, once the server has answered with some
        self.size = 0           # of the payload that came last, as it came

    @classmethod
    def connect(cls, address, narrow=False, tls=None, source=None):
        connecting = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        connecting.settimeout(DEADLINE)
        if narrow:
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
        if source:
            connecting.bind((source, 0))
        connecting.connect(address)
        return cls(connecting, is_client=True, tls=tls)

    # --- Bytes

    def send(self, data):
        self.socket.sendall(data)

    def try_send(self, data):
        """Sends to a peer that may be gone already."""
        try:
            self.socket.sendall(data)
        except (ConnectionError, ssl.SSLError):
            pass

    def more(self):
        """Reads on; False at the end of the stream (a reset counts as one, and the end of TLS)."""
        try:
            data = self.socket.recv(1 << 20)
        except (ConnectionError, ssl.SSLZeroReturnError):
            return False
        except TimeoutError:
            raise AssertionError(f"nothing came within {DEADLINE} s; until then: {bytes(self.buffer[:200])!r}") from None
        except ssl.SSLError as error:
            raise AssertionError(f"TLS failed: {error}") from None
        self.buffer += data
        return bool(data)

    def take(self, count):
        while len(self.buffer) < count:
            assert self.more(), f"the stream ended with {bytes(self.buffer[:200])!r}, {count} bytes were due"
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def rest(self):
        """Everything up to the end of the stream."""
        while self.more():
            pass
        taken = bytes(self.buffer)
        self.buffer.clear()
        return taken

    # --- HTTP

    def head(self):
        while b"\r\n\r\n" not in self.buffer:
            assert self.more(), f"the stream ended inside the head: {bytes(self.buffer)!r}"
        end = self.buffer.index(b"\r\n\r\n") + 4
        return self.take(end).decode("latin-1")

    def ask(self, *changes):
        """Sends an opening handshake with changes, as `method=POST`, `without=Upgrade`, `Name: value` (instead of a
        header of that name), `+Name: value` (beside it)."""
        method, target, version = "GET", "/", "1.1"
        headers = [("Host", "localhost"), ("Upgrade", "websocket"), ("Connection", "Upgrade"),
                   ("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Version", "13")]
        for change in changes:
            if header := re.fullmatch(r"(\+?)([^:=]+): ?(.*)", change, re.DOTALL):
                beside, name, value = header.groups()
                if not beside:
                    headers = [entry for entry in headers if entry[0].lower() != name.lower()]
                headers.append((name, value))
                continue
            key, value = change.split("=", 1)
            if key == "method":
                method = value
            elif key == "target":
                target = value
            elif key == "version":
                version = value
            elif key == "without":
                headers = [entry for entry in headers if entry[0].lower() != value.lower()]
            else:
                raise ValueError(f"an opening handshake has no {key}")
        lines = [f"{method} {target} HTTP/{version}", *(f"{name}: {value}" for name, value in headers)]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def read_request(self):
        self.request = self.head()

    def answer(self, *changes):
        """Answers a handshake with 101, or with `status=…`, and changes as in `ask`; `body=…` follows the head."""
        key = re.search(r"(?im)^sec-websocket-key: *(\S+)", self.request)[1]
        status, body = "101 Switching Protocols", ""
        headers = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept_of(key))]
        for change in changes:
            if header := re.fullmatch(r"(\+?)([^:=]+): ?(.*)", change, re.DOTALL):
                beside, name, value = header.groups()
                if not beside:
                    headers = [entry for entry in headers if entry[0].lower() != name.lower()]
                headers.append((name, value))
                continue
            name, value = change.split("=", 1)
            if name == "status":
                status = value
            elif name == "body":
                body = value
            elif name == "without":
                headers = [entry for entry in headers if entry[0].lower() != value.lower()]
            else:
                raise ValueError(f"an answer has no {name}")
        head = "\r\n".join([f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "\r\n"])
        self.agree(head)
        self.send((head + body).encode("latin-1"))

    def response(self):
        """Status, head, and (unless 101, which leaves the stream open) the body up to the end of the stream."""
        head = self.head()
        status = int(head.split(" ", 2)[1])
        self.agree(head)
        return status, head, "" if status == 101 else self.rest().decode("latin-1")

    def agree(self, head):
        """From the server's answer on both ends know whether there is compression."""
        if agreed := re.search(r"(?im)^sec-websocket-extensions: *(.*)\r$", head):
            self.agreed = agreed[1]

    @functools.cached_property
    def deflate(self):
        return Deflate(self.agreed, self.is_client)

    # --- Frames

    def encode_compressed(self, kind, payload, pieces=1):
        """A message that is compressed, in so many frames: the first of them says so."""
        data = self.deflate.compress(payload)
        size = -(-len(data) // pieces)
        parts = [data[at:at + size] for at in range(0, len(data), size)]
        return b"".join(frame(CONTINUATION if at else OPCODES[kind] | RSV1, part, fin=at + 1 == len(parts),
                              masked=self.is_client) for at, part in enumerate(parts))

    def encode(self, kind, payload=b"", *, first=None, announced=None, masked=None):
        """A frame of `text`, `cont`, …; `text..` is one that others follow."""
        fin = not kind.endswith("..")
        opcode = OPCODES.get(kind.removesuffix(".."), 0)
        return frame(opcode, payload, fin=fin, first=first, announced=announced,
                     masked=self.is_client if masked is None else masked)

    def read_frame(self):
        """The kind of the next frame, and its payload; `compressed text` is told inflated."""
        kind, payload = self.read_raw_frame()
        while kind.startswith("compressed ") and kind.endswith(".."):   # one stream, however many frames it is in
            following, more = self.read_raw_frame()
            assert following in ("cont", "cont.."), following
            kind, payload = kind.removesuffix(".." if following == "cont" else ""), payload + more
        self.size = len(payload)
        return kind, self.deflate.inflate(payload) if kind.startswith("compressed ") else payload

    def read_raw_frame(self):
        first, second = self.take(2)
        is_compressed = bool(first & RSV1) and self.agreed is not None and first & 0x0F in (TEXT, BINARY)
        assert first & 0x70 == RSV1 * is_compressed, f"reserved bits in {first:#04x}"
        is_masked = bool(second & 0x80)
        assert is_masked != self.is_client, "a client masks its frames, a server does not"
        length = second & 0x7F
        if length == 126:
            length, = struct.unpack("!H", self.take(2))
            assert length > 125, "a length in more bytes than it needs"
        elif length == 127:
            length, = struct.unpack("!Q", self.take(8))
            assert length > 65535, "a length in more bytes than it needs"
        key = self.take(4) if is_masked else None
        payload = self.take(length)
        kind = "compressed " * is_compressed + KINDS[first & 0x0F] + ("" if first & 0x80 else "..")
        return kind, mask_with(key, payload) if key else payload

    # --- Ends

    def finish(self):
        """Sends no more."""
        try:
            if isinstance(self.socket, ssl.SSLSocket):
                secure.finish(self.socket)
            else:
                self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def reset(self):
        """What a crashed or unplugged machine looks like, only sooner."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()
