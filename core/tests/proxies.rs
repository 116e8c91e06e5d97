//! Clients behind proxies: raw proxies that answer byte by byte, and what is told of those that do not let through.

mod support;

use std::net::TcpListener;
use std::time::Duration;

use support::clients::soon;
use support::{Event, Events, RawPeer, Running, Script};
use wsx_core::{Client, Connection, Error, Failure, FailureKind, GiveUpKind, LoopOptions, Options, Stage};

const OPEN: &str = "HTTP/1.1 200 Connection established\r\n\r\n";
/// SOCKS5: connected, from some address.
const CONNECTED: &[u8] = b"\x05\0\0\x01\x7f\0\0\x01\x12\x34";

/// A raw proxy, a loop for its clients, and options that lead to it; `user` is `user:password@` or nothing.
fn proxy(scheme: &str, user: &str) -> (TcpListener, Running, Options) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = Options::default();
    options.proxy = Some(format!("{scheme}://{user}{}", listener.local_addr().unwrap()).into());
    (listener, Running::idle(), options)
}

/// What a client is told whose proxy says this in answer to its first words.
#[track_caller]
fn refused(scheme: &str, user: &str, answers: &[(&[u8], &[u8])]) -> Failure {
    let (listener, running, options) = proxy(scheme, user);
    let (client, events) = running.connect("ws://a.invalid:81/", &options, Script::new());
    let mut peer = RawPeer::accept(&listener);
    for (asked, answer) in answers {
        assert_eq!(peer.read_bytes(asked.len()), *asked);
        peer.write(answer);
    }
    let failure = events.failure_of(client);
    assert_eq!(failure.stage, Stage::Proxy, "{failure}");
    peer.expect_end();
    failure
}

/// The client is connected to the server at the other end of the tunnel, which `peer` is from now on.
#[track_caller]
fn serve(mut peer: RawPeer, events: &Events, client: Connection, host: &str) {
    let head = peer.read_head();
    assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nHost: {host}\r\n")), "{head}");
    assert!(!head.to_ascii_lowercase().contains("proxy"), "{head}");
    peer.answer_upgrade(&head, "");
    assert_eq!(events.opened(), client);
    peer.send_text("through");
    assert_eq!(events.text(), "through");
}

#[test]
fn connect_opens_a_tunnel_to_the_host_and_says_who_asks() {
    for (user, says) in [("", ""), ("us%20er:pass@", "Proxy-Authorization: Basic dXMgZXI6cGFzcw==\r\n")] {
        let (listener, running, options) = proxy("http", user);
        let (client, events) = running.connect("ws://name.invalid:81/chat", &options, Script::new());
        let mut peer = RawPeer::accept(&listener);
        let asked = peer.read_head();
        assert_eq!(asked, format!("CONNECT name.invalid:81 HTTP/1.1\r\nHost: name.invalid:81\r\n{says}\r\n"));
        peer.write(OPEN.as_bytes());
        serve(peer, &events, client, "name.invalid:81");
    }
}

#[test]
fn an_answer_of_the_proxy_that_drips_in_is_an_answer() {
    let (listener, running, options) = proxy("http", "");
    let (client, events) = running.connect("ws://name.invalid/chat", &options, Script::new());
    let mut peer = RawPeer::accept(&listener);
    peer.read_head();
    for byte in OPEN.as_bytes() {
        peer.write(&[*byte]);
    }
    serve(peer, &events, client, "name.invalid");
}

#[test]
fn what_comes_behind_the_proxys_answer_is_the_servers_and_not_lost() {
    let early = "HTTP/1.1 503 Not today\r\n\r\n";
    for (scheme, answers) in [
        ("http", vec![format!("{OPEN}{early}").into_bytes()]),
        ("socks5h", vec![b"\x05\0".to_vec(), [CONNECTED, early.as_bytes()].concat()]),
    ] {
        let (listener, running, mut options) = proxy(scheme, "");
        // Nothing but those bytes can end this.
        options.handshake_timeout = Duration::ZERO;
        let (client, events) = running.connect("ws://name.invalid/", &options, Script::new());
        let mut peer = RawPeer::accept(&listener);
        peer.read_bytes(3);
        for answer in answers {
            peer.write(&answer);
        }
        let failure = events.failure_of(client);
        assert_eq!((failure.stage, failure.http_status), (Stage::Http, Some(503)), "{failure}");
    }
}

