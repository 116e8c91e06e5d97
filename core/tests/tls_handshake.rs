//! Whom TLS lets in, and what is told of those whom it does not.

#![cfg(feature = "tls")]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use rcgen::KeyPair;
use support::tls::{Authority, Issued, VERSIONS, connect};
use support::{DEADLINE, Event, Events, RawPeer, Recorder, Running, Script, Server};
use wsx_core::{ClientAuth, Error, EventLoop, Failure, FailureKind, Options, Response, Side, Stage, Tls};

fn url(server: &Server) -> String {
    format!("wss://127.0.0.1:{}/", server.address().port())
}

/// The failure of a connect, which is told once, and then with the close, begun by this side.
#[track_caller]
fn failed(events: &Events, by: Side) -> Failure {
    let Event::Error(_, failure) = events.next() else { panic!("no on_error") };
    let Event::Closed(_, ended) = events.next() else { panic!("no on_close") };
    assert_eq!((ended.code, ended.was_clean, ended.by), (1006, false, by));
    assert_eq!(ended.failure.as_ref(), Some(&failure));
    failure
}

/// What a client of these options is told that connects to a server which shows this certificate.
#[track_caller]
fn refused(shown: &Issued, client: &Options) -> Failure {
    let server = Server::start(&shown.server(), Script::new());
    let (_, events) = server.connect(&url(&server), client, Script::new());
    let failure = failed(&events, Side::Us);
    assert_eq!((failure.stage, failure.kind), (Stage::Tls, FailureKind::Refused), "{failure}");
    failure
}

#[track_caller]
fn assert_says(failure: &Failure, parts: &[&str]) {
    for part in parts {
        assert!(failure.message.contains(part), "{part:?} is missing: {failure}");
    }
}

fn tls(options: &mut Options) -> &mut Tls {
    options.tls.as_mut().unwrap()
}

#[test]
fn a_certificate_of_an_unknown_issuer_is_refused() {
    let (authority, stranger) = (Authority::new("A"), Authority::new("B"));
    assert_says(&refused(&stranger.local(), &authority.client()), &["unknown issuer", "option ca"]);
}

#[test]
fn the_systems_issuers_are_trusted_where_no_others_are_named() {
    let authority = Authority::new("A");
    let failure = refused(&authority.local(), &Options::default());
    assert_says(&failure, &["unknown issuer", "option ca"]);
}

#[test]
fn a_self_signed_certificate_is_refused_unless_it_is_named() {
    let key = KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap();
    let issued = Issued {
        chain: certificate.pem().into_bytes(),
        key: key.serialize_pem().into_bytes(),
        der: certificate.der().to_vec(),
    };
    assert_says(&refused(&issued, &Authority::new("A").client()), &["self-signed", "option ca"]);

    let server = Server::start(&issued.server(), Script::new());
    let mut options = Options::default();
    options.tls = Some(Tls::default());
    tls(&mut options).ca = Some(issued.chain.clone().into());
    let (_, events) = server.connect(&url(&server), &options, Script::new());
    events.opened();
}

