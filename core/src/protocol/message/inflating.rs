//! Messages that are compressed (RFC 7692 section 7.2.2): inflated as they come, so that compressed bytes are never
//! collected.

use std::borrow::Cow;
use std::mem::take;

use super::{Assembled, Assembly, Inflated, Limits, Partial, Received, Violation};
use crate::close;
use crate::protocol::deflate::{InflateError, Inflater, Inflation, Malformed};

#[cold]
#[inline(never)]
fn not_inflatable(error: InflateError, limits: &Limits) -> Violation {
    match error {
        InflateError::Malformed => {
            Violation::protocol(close::INVALID_PAYLOAD, "a compressed message is not valid DEFLATE data")
        }
        InflateError::TooBig => {
            let message = format!("a compressed message inflates to more than max_message ({})", limits.largest());
            Violation::limit(close::TOO_BIG, limits.max_message(), message)
        }
    }
}

#[cold]
#[inline(never)]
fn cut_short(Malformed: Malformed) -> Violation {
    Violation::protocol(close::INVALID_PAYLOAD, "a compressed message ends in the middle of its DEFLATE data")
}

impl Assembly {
    /// Inflates bytes of the payload, which are all there are of the message where `is_all`; `delivers` what comes out as a
    /// fragment.
    pub(super) fn inflate(
        &mut self,
        bytes: &[u8],
        is_all: bool,
        delivers: bool,
        limits: &Limits,
        inflation: &mut Inflation<'_>,
        context: &mut Option<Inflater>,
    ) -> Result<(), Violation> {
        if bytes.is_empty() {
            return Ok(());
        }
        let inflater = self.inflater.get_or_insert_with(|| context.take().unwrap_or_else(|| inflation.pool.lend()));
        let out = match &mut self.assembled {
            _ if delivers => &mut self.fragment,
            Assembled::Binary(bytes) => bytes,
            // Compressed text is not assembled in a string.
            Assembled::Text(_) => return Ok(()),
        };
        if is_all {
            // It is told before anything else comes. A message that comes slowly must not hold what it does not fill.
            *out = inflation.pool.lend_buffer();
        }
        let held = out.len();
        // The limit is at most `isize::MAX`.
        let most = (limits.largest() - self.delivered) as usize;
        inflater.inflate_all(bytes, out, most).map_err(|error| not_inflatable(error, limits))?;
        if delivers && self.is_text {
            self.utf8.check(&out[held..])?;
        }
        Ok(())
    }
}

impl Partial {
    /// The end of a frame of a compressed message.
    pub(super) fn end_compressed<'b>(
        &mut self,
        is_last: bool,
        delivers: bool,
        inflation: &mut Inflation<'_>,
    ) -> Result<Option<Received<'b>>, Violation> {
        let Some(message) = &mut self.message else { return Ok(None) };
        // A message without a byte has not touched the context (and is empty).
        if is_last && let Some(mut inflater) = message.inflater.take() {
            inflater.finish_message(inflation.keeps_context).map_err(cut_short)?;
            if inflation.keeps_context {
                self.context = Some(inflater);
            } else {
                inflation.pool.take_back(inflater);
            }
        }
        let (is_text, is_first) = (message.is_text, message.fragments == 1);
        if delivers {
            let payload = take(&mut message.fragment);
            message.delivered += payload.len() as u64;
            if is_last {
                message.utf8.finish()?;
                self.message = None;
            }
            return Ok(Some(Received::Fragment { is_text, is_first, is_last, payload: Cow::Owned(payload) }));
        }
        if !is_last {
            return Ok(None);
        }
        let assembled = self.message.take().map(|message| message.assembled.into_payload());
        Ok(assembled.map(|payload| Received::Inflated(Inflated { is_text, payload })))
    }
}

#[cfg(all(test, feature = "deflate"))]
mod tests;
