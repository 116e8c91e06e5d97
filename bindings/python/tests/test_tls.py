"""TLS: both roles, both layers, what it tells, how it fails, and how it is renewed."""
import asyncio
import contextlib
import os
import socket
import ssl
import traceback

import pytest
import websockets
from conftest import CERTIFICATES, SERVING, TRUSTING, Program, echo, own, their_client

import wsx

ASKING = wsx.TLS(**own("server"), ca=CERTIFICATES / "ca.pem", client_auth="required")
KNOWN = wsx.TLS(**own("client"), ca=CERTIFICATES / "ca.pem")


def der(name):
    """A certificate of the tests as it goes over the wire."""
    return ssl.PEM_cert_to_DER_cert((CERTIFICATES / f"{name}.pem").read_text())


@contextlib.asynccontextmanager
async def served(tls=SERVING, handler=echo, **options):
    """A server, and the URI to connect to."""
    async with wsx.serve(handler, "127.0.0.1", 0, ssl=tls, **options) as server:
        yield server, "wss://%s:%d/" % server.addresses[0]


async def echoes(ws):
    for message in ("hello", b"\0\1", "x" * 300_000):
        await ws.send(message)
        assert await ws.recv() == message


async def shown(address):
    """The certificate that a server shows to a new connection, in DER."""
    _, writer = await asyncio.open_connection(*address, ssl=their_client())
    certificate = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    return certificate


# --- Who speaks it

@pytest.mark.parametrize("given", [str, lambda path: path, lambda path: path.read_bytes()], ids=["str", "path", "bytes"])
def test_callbacks_talk_over_tls(turns, given):
    serving = wsx.TLS(**{name: given(path) for name, path in own("server").items()})
    listener = turns.loop.listen("127.0.0.1:0", ssl=serving,
                                 on_message=lambda connection, message: connection.send(message))
    turns.loop.connect(f"wss://{listener}/", ssl=wsx.TLS(ca=given(CERTIFICATES / "ca.pem")),
                       on_open=lambda connection, _: connection.send("hello"),
                       on_message=lambda _, message: turns.say("came", message))
    turns.until_heard("came", "hello")


def test_an_adopted_socket_speaks_it(turns):
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        turns.loop.adopt(bound.detach(), ssl=SERVING)
    turns.loop.connect(f"wss://127.0.0.1:{port}/", ssl=TRUSTING, on_open=lambda *_: turns.say("open"))
    turns.until_heard("open")


async def test_coroutines_talk_over_tls():
    async with served() as (_, uri), wsx.connect(uri, ssl=TRUSTING) as ws:
        await echoes(ws)
        await ws.close(4001, "enough")
        assert (ws.close_code, ws.close_info.was_clean) == (4001, True)


async def test_it_compresses_and_encrypts():
    async with served(compression="deflate") as (_, uri):
        async with wsx.connect(uri, ssl=TRUSTING, compression="deflate") as ws:
            assert ws.extensions.startswith("permessage-deflate")
            await echoes(ws)


@pytest.mark.parametrize("options", ["", ", ssl=None", ", ssl=True"])
async def test_without_choices_a_client_trusts_whom_the_system_trusts(options):
    program = f"""
import asyncio, sys, wsx

async def main():
    async with wsx.connect(sys.argv[1]{options}) as ws:
        print("open")
    loop = wsx.event_loop()
    opened = asyncio.get_running_loop().create_future()
    loop.connect(sys.argv[1]{options}, on_open=lambda *_: opened.set_result("open"),
                 on_error=lambda _, failure: opened.set_result(failure.message))
    print(await opened)

asyncio.run(main())
"""
    async with served() as (_, uri):
        trusting = {**os.environ, "SSL_CERT_FILE": str(CERTIFICATES / "ca.pem")}
        with Program("-c", program, uri, env=trusting) as running:
            assert await asyncio.to_thread(running.end) == (0, "open\nopen\n", "")


async def test_a_client_may_take_any_certificate():
    async with served(wsx.TLS(**own("foreign"))) as (_, uri):
        async with wsx.connect(uri, ssl=wsx.TLS(danger_accept_invalid_certificates=True)) as ws:
            await echoes(ws)


# --- What it tells

@contextlib.asynccontextmanager
async def asked(tls, **options):
    """The URI of a server, and what its hook sees of each request: whether it is secure, the certificate, the name."""
    seen = []

    def process_request(_, request):
        # OpenSSL sends those of the issuers as well, where it knows them.
        seen.append((request.is_secure, request.peer_certificates[:1], request.server_name))

    async with wsx.serve(echo, "127.0.0.1", 0, ssl=tls, process_request=process_request, **options) as server:
        yield "wss://%s:%d/" % server.addresses[0], seen


