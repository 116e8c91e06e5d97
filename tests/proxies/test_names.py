"""Names with several addresses, and a resolver that does not answer: each in a mount namespace with files of its own in /etc."""
import os
import socket
import sys

from peer import Listener

# A name server that hears every question and answers none: the socket outlives this program in the next.
SILENT = "import os, socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('127.0.0.1', 53)); " \
         "s.set_inheritable(True); os.execvp(sys.argv[1], sys.argv[1:])"


def among(directory, hosts, script=""):
    """What stands before a command that is to know these hosts, and no others."""
    (directory / "hosts").write_text(hosts)
    (directory / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (directory / "nsswitch.conf").write_text("hosts: files dns\n")
    mounts = "".join(f"mount --bind {directory / name} /etc/{name} && " for name in ("hosts", "resolv.conf", "nsswitch.conf"))
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    # A network of its own where there is a name server: nobody is disturbed.
    own_network = ["--net"] if script else []
    return ["unshare", *as_root, "--mount", *own_network, "sh", "-c", f'{mounts}{script}exec "$@"', "sh"]


def opens(client, before, name, listener):
    one = client(before=before)
    one.connect(f"ws://{name}:{listener.port}/")
    peer = listener.accept()
    peer.read_request()
    assert f"\r\nHost: {name}:{listener.port}\r\n" in peer.request
    peer.answer()
    one.told("open")
    peer.close()
    one.told("error")
    one.told("close")
    listener.close()


def test_a_name_with_both_families_is_reached_by_either(client, tmp_path):
    before = among(tmp_path, "127.0.0.1 dual.test\n::1 dual.test\n")
    opens(client, before, "dual.test", Listener(address=("127.0.0.1", 0)))
    opens(client, before, "dual.test", Listener(address=("::1", 0)))


def test_a_name_with_ipv6_alone_is_reached(client, tmp_path):
    opens(client, among(tmp_path, "::1 six.test\n"), "six.test", Listener(address=("::1", 0)))


def test_a_family_that_does_not_answer_does_not_hold_up_the_other(client, tmp_path):
    before = among(tmp_path, "127.0.0.1 dual.test\n::1 dual.test\n")
    for hole, good in (("::1", "127.0.0.1"), ("127.0.0.1", "::1")):
        # Whoever comes when the queue is full is not answered.
        full = Listener(address=(hole, 0))
        full.socket.listen(0)
        filling = [socket.socket(full.socket.family) for _ in range(4)]
        for one in filling:
            one.setblocking(False)
            one.connect_ex((hole, full.port))
        opens(client, before, "dual.test", Listener(address=(good, full.port)))
        for one in [full, *filling]:
            one.close()


def test_where_no_address_is_left_it_is_told_how_many_there_were(client, tmp_path):
    one = client(before=among(tmp_path, "127.0.0.1 dual.test\n::1 dual.test\n"))
    one.connect("ws://dual.test:1/")
    failure = one.told("error")
    one.told("close")
    assert (failure["stage"], failure["os_error"]) == ("connect", "111")
    assert failure["text"].startswith("cannot connect to dual.test:1 on any of its 2 addresses, the last: Connection refused")


def test_a_resolver_that_does_not_answer_is_given_up(client, tmp_path):
    script = f'ip link set lo up && set -- "{sys.executable}" -c "{SILENT}" "$@" && '
    for option in ("handshake_timeout", "connect_timeout"):
        one = client(before=among(tmp_path, "127.0.0.1 localhost\n", script))
        one.connect("ws://nowhere.test/", **{option: 200})
        failure = one.told("error")
        one.told("close")
        assert (failure["stage"], failure["kind"]) == ("resolve", "timeout")
        assert failure["text"] == f"the host name was not resolved within 200ms ({option})"
