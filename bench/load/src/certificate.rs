//! `wsx-load certificate`: an authority and a server's certificate by it, for one run. Both keys are on the curve
//! P-256, and the authority's is nowhere written.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use crate::Result;
use crate::tls::NAME;

/// Writes `ca.pem`, `cert.pem` and `key.pem` into a folder.
pub fn write(folder: &Path) -> Result<()> {
    let [authority, certificate, key] = make().map_err(|error| format!("cannot make a certificate: {error}"))?;
    for (name, text) in [("ca.pem", authority), ("cert.pem", certificate), ("key.pem", key)] {
        let path = folder.join(name);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

fn make() -> std::result::Result<[String; 3], rcgen::Error> {
    let mut authority = CertificateParams::new([])?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(DnType::CommonName, "wsx-load, for one run");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let key = KeyPair::generate()?;
    let mut server = CertificateParams::new([NAME.to_owned(), "127.0.0.1".to_owned()])?;
    server.distinguished_name.push(DnType::CommonName, NAME);
    let certificate = server.signed_by(&key, &authority)?;
    Ok([authority.pem(), certificate.pem(), key.serialize_pem()])
}
