//! Clients that follow redirects: where they go, what they take along, and where it ends.

mod support;

use std::net::TcpListener;
use std::time::Duration;

use support::{Events, RawPeer, Running, Script};
use wsx_core::{Connection, Failure, FailureKind, Options, Stage};

/// Options with so many redirects, and headers of which some are secrets.
fn following(max: u32) -> Options {
    let mut options = Options::default();
    options.max_redirects = max;
    let headers = [
        ("Authorization", "Bearer 1"),
        ("Cookie", "a=b"),
        ("X-Api-Key", "2"),
        ("X-Trace", "3"),
        ("Origin", "http://a"),
    ];
    options.headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    options
}

struct Scene {
    running: Running,
    listener: TcpListener,
}

impl Scene {
    fn new() -> Self {
        Self { running: Running::idle(), listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    fn url(&self, user: &str) -> String {
        format!("ws://{user}{}/a/b?q", self.authority())
    }

    fn authority(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    fn connect(&self, user: &str, options: &Options) -> (Connection, Events) {
        self.running.connect(&self.url(user), options, Script::new())
    }

    /// Answers the next request so, and returns its head.
    #[track_caller]
    fn redirect(&self, status: u16, location: &str) -> String {
        redirect(&self.listener, status, location)
    }
}

#[track_caller]
fn redirect(listener: &TcpListener, status: u16, location: &str) -> String {
    let mut peer = RawPeer::accept(listener);
    let head = peer.read_head();
    let body = "<a href=elsewhere>moved</a>";
    peer.write(
        format!("HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .as_bytes(),
    );
    head
}

#[track_caller]
fn refused(client: Connection, events: &Events, kind: FailureKind, says: &str) -> Failure {
    let failure = events.failure_of(client);
    assert_eq!((failure.stage, failure.kind, failure.http_status), (Stage::Http, kind, Some(302)), "{failure}");
    assert!(failure.message.contains(says), "{failure}");
    failure
}

#[test]
fn a_redirect_is_followed_with_all_that_belongs_to_the_origin() {
    for status in [301, 302, 303, 307, 308] {
        let scene = Scene::new();
        let (client, events) = scene.connect("", &following(1));
        let first = scene.redirect(status, "../c?d#e");
        let (mut peer, second) = RawPeer::accept_upgrade(&scene.listener);
        assert!(second.starts_with("GET /c?d HTTP/1.1\r\n"), "{second}");
        let key = |head: &str| head.lines().find(|line| line.starts_with("Sec-WebSocket-Key")).unwrap().to_owned();
        assert_ne!(key(&first), key(&second), "each handshake has a key of its own");
        let without =
            |head: &str| head.lines().skip(1).filter(|line| *line != key(head)).collect::<Vec<_>>().join("\n");
        assert_eq!(without(&first), without(&second));
        assert_eq!(events.opened(), client);
        peer.send_text("here");
        assert_eq!(events.text(), "here");
    }
}

#[test]
fn no_redirect_is_followed_unless_it_is_asked_for() {
    let scene = Scene::new();
    let (client, events) = scene.connect("", &Options::default());
    scene.redirect(302, "/elsewhere");
    refused(client, &events, FailureKind::Refused, "the server answered 302 Moved instead");
}

#[test]
fn an_absolute_location_leads_to_another_server_without_credentials() {
    let (scene, other) = (Scene::new(), Scene::new());
    let mut options = following(3);
    options.headers.remove(0);
    let (client, events) = scene.connect("user:secret@", &options);
    let head = scene.redirect(302, &format!("http://{}/x", other.authority()));
    for line in ["Authorization: Basic dXNlcjpzZWNyZXQ=", "Cookie: a=b", "X-Api-Key: 2", "X-Trace: 3"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} is missing: {head}");
    }
    let head = other.redirect(307, "/y");
    assert!(head.starts_with("GET /x HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nHost: {}\r\n", other.authority())), "{head}");
    // Back again, they stay away: who has redirected once decides nothing any more.
    let more = other.redirect(302, &scene.url(""));
    let (_peer, back) = RawPeer::accept_upgrade(&scene.listener);
    for head in [head, more, back] {
        for secret in ["Authorization", "Cookie", "X-Api-Key"] {
            assert!(!head.contains(secret), "{secret} is told: {head}");
        }
        assert!(head.contains("\r\nX-Trace: 3\r\n") && head.contains("\r\nOrigin: http://a\r\n"), "{head}");
    }
    assert_eq!(events.opened(), client);
}

#[test]
fn the_user_of_the_url_stays_with_its_origin() {
    let scene = Scene::new();
    let mut options = Options::default();
    options.max_redirects = 1;
    let (_, _events) = scene.connect("user:secret@", &options);
    scene.redirect(302, "/x");
    let head = RawPeer::accept(&scene.listener).read_head();
    assert!(head.contains("\r\nAuthorization: Basic dXNlcjpzZWNyZXQ=\r\n"), "{head}");
}

#[test]
fn redirects_end_at_the_limit() {
    let scene = Scene::new();
    let (client, events) = scene.connect("", &following(2));
    for _ in 0..3 {
        scene.redirect(302, "/again");
    }
    refused(client, &events, FailureKind::Limit, "the server redirects more often than max_redirects (2) allows");
}

#[test]
fn a_location_that_leads_nowhere_is_told() {
    for (location, says) in [
        ("ftp://user:secret@a/", "another scheme"),
        ("http://a:x/", "malformed"),
        ("http://", "malformed"),
        ("ws+unix:/run/socket", "another scheme"),
    ] {
        let scene = Scene::new();
        let (client, events) = scene.connect("", &following(5));
        scene.redirect(302, location);
        let failure = refused(client, &events, FailureKind::Refused, says);
        assert!(!failure.message.contains("secret"), "{failure}");
    }
}

#[test]
fn a_redirect_to_where_nobody_is_fails_as_any_connect() {
    let (scene, gone) = (Scene::new(), Scene::new());
    let authority = gone.authority();
    drop(gone);
    let (client, events) = scene.connect("", &following(1));
    scene.redirect(302, &format!("ws://{authority}/"));
    let failure = events.failure_of(client);
    assert_eq!((failure.stage, failure.os_error), (Stage::Connect, Some(libc::ECONNREFUSED)));
    assert!(failure.message.contains(&authority), "{failure}");
}

#[test]
fn all_redirects_share_one_handshake_timeout() {
    let scene = Scene::new();
    let mut options = following(u32::MAX);
    options.handshake_timeout = Duration::from_millis(200);
    // Each time anew, and so never over.
    options.connect_timeout = support::DEADLINE;
    let (client, events) = scene.connect("", &options);
    let stop = std::sync::atomic::AtomicBool::new(false);
    scene.listener.set_nonblocking(true).unwrap();
    let failure = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let Ok((stream, _)) = scene.listener.accept() else {
                    std::thread::yield_now();
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                let mut peer = RawPeer::new(stream, false);
                peer.try_write(b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n");
                peer.read_to_end();
            }
        });
        let failure = events.failure_of(client);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        failure
    });
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(failure.message.contains("within 200ms (handshake_timeout)"), "{failure}");
}

