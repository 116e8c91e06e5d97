//! Tests of the negotiation: offers and answers in words, what comes of them.

use super::*;

fn headers<'a>(values: &[&'a str]) -> Vec<Header<'a>> {
    values.iter().map(|value| Header { name: "Sec-WebSocket-Extensions", value: value.as_bytes() }).collect()
}

/// Neither side keeps a context unless it is asked to, so that the answers below say what was asked.
fn options() -> Compression {
    let (server_no_context_takeover, client_no_context_takeover) = (false, false);
    Compression { server_no_context_takeover, client_no_context_takeover, ..Compression::default() }
}

/// A server's answer to these headers; empty for none.
fn answer_of(values: &[&str], options: &Compression) -> String {
    accept(&headers(values), options).map(|agreement| agreement.to_string()).unwrap_or_default()
}

#[track_caller]
fn answers(offer: &str, expected: &str) {
    assert_eq!(answer_of(&[offer], &options()), expected, "{offer}");
}

#[test]
fn a_server_answers_what_is_offered() {
    answers("permessage-deflate", "permessage-deflate");
    answers(" \tpermessage-deflate\t ", "permessage-deflate");
    answers("permessage-deflate; client_max_window_bits", "permessage-deflate");
    answers("permessage-deflate;client_max_window_bits=15", "permessage-deflate");
    answers(
        "permessage-deflate ; client_max_window_bits=10 ; server_max_window_bits=12",
        "permessage-deflate; server_max_window_bits=12; client_max_window_bits=10",
    );
    answers("permessage-deflate; client_max_window_bits=8", "permessage-deflate; client_max_window_bits=8");
    answers("permessage-deflate; server_max_window_bits=15", "permessage-deflate; server_max_window_bits=15");
    answers("permessage-deflate; server_max_window_bits=\"1\\0\"", "permessage-deflate; server_max_window_bits=10");
    answers(
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    );
}

#[test]
fn a_server_answers_what_its_options_say_as_far_as_it_may() {
    let strict = Compression { server_max_window_bits: 11, client_max_window_bits: 10, ..Compression::default() };
    let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    for (offer, expected) in [
        ("permessage-deflate", "; server_max_window_bits=11"),
        ("permessage-deflate; server_max_window_bits=14", "; server_max_window_bits=11"),
        ("permessage-deflate; server_max_window_bits=9", "; server_max_window_bits=9"),
        ("permessage-deflate; client_max_window_bits", "; server_max_window_bits=11; client_max_window_bits=10"),
        ("permessage-deflate; client_max_window_bits=9", "; server_max_window_bits=11; client_max_window_bits=9"),
        ("permessage-deflate; client_max_window_bits=12", "; server_max_window_bits=11; client_max_window_bits=10"),
    ] {
        assert_eq!(answer_of(&[offer], &strict), format!("{both}{expected}"), "{offer}");
    }
}

#[test]
fn the_first_offer_that_can_be_kept_wins() {
    let both = "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=9";
    answers(both, "permessage-deflate; server_max_window_bits=9");
    answers("permessage-deflate; later, permessage-deflate; server_no_context_takeover, permessage-deflate", {
        "permessage-deflate; server_no_context_takeover"
    });
    answers("x-webkit-deflate-frame, ,permessage-deflate,", "permessage-deflate");
    let several = ["other; a=b; c=\"d\"", "", "permessage-deflate; x", "permessage-deflate; server_max_window_bits=13"];
    assert_eq!(answer_of(&several, &options()), "permessage-deflate; server_max_window_bits=13");
    assert_eq!(answer_of(&[], &options()), "");
}

