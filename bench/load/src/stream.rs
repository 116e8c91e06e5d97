//! A TCP connection, or TLS over one. While it blocks, as it does until it is open, it is read and written as any
//! stream; then `Connection` takes it apart.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection};

use crate::{Result, tls};

pub struct Stream {
    pub tcp: TcpStream,
    pub tls: Option<Box<ClientConnection>>,
}

impl Stream {
    /// With TLS where there is a configuration. The handshake comes with the first write or read.
    pub fn new(tcp: TcpStream, config: Option<&Arc<ClientConfig>>) -> Result<Self> {
        Ok(Self { tcp, tls: config.map(tls::session).transpose()? })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(session) => rustls::Stream::new(session.as_mut(), &mut self.tcp).read(buffer),
            None => self.tcp.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(session) => rustls::Stream::new(session.as_mut(), &mut self.tcp).write(bytes),
            None => self.tcp.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(session) => rustls::Stream::new(session.as_mut(), &mut self.tcp).flush(),
            None => Ok(()),
        }
    }
}
