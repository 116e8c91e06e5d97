//! One step of rustls: what came is worked through, and what is next is encrypted behind what that has to say.

use std::ops::Deref;

use rustls::CommonState;
use rustls::client::ClientConnectionData;
use rustls::server::ServerConnectionData;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus,
    WriteTraffic,
};

/// What encryption adds to 64 KiB, at most: to each of its four records a header, a nonce and a tag, and the update
/// of keys that the peer has asked for before them.
const MAX_OVERHEAD: usize = 512;

/// Records to be sent. The buffer keeps its length, so that it is not filled with zeros each time.
#[derive(Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    len: usize,
}

impl Outgoing {
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn records(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn room(&mut self, size: usize) -> &mut [u8] {
        if self.bytes.len() < self.len + size {
            self.bytes.resize(self.len + size, 0);
        }
        &mut self.bytes[self.len..]
    }

    /// Takes a record of the handshake, or an alert.
    fn encode<Data>(&mut self, mut data: EncodeTlsData<'_, Data>) {
        if let Err(EncodeError::InsufficientSize(needs)) = data.encode(&mut []) {
            self.len += data.encode(self.room(needs.required_size)).unwrap_or(0);
        }
    }

    /// Encrypts what is next.
    fn encrypt<Data>(&mut self, traffic: &mut WriteTraffic<'_, Data>, next: Next<'_>) -> Result<(), rustls::Error> {
        let mut size = MAX_OVERHEAD;
        if let Next::Plaintext(plaintext) = next {
            size += plaintext.len();
        }
        loop {
            let room = self.room(size);
            let encrypted = match next {
                Next::Nothing => Ok(0),
                Next::Plaintext(plaintext) => traffic.encrypt(plaintext, room),
                Next::CloseNotify => traffic.queue_close_notify(room),
            };
            match encrypted {
                Ok(count) => {
                    self.len += count;
                    return Ok(());
                }
                Err(EncryptError::InsufficientSize(needs)) if needs.required_size > size => size = needs.required_size,
                Err(_) => return Err(rustls::Error::EncryptError),
            }
        }
    }
}

/// What is to be written, once what came has been worked through.
#[derive(Clone, Copy)]
pub(super) enum Next<'a> {
    Nothing,
    Plaintext(&'a [u8]),
    CloseNotify,
}

/// Where plaintext goes.
pub(super) struct Inbound<'a> {
    pub(super) buffer: &'a mut [u8],
    /// How much of it is filled.
    pub(super) count: usize,
    /// What does not fit.
    pub(super) overflow: &'a mut Vec<u8>,
    /// The peer has said that nothing more comes.
    pub(super) peer_closed: bool,
}

impl Inbound<'_> {
    fn take(&mut self, plaintext: &[u8]) {
        let fits = plaintext.len().min(self.buffer.len() - self.count);
        self.buffer[self.count..self.count + fits].copy_from_slice(&plaintext[..fits]);
        self.count += fits;
        self.overflow.extend_from_slice(&plaintext[fits..]);
    }
}

/// What both ends can do, which rustls says of each by itself.
pub(super) trait Process: Deref<Target = CommonState> {
    type Data;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Process for UnbufferedConnectionCommon<ClientConnectionData> {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

impl Process for UnbufferedConnectionCommon<ServerConnectionData> {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

/// Works through what came until rustls wants more, then encrypts what is `next`. Tells how many bytes were used up; after
/// an error what is outgoing ends with the alert that tells the peer.
pub(super) fn work(
    end: &mut impl Process,
    incoming: &mut [u8],
    next: Next<'_>,
    inbound: &mut Inbound<'_>,
    outgoing: &mut Outgoing,
) -> (usize, Result<(), rustls::Error>) {
    let mut used = 0;
    let mut failed = None;
    loop {
        let UnbufferedStatus { mut discard, state } = end.process(&mut incoming[used..]);
        let mut done = None;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    discard += record.discard;
                    inbound.take(record.payload);
                }
            }
            Ok(ConnectionState::EncodeTlsData(data)) => outgoing.encode(data),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => inbound.peer_closed = true,
            Ok(ConnectionState::WriteTraffic(mut traffic)) => done = Some(outgoing.encrypt(&mut traffic, next)),
            // Data before the handshake is done (0-RTT) is never allowed, so what is left is that rustls wants more.
            Ok(_) => done = Some(Ok(())),
            Err(error) => failed = Some(error),
        }
        used += discard;
        if let Some(result) = done {
            return (used, result);
        }
        // The alert is fetched, and rustls is not asked to look again at what it has failed with.
        if let Some(error) = failed.take_if(|_| !end.wants_write()) {
            return (used, Err(error));
        }
    }
}
