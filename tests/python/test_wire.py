"""Frames that break the rules, and peers that break off: the right close code, and everybody else is served."""
import socket
import struct
import time

import pytest

from wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Peer, close, frame

VIOLATIONS = {
    "unmasked frame": (frame(TEXT, "hi", mask=None), 1002),
    "unmasked Close": (frame(CLOSE, struct.pack("!H", 1000), mask=None), 1002),
    "RSV1 without an extension": (frame(TEXT, "hi", first=0xC1), 1002),
    "RSV2": (frame(TEXT, "hi", first=0xA1), 1002),
    "RSV3": (frame(TEXT, "hi", first=0x91), 1002),
    "reserved data opcode": (frame(3, "hi"), 1002),
    "reserved control opcode": (frame(11, "hi"), 1002),
    "fragmented ping": (frame(PING, "hi", fin=False), 1002),
    "ping of 126 bytes": (frame(PING, b"x" * 126), 1002),
    "Close of 126 bytes": (frame(CLOSE, struct.pack("!H", 1000) + b"x" * 124), 1002),
    "continuation of nothing": (frame(CONTINUATION, "hi"), 1002),
    "text inside a fragmented message": (frame(TEXT, "a", fin=False) + frame(TEXT, "b"), 1002),
    "length with the top bit set": (frame(BINARY, length=(1 << 64) - 1), 1002),
    "length of 2^63-1": (frame(BINARY, length=(1 << 63) - 1), 1009),
    "length of 1 MiB + 1": (frame(BINARY, length=(1 << 20) + 1), 1009),
    "sum beyond the limit, told by the header": (
        frame(BINARY, b"x" * 1000, fin=False) + frame(PONG) + frame(CONTINUATION, length=(1 << 63) - 1), 1009),
    "endless empty continuations": (frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 1100, 1008),
    "Close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "Close with a reason that is not UTF-8": (close(1000, b"\xff\xfe"), 1007),
    "text that is not UTF-8": (frame(TEXT, b"caf\xe9"), 1007),
    "text with a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "text that ends inside a character": (frame(TEXT, b"\xe2\x82"), 1007),
    "impossible text, the rest of the frame to come": (frame(TEXT, b"\xc0\x80" + b"x" * 50)[:-40], 1007),
    "impossible text across fragments": (frame(TEXT, b"\xf4", fin=False) + frame(CONTINUATION, b"\x90", fin=False), 1007),
    **{f"close code {code}": (close(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)},
}


@pytest.mark.parametrize(("data", "code"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_a_violation_is_answered_with_its_close_code(echo, data, code):
    with Peer(echo) as other, Peer(echo) as peer:
        peer.send(data)
        assert peer.close_code() == code
        other.send(frame(TEXT, "others are served"))
        assert other.frame() == (TEXT, b"others are served")


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999])
def test_a_valid_close_comes_back_with_its_code(echo, code):
    with Peer(echo) as peer:
        peer.send(close(code, b"why"))
        assert peer.close_code() == code


def test_an_empty_close_is_answered(echo):
    with Peer(echo) as peer:
        peer.send(frame(CLOSE))
        assert peer.close_code() in (1000, 1005)


def test_a_close_inside_a_fragmented_message_is_answered_with_its_code(echo):
    with Peer(echo) as peer:
        peer.send(frame(TEXT, "begun", fin=False) + close(1000))
        assert peer.close_code() == 1000


def test_what_follows_a_close_is_ignored(echo):
    with Peer(echo) as peer:
        peer.send(frame(TEXT, "first") + close(1000) + frame(TEXT, "too late") + frame(PING))
        assert peer.frame() == (TEXT, b"first")
        assert peer.close_code() == 1000


def test_control_frames_between_fragments_are_answered_at_once(echo):
    with Peer(echo) as peer:
        peer.send(frame(TEXT, "one ", fin=False) + frame(PING, "1") + frame(PONG, "unasked"))
        assert peer.frame() == (PONG, b"1")
        peer.send(frame(CONTINUATION, "two", fin=True))
        assert peer.frame() == (TEXT, b"one two")


def test_every_split_of_a_message_into_two_segments_works(echo):
    data = frame(TEXT, "Grüße, 👩‍🚀") + frame(BINARY, b"\x01" * 200)
    with Peer(echo) as peer:
        for i in range(1, len(data)):
            peer.send(data[:i])
            peer.send(data[i:])
            assert peer.frame() == (TEXT, "Grüße, 👩‍🚀".encode())
            assert peer.frame() == (BINARY, b"\x01" * 200)


def test_many_frames_in_one_segment_come_back_in_order(echo):
    with Peer(echo) as peer:
        peer.send(b"".join(frame(TEXT, f"{i}") for i in range(2000)))
        assert [peer.frame() for _ in range(2000)] == [(TEXT, f"{i}".encode()) for i in range(2000)]


def test_a_half_closed_peer_is_noticed_at_once(echo):
    with Peer(echo) as peer:
        # corked: the frame and the end leave in one segment, so one readiness event tells of both
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        peer.send(frame(TEXT, "last words"))
        peer.socket.shutdown(socket.SHUT_WR)
        began = time.monotonic()
        peer.rest()
        assert time.monotonic() - began < 2, "far below the heartbeat's 25 s"


def test_a_peer_that_vanishes_leaves_the_others_served(echo):
    with Peer(echo) as other:
        for begun in (b"", frame(TEXT, "whole"), frame(TEXT, "half of a frame")[:7], frame(TEXT, "a", fin=False)):
            for _ in range(10):
                peer = Peer(echo)
                peer.send(begun)
                peer.vanish()
            other.send(frame(TEXT, "still here"))
            assert other.frame() == (TEXT, b"still here")


def test_an_announced_frame_takes_no_memory(start):
    echo = start("--max-message", str(1 << 30))
    with Peer(echo) as other:
        peers = [Peer(echo) for _ in range(20)]
        before = echo.resident()
        for peer in peers:
            peer.send(frame(BINARY, b"x" * 100, length=1 << 29))
        other.send(frame(TEXT, "others are served"))
        assert other.frame() == (TEXT, b"others are served")
        assert echo.resident() - before < 32 << 20, "memory grows with what was received, not with what was announced"
        for peer in peers:
            peer.vanish()


def flood(peer, data, most):
    """Sends without reading until the peer takes no more (nothing for half a second) or `most` bytes are sent."""
    peer.socket.settimeout(0.5)
    sent = 0
    try:
        while sent < most:
            sent += peer.socket.send(memoryview(data)[sent % len(data):])
    except TimeoutError:
        pass
    peer.socket.settimeout(10)
    return sent


def test_a_peer_that_never_reads_is_paused_and_the_others_are_served(echo):
    message = frame(BINARY, b"x" * 65526)
    with Peer(echo) as other, Peer(echo) as peer:
        before = echo.resident()
        sent = flood(peer, message, 256 << 20)
        assert sent < 256 << 20, "the server stopped reading"
        assert echo.resident() - before < 32 << 20
        other.send(frame(TEXT, "others are served"))
        assert other.frame() == (TEXT, b"others are served")
        # and when it does read, nothing was lost
        for _ in range(sent // len(message)):
            assert peer.frame() == (BINARY, b"x" * 65526)


def test_a_flood_of_pings_is_answered_within_bounds(echo):
    with Peer(echo) as other, Peer(echo) as peer:
        before = echo.resident()
        flood(peer, frame(PING, b"x" * 125) * 500, 64 << 20)
        assert echo.resident() - before < 32 << 20
        other.send(frame(TEXT, "others are served"))
        assert other.frame() == (TEXT, b"others are served")
        peer.vanish()


def test_a_listener_that_never_reads_does_not_hold_up_a_broadcast(start):
    echo = start("--broadcast")
    with Peer(echo) as speaker, Peer(echo) as listener, Peer(echo):   # the last one never reads
        before = echo.resident()
        for _ in range(400):
            speaker.send(frame(BINARY, b"x" * 65536))
            assert listener.frame() == (BINARY, b"x" * 65536)
        assert echo.resident() - before < 32 << 20
