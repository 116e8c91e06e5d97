//! A client that follows the redirects of its servers.

use std::mem::take;

use super::attempts::Attempts;
use super::{Dial, Target};
use crate::close::{self, Side};
use crate::engine::record::Phase;
use crate::engine::state::State;
use crate::error::{Error, Failure, FailureKind, Figure, Limit, Stage};
use crate::protocol::redirect;

impl State {
    /// A server has answered with this status, and pointed elsewhere.
    pub(in crate::engine) fn follow(&mut self, slot: u32, status: u16, location: &str) {
        let dial = match self.redirected(slot, location) {
            Ok(dial) => dial,
            Err(failure) => {
                let failure = Failure { http_status: Some(status), ..failure };
                return self.fail(slot, close::ABNORMAL, Side::Us, failure);
            }
        };
        let Some(record) = self.connections.get_mut(slot) else { return };
        record.transport = None;
        record.outbox = Default::default();
        record.set_peer_ended(false);
        record.blocked_at = 0;
        record.phase = Phase::Resolving;
        let extra = record.extra();
        extra.head = Vec::new();
        extra.scanned = 0;
        extra.unix_path.clone_from(&dial.target.url.unix);
        extra.dial = Some(Box::new(dial));
        self.schedule(slot);
        self.look_up(slot);
    }

    /// What goes on elsewhere, or why nothing does.
    fn redirected(&mut self, slot: u32, location: &str) -> Result<Dial, Failure> {
        let refused = |error: Error| {
            let why = match error {
                Error::InvalidArgument(why) => why.into_owned(),
                other => other.to_string(),
            };
            let message = format!("the server's redirect cannot be followed: {why}");
            Failure::new(Stage::Http, FailureKind::Refused, message)
        };
        let gone = || refused(Error::Closed);
        self.tick();
        let now = self.now;
        let mut options = self.group_of(slot).ok_or_else(gone)?.options.clone();
        let dial = self.dial_mut(slot).ok_or_else(gone)?;
        let max = options.max_redirects;
        if dial.redirects >= max {
            let limit = Limit::new("max_redirects", Figure::Count(max.into())).reached(u64::from(max) + 1);
            let message = format!("the server redirects more often than max_redirects ({max}) allows");
            return Err(Failure::limit(Stage::Http, limit, message));
        }
        let url = redirect::follow(&dial.target.url, location).map_err(refused)?;
        let is_foreign = dial.is_foreign || !redirect::is_same_origin(&dial.target.url, &url);
        if is_foreign {
            options.headers.retain(|(name, _)| !redirect::is_credential(name));
        }
        let (redirects, attempts) = (dial.redirects + 1, Attempts::after(&take(&mut dial.attempts)));
        let next = Target::of(url, &options, dial.target.tls.as_ref())
            .and_then(|target| target.dial(&options))
            .map_err(refused)?;
        Ok(Dial { redirects, is_foreign, attempts, began: now, ..next })
    }
}
