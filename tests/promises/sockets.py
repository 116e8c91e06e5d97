"""The program's own sockets, as the kernel knows them: what is set on them cannot be seen from the other end."""
import ctypes
import os
import socket
import struct

import pytest

# Of Linux: copies a descriptor of another process, which its parent may.
PIDFD_GETFD = 438
LISTEN_BACKLOG = 28     # where TCP_INFO of a listening socket has it: tcpi_sacked


def _copies(pid):
    """Copies of all sockets that a process has."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            descriptor = libc.syscall(PIDFD_GETFD, process, int(name), 0)
            if descriptor < 0:
                if ctypes.get_errno() in (1, 38):
                    pytest.skip("the system does not let a process look at another's sockets (pidfd_getfd)")
                continue
            try:
                yield socket.socket(fileno=descriptor)
            except OSError:     # no socket
                os.close(descriptor)
    finally:
        os.close(process)


def _peer_of(one):
    try:
        return one.getpeername()
    except OSError:
        return None


def connected(pid, peer):
    """What is set on the socket that is connected with this address."""
    for one in _copies(pid):
        with one:
            if one.family == socket.AF_INET and _peer_of(one) == peer:
                tcp = {name: one.getsockopt(socket.IPPROTO_TCP, option) for name, option in (
                    ("idle", socket.TCP_KEEPIDLE), ("interval", socket.TCP_KEEPINTVL), ("count", socket.TCP_KEEPCNT))}
                return {"no_delay": _yes(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)),
                        "keep_alive": _yes(one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)),
                        **{name: str(value) for name, value in tcp.items()}}
    raise AssertionError(f"no socket of the program is connected with {peer}")


def listening(pid, port):
    """What is set on the socket that listens on this port."""
    for one in _copies(pid):
        with one:
            if one.family == socket.AF_INET and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) \
                    and one.getsockname()[1] == port:
                info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LISTEN_BACKLOG + 4)
                return {"listen_backlog": str(struct.unpack_from("=I", info, LISTEN_BACKLOG)[0]),
                        "reuse_port": _yes(one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))}
    raise AssertionError(f"the program does not listen on port {port}")


def _yes(value):
    return "yes" if value else "no"
