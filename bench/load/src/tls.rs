//! TLS as the load speaks it. There is one of everything, so that all servers do the same work: TLS 1.3,
//! TLS_AES_128_GCM_SHA256, X25519, and a full handshake on each connection.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::Result;

/// The server's name, whatever its address is.
pub const NAME: &str = "localhost";

const GROUPS: &[&dyn SupportedKxGroup] = &[kx_group::X25519];

/// What all connections have in common. The server's certificate has to come from the authority in the file.
pub fn configure(authority: &Path) -> Result<Arc<ClientConfig>> {
    let fail = |error: &dyn std::fmt::Display| format!("{} is of no use for TLS: {error}", authority.display());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).map_err(|error| fail(&error))?).map_err(|error| fail(&error))?;
    let provider = CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: GROUPS.to_vec(),
        ..ring::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| fail(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// A session that has sent nothing yet. It takes as much as is written into it: the scenarios know what they send.
pub fn session(config: &Arc<ClientConfig>) -> Result<Box<ClientConnection>> {
    let name = ServerName::try_from(NAME).map_err(|error| error.to_string())?;
    let mut session = ClientConnection::new(config.clone(), name).map_err(|error| error.to_string())?;
    session.set_buffer_limit(None);
    Ok(Box::new(session))
}

/// Takes the records that have come, and writes what is in them into `plain`: its length, and whether the server has
/// ended the session. A record that has come in part stays with the session, so `plain` has to be longer than `records`
/// by the longest one, 16 KiB.
pub fn open_records(session: &mut ClientConnection, mut records: &[u8], plain: &mut [u8]) -> io::Result<(usize, bool)> {
    let mut length = 0;
    while !records.is_empty() {
        session.read_tls(&mut records)?;
        let state = session.process_new_packets().map_err(io::Error::other)?;
        let end = length + state.plaintext_bytes_to_read();
        session.reader().read_exact(&mut plain[length..end])?;
        length = end;
        if state.peer_has_closed() {
            return Ok((length, true));
        }
    }
    Ok((length, false))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;
    use crate::certificate;

    /// A folder for one test, with the certificates of a run.
    fn certificates(test: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("wsx-load-{}-{test}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        certificate::write(&folder).unwrap();
        folder
    }

    fn server(folder: &Path) -> ServerConnection {
        let certificate = CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        server.set_buffer_limit(None);
        server
    }

    /// Passes records to and fro until both sides have done with the handshake.
    fn shake_hands(client: &mut ClientConnection, server: &mut ServerConnection) -> io::Result<()> {
        while client.is_handshaking() || server.is_handshaking() {
            let mut records = Vec::new();
            client.write_tls(&mut records)?;
            server.read_tls(&mut &records[..])?;
            server.process_new_packets().map_err(io::Error::other)?;
            records.clear();
            while server.wants_write() {
                server.write_tls(&mut records)?;
            }
            open_records(client, &records, &mut [])?;
        }
        Ok(())
    }

    #[test]
    fn records_are_opened_however_they_are_cut() {
        let folder = certificates("cut");
        let (mut client, mut server) = (session(&configure(&folder.join("ca.pem")).unwrap()).unwrap(), server(&folder));
        shake_hands(&mut client, &mut server).unwrap();
        assert_eq!(client.negotiated_cipher_suite(), Some(cipher_suite::TLS13_AES_128_GCM_SHA256));
        let sent: Vec<u8> = (0..100_000u32).map(|n| (n * 7) as u8).collect();
        for step in [1, 5, 16_400, 65_536, 200_000] {
            let (mut records, mut plain, mut got) = (Vec::new(), vec![0; step + (16 << 10)], Vec::new());
            server.writer().write_all(&sent).unwrap();
            while server.wants_write() {
                server.write_tls(&mut records).unwrap();
            }
            for part in records.chunks(step) {
                let (length, ended) = open_records(&mut client, part, &mut plain).unwrap();
                got.extend_from_slice(&plain[..length]);
                assert!(!ended);
            }
            assert!(got == sent, "{step} bytes at a time");
        }
        let (mut records, mut plain) = (Vec::new(), [0; 32]);
        server.writer().write_all(b"last").unwrap();
        server.send_close_notify();
        while server.wants_write() {
            server.write_tls(&mut records).unwrap();
        }
        records.extend_from_slice(b"more");
        assert_eq!(open_records(&mut client, &records, &mut plain).unwrap(), (4, true));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn another_authoritys_certificate_is_refused() {
        let (own, foreign) = (certificates("own"), certificates("foreign"));
        let (mut client, mut server) = (session(&configure(&own.join("ca.pem")).unwrap()).unwrap(), server(&foreign));
        let error = shake_hands(&mut client, &mut server).unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
        assert!(configure(&own.join("key.pem")).is_err_and(|error| error.contains("key.pem")));
        fs::remove_dir_all(own).unwrap();
        fs::remove_dir_all(foreign).unwrap();
    }
}
