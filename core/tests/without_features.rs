//! What a build says that was made without a feature, where a program asks for it: `make test-rust` and
//! `cargo test -p wsx-core --no-default-features`. All other tests run there as well, but those of the features.

#![cfg(not(all(feature = "deflate", feature = "tls")))]

use wsx_core::{Error, EventLoop, Handler, Options, Result};

#[derive(Debug)]
struct Nothing;

impl Handler for Nothing {}

fn assert_unsupported<T: std::fmt::Debug>(outcome: Result<T>, sentence: &str) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
    assert_eq!(error.to_string(), sentence);
}

#[cfg(not(feature = "deflate"))]
#[test]
fn compression_is_refused_by_listen_and_connect() {
    const SENTENCE: &str = "this build has no compression: it was built without the feature deflate";
    let event_loop = EventLoop::new().unwrap();
    let mut options = Options::default();
    options.compression = Some(wsx_core::Compression::default());
    assert_unsupported(event_loop.listen("127.0.0.1:0", &options, Nothing), SENTENCE);
    assert_unsupported(event_loop.connect("ws://127.0.0.1:9/", &options, Nothing), SENTENCE);
}

#[cfg(not(feature = "tls"))]
#[test]
fn tls_is_refused_by_listen_and_reload_and_for_wss_urls() {
    const SENTENCE: &str = "this build has no TLS: it was made without the feature tls";
    let event_loop = EventLoop::new().unwrap();
    // Whether there are such files is not even looked at.
    let tls = wsx_core::Tls::server("chain.pem", "key.pem");
    let mut options = Options::default();
    assert_unsupported(event_loop.connect("wss://127.0.0.1:9/", &options, Nothing), SENTENCE);
    let plain = event_loop.listen("127.0.0.1:0", &options, Nothing).unwrap();
    assert_unsupported(event_loop.handle().reload_tls(plain, &tls), SENTENCE);
    options.tls = Some(tls);
    assert_unsupported(event_loop.listen("127.0.0.1:0", &options, Nothing), SENTENCE);
}