async def test_the_hook_sees_the_certificate_of_a_client():
    async with asked(ASKING) as (uri, seen):
        async with wsx.connect(uri, ssl=KNOWN) as ws:
            await echoes(ws)
        context = their_client()
        context.load_cert_chain(*own("client").values())
        async with websockets.connect(uri, ssl=context, server_hostname="localhost") as ws:
            await echoes(ws)
    assert seen == [(True, (der("client"),), None), (True, (der("client"),), "localhost")]


async def test_a_certificate_may_be_optional():
    async with asked(wsx.TLS(**own("server"), ca=CERTIFICATES / "ca.pem", client_auth="optional")) as (uri, seen):
        for tls in (TRUSTING, KNOWN):
            async with wsx.connect(uri, ssl=tls):
                pass
    assert seen == [(True, (), None), (True, (der("client"),), None)]


async def test_a_certificate_is_chosen_by_the_name_that_is_asked_for():
    second = tuple(own("second").values())
    async with asked(wsx.TLS(**own("server"), certificates=[second])) as (uri, seen):
        for name in ("localhost", "second.example", "a.wild.example"):
            async with wsx.connect(uri, ssl=wsx.TLS(ca=CERTIFICATES / "ca.pem", server_name=name)):
                assert seen.pop() == (True, (), name)
    async with served(wsx.TLS(certificates=[second])) as (_, uri):
        async with wsx.connect(uri, ssl=wsx.TLS(ca=CERTIFICATES / "ca.pem", server_name="second.example")):
            pass


def test_the_request_of_a_connection_keeps_what_was_told(turns):
    listener = turns.loop.listen("127.0.0.1:0", ssl=ASKING, on_open=lambda _, opening: turns.say(
        opening.request.is_secure, opening.request.peer_certificates))
    turns.loop.connect(f"wss://{listener}/", ssl=KNOWN)
    turns.until_heard(True, (der("client"),))


def test_a_plain_request_is_not_secure(turns):
    listener = turns.loop.listen("127.0.0.1:0", on_request=lambda request: turns.say(
        request.is_secure, request.peer_certificates, request.server_name))
    turns.loop.connect(f"ws://{listener}/")
    turns.until_heard(False, (), None)


async def test_a_protocol_is_agreed_on():
    async with served(wsx.TLS(**own("server"), alpn=["chat/1", "http/1.1"])) as (_, uri):
        async with wsx.connect(uri, ssl=TRUSTING), \
                wsx.connect(uri, ssl=wsx.TLS(ca=CERTIFICATES / "ca.pem", alpn=["chat/1"])):
            pass
        with pytest.raises(OSError, match="alert no_application_protocol: it speaks none of the protocols in alpn"):
            await wsx.connect(uri, ssl=wsx.TLS(ca=CERTIFICATES / "ca.pem", alpn=["h2"]))


# --- How it fails

async def refusal(uri, tls):
    """What both layers tell of a connection that TLS does not let open: it is the same."""
    with pytest.raises(OSError) as raised:
        await wsx.connect(uri, ssl=tls)
    failed = asyncio.get_running_loop().create_future()
    wsx.event_loop().connect(uri, ssl=tls, on_error=lambda _, failure: failed.set_result(failure))
    failure = await failed
    assert failure.stage == "tls"
    assert failure.message == str(raised.value)
    return failure.message


@pytest.mark.parametrize(("server", "client", "told"), [
    (SERVING, wsx.TLS(ca=CERTIFICATES / "foreign-ca.pem"),
     "from an unknown issuer, or self-signed: name its issuer by the option ca"),
    (wsx.TLS(**own("foreign")), TRUSTING, "from an unknown issuer"),
    (wsx.TLS(**own("expired")), TRUSTING, "expired"),
    (wsx.TLS(**own("second")), TRUSTING, "connect by such a name, or name it by the option server_name"),
    (ASKING, TRUSTING, "certificate_required: it wants a certificate of ours"),
    (wsx.TLS(**own("server"), ca=CERTIFICATES / "foreign-ca.pem", client_auth="required"), KNOWN,
     "unknown_ca: it does not take our certificate"),
], ids=["wrong-ca", "unknown-issuer", "expired", "wrong-name", "no-certificate", "unknown-certificate"])
async def test_who_is_not_trusted_is_refused_and_told_why(server, client, told):
    async with served(server) as (_, uri):
        assert told in await refusal(uri, client)


