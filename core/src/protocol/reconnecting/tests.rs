use httparse::Header;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::error::{FailureKind, Stage};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn head<'h>(headers: &[(&'h str, &'h str)]) -> Vec<Header<'h>> {
    headers.iter().map(|&(name, value)| Header { name, value: value.as_bytes() }).collect()
}

/// What the headers of an answer ask for, at noon on 7 June 2026.
fn asked(headers: &[(&str, &str)]) -> Option<Duration> {
    retry_after(Headers(&head(headers)), since_1970("Sun, 07 Jun 2026 12:00:00 GMT").unwrap())
}

#[test]
fn the_longest_delay_doubles_up_to_the_cap() {
    let reconnect = Reconnect::default();
    let longest: Vec<u64> = (1..=9).map(|n| delay(&reconnect, n, u32::MAX).as_millis() as u64).collect();
    assert_eq!(longest, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    for attempt in [0, 33, 1000, u32::MAX] {
        assert!(delay(&reconnect, attempt, u32::MAX) <= seconds(30));
        assert_eq!(delay(&reconnect, attempt, 0), Duration::ZERO);
    }
    let forever = Reconnect { max_delay: Duration::MAX, base_delay: Duration::MAX, ..reconnect };
    assert!(delay(&forever, 50, u32::MAX) >= Duration::from_nanos(u64::MAX));
}

#[test]
fn delays_are_spread_evenly_over_the_whole_range() {
    const COUNT: usize = 10_000;
    let mut random = StdRng::seed_from_u64(6455);
    let reconnect = Reconnect::default();
    for (attempt, longest) in [(1, 0.25), (4, 2.0), (20, 30.0)] {
        let mut tenths = [0; 10];
        for _ in 0..COUNT {
            let share = delay(&reconnect, attempt, random.next_u32()).as_secs_f64() / longest;
            tenths[((share * 10.0) as usize).min(9)] += 1;
        }
        // A tenth of 10,000 has a standard deviation of 30.
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{attempt}: {tenths:?}");
    }
}

#[test]
fn zero_is_the_default_of_both_delays() {
    let reconnect = Reconnect { base_delay: Duration::ZERO, max_delay: Duration::ZERO, ..Reconnect::default() };
    assert_eq!(delay(&reconnect, 1, u32::MAX), Duration::from_millis(250));
    assert_eq!(delay(&reconnect, 100, u32::MAX), seconds(30));
    assert_eq!(max_delay(&reconnect), seconds(30));
}

#[test]
fn what_does_not_fit_is_refused_with_its_figures() {
    let check = |reconnect: &Reconnect| check(reconnect, &Options::default()).map_err(|error| error.to_string());
    assert!(check(&Reconnect::default()).is_ok());
    let slow = Reconnect { base_delay: seconds(31), ..Reconnect::default() };
    assert!(check(&slow).unwrap_err().contains("base_delay is 31s"));
    let limit = Options::default().backlog_limit;
    assert!(check(&Reconnect { offline_limit: limit, ..Reconnect::default() }).is_ok());
    let large = Reconnect { offline_limit: limit + 1, ..Reconnect::default() };
    assert!(check(&large).unwrap_err().contains("backlog_limit, 1048576"));
    let unlimited = Options { backlog_limit: 0, ..Options::default() };
    assert!(super::check(&large, &unlimited).is_ok());
}

#[test]
fn some_codes_and_statuses_are_final() {
    let is_final = |code| verdict(code, None) == Some(GiveUpKind::CloseCode);
    for code in [1002, 1003, 1007, 1008, 1010, 3500, 3999, 4500, 4999] {
        assert!(is_final(code), "{code}");
    }
    for code in [1001, 1005, 1006, 1009, 1011, 1012, 1013, 1014, 3000, 3499, 4000, 4499] {
        assert_eq!(verdict(code, None), None, "{code}");
    }
    assert_eq!(verdict(1000, None), Some(GiveUpKind::Finished));
    let refusal = Failure::new(Stage::Proxy, FailureKind::Refused, "no");
    let answered = |status| verdict(1006, Some(&Failure { http_status: Some(status), ..refusal.clone() }));
    for status in [400, 401, 403, 404, 407, 410, 426] {
        assert_eq!(answered(status), Some(GiveUpKind::HttpStatus), "{status}");
    }
    for status in [101, 200, 302, 408, 429, 431, 500, 502, 503, 504] {
        assert_eq!(answered(status), None, "{status}");
    }
    assert_eq!(verdict(1006, Some(&refusal)), None);
    let for_good = Failure { is_final: true, ..refusal };
    assert_eq!(verdict(1006, Some(&for_good)), Some(GiveUpKind::SocksRefusal));
}

#[test]
fn retry_after_is_read_as_seconds_and_as_a_date() {
    assert_eq!(asked(&[]), None);
    assert_eq!(asked(&[("retry-after", "120")]), Some(seconds(120)));
    assert_eq!(asked(&[("Retry-After", " 0 ")]), Some(seconds(0)));
    assert_eq!(asked(&[("Retry-After", "Sun, 07 Jun 2026 12:01:30 GMT")]), Some(seconds(90)));
    // The two old forms that RFC 9110 section 5.6.7 wants understood.
    assert_eq!(asked(&[("Retry-After", "Sunday, 07-Jun-26 12:00:10 GMT")]), Some(seconds(10)));
    assert_eq!(asked(&[("Retry-After", "Sun Jun  7 12:00:10 2026")]), Some(seconds(10)));
    assert_eq!(asked(&[("Retry-After", "Sun, 07 Jun 2026 11:59:59 GMT")]), Some(seconds(0)), "it is over");
    let of_server = [("Date", "Sun, 07 Jun 2026 10:00:00 GMT"), ("Retry-After", "Sun, 07 Jun 2026 10:00:07 GMT")];
    assert_eq!(asked(&of_server), Some(seconds(7)), "the server's clock is two hours late");
}

#[test]
fn a_retry_after_that_is_too_long_is_cut_and_one_that_is_none_ignored() {
    assert_eq!(asked(&[("Retry-After", "3601")]), Some(MAX_RETRY_AFTER));
    assert_eq!(asked(&[("Retry-After", &"9".repeat(8000))]), Some(MAX_RETRY_AFTER));
    assert_eq!(asked(&[("Retry-After", "Sun, 07 Jun 2099 12:00:00 GMT")]), Some(MAX_RETRY_AFTER));
    for value in ["", "-1", "1.5", "soon", "1e3", "Sun, 07 Jun 2026", "Sun, 99 Jun 2026 12:00:00 GMT"] {
        assert_eq!(asked(&[("Retry-After", value)]), None, "{value}");
    }
}