#[test]
fn an_answer_that_is_larger_than_the_receive_buffer_is_read_in_pieces() {
    let (listener, _, options) = proxy("http", "");
    let mut small = LoopOptions::default();
    small.receive_buffer = 4096;
    let (running, ()) = Running::start(&small, |_| ());
    let (client, events) = running.connect("ws://name.invalid/chat", &options, Script::new());
    let mut peer = RawPeer::accept(&listener);
    peer.read_head();
    peer.write(OPEN.replacen("\r\n\r\n", &format!("\r\nX: {}\r\n\r\n", "x".repeat(10_000)), 1).as_bytes());
    serve(peer, &events, client, "name.invalid");
}

#[test]
fn socks_is_told_the_name_or_the_address() {
    let named = [&b"\x05\x01\0\x03\x0cname.invalid"[..], &[0, 81]].concat();
    let local = [&b"\x05\x01\0\x01\x7f\0\0\x01"[..], &[0, 81]].concat();
    for (scheme, user, url, expected) in [
        ("socks5h", "", "ws://name.invalid:81/chat", &named),
        ("socks5h", "user:pass@", "ws://name.invalid:81/chat", &named),
        ("socks5h", "", "ws://127.0.0.1:81/chat", &local),
        ("socks5", "", "ws://127.0.0.1:81/chat", &local),
    ] {
        let (listener, running, options) = proxy(scheme, user);
        let (client, events) = running.connect(url, &options, Script::new());
        let mut peer = RawPeer::accept(&listener);
        if user.is_empty() {
            assert_eq!(peer.read_bytes(3), b"\x05\x01\0");
            peer.write(b"\x05\0");
        } else {
            assert_eq!(peer.read_bytes(4), b"\x05\x02\0\x02");
            peer.write(b"\x05\x02");
            assert_eq!(peer.read_bytes(11), b"\x01\x04user\x04pass");
            peer.write(b"\x01\0");
        }
        assert_eq!(peer.read_bytes(expected.len()), *expected);
        for byte in CONNECTED {
            peer.write(&[*byte]);
        }
        serve(peer, &events, client, url.strip_prefix("ws://").unwrap().trim_end_matches("/chat"));
    }
}

#[test]
fn socks5_looks_the_name_up_here() {
    let (listener, running, options) = proxy("socks5", "");
    let (client, events) = running.connect("ws://localhost:81/chat", &options, Script::new());
    let mut peer = RawPeer::accept(&listener);
    peer.read_bytes(3);
    peer.write(b"\x05\0");
    let head = peer.read_bytes(4);
    let address = peer.read_bytes(if head[3] == 4 { 16 } else { 4 });
    assert!(head[3] == 4 || address == [127, 0, 0, 1], "{head:?} {address:?}");
    assert_eq!(peer.read_bytes(2), [0, 81]);
    peer.write(CONNECTED);
    serve(peer, &events, client, "localhost:81");

    let (client, events) = running.connect("ws://name.invalid/", &options, Script::new());
    let failure = events.failure_of(client);
    assert_eq!(failure.stage, Stage::Resolve);
    assert!(failure.message.contains("name.invalid"), "{failure}");
}

#[cfg(feature = "tls")]
#[test]
fn tls_goes_through_the_tunnel_to_the_server() {
    let authority = support::tls::Authority::new("A");
    let issued = authority.local();
    for (scheme, greeting, answers) in [
        ("http", "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n", vec![OPEN.as_bytes()]),
        ("socks5h", "\u{5}\u{1}\0", vec![b"\x05\0", CONNECTED]),
    ] {
        let (listener, running, options) = proxy(scheme, "");
        let mut trusting = authority.client();
        trusting.proxy = options.proxy;
        let (client, events) = running.connect("wss://localhost/chat", &trusting, Script::new());
        let mut peer = RawPeer::accept(&listener);
        assert_eq!(peer.read_bytes(greeting.len()), greeting.as_bytes());
        for (number, answer) in answers.into_iter().enumerate() {
            if number == 1 {
                peer.read_bytes(5 + "localhost".len() + 2);
            }
            peer.write(answer);
        }
        let mut peer = issued.speak(peer);
        let head = peer.read_head();
        assert!(head.contains("\r\nHost: localhost\r\n"), "{head}");
        peer.answer_upgrade(&head, "");
        assert_eq!(events.opened(), client);
        peer.send_text("through");
        assert_eq!(events.text(), "through");
    }
}

