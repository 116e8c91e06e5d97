//! A connection with TLS: its receives, and the handshake between the TCP connection and the first byte of HTTP.

use std::io;

use super::receive::heard;
use super::record::{Ending, Phase};
use super::state::State;
use super::transport::Decrypted;
use crate::close::{self, Side};
use crate::error::{Failure, Stage};
use crate::protocol::frame::Role;
use crate::protocol::http::HttpError;
use crate::statistics::Refusal;

impl State {
    /// One receive into the loop's buffer.
    #[inline(never)]
    pub(super) fn read_secured(&mut self, slot: u32, buffer: &mut [u8]) -> Option<(usize, Phase)> {
        let record = self.connections.get_mut(slot)?;
        match record.transport.as_mut()?.read_secured(buffer) {
            Ok(Decrypted { ended: true, .. }) => {
                self.peer_ended(slot);
                None
            }
            Ok(Decrypted { count, more, is_blocked, .. }) => {
                let (reads_again, was_awaited) = heard(record, self.now, more);
                if reads_again {
                    self.read_again(slot);
                }
                if was_awaited {
                    self.schedule(slot);
                }
                if is_blocked {
                    self.blocked(slot);
                }
                let phase = self.secure(slot)?;
                // What came may be the beginning of a record, or the handshake's.
                (count > 0).then_some((count, phase))
            }
            Err(error) => self.read_failed(slot, &error),
        }
    }

    /// Something came. Once the handshake is done, HTTP begins; tells where the connection stands.
    fn secure(&mut self, slot: u32) -> Option<Phase> {
        let record = self.connections.get_mut(slot)?;
        if record.phase == Phase::Securing && !record.transport.as_ref()?.is_handshaking() {
            match record.protocol.role() {
                Role::Server => record.phase = Phase::Request,
                Role::Client => self.send_request(slot),
            }
        }
        self.connections.get(slot).map(|record| record.phase)
    }

    /// The handshake with a client has failed. TLS has told it why by an alert; one that speaks plain HTTP is answered so.
    pub(super) fn securing_failed(&mut self, slot: u32, error: &io::Error) {
        let Some(record) = self.connections.get_mut(slot) else { return };
        let Some(transport) = &mut record.transport else { return };
        if transport.heard_http() {
            transport.become_plain();
            record.phase = Phase::Request;
            let error = HttpError::new(400, "this port speaks TLS: use https:// or wss://");
            self.refuse(slot, &HttpError { cause: Refusal::Tls, ..error });
        } else {
            let failure = Failure::transport(Stage::Tls, "the connection was lost", error);
            self.refused_because(slot, Refusal::Tls, Some(&failure.message));
            self.end(slot, Ending::orderly(close::ABNORMAL, "", Side::Us, false));
        }
    }
}