#[test]
fn hostile_4_and_5_a_header_that_cannot_be_read_is_no_offer() {
    let unclosed = format!("permessage-deflate, a; b=\"{}", "\\c".repeat(8_000));
    for offer in [
        unclosed.as_str(),
        "constructor",
        ",;constructor",
        "permessage-deflate, ;constructor",
        "permessage-deflate;",
        "permessage-deflate; ;",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; client_max_window_bits =10",
        "permessage-deflate; client_max_window_bits= 10",
        "permessage-deflate; client_max_window_bits=10 11",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=\"1 0\"",
        "permessage-deflate; server_max_window_bits=\"10",
        "permessage-deflate; server_max_window_bits=\"10\"x",
        "permessage-deflate x",
        "permessage-deflate, a b",
        "permessage-deflate, \"a\"",
        "permessage-deflate, a=b",
        "permessage-deflate, a; b=c=d",
        "permessage-deflate, a; =b",
        "permessage-deflate, é",
        "Permessage-Deflate",
    ] {
        answers(offer, "");
    }
    assert_eq!(answer_of(&["permessage-deflate", "a;"], &options()), "", "several headers are one list");
    let not_text = [Header { name: "sec-websocket-extensions", value: b"permessage-deflate, \xff" }];
    assert_eq!(accept(&not_text, &options()), None);
}

#[test]
fn hostile_4_the_longest_header_is_read_in_linear_time() {
    // Each of these would take minutes if its length counted twice.
    for part in ["a,", "a;b,", "a;b=\"\\c\",", ",", " ", "permessage-deflate;x,"] {
        answers(&part.repeat(300_000), "");
    }
}

#[test]
fn hostile_6_quoted_commas_do_not_divide() {
    answers("x; y=\",permessage-deflate; client_max_window_bits,\"", "");
    answers("x; y=\"\\\",permessage-deflate\"", "");
    answers("x; y=\"\\,permessage-deflate\", permessage-deflate", "");
}

#[test]
fn hostile_7_offers_with_bad_parameters_are_declined() {
    for parameter in [
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=0",
        "server_max_window_bits=abc",
        "server_max_window_bits=008",
        "server_max_window_bits=010",
        "server_max_window_bits=+10",
        "server_max_window_bits=4294967306",
        "server_max_window_bits",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=09",
        "server_no_context_takeover=true",
        "client_no_context_takeover=\"10\"",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits=10; server_max_window_bits=10",
        "client_max_window_bits; client_max_window_bits=10",
        "Server_No_Context_Takeover",
        "unknown",
        "unknown=1",
    ] {
        answers(&format!("permessage-deflate; {parameter}"), "");
        answers(&format!("permessage-deflate; {parameter}, permessage-deflate"), "permessage-deflate");
    }
}

#[test]
fn hostile_30_a_window_of_256_bytes_is_not_promised() {
    answers("permessage-deflate; server_max_window_bits=8", "");
    // But a client may have one.
    let agreement = check_answer(&headers(&["permessage-deflate; client_max_window_bits=8"]), Some(&options()));
    let agreement = agreement.unwrap().unwrap();
    assert_eq!(agreement.sending(Role::Client, &options()), None);
    assert!(agreement.sending(Role::Server, &options()).is_some() && agreement.keeps_received(Role::Client));
}

#[test]
fn a_client_offers_what_its_options_say() {
    let offers = |options: &Compression, expected: &str| assert_eq!(offer(options), expected);
    offers(&options(), "permessage-deflate; client_max_window_bits");
    offers(
        &Compression::default(),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits",
    );
    let small = Compression { server_max_window_bits: 9, client_max_window_bits: 14, ..options() };
    offers(&small, "permessage-deflate; server_max_window_bits=9; client_max_window_bits=14");
    // What one door offers another takes.
    for options in [options(), Compression::default(), small] {
        let answer = answer_of(&[&offer(&options)], &Compression::default());
        let agreement = check_answer(&headers(&[&answer]), Some(&options)).unwrap().unwrap();
        assert_eq!(agreement.to_string(), answer);
    }
}

fn rejected(value: &str, offered: Option<&Compression>) -> String {
    check_answer(&headers(&[value]), offered).expect_err(value).into_owned()
}

#[test]
fn a_client_takes_an_answer_within_its_offer() {
    let check = |value: &str, options: &Compression| check_answer(&headers(&[value]), Some(options)).unwrap();
    assert_eq!(check_answer(&[], Some(&options())), Ok(None));
    assert_eq!(check("", &options()), None);
    assert_eq!(check_answer(&headers(&["", " ,"]), None), Ok(None));
    for value in [
        "permessage-deflate",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=8; client_max_window_bits=9",
        "permessage-deflate; server_max_window_bits=15; client_max_window_bits=15",
    ] {
        assert_eq!(check(value, &options()).unwrap().to_string(), value);
    }
    let strict = Compression { server_max_window_bits: 10, ..Compression::default() };
    assert!(check("permessage-deflate; server_max_window_bits=10; server_no_context_takeover", &strict).is_some());
}