#[test]
fn a_proxy_that_refuses_is_told_with_its_status_and_what_to_do() {
    let asked = |user: &str| {
        let says = if user.is_empty() { "" } else { "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" };
        format!("CONNECT a.invalid:81 HTTP/1.1\r\nHost: a.invalid:81\r\n{says}\r\n").into_bytes()
    };
    for (user, status, says) in [
        ("", 407, "it wants a user name and a password: put them into its URL"),
        ("user:secret@", 407, "it does not take the user name and password of its URL"),
        ("", 403, "instead of opening a tunnel to a.invalid:81"),
    ] {
        let answer =
            format!("HTTP/1.1 {status} No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nno");
        let failure = refused("http", user, &[(&asked(user), answer.as_bytes())]);
        assert_eq!((failure.kind, failure.http_status), (FailureKind::Refused, Some(status)));
        assert!(failure.message.contains(says) && !failure.message.contains("secret"), "{failure}");
    }
    let failure = refused("http", "", &[(&asked(""), b"\x05\xff")]);
    assert_eq!((failure.kind, failure.http_status), (FailureKind::Protocol, None));

    let request = &b"\x05\x01\0\x03\x09a.invalid\0\x51"[..];
    let failure = refused("socks5h", "", &[(b"\x05\x01\0", b"\x05\0"), (request, b"\x05\x02\0\x01\0\0\0\0\0\0")]);
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.message.ends_with("could not connect to a.invalid:81: its rules do not allow it"), "{failure}");
    let failure = refused(
        "socks5h",
        "user:secret@",
        &[(b"\x05\x02\0\x02", b"\x05\x02"), (b"\x01\x04user\x06secret", b"\x01\x01")],
    );
    assert!(
        failure.message.contains("does not take the user name") && !failure.message.contains("secret"),
        "{failure}"
    );
    let failure = refused("socks5h", "", &[(b"\x05\x01\0", b"HTTP/1.1 400 Bad Request\r\n\r\n")]);
    assert_eq!(failure.kind, FailureKind::Protocol);
}

/// A client that connects again, of a SOCKS5 proxy that gives these answers to its first attempt, each to so many bytes.
#[track_caller]
fn behind_socks(user: &str, answers: &[(usize, &[u8])]) -> (TcpListener, Running, Client, Events) {
    let (listener, running, options) = proxy("socks5h", user);
    let (client, events) = running.connect_persistently("ws://a.invalid/", &options, &soon(), Script::new());
    let mut peer = RawPeer::accept(&listener);
    for (asked, answer) in answers {
        peer.read_bytes(*asked);
        peer.write(answer);
    }
    peer.expect_end();
    (listener, running, client, events)
}

const GREETING: (usize, &[u8]) = (3, b"\x05\0");
/// Bytes of the request to connect to `a.invalid`.
const REQUEST: usize = 5 + "a.invalid".len() + 2;

#[test]
fn what_a_socks_proxy_refuses_for_good_is_not_tried_again() {
    for (user, answers, says) in [
        ("", &[(3, &b"\x05\xff"[..])][..], "it wants a user name and a password: put them into its URL"),
        ("user:secret@", &[(4, b"\x05\xff")], "it wants another kind of authentication than user name and password"),
        ("user:secret@", &[(4, b"\x05\x02"), (13, b"\x01\x01")], "it does not take the user name and password of its"),
        ("", &[GREETING, (REQUEST, b"\x05\x02\0\x01\0\0\0\0\0\0")], "its rules do not allow it"),
    ] {
        let (_listener, running, client, events) = behind_socks(user, answers);
        let Event::Error(_, failure) = events.next() else { panic!("no on_error") };
        assert_eq!((failure.stage, failure.kind), (Stage::Proxy, FailureKind::Refused), "{failure}");
        assert!(failure.message.contains(says), "{failure}");
        assert!(matches!(events.next(), Event::Closed(_, ended) if ended.code == 1006));
        let Event::GaveUp(of, give_up) = events.next() else { panic!("no on_give_up: {failure}") };
        assert_eq!((of, give_up.kind, give_up.http_status), (client, GiveUpKind::SocksRefusal, None));
        assert_eq!(give_up.message, format!("connecting again is of no use: {failure}"));
        assert!(!give_up.message.contains("secret"));
        assert!(running.on_loop(move || matches!(client.send("x"), Err(Error::Closed))));
    }
}

