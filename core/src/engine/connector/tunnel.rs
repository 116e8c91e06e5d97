//! The way through a proxy: which one, and what is said to it until the tunnel to the server is open.

use super::Dial;
use crate::close::{self, Side};
use crate::config::Options;
use crate::engine::record::Phase;
use crate::engine::state::State;
use crate::error::Result;
use crate::protocol::proxy::{Destination, Limits, Negotiation, Proxy, from_environment};
use crate::protocol::url::Url;

/// The proxy that leads to a URL, if one does: that of the options, or of the environment. A Unix socket has none.
pub(super) fn proxy_of(url: &Url, options: &Options) -> Result<Option<Proxy>> {
    let proxy = options.proxy.as_ref().map(|proxy| Proxy::parse(proxy.as_str())).transpose()?;
    if url.unix.is_some() || proxy.is_some() || !options.proxy_from_environment {
        return Ok(proxy.filter(|_| url.unix.is_none()));
    }
    from_environment(url, |name| std::env::var(name).ok())
}

impl State {
    /// The proxy is reached.
    pub(super) fn begin_tunnel(&mut self, slot: u32, proxy: Proxy) {
        let Some(group) = self.group_of(slot) else { return };
        let limits = Limits { max_head: group.options.max_head, max_headers: group.options.max_headers };
        let Some(record) = self.connections.get_mut(slot) else { return };
        let Some(dial) = record.extra.as_mut().and_then(|extra| extra.dial.as_deref_mut()) else { return };
        let Dial { target, address, negotiation, .. } = dial;
        let host = target.url.host.clone();
        let address = address.or_else(|| host.parse().ok());
        let destination = Destination { host, address, port: target.url.port };
        record.outbox.append(&mut self.spares, |out| {
            *negotiation = Some(Negotiation::begin(proxy, destination, limits, out));
        });
        record.phase = Phase::Proxying;
        self.touch(slot);
        self.schedule(slot);
    }

    /// The proxy may have answered. No more is taken out of the system's hands than belongs to its answer: what comes behind
    /// it is the server's, and is read as such.
    #[cold]
    pub(in crate::engine) fn hear_proxy(&mut self, slot: u32, buffer: &mut [u8]) {
        loop {
            let Some(record) = self.connections.get_mut(slot) else { return };
            let Some(transport) = &record.transport else { return };
            let dial = record.extra.as_mut().and_then(|extra| extra.dial.as_deref_mut());
            let Some(negotiation) = dial.and_then(|dial| dial.negotiation.as_mut()) else { return };
            let mut answer = Vec::new();
            let heard = transport.peek(buffer).and_then(|count| {
                let progress = negotiation.receive(&buffer[..count], &mut answer);
                let used = progress.as_ref().map_or(0, |progress| progress.used);
                // It is there.
                if used != 0 {
                    transport.read(&mut buffer[..used])?;
                }
                Ok((count, progress))
            });
            let progress = match heard {
                Ok((0, _)) => return self.peer_ended(slot),
                Ok((_, Ok(progress))) => progress,
                Ok((_, Err(failure))) => return self.fail(slot, close::ABNORMAL, Side::Us, failure),
                Err(error) => return self.read_failed::<()>(slot, &error).unwrap_or_default(),
            };
            self.count_received(slot, progress.used);
            if progress.is_open {
                self.greet_server(slot);
                // The system has told of what is there already, and does not tell it again.
                return self.read_again(slot);
            }
            if progress.used == 0 {
                // It is incomplete. Where the proxy sends no more, what it has sent hides its end.
                if self.connections.get(slot).is_some_and(|record| record.peer_ended()) {
                    self.peer_ended(slot);
                }
                return;
            }
            if let Some(record) = self.connections.get_mut(slot) {
                record.outbox.append(&mut self.spares, |out| out.extend(answer));
            }
            self.touch(slot);
        }
    }
}
