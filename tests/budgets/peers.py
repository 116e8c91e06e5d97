"""Peers that put a server or a client to work in the same way each time: plain sockets, raw frames, all compared."""
import base64
import fcntl
import hashlib
import json
import random
import re
import select
import socket
import ssl
import struct
import sys
import termios
import time
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from wire import BINARY, CLOSE, PING, PONG, TEXT, close, frame, request  # noqa: E402

DEADLINE = 30          # seconds for whatever must come; valgrind makes a server some forty times slower
FULL_WINDOW = 0.05     # and for an acknowledgement, which Linux delays by 40 ms at most here
OPENED_AT_ONCE = 500   # fewer than any system queues for a listener


# Whom a server shows is for other tests to look at.
TLS = ssl.create_default_context()
TLS.check_hostname = False
TLS.verify_mode = ssl.CERT_NONE


def messages(count, size, is_text=False):
    """Messages as a client sends them, and as they must come back."""
    numbers = random.Random(size)
    payload = bytes(numbers.choices(range(32, 127), k=size)) if is_text else numbers.randbytes(size)
    opcode = TEXT if is_text else BINARY
    return frame(opcode, payload) * count, frame(opcode, payload, mask=None) * count


def ask(server, *headers):
    peer = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if server.is_secure:
        peer = TLS.wrap_socket(peer)
    peer.sendall(request(*headers))
    return peer


def head_from(peer):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = peer.recv(4096)
        assert more, f"the stream ended inside the head: {head!r}"
        head += more
    return head


def accepted(peer):
    head = head_from(peer)
    assert head.startswith(b"HTTP/1.1 101"), head
    return peer


def connect(server, *headers):
    return accepted(ask(server, *headers))


def connect_all(server, count):
    """Many at once while the server is stopped, so that it finds the same at each turn of each run."""
    peers = []
    while len(peers) < count:
        with server.stopped():
            new = [ask(server) for _ in range(min(OPENED_AT_ONCE, count - len(peers)))]
        peers += map(accepted, new)
    return peers


def serve_all(client, count):
    """The connections of a client, open."""
    return [served(client.listener) for _ in range(count)]


def served(listener):
    listener.settimeout(DEADLINE)
    peer, _ = listener.accept()
    peer.settimeout(DEADLINE)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = re.search(rb"(?i)^sec-websocket-key: (\S+)\r$", head_from(peer), re.M)[1]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    return peer


def take(peer, size):
    """The next bytes."""
    buffer = bytearray(size)
    view, received = memoryview(buffer), 0
    while received < size:
        count = peer.recv_into(view[received:])
        assert count, f"the stream ended after {received} of {size} bytes"
        received += count
    return buffer


def expect(peer, reply):
    """Exactly these bytes come next."""
    assert take(peer, len(reply)) == reply, "what came is not what was due"


class Echo:
    """One peer sends a message, and reads it, before it sends another."""

    headers = ()    # of the request of each peer

    def __init__(self, size, is_text=False):
        self.sent, self.due = messages(1, size, is_text)
        self.peers, self.units = 1, 1

    def round(self, _server, peers):
        peers[0].sendall(self.sent)
        expect(peers[0], self.due)

    def rest(self, _server, _peers):
        """What a round costs beside its messages: nothing."""


class ClientEcho:
    """The one peer of a client sends `depth` messages at once, and reads the answers, before it sends more.

    They are one segment, so a turn finds all of them.
    """

    def __init__(self, size, depth=1):
        self.payload = random.Random(size).randbytes(size)
        self.sent = frame(BINARY, self.payload, mask=None) * depth
        self.peers, self.units = 1, depth

    def round(self, _client, peers):
        peers[0].sendall(self.sent)
        for _ in range(self.units):
            # The mask is the client's choice, and stands behind two bytes.
            answer = take(peers[0], 2 + 4 + len(self.payload))
            assert answer == frame(BINARY, self.payload, mask=answer[2:6]), "what came is not what was due"

    def rest(self, _client, _peers):
        """What a round costs beside its messages: nothing."""