#[test]
fn a_certificate_of_an_issuer_is_refused_with_advice() {
    let authority = Authority::new("A");
    let issuer = authority.issue_with(&["127.0.0.1"], |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    assert_says(&refused(&issuer, &authority.client()), &["one of an issuer", "CA:FALSE"]);
}

#[test]
fn a_certificate_for_another_name_is_refused_and_tells_for_which() {
    let authority = Authority::new("A");
    let failure = refused(&authority.issue(&["one.test", "two.test"]), &authority.client());
    assert_says(&failure, &["127.0.0.1", "one.test", "two.test", "server_name"]);
}

#[test]
fn the_option_server_name_is_asked_for_and_verified() {
    let authority = Authority::new("A");
    let (names, asked) = mpsc::channel();
    let script = Script::new().on_request(move |request| {
        names.send(request.server_name().map(str::to_owned)).unwrap();
        Response::accept()
    });
    let server = Server::start(&authority.issue(&["one.test"]).server(), script);
    let mut options = authority.client();
    tls(&mut options).server_name = Some("One.test".into());
    let (_, events) = server.connect(&url(&server), &options, Script::new());
    events.opened();
    assert_eq!(asked.recv_timeout(DEADLINE).unwrap().as_deref(), Some("one.test"));
}

#[test]
fn a_certificate_out_of_its_time_is_refused() {
    let authority = Authority::new("A");
    let past = authority.issue_with(&["127.0.0.1"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    assert_says(&refused(&past, &authority.client()), &["expired", "clock"]);
    let future = authority.issue_with(&["127.0.0.1"], |params| params.not_before = rcgen::date_time_ymd(3000, 1, 1));
    assert_says(&refused(&future, &authority.client()), &["not valid yet", "clock"]);
}

#[test]
fn the_dangerous_option_takes_any_certificate() {
    let stranger = Authority::new("B");
    let past = stranger.issue_with(&["one.test"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let mut options = Options::default();
    options.tls = Some(Tls::default());
    tls(&mut options).danger_accept_invalid_certificates = true;
    for version in VERSIONS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let running = Running::idle();
        let url = format!("wss://{}/", listener.local_addr().unwrap());
        let (_, events) = running.connect(&url, &options, Script::new());
        let mut peer = past.accept_with(&listener, past.raw_server(&[version]));
        let head = peer.read_head();
        peer.answer_upgrade(&head, "");
        events.opened();
    }
}

/// A server that asks for certificates of this authority, and tells what its hook sees of them.
fn asking(client_auth: ClientAuth, issuer: &Authority, shown: &Issued) -> (Server, mpsc::Receiver<Vec<Vec<u8>>>) {
    let (chains, seen) = mpsc::channel();
    let script = Script::echo().on_request(move |request| {
        chains.send(request.peer_certificates().to_vec()).unwrap();
        Response::accept()
    });
    let mut options = shown.server();
    let tls = options.tls.as_mut().unwrap();
    (tls.client_auth, tls.ca) = (client_auth, Some(issuer.pem().into()));
    (Server::start(&options, script), seen)
}

#[test]
fn a_server_that_requires_a_certificate_sees_it_and_refuses_who_has_none() {
    let (authority, people) = (Authority::new("A"), Authority::new("People"));
    let (server, seen) = asking(ClientAuth::Required, &people, &authority.local());
    let (ann, stranger) = (people.issue(&["ann"]), authority.issue(&["ann"]));

    let mut options = authority.client();
    tls(&mut options).certificates = vec![ann.certificate()];
    let (_, events) = server.connect(&url(&server), &options, Script::new());
    events.opened();
    assert!(seen.recv_timeout(DEADLINE).unwrap() == [ann.der.clone()]);
    // A session that is resumed is the same person's.
    for version in VERSIONS {
        let config = authority.raw_client(&[version], Some(&ann));
        for _ in 0..2 {
            let mut peer = connect(server.address(), config.clone(), "localhost");
            peer.upgrade(server.address());
            peer.send_text("hello");
            peer.expect_text("hello");
            assert!(seen.recv_timeout(DEADLINE).unwrap() == [ann.der.clone()]);
        }
    }

    let (_, events) = server.connect(&url(&server), &authority.client(), Script::new());
    let failure = failed(&events, Side::Peer);
    assert_eq!((failure.stage, failure.kind), (Stage::Tls, FailureKind::Refused));
    assert_says(&failure, &["certificate_required", "set certificates"]);

    tls(&mut options).certificates = vec![stranger.certificate()];
    let (_, events) = server.connect(&url(&server), &options, Script::new());
    let failure = failed(&events, Side::Peer);
    assert_eq!((failure.stage, failure.kind), (Stage::Tls, FailureKind::Refused));
    assert_says(&failure, &["the alert", "does not take our certificate"]);
    assert!(seen.try_recv().is_err(), "a hook was called for one that is refused");
}

#[test]
fn a_server_that_asks_takes_who_has_no_certificate_but_no_wrong_one() {
    let (authority, people) = (Authority::new("A"), Authority::new("People"));
    let (server, seen) = asking(ClientAuth::Optional, &people, &authority.local());
    let ann = people.issue(&["ann"]);
    let mut options = authority.client();
    for (certificates, expected) in [(vec![], vec![]), (vec![ann.certificate()], vec![ann.der.clone()])] {
        tls(&mut options).certificates = certificates;
        let (_, events) = server.connect(&url(&server), &options, Script::new());
        events.opened();
        assert!(seen.recv_timeout(DEADLINE).unwrap() == expected);
    }
    tls(&mut options).certificates = vec![authority.issue(&["ann"]).certificate()];
    let (_, events) = server.connect(&url(&server), &options, Script::new());
    assert_eq!(failed(&events, Side::Peer).stage, Stage::Tls);
}

#[test]
fn who_does_not_ask_sees_no_certificate() {
    let (authority, people) = (Authority::new("A"), Authority::new("People"));
    let (chains, seen) = mpsc::channel();
    let script = Script::new().on_request(move |request| {
        chains.send(request.peer_certificates().len()).unwrap();
        Response::accept()
    });
    let server = Server::start(&authority.local().server(), script);
    let mut options = authority.client();
    tls(&mut options).certificates = vec![people.issue(&["ann"]).certificate()];
    let (_, events) = server.connect(&url(&server), &options, Script::new());
    events.opened();
    assert_eq!(seen.recv_timeout(DEADLINE).unwrap(), 0);
}

#[test]
fn a_client_that_speaks_other_protocols_only_is_told_so() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::new());
    let mut options = authority.client();
    tls(&mut options).alpn = vec!["h2".into()];
    let (_, events) = server.connect(&url(&server), &options, Script::new());
    let failure = failed(&events, Side::Peer);
    assert_eq!((failure.stage, failure.kind), (Stage::Tls, FailureKind::Refused));
    assert_says(&failure, &["no_application_protocol", "alpn"]);

    tls(&mut options).alpn = vec!["h2".into(), "http/1.1".into()];
    let (_, events) = server.connect(&url(&server), &options, Script::new());
    events.opened();
    let mut config = authority.raw_client(&VERSIONS, None);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut peer = connect(server.address(), config, "localhost");
    peer.upgrade(server.address());
    assert_eq!(peer.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn a_plain_client_of_a_tls_port_is_answered_in_plain_text() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::new());
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD /", "OPTIONS * HTTP/1.1\r\n", "PROPFIND / HTTP/1.1\r\n"]
    {
        let answer = server.ask(request);
        assert_eq!(answer.status, 400, "{request}");
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(answer.body, "this port speaks TLS: use https:// or wss://\n");
    }
    // The first letter is enough.
    let mut peer = RawPeer::connect(server.address());
    peer.write(b"G");
    assert_eq!(peer.read_answer().status, 400);
}

#[test]
fn a_plain_client_of_ours_learns_that_the_port_speaks_tls() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::new());
    let (_, events) = server.connect(&format!("ws://{}/", server.address()), &Options::default(), Script::new());
    let failure = failed(&events, Side::Us);
    assert_eq!((failure.stage, failure.http_status), (Stage::Http, Some(400)));
}