#[test]
fn after_other_replies_of_a_socks_proxy_there_is_another_attempt() {
    for code in [1, 3, 4, 5, 6, 7, 8, 9] {
        let reply = [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
        let (listener, _running, client, events) = behind_socks("", &[GREETING, (REQUEST, &reply)]);
        assert_eq!(events.reconnecting().0, 1, "{code}");
        assert_eq!(RawPeer::accept(&listener).read_bytes(3), b"\x05\x01\0");
        client.terminate().unwrap();
    }
}

#[test]
fn an_answer_of_the_proxy_that_never_ends_is_stopped_at_max_head() {
    let (listener, running, options) = proxy("http", "");
    let (client, events) = running.connect("ws://a.invalid/", &options, Script::new());
    let mut peer = RawPeer::accept(&listener);
    peer.read_head();
    peer.write(b"HTTP/1.1 200 OK\r\nX: ");
    peer.write_until_the_end(&[b'x'; 1024]);
    let failure = events.failure_of(client);
    assert_eq!((failure.stage, failure.kind), (Stage::Proxy, FailureKind::Limit), "{failure}");
    assert!(failure.message.contains("max_head"), "{failure}");
}

#[test]
fn a_proxy_that_never_answers_is_given_up_after_either_timeout() {
    type Set = fn(&mut Options);
    let handshake: Set = |options| options.handshake_timeout = Duration::from_millis(80);
    let connect: Set = |options| options.connect_timeout = Duration::from_millis(80);
    for (scheme, begin) in
        [("http", &b"HTTP/1.1 200"[..]), ("http", b""), ("socks5h", b"\x05"), ("socks5h", b"\x05\0\x05\0")]
    {
        for (option, set) in [("handshake_timeout", handshake), ("connect_timeout", connect)] {
            let (listener, running, mut options) = proxy(scheme, "");
            set(&mut options);
            let (client, events) = running.connect("ws://a.invalid/", &options, Script::new());
            let mut peer = RawPeer::accept(&listener);
            peer.write(begin);
            let failure = events.failure_of(client);
            assert_eq!((failure.stage, failure.kind), (Stage::Proxy, FailureKind::Timeout));
            assert_eq!(failure.message, format!("the proxy did not open its tunnel within 80ms ({option})"));
        }
    }
}

#[test]
fn a_proxy_that_leaves_is_told() {
    for reset in [false, true] {
        let (listener, running, options) = proxy("http", "");
        let (client, events) = running.connect("ws://a.invalid/", &options, Script::new());
        let mut peer = RawPeer::accept(&listener);
        peer.read_head();
        peer.write(b"HTTP/1.1 200");
        if reset {
            peer.reset();
        } else {
            peer.finish();
        }
        let failure = events.failure_of(client);
        assert_eq!((failure.stage, failure.kind), (Stage::Proxy, FailureKind::Transport), "{failure}");
        assert!(failure.message.contains("the proxy"), "{failure}");
    }
}

#[test]
fn a_proxy_that_leaves_amid_an_answer_of_socks_is_told() {
    let (listener, running, mut options) = proxy("socks5h", "");
    // Nothing but its end can end this.
    options.handshake_timeout = Duration::ZERO;
    for (before, part) in [(&[][..], &b"\x05"[..]), (&[b"\x05\0"], &CONNECTED[..9])] {
        let (client, events) = running.connect("ws://a.invalid/", &options, Script::new());
        let mut peer = RawPeer::accept(&listener);
        peer.read_bytes(3);
        for answer in before {
            peer.write(*answer);
            peer.read_bytes(5 + "a.invalid".len() + 2);
        }
        peer.write(part);
        peer.finish();
        let failure = events.failure_of(client);
        assert_eq!((failure.stage, failure.kind), (Stage::Proxy, FailureKind::Transport), "{failure}");
        peer.expect_end();
    }
}

#[test]
fn a_proxy_that_is_not_there_is_told_as_such() {
    let (listener, running, mut options) = proxy("http", "user:secret@");
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (client, events) = running.connect("ws://a.invalid/", &options, Script::new());
    let failure = events.failure_of(client);
    assert_eq!((failure.stage, failure.os_error), (Stage::Connect, Some(libc::ECONNREFUSED)));
    assert!(failure.message.starts_with(&format!("cannot connect to the proxy {address}: ")), "{failure}");

    options.proxy = Some("socks5h://user:secret@nobody.invalid".into());
    let (client, events) = running.connect("ws://a.invalid/", &options, Script::new());
    let failure = events.failure_of(client);
    assert_eq!(failure.stage, Stage::Resolve);
    assert!(
        failure.message.contains("the proxy nobody.invalid:1080") && !failure.message.contains("secret"),
        "{failure}"
    );
    assert!(!format!("{options:?}").contains("secret"));
}

#[test]
fn a_client_is_closed_cut_or_shut_down_while_its_proxy_thinks() {
    for how in 0..3 {
        let (listener, running, options) = proxy("socks5h", "");
        let (client, events) = running.connect("ws://a.invalid/", &options, Script::new());
        let mut peer = RawPeer::accept(&listener);
        peer.read_bytes(3);
        match how {
            0 => client.close(1000, "").unwrap(),
            1 => client.terminate().unwrap(),
            _ => running.handle.shutdown(Duration::ZERO).unwrap(),
        }
        let ended = events.closed();
        assert_eq!((ended.code, ended.was_clean), (1006, false));
        let kind = ended.failure.map(|failure| (failure.stage, failure.kind));
        assert_eq!(kind, (how == 2).then_some((Stage::Proxy, FailureKind::Shutdown)));
        peer.expect_end();
    }
}

#[test]
fn a_unix_socket_is_reached_without_a_proxy() {
    let path = std::env::temp_dir().join(format!("wsx-{}-no-proxy", std::process::id()));
    let (_listener, running, options) = proxy("http", "");
    let (handle, address) = (running.handle.clone(), format!("unix:{}", path.display()));
    let (recorder, served) = support::Recorder::new(Script::new());
    running.on_loop(move || handle.listen(&address, &Options::default(), recorder).unwrap());
    let (client, events) = running.connect(&format!("ws+unix:{}", path.display()), &options, Script::new());
    assert_eq!(events.opened(), client);
    served.opened();
}

#[test]
fn proxies_that_cannot_be_used_are_refused_by_the_call() {
    let running = Running::idle();
    for url in
        ["proxy:3128", "https://user:secret@proxy", "socks4://proxy", "http://user:sec%0aret@proxy", "http://proxy/x"]
    {
        let mut options = Options::default();
        options.proxy = Some(url.into());
        let handle = running.handle.clone();
        let (recorder, _events) = support::Recorder::new(Script::new());
        let error = running.on_loop(move || handle.connect("ws://a/", &options, recorder).unwrap_err().to_string());
        assert!(error.contains("the proxy") && !error.contains("sec"), "{error}");
    }
}

#[test]
fn the_first_frames_of_a_server_behind_a_proxy_are_heard() {
    let (listener, running, options) = proxy("socks5h", "");
    let (_, events) = running.connect("ws://name.invalid/", &options, Script::new());
    let mut peer = RawPeer::accept(&listener);
    peer.read_bytes(3);
    peer.write(b"\x05\0");
    peer.read_bytes(5 + "name.invalid".len() + 2);
    peer.write(CONNECTED);
    let head = peer.read_head();
    running.meanwhile(|| {
        peer.answer_upgrade(&head, "");
        peer.send_text("early");
    });
    assert!(matches!(events.next(), Event::Opened(..)));
    assert!(matches!(events.next(), Event::Text(_, text) if text == "early"));
}
