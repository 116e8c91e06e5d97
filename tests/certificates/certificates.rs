//! The certificates that the tests of all languages use, made anew where they are needed and never committed.
//!
//! ```text
//! cargo run --example certificates -- DIR
//!
//! ca.pem                        signs all but the last three; what clients are told to trust
//! server.pem  server-key.pem    localhost, 127.0.0.1, ::1
//! renewed.pem renewed-key.pem   the same names, for a reload
//! second.pem  second-key.pem    second.example and *.wild.example, for a choice by name (SNI)
//! client.pem  client-key.pem    "a client", for servers that ask for one
//! expired.pem expired-key.pem   localhost, until 2020
//! foreign.pem foreign-key.pem   localhost, of an issuer that nobody trusts: foreign-ca.pem
//! stranger.pem stranger-key.pem "a stranger", a client of that issuer
//! ```
//!
//! Each `NAME.pem` but those of the issuers is a chain of one certificate, each `NAME-key.pem` its private key.

use std::error::Error;
use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// A certificate's names: those of hosts, or of nobody for a client's.
const LOCAL: &[&str] = &["localhost", "127.0.0.1", "::1"];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: certificates DIR")?;
    let folder = Path::new(&folder);
    fs::create_dir_all(folder)?;
    let ca = issuer(folder, "ca")?;
    leaf(folder, &ca, "server", LOCAL)?;
    leaf(folder, &ca, "renewed", LOCAL)?;
    leaf(folder, &ca, "second", &["second.example", "*.wild.example"])?;
    leaf(folder, &ca, "client", &[])?;
    leaf(folder, &ca, "expired", LOCAL)?;
    let foreign = issuer(folder, "foreign-ca")?;
    leaf(folder, &foreign, "foreign", LOCAL)?;
    leaf(folder, &foreign, "stranger", &[])
}

fn issuer(folder: &Path, name: &str) -> Result<Issuer<'static, KeyPair>, Box<dyn Error>> {
    let mut params = params(name, &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    fs::write(folder.join(format!("{name}.pem")), params.self_signed(&key)?.pem())?;
    Ok(Issuer::new(params, key))
}

fn leaf(folder: &Path, issuer: &Issuer<'_, KeyPair>, name: &str, hosts: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut params = params(&format!("a {name}"), hosts)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match hosts {
        [] => vec![ExtendedKeyUsagePurpose::ClientAuth],
        _ => vec![ExtendedKeyUsagePurpose::ServerAuth],
    };
    if name == "expired" {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    }
    let key = KeyPair::generate()?;
    fs::write(folder.join(format!("{name}.pem")), params.signed_by(&key, issuer)?.pem())?;
    fs::write(folder.join(format!("{name}-key.pem")), key.serialize_pem())?;
    Ok(())
}

/// Valid for as long as anybody keeps a build.
fn params(common_name: &str, hosts: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts.iter().map(|&host| host.into()).collect::<Vec<String>>())?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2099, 1, 1);
    Ok(params)
}
