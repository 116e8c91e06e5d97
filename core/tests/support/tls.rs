//! Certificates made while the test runs, and raw peers that speak TLS by rustls's other interface.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};
use wsx_core::{Certificate, Options, Tls};

use super::{RawPeer, upgrade};

/// A raw client over TLS.
pub type TlsClient = RawPeer<StreamOwned<ClientConnection, TcpStream>>;
/// A raw server's end over TLS.
pub type TlsServer = RawPeer<StreamOwned<ServerConnection, TcpStream>>;

/// Both versions of TLS there are.
pub static VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// Somebody who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub struct Issued {
    /// In PEM.
    pub chain: Vec<u8>,
    /// In PEM.
    pub key: Vec<u8>,
    pub der: Vec<u8>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    /// A certificate for these names and addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, |_| {})
    }

    pub fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued {
            chain: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
            der: certificate.der().to_vec(),
        }
    }

    /// One for this machine.
    pub fn local(&self) -> Issued {
        self.issue(&["localhost", "127.0.0.1"])
    }

    /// What trusts it.
    pub fn client(&self) -> Options {
        let mut tls = Tls::default();
        tls.ca = Some(self.pem().into());
        let mut options = Options::default();
        options.tls = Some(tls);
        options
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// The configuration of a raw client that trusts it.
    pub fn raw_client(&self, versions: &[&'static SupportedProtocolVersion], shows: Option<&Issued>) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(default_provider().into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots());
        match shows {
            Some(issued) => builder.with_client_auth_cert(issued.raw_chain(), issued.raw_key()).unwrap(),
            None => builder.with_no_client_auth(),
        }
    }

    /// A raw client that has begun nothing, to a server of any name.
    #[track_caller]
    pub fn connect(&self, address: SocketAddr) -> TlsClient {
        connect(address, self.raw_client(&VERSIONS, None), "localhost")
    }

    /// A raw client whose opening handshake is done.
    #[track_caller]
    pub fn open(&self, address: SocketAddr) -> TlsClient {
        let mut peer = self.connect(address);
        peer.upgrade(address);
        peer
    }
}

impl Issued {
    pub fn certificate(&self) -> Certificate {
        Certificate { chain: self.chain.clone().into(), key: self.key.clone().into() }
    }

    pub fn tls(&self) -> Tls {
        Tls::server(self.chain.clone(), self.key.clone())
    }

    /// The options of a listener that shows it.
    pub fn server(&self) -> Options {
        let mut options = Options::default();
        options.tls = Some(self.tls());
        options
    }

    fn raw_chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.der.clone().into()]
    }

    fn raw_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(&self.key).unwrap()
    }

    /// The configuration of a raw server that shows it.
    pub fn raw_server(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        ServerConfig::builder_with_provider(default_provider().into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.raw_chain(), self.raw_key())
            .unwrap()
    }

    /// The raw server's end of the next connection, which has read nothing.
    #[track_caller]
    pub fn accept(&self, listener: &TcpListener) -> TlsServer {
        self.accept_with(listener, self.raw_server(&VERSIONS))
    }

    #[track_caller]
    pub fn accept_with(&self, listener: &TcpListener, config: ServerConfig) -> TlsServer {
        begin_as_server(RawPeer::accept(listener), config)
    }

    /// The raw server's end of a connection that is there, which has read nothing of TLS.
    #[track_caller]
    pub fn speak(&self, peer: RawPeer) -> TlsServer {
        begin_as_server(peer, self.raw_server(&VERSIONS))
    }

    /// The raw server's end of the next connection, with its opening handshake done.
    #[track_caller]
    pub fn accept_upgrade(&self, listener: &TcpListener) -> TlsServer {
        let mut peer = self.accept(listener);
        let head = peer.read_head();
        peer.answer_upgrade(&head, "");
        peer
    }
}

fn begin_as_server(peer: RawPeer, config: ServerConfig) -> TlsServer {
    let session = ServerConnection::new(Arc::new(config)).unwrap();
    peer.over(|stream| StreamOwned::new(session, stream))
}

/// A raw client that asks for this name, and has begun nothing.
#[track_caller]
pub fn connect(address: SocketAddr, config: ClientConfig, name: &'static str) -> TlsClient {
    secure(RawPeer::connect(address), config, name)
}

/// The same on a connection that is there.
#[track_caller]
pub fn secure(peer: RawPeer, config: ClientConfig, name: &'static str) -> TlsClient {
    let session = ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
    peer.over(|stream| StreamOwned::new(session, stream))
}

impl TlsClient {
    /// Does the opening handshake.
    #[track_caller]
    pub fn upgrade(&mut self, address: SocketAddr) {
        self.write(upgrade(&address.to_string(), "/", "").as_bytes());
        self.expect_upgrade();
    }

    /// The server's certificate.
    pub fn shown(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }
}