async def test_a_plain_port_is_told_from_one_with_tls():
    async with wsx.serve(echo, "127.0.0.1", 0) as server:
        assert "is it a ws:// port" in await refusal("wss://%s:%d/" % server.addresses[0], TRUSTING)


async def test_a_handshake_that_stalls_times_out():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(TimeoutError, match="handshake_timeout"):
            await wsx.connect("wss://127.0.0.1:%d/" % silent.getsockname()[1], ssl=TRUSTING, open_timeout=0.05)


async def test_clients_that_fail_leave_the_others_alone():
    async with served() as (server, uri), wsx.connect(uri, ssl=TRUSTING) as ws:
        with pytest.raises(OSError, match="unknown issuer"):
            await wsx.connect(uri, ssl=wsx.TLS(ca=CERTIFICATES / "foreign-ca.pem"))
        reader, writer = await asyncio.open_connection(*server.addresses[0])
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        writer.close()
        await echoes(ws)
        assert len(server.connections) == 1


# --- What is no choice for TLS

SERVER_EXAMPLE = 'Write wsx.TLS(cert="cert.pem", key="key.pem")'
CLIENT_EXAMPLE = 'Write wsx.TLS(ca="ca.pem"), or nothing'


@pytest.mark.parametrize("function", ["listen", "connect"])
def test_a_context_of_the_standard_library_is_refused_and_told_what_to_write(turns, function):
    class Inherited(ssl.SSLContext):
        pass

    call = {"listen": lambda **options: turns.loop.listen("127.0.0.1:0", **options),
            "connect": lambda **options: turns.loop.connect("wss://127.0.0.1:1/", **options)}[function]
    example = SERVER_EXAMPLE if function == "listen" else CLIENT_EXAMPLE
    for context in (their_client(), Inherited(ssl.PROTOCOL_TLS_SERVER)):
        with pytest.raises(TypeError) as raised:
            call(ssl=context)
        assert "the keys of an ssl.SSLContext cannot be read out of it" in str(raised.value)
        assert example in str(raised.value)
    with pytest.raises(TypeError, match="ssl: a wsx.TLS is expected, not dict"):
        call(ssl={})
    with pytest.raises(TypeError, match="ssl: a wsx.TLS is expected, not bool"):
        call(ssl=False)


async def test_coroutines_are_told_the_same():
    with pytest.raises(TypeError, match="ssl.SSLContext"):
        await wsx.serve(echo, "127.0.0.1", 0, ssl=their_client())
    with pytest.raises(TypeError, match="ssl.SSLContext"):
        await wsx.connect("wss://127.0.0.1:1/", ssl=their_client())


def test_a_server_needs_more_than_true(turns):
    with pytest.raises(TypeError) as raised:
        turns.loop.listen("127.0.0.1:0", ssl=True)
    assert SERVER_EXAMPLE in str(raised.value)
    with pytest.raises(ValueError, match="a server needs a certificate and its key"):
        turns.loop.listen("127.0.0.1:0", ssl=wsx.TLS())


SERVER_PEM = (CERTIFICATES / "server.pem").read_bytes()
SERVER_KEY = (CERTIFICATES / "server-key.pem").read_bytes()


BAD_CHOICES = [
    ({"cert": "nowhere.pem", "key": "nowhere.pem"}, FileNotFoundError, "cannot read the file nowhere.pem"),
    ({"cert": b"nothing", "key": SERVER_KEY}, ValueError, "the text given holds no certificate in PEM"),
    ({"cert": SERVER_PEM, "key": b"nothing"}, ValueError, "the text given holds no private key in PEM"),
    ({"cert": SERVER_PEM, "key": own("client")["key"]}, ValueError, "does not belong to the certificate"),
    ({"cert": SERVER_PEM}, ValueError, "ssl: cert is given without its key"),
    ({"key": SERVER_KEY}, ValueError, "ssl: key is given without its cert"),
    ({"cert": SERVER_PEM.decode(), "key": SERVER_KEY}, TypeError, "ssl: cert: a str is the path of a file"),
    ({"cert": 5, "key": 5}, TypeError, "ssl: cert: "),
    ({"certificates": [SERVER_PEM]}, TypeError, "ssl: certificates: pairs of a certificate and its key"),
    ({"certificates": [("nowhere.pem", "nowhere.pem")]}, FileNotFoundError, "nowhere.pem"),
    ({**own("server"), "client_auth": "required"}, ValueError, "client_auth needs"),
    ({**own("server"), "client_auth": "maybe"}, ValueError,
     "ssl: client_auth: 'none', 'optional' or 'required', not 'maybe'"),
    ({**own("server"), "ca": b""}, ValueError, "client_auth asks for none"),
    ({**own("server"), "ca": b"", "client_auth": "optional"}, ValueError, "the text given holds no certificate in PEM"),
    ({**own("server"), "alpn": "h2"}, TypeError, "ssl: alpn: a list of str"),
    ({**own("server"), "alpn": [""]}, ValueError, "ALPN takes 1 to 255"),
    ({"server_name": 5, **own("server")}, TypeError, "ssl: server_name: "),
]


