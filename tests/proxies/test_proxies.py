"""Clients of all doors behind tinyproxy and microsocks, which nobody here wrote."""
import pytest
import secure

USERS = [pytest.param("", id="anybody"), pytest.param("us%65r:p%61ss@", id="by-password")]
SERVERS = [pytest.param(None, id="ws"), pytest.param({"certificate": "server"}, id="wss")]


def talk(client, listener, proxy, host="localhost", **keywords):
    """A client reaches a raw server through this proxy, and both hear each other."""
    is_secure = listener.tls is not None
    options = {"tls_ca": secure.file_of("ca")} if is_secure else {}
    if proxy is not None:
        options["proxy"] = proxy
    one = client(**keywords)
    one.connect(f"{'wss' if is_secure else 'ws'}://{host}:{listener.port}/room?x", **options,
                **({"proxy_from_environment": 1} if proxy is None else {}))
    peer = listener.accept()
    peer.read_request()
    assert peer.request.startswith("GET /room?x HTTP/1.1\r\n")
    assert f"\r\nHost: {host}:{listener.port}\r\n" in peer.request and "proxy" not in peer.request.lower()
    peer.answer()
    one.told("open")
    peer.send(peer.encode("text", b"x" * 100_000))
    assert one.told("message")["payload"] == b"x" * 100_000
    assert one.program.do("send", "1", "text", b"back".hex()).word == "ok"
    assert peer.read_frame() == ("text", b"back")
    peer.close()
    one.told("error")
    one.told("close")


def refused(client, url, **options):
    one = client()
    one.connect(url, **options)
    failure = one.told("error")
    one.told("close")
    assert "hush" not in failure["text"]
    return failure


@pytest.mark.parametrize("tls", SERVERS)
@pytest.mark.parametrize("user", USERS)
def test_through_tinyproxy(client, server, tinyproxy, user, tls):
    port = tinyproxy(*(["BasicAuth user pass"] if user else []))
    talk(client, server(tls=tls), f"http://{user}127.0.0.1:{port}")


@pytest.mark.parametrize("tls", SERVERS)
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_through_microsocks(client, server, microsocks, scheme, user, tls):
    port = microsocks(*(["-u", "user", "-P", "pass"] if user else []))
    talk(client, server(tls=tls), f"{scheme}://{user}127.0.0.1:{port}")


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_an_address_through_microsocks(client, server, microsocks, scheme):
    talk(client, server(), f"{scheme}://127.0.0.1:{microsocks()}", host="127.0.0.1")


def test_the_proxy_of_the_environment(client, server, tinyproxy, microsocks):
    plain = {"http_proxy": f"127.0.0.1:{tinyproxy()}", "no_proxy": "example.org"}
    talk(client, server(), None, environment=plain)
    secured = {"HTTPS_PROXY": f"socks5h://127.0.0.1:{microsocks()}"}
    talk(client, server(tls={"certificate": "server"}), None, environment=secured)
    nobody = {"http_proxy": "127.0.0.1:1", "all_proxy": "127.0.0.1:1", "no_proxy": "other,localhost"}
    talk(client, server(), None, environment=nobody)


def test_tinyproxy_wants_to_know_who_asks(client, tinyproxy):
    port = tinyproxy("BasicAuth user pass")
    failure = refused(client, "ws://localhost:1/", proxy=f"http://127.0.0.1:{port}")
    assert (failure["stage"], failure["kind"], failure["http_status"]) == ("proxy", "refused", "407")
    assert "put them into its URL" in failure["text"]
    failure = refused(client, "ws://localhost:1/", proxy=f"http://user:hush@127.0.0.1:{port}")
    assert (failure["stage"], failure["kind"]) == ("proxy", "refused") and failure["http_status"] in ("401", "407")


def test_tinyproxy_does_not_let_everywhere(client, tinyproxy):
    failure = refused(client, "ws://localhost:1/", proxy=f"http://127.0.0.1:{tinyproxy('ConnectPort 443')}")
    assert (failure["stage"], failure["kind"], failure["http_status"]) == ("proxy", "refused", "403")


def test_tinyproxy_finds_nobody_there(client, tinyproxy):
    failure = refused(client, "ws://localhost:1/", proxy=f"http://127.0.0.1:{tinyproxy()}")
    assert (failure["stage"], failure["kind"]) == ("proxy", "refused") and failure["http_status"][0] == "5"


def test_microsocks_refuses(client, microsocks):
    port = microsocks("-u", "user", "-P", "pass")
    for proxy in (f"socks5h://127.0.0.1:{port}", f"socks5h://user:hush@127.0.0.1:{port}"):
        failure = refused(client, "ws://localhost:1/", proxy=proxy)
        assert (failure["stage"], failure["kind"]) == ("proxy", "refused"), failure


def test_a_client_that_connects_again_gives_up_where_microsocks_refuses(client, microsocks):
    port = microsocks("-u", "user", "-P", "pass")
    for user in ("", "user:hush@"):
        one = client()
        one.connect("ws://localhost:1/", "persist", proxy=f"socks5h://{user}127.0.0.1:{port}", reconnect=1)
        one.told("error")
        one.told("close")
        assert one.told("gave_up")["kind"] == "socks_refusal"


def test_microsocks_finds_nobody_there(client, microsocks):
    failure = refused(client, "ws://localhost:1/", proxy=f"socks5h://127.0.0.1:{microsocks()}")
    assert (failure["stage"], failure["kind"]) == ("proxy", "refused")
    assert failure["text"].endswith("could not connect to localhost:1: the connection was refused")


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_proxy_of_the_other_kind_is_told(client, tinyproxy, microsocks, scheme):
    port = microsocks() if scheme == "http" else tinyproxy()
    failure = refused(client, "ws://localhost:1/", proxy=f"{scheme}://127.0.0.1:{port}", connect_timeout=5000)
    assert failure["stage"] == "proxy", failure
