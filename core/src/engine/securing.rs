//! The handshake of TLS, between the TCP connection and the first byte of HTTP.

use super::record::{Ending, Phase};
use super::state::State;
use crate::close::{self, Side};
use crate::protocol::frame::Role;
use crate::protocol::http::HttpError;

impl State {
    /// Something of the handshake came. Once it is done, HTTP begins; tells where the connection stands.
    pub(super) fn secure(&mut self, slot: u32) -> Option<Phase> {
        let record = self.connections.get_mut(slot)?;
        if !record.transport.as_ref()?.is_handshaking() {
            match record.protocol.role() {
                Role::Server => record.phase = Phase::Request,
                Role::Client => self.send_request(slot),
            }
        }
        self.connections.get(slot).map(|record| record.phase)
    }

    /// The handshake with a client has failed. TLS has told it why by an alert; one that speaks plain HTTP is answered so.
    pub(super) fn securing_failed(&mut self, slot: u32) {
        let Some(record) = self.connections.get_mut(slot) else { return };
        let Some(transport) = &mut record.transport else { return };
        if transport.heard_http() {
            transport.become_plain();
            record.phase = Phase::Request;
            self.refuse(slot, &HttpError::new(400, "this port speaks TLS: use https:// or wss://"));
        } else {
            self.end(slot, Ending::orderly(close::ABNORMAL, "", Side::Us, false));
        }
    }
}