#[test]
fn hostile_7_a_client_fails_a_connection_whose_answer_is_wrong() {
    let strict = Compression { server_max_window_bits: 10, ..Compression::default() };
    assert!(rejected("permessage-deflate", None).contains("not offered"));
    assert!(rejected("constructor", Some(&options())).contains("not offered"));
    assert!(rejected("permessage-deflate, permessage-deflate", Some(&options())).contains("more than one"));
    assert!(rejected("permessage-deflate; ;", Some(&options())).contains("malformed"));
    assert!(rejected("permessage-deflate", Some(&strict)).contains("server_no_context_takeover"));
    let no_bits = "permessage-deflate; server_no_context_takeover";
    assert!(rejected(no_bits, Some(&strict)).contains("server_max_window_bits=10"));
    assert!(rejected(&format!("{no_bits}; server_max_window_bits=11"), Some(&strict)).contains("=10"));
    for (parameter, why) in [
        ("client_max_window_bits", "without a value"),
        ("server_max_window_bits", "without a value"),
        ("server_max_window_bits=16", "8 to 15"),
        ("client_max_window_bits=7", "8 to 15"),
        ("client_max_window_bits=010", "8 to 15"),
        ("server_no_context_takeover=1", "with a value"),
        ("client_max_window_bits=9; client_max_window_bits=9", "twice"),
        ("client_no_context_takeover; client_no_context_takeover", "twice"),
        ("unknown", "unknown"),
    ] {
        let why_not = rejected(&format!("permessage-deflate; {parameter}"), Some(&options()));
        assert!(why_not.contains(why), "{parameter}: {why_not}");
    }
}

#[test]
fn each_side_compresses_and_remembers_as_agreed() {
    let agreed = |value: &str| check_answer(&headers(&[value]), Some(&options())).unwrap().unwrap();
    let plain = agreed("permessage-deflate");
    for role in [Role::Server, Role::Client] {
        assert!(plain.keeps_received(role));
        let sending = plain.sending(role, &options()).unwrap();
        assert_eq!((sending.window_bits, sending.keeps_context), (15, true));
    }
    let server = agreed("permessage-deflate; server_no_context_takeover; server_max_window_bits=9");
    assert!(!server.keeps_received(Role::Client) && server.keeps_received(Role::Server));
    let sending = server.sending(Role::Server, &options()).unwrap();
    assert_eq!((sending.window_bits, sending.keeps_context), (9, false));
    let client = agreed("permessage-deflate; client_no_context_takeover; client_max_window_bits=12");
    assert!(!client.keeps_received(Role::Server) && client.keeps_received(Role::Client));
    let sending = client.sending(Role::Client, &options()).unwrap();
    assert_eq!((sending.window_bits, sending.keeps_context), (12, false));
    // A client may do with less than it was granted.
    let modest = Compression { client_no_context_takeover: true, client_max_window_bits: 10, ..options() };
    let sending = plain.sending(Role::Client, &modest).unwrap();
    assert_eq!((sending.window_bits, sending.keeps_context), (10, false));
}

#[cfg(feature = "deflate")]
#[test]
fn options_out_of_range_are_refused() {
    let default = Compression::default;
    assert!(check(&default()).is_ok());
    for (options, name) in [
        (Compression { level: 0, ..default() }, "level"),
        (Compression { level: 10, ..default() }, "level"),
        (Compression { server_max_window_bits: 8, ..default() }, "server_max_window_bits"),
        (Compression { server_max_window_bits: 16, ..default() }, "server_max_window_bits"),
        (Compression { client_max_window_bits: 8, ..default() }, "client_max_window_bits"),
    ] {
        let Err(Error::InvalidArgument(why)) = check(&options) else { panic!("{options:?}") };
        assert!(why.contains(name), "{why}");
    }
}