#[test]
fn junk_is_answered_with_an_alert_and_the_end() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::new());
    let oversized: &[u8] = b"\x16\x03\x01\xff\xff\x01\x00\x00\x00";
    for junk in [&b"\x00\x01\x02\x03\x04\x05"[..], b"get / http/1.1\r\n", b"\x80\x2e\x01\x03\x01", oversized] {
        let mut peer = RawPeer::connect(server.address());
        peer.write(junk);
        let answer = peer.read_to_end();
        assert_eq!((answer.first(), answer.len()), (Some(&21), 7), "no alert for {junk:x?}: {answer:x?}");
    }
    authority.open(server.address());
}

#[test]
fn a_handshake_that_goes_wrong_in_the_middle_ends_with_an_alert() {
    let authority = Authority::new("A");
    let server = Server::start(&authority.local().server(), Script::new());
    let mut peer = authority.connect(server.address());
    let mut hello = Vec::new();
    peer.stream.conn.write_tls(&mut hello).unwrap();
    // After a good beginning a record that cannot be decrypted, and much behind it that nobody reads.
    hello.extend(b"\x17\x03\x03\x00\x20");
    hello.extend([7; 32]);
    hello.extend([0; 100_000]);
    peer.stream.sock.write_all(&hello).unwrap();
    let error = peer.stream.read(&mut [0]).unwrap_err().to_string();
    assert!(error.contains("BadRecordMac") || error.contains("DecryptError"), "{error}");
}

#[test]
fn a_server_without_tls_is_named_as_the_cause() {
    let plain = Server::start(&Options::default(), Script::new());
    let (_, events) = plain.connect(&url(&plain), &Authority::new("A").client(), Script::new());
    let failure = failed(&events, Side::Us);
    assert_eq!((failure.stage, failure.kind), (Stage::Tls, FailureKind::Protocol));
    assert_says(&failure, &["not TLS", "ws://"]);
}

