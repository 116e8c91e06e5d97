//! When a client connects again, and when another attempt is of no use: rules without a clock and without chance.

use std::time::{Duration, UNIX_EPOCH};

use crate::close;
use crate::config::{MAX_RETRY_AFTER, Options, Reconnect};
use crate::error::{Error, Failure, Result};
use crate::event::{GiveUpKind, Headers};

/// What each message in the offline queue counts beside its payload: its place there, and the header of its frame.
pub const QUEUED_MESSAGE: usize = 32;

/// Whether a client can do so.
///
/// # Errors
/// [`Error::InvalidArgument`] says what does not fit.
pub fn check(reconnect: &Reconnect, options: &Options) -> Result<()> {
    let (base, max) = delays(reconnect);
    if base > max {
        return Err(Error::invalid(format!("base_delay is {base:?}, and must not be more than max_delay, {max:?}")));
    }
    let (offline, backlog) = (reconnect.offline_limit, options.backlog_limit);
    if backlog != 0 && offline > backlog {
        return Err(Error::invalid(format!(
            "offline_limit is {offline}, and must not be more than backlog_limit, {backlog}: what waits is sent at once"
        )));
    }
    Ok(())
}

fn delays(reconnect: &Reconnect) -> (Duration, Duration) {
    let default = Reconnect::default();
    let or = |delay: Duration, default| if delay.is_zero() { default } else { delay };
    (or(reconnect.base_delay, default.base_delay), or(reconnect.max_delay, default.max_delay))
}

/// The longest delay of all.
pub fn max_delay(reconnect: &Reconnect) -> Duration {
    delays(reconnect).1
}

/// How long the attempt waits that is the n-th in a row, counted from 1; `random` is any number, each as likely as any
/// other.
pub fn delay(reconnect: &Reconnect, attempt: u32, random: u32) -> Duration {
    let (base, max) = delays(reconnect);
    let longest = 2u32.checked_pow(attempt.saturating_sub(1)).and_then(|times| base.checked_mul(times));
    let longest = longest.map_or(max, |longest| longest.min(max)).as_nanos();
    // 2³² random numbers, so that the longest delay itself is possible with the largest one as good as exactly.
    let nanos = longest * u128::from(random) / u128::from(u32::MAX);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Why another attempt is of no use after a connection that ended so, if it is.
pub fn verdict(code: u16, failure: Option<&Failure>) -> Option<GiveUpKind> {
    match (code, failure) {
        // It would be the same request, with the same credentials, to the server and to its proxy.
        (_, Some(Failure { http_status: Some(400 | 401 | 403 | 404 | 407 | 410 | 426), .. })) => {
            Some(GiveUpKind::HttpStatus)
        }
        (_, Some(Failure { is_final: true, .. })) => Some(GiveUpKind::SocksRefusal),
        (close::NORMAL, _) => Some(GiveUpKind::Finished),
        (
            close::PROTOCOL_ERROR
            | close::UNSUPPORTED
            | close::INVALID_PAYLOAD
            | close::POLICY
            | close::MANDATORY_EXTENSION
            | 3500..=3999
            | 4500..=4999,
            _,
        ) => Some(GiveUpKind::CloseCode),
        _ => None,
    }
}

/// How long the server wants to be left alone (RFC 9110 section 10.2.3): as seconds, or as the date of its end. A date is
/// compared with the answer's own, so that clocks need not agree; `now`, since 1970, stands in for that.
pub fn retry_after(headers: Headers<'_>, now: Duration) -> Option<Duration> {
    let value = headers.header("retry-after")?.trim();
    let delay = if value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a very long time.
        (!value.is_empty()).then(|| Duration::from_secs(value.parse().unwrap_or(u64::MAX)))?
    } else {
        let sent = headers.header("date").and_then(since_1970).unwrap_or(now);
        since_1970(value)?.saturating_sub(sent)
    };
    Some(delay.min(MAX_RETRY_AFTER))
}

/// A date as HTTP writes it, in seconds since 1970.
fn since_1970(date: &str) -> Option<Duration> {
    httpdate::parse_http_date(date.trim()).ok()?.duration_since(UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests;
