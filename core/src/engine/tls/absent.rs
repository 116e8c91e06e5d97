//! In place of TLS, in a build without the feature `tls`: whoever asks for it is refused, and there is never a session.

use std::io::{self, IoSlice};

use super::transport::{Decrypted, Wire};
use crate::config::Tls;
use crate::error::{Error, Result};
use crate::event::Secured;

const ABSENT: Error = Error::Unsupported("TLS: it was made without the feature tls");

#[derive(Clone, Debug)]
pub(super) enum ServerSetup {}

impl ServerSetup {
    pub(super) fn new(_: &Tls) -> Result<Self> {
        Err(ABSENT)
    }
}

#[derive(Clone, Debug)]
pub(super) enum ClientSetup {}

impl ClientSetup {
    pub(super) fn new(_: Option<&Tls>, _: &str) -> Result<Self> {
        Err(ABSENT)
    }

    pub(super) fn for_host(&self, _: Option<&Tls>, _: &str) -> Result<Self> {
        match *self {}
    }
}

#[derive(Debug)]
pub(super) enum Session {}

impl Session {
    pub(super) fn server(setup: &ServerSetup) -> io::Result<Self> {
        match *setup {}
    }

    pub(super) fn client(setup: ClientSetup) -> io::Result<Self> {
        match setup {}
    }

    pub(super) fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub(super) fn heard_http(&self) -> bool {
        match *self {}
    }

    pub(super) fn secured(&self) -> Secured {
        match *self {}
    }

    pub(super) fn committed(&self) -> usize {
        match *self {}
    }

    pub(super) fn unsent(&self) -> usize {
        match *self {}
    }

    pub(super) fn read(&mut self, _: &Wire, _: &mut [u8]) -> io::Result<Decrypted> {
        match *self {}
    }

    pub(super) fn write(&mut self, _: &Wire, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn flush(&mut self, _: &Wire, _: bool) -> io::Result<bool> {
        match *self {}
    }
}