#[test]
fn a_server_that_hangs_up_in_the_handshake_is_told_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("wss://{}/", listener.local_addr().unwrap());
    for reset in [false, true] {
        let running = Running::idle();
        let (_, events) = running.connect(&url, &Authority::new("A").client(), Script::new());
        let mut peer = RawPeer::accept(&listener);
        peer.read_bytes(100);
        if reset {
            peer.reset();
        } else {
            peer.finish();
        }
        let failure = failed(&events, Side::Peer);
        assert_eq!((failure.stage, failure.kind), (Stage::Tls, FailureKind::Transport), "{failure}");
    }
}

#[test]
fn choices_that_cannot_be_used_are_refused_by_listen() {
    let authority = Authority::new("A");
    let (one, other) = (authority.local(), authority.local());
    let folder = std::env::temp_dir().join(format!("wsx-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let (chain, key) = (file("chain.pem", &one.chain), file("key.pem", &one.key));
    let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let event_loop = EventLoop::new().unwrap();
    let listen = |tls: Tls| {
        let mut options = Options::default();
        options.tls = Some(tls);
        event_loop.listen("127.0.0.1:0", &options, Recorder::new(Script::new()).0)
    };
    listen(Tls::server(chain.clone(), key.clone())).unwrap();
    let missing = folder.join("missing.pem");
    for (tls, parts) in [
        (Tls::default(), &["needs a certificate"][..]),
        (Tls::server(missing.clone(), key.clone()), &["cannot read the file", "missing.pem"]),
        (Tls::server(chain.clone(), missing), &["cannot read the file", "missing.pem"]),
        (Tls::server(key.clone(), key.clone()), &["key.pem", "holds no certificate in PEM"]),
        (Tls::server(chain.clone(), chain.clone()), &["chain.pem", "holds no private key in PEM"]),
        (Tls::server(file("empty.pem", b""), key.clone()), &["empty.pem", "holds no certificate"]),
        (Tls::server(chain.clone(), other.key.clone()), &["does not belong to the certificate", "chain.pem"]),
        (Tls::server(chain.clone(), encrypted.to_vec()), &["encrypted", "decrypt it first"]),
        (Tls::server(b"-----BEGIN CERTIFICATE-----\nAAAA\n".to_vec(), key.clone()), &["malformed PEM"]),
        (
            Tls::server(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(), key.clone()),
            &["cannot be used"],
        ),
    ] {
        let error = listen(tls).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
    }
    let mut asks = one.tls();
    asks.client_auth = ClientAuth::Required;
    assert!(listen(asks).unwrap_err().to_string().contains("client_auth needs ca"));
    let mut names = one.tls();
    names.ca = Some(authority.pem().into());
    assert!(listen(names).unwrap_err().to_string().contains("client_auth asks for none"));
    let mut long = one.tls();
    long.alpn = vec!["x".repeat(256)];
    assert!(listen(long).unwrap_err().to_string().contains("256 bytes"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_key_is_never_shown() {
    let issued = Authority::new("A").local();
    let shown = format!("{:?}", issued.server());
    assert!(shown.contains(&format!("Bytes({} bytes)", issued.key.len())), "{shown}");
}

#[test]
fn choices_of_a_client_that_cannot_be_used_are_refused_by_connect() {
    let event_loop = EventLoop::new().unwrap();
    let connect = |url: &str, change: &dyn Fn(&mut Tls)| {
        let mut options = Options::default();
        options.tls = Some(Tls::default());
        change(tls(&mut options));
        event_loop.connect(url, &options, Recorder::new(Script::new()).0)
    };
    for (change, part) in [
        (&(|tls: &mut Tls| tls.server_name = Some("a b".into())) as &dyn Fn(&mut Tls), "server_name"),
        (&|tls| tls.ca = Some(b"nothing".to_vec().into()), "no certificate in PEM"),
        (&|tls| tls.alpn = vec![String::new()], "ALPN"),
    ] {
        let error = connect("wss://127.0.0.1:1/", change).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)) && error.to_string().contains(part), "{error}");
        // Nobody looks at them for a plain connection.
        connect("ws://127.0.0.1:1/", change).unwrap();
    }
}