class Handshake:
    """A peer comes, opens, closes and sees the server end the connection, before another one comes."""

    peers, units = 0, 1
    sent, due = close(1000), frame(CLOSE, (1000).to_bytes(2), mask=None)

    def round(self, server, _peers):
        with connect(server) as peer:
            peer.sendall(self.sent)
            expect(peer, self.due)
            assert not peer.recv(1), "the server said more than its Close"

    def rest(self, _server, _peers):
        """What a round costs beside its handshakes: nothing."""


class CompressedEcho:
    """The same with JSON that is compressed (RFC 7692) both ways, each message for itself."""

    headers = ("Sec-WebSocket-Extensions: permessage-deflate",)

    def __init__(self, size):
        numbers = random.Random(size)
        words = ["order", "paid", "shipped", "Lisbon", "Oslo", "please", "leave", "the", "parcel", "behind", "door"]
        records = [{"id": numbers.randrange(10**6), "note": numbers.choices(words, k=8)} for _ in range(size // 64)]
        self.text = json.dumps(records).encode()[:size]
        deflate = zlib.compressobj(wbits=-15)
        payload = deflate.compress(self.text) + deflate.flush(zlib.Z_SYNC_FLUSH)
        self.sent = frame(TEXT, payload[:-4], first=0xC1)

    def round(self, _server, peers):
        peers[0].sendall(self.sent)
        # Compressed text, whose length is in two bytes of its own.
        expect(peers[0], b"\xc1\x7e")
        payload = take(peers[0], int.from_bytes(take(peers[0], 2)))
        assert zlib.decompress(payload + bytes([0, 0, 0xFF, 0xFF, 3, 0]), wbits=-15) == self.text, "another text came back"


class GatheredEcho:
    """Every peer sends `depth` messages while the server is stopped; then it goes on, and they read.

    Else the scheduler would decide how many connections a turn finds ready, and in how many pieces a large message is
    read. The kernel holds 1 MiB between two sockets once the connection is warm: its first messages come in pieces.
    """

    def __init__(self, size, peers=1, depth=1, is_text=False):
        self.sent, self.due = messages(depth, size, is_text)
        self.peers, self.units = peers, peers * depth

    def round(self, server, peers):
        left = []
        with server.stopped():
            for peer in peers:
                peer.setblocking(False)
                left.append(self.sent[peer.send(self.sent):])
                peer.settimeout(DEADLINE)
            arrive(peers)
        for peer, rest in zip(peers, left):
            peer.sendall(rest)
            expect(peer, self.due)

    def rest(self, server, _peers):
        """To be stopped ends a wait, and so costs a turn, which is not the messages'."""
        with server.stopped():
            pass


def arrive(peers):
    """Waits until the receiving sockets have everything, or no more room."""
    end = time.monotonic() + FULL_WINDOW
    while any(struct.unpack("i", fcntl.ioctl(peer, termios.TIOCOUTQ, bytes(4)))[0] for peer in peers):
        if time.monotonic() > end:
            break


class Broadcast:
    """One peer sends `depth` messages at once, and all others read them."""

    def __init__(self, size, receivers, depth=1):
        self.sent, self.due = messages(depth, size)
        self.peers, self.units = 1 + receivers, receivers * depth

    def round(self, _server, peers):
        peers[0].sendall(self.sent)
        for peer in peers[1:]:
            expect(peer, self.due)

    def rest(self, _server, _peers):
        """What a round costs beside its messages: nothing."""


def answer_pings(peers, seconds):
    """Answers every ping at once; returns how many there were."""
    by_number = {peer.fileno(): peer for peer in peers}
    poll, answered = select.epoll(), 0
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for number, _ in poll.poll(left):
            ping = by_number[number].recv(4096)
            assert ping[:1] == bytes([0x80 | PING]) and len(ping) == 2 + ping[1], f"not a ping: {ping!r}"
            by_number[number].sendall(frame(PONG, ping[2:]))
            answered += 1
    return answered
