"""TLS for raw peers, by Python's ssl. The certificates are those of tests/certificates, in build/certificates."""
import contextlib
import re
import socket
import ssl
from pathlib import Path

CERTIFICATES = Path(__file__).resolve().parents[2] / "build/certificates"
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def file_of(name):
    return CERTIFICATES / f"{name}.pem"


def pair_of(name):
    """A certificate and its key by one name; `server+second-key` says that of the key as well."""
    chain, _, key = name.partition("+")
    return file_of(chain), file_of(key or f"{chain}-key")


def der_of(name):
    return ssl.PEM_cert_to_DER_cert(file_of(name).read_text())


def over_tls(connected, is_client, certificate=None, server_name="localhost", alpn=None, version=None, asks=False):
    """The socket of a raw peer over TLS; its handshake begins with what is first sent or received. A client trusts the
    issuer `ca` and looks at no name; a server has the certificate `server` where none is named, and `asks` for one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if is_client else ssl.PROTOCOL_TLS_SERVER)
    context.check_hostname = False
    context.load_verify_locations(file_of("ca"))
    if is_client or asks:
        context.verify_mode = ssl.CERT_REQUIRED
    if certificate or not is_client:
        context.load_cert_chain(*pair_of(certificate or "server"))
    if alpn:
        context.set_alpn_protocols(alpn.split(","))
    if version:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    return context.wrap_socket(connected, server_side=not is_client, do_handshake_on_connect=False,
                               server_hostname=server_name if is_client else None)


def session_of(secured):
    """What was agreed on with the other end, and what it has shown."""
    secured.do_handshake()
    return {"certificate": secured.getpeercert(binary_form=True), "alpn": secured.selected_alpn_protocol(),
            "version": secured.version()}


def alert_of(secured):
    """The alert by which the other end has ended TLS, by its name in RFC 8446; `none` where it sent none."""
    try:
        while secured.recv(4096):
            pass
    except ssl.SSLError as error:
        if found := re.search(r"alert ([a-z ]+[a-z])", str(error)):
            return found[1].replace(" ", "_")
    return "none"


def finish(secured):
    """Sends no more, and says so (RFC 8446 section 6.1); what the other end sends can still be read."""
    deadline = secured.gettimeout()
    secured.settimeout(0)
    with contextlib.suppress(OSError):      # that the other end has not said so as well is no error
        secured.unwrap()
    secured.settimeout(deadline)
    socket.socket.shutdown(secured, socket.SHUT_WR)     # ssl's own would end the receiving side as well