@pytest.mark.parametrize(("choices", "error", "text"), BAD_CHOICES, ids=[text for *_, text in BAD_CHOICES])
def test_bad_choices_are_raised_at_once(turns, choices, error, text):
    tls = wsx.TLS(**choices)
    with pytest.raises(error) as raised:
        turns.loop.listen("127.0.0.1:0", ssl=tls)
    assert text in str(raised.value)


def test_a_private_key_is_never_shown(turns):
    key = SERVER_KEY.decode()
    for given in (key, key.encode()):
        tls = wsx.TLS(cert=SERVER_PEM, key=given, certificates=[(SERVER_PEM, given)])
        assert "PRIVATE KEY" not in repr(tls)
    with pytest.raises(TypeError) as raised:
        turns.loop.listen("127.0.0.1:0", ssl=wsx.TLS(cert=SERVER_PEM, key=key))
    assert key.splitlines()[1] not in "".join(traceback.format_exception(raised.value))


def test_the_choices_are_frozen():
    with pytest.raises(AttributeError):
        SERVING.cert = "other.pem"


# --- How it is renewed

async def test_a_server_reloads_and_no_message_is_lost():
    renewed = wsx.TLS(**own("renewed"))
    async with served() as (server, uri), wsx.connect(uri, ssl=TRUSTING) as ws:
        sent = [f"{number} {'x' * (number * 37 % 3000)}" for number in range(2000)]

        async def send():
            for message in sent:
                await ws.send(message)
                if len(message) % 7 == 0:
                    await asyncio.sleep(0)

        sending = asyncio.create_task(send())
        for tls, name in ((renewed, "renewed"), (SERVING, "server"), (renewed, "renewed")):
            server.reload_tls(tls)
            assert await shown(server.addresses[0]) == der(name)
            async with wsx.connect(uri, ssl=TRUSTING) as new:
                await echoes(new)
        assert [await ws.recv() for _ in sent] == sent
        await sending


async def test_every_address_of_a_server_reloads():
    async with wsx.serve(echo, ["127.0.0.1", "127.0.0.2"], 0, ssl=SERVING) as server:
        server.reload_tls(wsx.TLS(**own("second")))
        for address in server.addresses:
            async with wsx.connect("wss://%s:%d/" % address,
                                   ssl=wsx.TLS(ca=CERTIFICATES / "ca.pem", server_name="second.example")):
                pass


async def test_a_listener_reloads_also_from_another_thread():
    listener = wsx.event_loop().listen("127.0.0.1:0", ssl=SERVING)
    assert await shown(listener.local_address) == der("server")
    listener.reload_tls(wsx.TLS(**own("renewed")))
    assert await shown(listener.local_address) == der("renewed")
    await asyncio.to_thread(listener.reload_tls, SERVING)
    assert await shown(listener.local_address) == der("server")
    listener.close()
    with pytest.raises(wsx.ConnectionClosed):
        listener.reload_tls(SERVING)


async def test_a_bad_reload_changes_nothing():
    async with served() as (server, _):
        with pytest.raises(FileNotFoundError, match="nowhere.pem"):
            server.reload_tls(wsx.TLS(cert="nowhere.pem", key="nowhere.pem"))
        with pytest.raises(TypeError, match="ssl.SSLContext"):
            server.reload_tls(their_client())
        with pytest.raises(TypeError, match="a wsx.TLS is expected, not NoneType"):
            server.reload_tls(None)
        assert await shown(server.addresses[0]) == der("server")
    async with wsx.serve(echo, "127.0.0.1", 0) as server:
        with pytest.raises(ValueError, match="the listener is plain"):
            server.reload_tls(SERVING)