#[test]
fn the_time_to_connect_begins_anew_with_each_redirect() {
    let scene = Scene::new();
    let mut options = following(1);
    options.connect_timeout = Duration::from_millis(150);
    let (client, events) = scene.connect("", &options);
    let mut peer = RawPeer::accept(&scene.listener);
    peer.read_head();
    // Another one begins later, and runs out of it: now the first would have as well.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    options.proxy = Some(format!("http://{}", silent.local_addr().unwrap()).into());
    let (late, late_events) = scene.connect("", &options);
    assert_eq!(late_events.failure_of(late).kind, FailureKind::Timeout);
    peer.write(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n");
    let _peer = RawPeer::accept_upgrade(&scene.listener);
    assert_eq!(events.opened(), client);
}

#[test]
fn a_redirect_leads_through_the_proxy_again() {
    let scene = Scene::new();
    let mut options = Options::default();
    options.max_redirects = 1;
    options.proxy = Some(format!("http://{}", scene.authority()).into());
    let (client, events) = scene.running.connect("ws://a.invalid/", &options, Script::new());
    for (host, target) in [("a.invalid", "/"), ("b.invalid", "/x")] {
        let mut peer = RawPeer::accept(&scene.listener);
        assert!(peer.read_head().starts_with(&format!("CONNECT {host}:80 ")));
        peer.write(b"HTTP/1.1 200 OK\r\n\r\n");
        let head = peer.read_head();
        assert!(head.starts_with(&format!("GET {target} ")), "{head}");
        if host == "a.invalid" {
            peer.write(b"HTTP/1.1 301 Moved\r\nLocation: //b.invalid/x\r\n\r\n");
        } else {
            peer.answer_upgrade(&head, "");
            assert_eq!(events.opened(), client);
        }
    }
}

#[cfg(feature = "tls")]
#[test]
fn certificates_are_not_read_again_for_a_redirect() {
    let authority = support::tls::Authority::new("A");
    let issued = authority.local();
    let scene = Scene::new();
    let file = std::env::temp_dir().join(format!("wsx-{}-redirect.pem", std::process::id()));
    std::fs::write(&file, authority.pem()).unwrap();
    let mut options = Options::default();
    options.max_redirects = 5;
    let mut tls = wsx_core::Tls::default();
    tls.ca = Some(file.clone().into());
    options.tls = Some(tls);
    let port = scene.listener.local_addr().unwrap().port();
    let (client, events) = scene.running.connect(&format!("wss://127.0.0.1:{port}/"), &options, Script::new());
    let mut peer = issued.accept(&scene.listener);
    peer.read_head();
    std::fs::remove_file(&file).unwrap();
    // Another name, which is checked as such.
    peer.write(format!("HTTP/1.1 302 Found\r\nLocation: wss://localhost:{port}/x\r\n\r\n").as_bytes());
    let mut peer = issued.accept(&scene.listener);
    let head = peer.read_head();
    assert!(head.contains(&format!("\r\nHost: localhost:{port}\r\n")), "{head}");
    peer.answer_upgrade(&head, "");
    assert_eq!(events.opened(), client);
}

#[cfg(feature = "tls")]
#[test]
fn a_redirect_may_lead_to_tls_but_never_away_from_it() {
    let authority = support::tls::Authority::new("A");
    let issued = authority.local();
    let (plain, secure) = (Scene::new(), Scene::new());
    let mut options = authority.client();
    options.max_redirects = 5;
    let (client, events) = plain.connect("", &options);
    plain.redirect(302, &format!("https://{}/x", secure.authority()));
    let mut peer = issued.accept(&secure.listener);
    assert!(peer.read_head().starts_with("GET /x "));
    peer.write(format!("HTTP/1.1 302 Found\r\nLocation: ws://{}/\r\n\r\n", plain.authority()).as_bytes());
    let failure = events.failure_of(client);
    assert_eq!((failure.stage, failure.kind), (Stage::Http, FailureKind::Refused));
    assert!(failure.message.contains("leave TLS"), "{failure}");
}
