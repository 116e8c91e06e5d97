//! What went wrong with TLS, in sentences that say what to do about it.

use std::io::{self, ErrorKind};

use rustls::{AlertDescription, CertificateError, Error, OtherError};

use super::MAX_REST;
use crate::error::{Failure, FailureKind, Limit, Stage};
use crate::protocol::frame::Role;

/// A message of the handshake that is longer than is waited for.
pub(super) fn too_large() -> io::Error {
    let message = "TLS: the peer's handshake has a message of more than 64 KiB";
    let failure = Failure::limit(Stage::Tls, Limit::new("tls_handshake_message", MAX_REST), message);
    io::Error::new(ErrorKind::ConnectionAborted, failure)
}

/// `role` is ours; `heard` says whether anything that was TLS has come before. The error carries a [`Failure`], and is
/// `ConnectionReset` where the peer has ended the connection, `ConnectionAborted` where we do.
pub(super) fn explain(error: &Error, role: Role, heard: bool) -> io::Error {
    let (kind, message) = match (error, role) {
        (Error::InvalidCertificate(why), Role::Client) => (FailureKind::Refused, refused_server(why)),
        (Error::InvalidCertificate(why), Role::Server) => {
            (FailureKind::Refused, format!("TLS: the client's certificate is refused: {why}"))
        }
        (Error::NoCertificatesPresented, Role::Server) => {
            (FailureKind::Refused, "TLS: the client has no certificate, and client_auth requires one".into())
        }
        (Error::AlertReceived(alert), _) => (FailureKind::Refused, refused_by_peer(*alert, role)),
        (Error::InvalidMessage(_), Role::Client) if !heard => (
            FailureKind::Protocol,
            "TLS: the server answered something that is not TLS: is it a ws:// port, without TLS?".into(),
        ),
        (Error::InvalidMessage(_), Role::Server) if !heard => {
            (FailureKind::Protocol, "TLS: the client sent something that is not TLS".into())
        }
        (Error::EncryptError, _) => (FailureKind::Protocol, "TLS: the keys of this connection are used up".into()),
        (error, _) => (FailureKind::Protocol, format!("TLS: {error}")),
    };
    let by = match error {
        Error::AlertReceived(_) => ErrorKind::ConnectionReset,
        _ => ErrorKind::ConnectionAborted,
    };
    io::Error::new(by, Failure::new(Stage::Tls, kind, message))
}

fn refused_server(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => {
            "TLS: the server's certificate is from an unknown issuer, or self-signed: name its issuer by the option ca"
                .into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("TLS: the server's {why}: connect by such a name, or name it by the option server_name")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("TLS: the server's {why}: it needs a new one, unless this machine's clock is wrong")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("TLS: the server's {why}: is this machine's clock right?")
        }
        // What `openssl req -x509` makes unless it is told otherwise. The name is that of the crate below rustls.
        CertificateError::Other(OtherError(why)) if why.to_string() == "CaUsedAsEndEntity" => {
            "TLS: the server's certificate is one of an issuer, which no server may show: make one with \
             basicConstraints=CA:FALSE"
                .into()
        }
        CertificateError::Other(OtherError(why)) => format!("TLS: the server's certificate is refused: {why}"),
        why => format!("TLS: the server's certificate is refused: {why}"),
    }
}

/// What a peer's alert says (RFC 8446 section 6.2), and what is likely meant.
fn refused_by_peer(alert: AlertDescription, role: Role) -> String {
    use AlertDescription as Alert;
    let peer = match role {
        Role::Client => "server",
        Role::Server => "client",
    };
    let advice = match (alert, role) {
        (Alert::CertificateRequired, _) => ": it wants a certificate of ours, set certificates",
        (
            Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown | Alert::CertificateExpired,
            Role::Client,
        ) => ": it does not take our certificate",
        (
            Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown | Alert::CertificateExpired,
            Role::Server,
        ) => ": it does not trust our certificate",
        (Alert::NoApplicationProtocol, _) => ": it speaks none of the protocols in alpn",
        (Alert::ProtocolVersion, _) => ": it speaks neither TLS 1.2 nor TLS 1.3",
        (Alert::UnrecognisedName, _) => ": it has no certificate for this name",
        _ => "",
    };
    format!("TLS: the {peer} ended the connection with the alert {}{advice}", name_of(alert))
}

/// An alert's name as the RFC writes it: `unknown_ca`.
fn name_of(alert: AlertDescription) -> String {
    let mut name = String::new();
    for letter in format!("{alert:?}").chars() {
        if letter.is_ascii_uppercase() && name.ends_with(|before: char| before.is_ascii_lowercase()) {
            // `UnknownCA` is one word behind the first, too.
            name.push('_');
        }
        name.push(letter);
    }
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_rfc() {
        for (alert, name) in [
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::CertificateRequired, "certificate_required"),
            (AlertDescription::NoApplicationProtocol, "no_application_protocol"),
            (AlertDescription::BadRecordMac, "bad_record_mac"),
        ] {
            assert_eq!(name_of(alert), name);
        }
    }
}
