"""TLS as others see it: the openssl command, Python's ssl, and a client that speaks plain HTTP to a port of TLS."""
import shutil
import socket
import ssl
import subprocess

import pytest

from clients import trust
from conftest import CERTIFICATES

TLS = ["--tls-cert", str(CERTIFICATES / "server.pem"), "--tls-key", str(CERTIFICATES / "server-key.pem")]

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is not installed")


@pytest.fixture
def echo(start):
    return start("--origin", "any", *TLS)


def s_client(echo, *options, request=b""):
    """What `openssl s_client` says of a handshake, and of what comes back to a request."""
    command = ["openssl", "s_client", "-connect", f"{echo.host}:{echo.port}", "-CAfile", str(CERTIFICATES / "ca.pem"),
               "-verify_return_error", "-quiet" if request else "-brief", *options]
    done = subprocess.run(command, input=request, capture_output=True, timeout=30)
    return done.returncode, (done.stdout + done.stderr).decode()


@needs_openssl
@pytest.mark.parametrize(("option", "version"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_openssl_verifies_the_handshake(echo, option, version):
    status, said = s_client(echo, option, "-verify_hostname", "localhost")
    assert status == 0, said
    assert version in said and "Verification: OK" in said


@needs_openssl
def test_openssl_speaks_http_over_it_and_hears_the_end(echo):
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    status, said = s_client(echo, "-ign_eof", request=request)
    assert status == 0, said
    assert "HTTP/1.1 426" in said


@needs_openssl
@pytest.mark.parametrize("option", ["-tls1", "-tls1_1"])
def test_older_versions_are_refused(echo, option):
    status, said = s_client(echo, option, "-cipher", "ALL:@SECLEVEL=0")
    assert status != 0 and "alert" in said.lower(), said


@needs_openssl
def test_a_protocol_that_is_not_spoken_is_refused_by_its_alert(echo):
    status, said = s_client(echo, "-alpn", "h2")
    assert status != 0 and "no application protocol" in said, said


def test_what_is_agreed_on(echo):
    context = trust()
    with context.wrap_socket(socket.create_connection(echo.address, timeout=30), server_hostname="localhost") as peer:
        assert peer.version() == "TLSv1.3"
    context = ssl.create_default_context(cafile=CERTIFICATES / "ca.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    with context.wrap_socket(socket.create_connection(echo.address, timeout=30), server_hostname="localhost") as peer:
        assert peer.selected_alpn_protocol() == "http/1.1"


def test_plain_http_on_a_port_of_tls_is_answered_in_plain_text(echo):
    with socket.create_connection(echo.address, timeout=30) as peer:
        peer.sendall(b"GET /chat HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while chunk := peer.recv(4096):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"wss://" in answer


def test_tls_on_a_plain_port_ends_quickly(start):
    echo = start("--origin", "any")
    with pytest.raises(ssl.SSLError):
        trust().wrap_socket(socket.create_connection(echo.address, timeout=30), server_hostname="localhost")


def test_a_resumed_session_opens_as_well(echo):
    context = ssl.create_default_context(cafile=CERTIFICATES / "ca.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def shake(session=None):
        stream = socket.create_connection(echo.address, timeout=30)
        with context.wrap_socket(stream, server_hostname="localhost", session=session) as peer:
            peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert peer.recv(4096).startswith(b"HTTP/1.1 426")
            return peer.session, peer.session_reused

    session, was_reused = shake()
    assert not was_reused
    assert shake(session)[1]
