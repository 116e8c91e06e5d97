//! From the options to what rustls works with: PEM, certificates by name, whom to trust.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use crate::config::{Certificate, ClientAuth, Pem, Tls};
use crate::error::{Error, Result};

/// What every connection of a listener begins with.
#[derive(Clone, Debug)]
pub(in crate::engine) struct ServerSetup(pub(super) Arc<ServerConfig>);

/// What one client connection begins with.
#[derive(Clone, Debug)]
pub(in crate::engine) struct ClientSetup {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl ServerSetup {
    pub(in crate::engine) fn new(tls: &Tls) -> Result<Self> {
        let certificates = tls.certificates.iter().map(certified).collect::<Result<Vec<_>>>()?;
        if certificates.is_empty() {
            return Err(Error::invalid("a server needs a certificate and its key: the option certificates is empty"));
        }
        let mut config = ServerConfig::builder_with_provider(provider().clone())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_client_cert_verifier(client_verifier(tls)?)
            .with_cert_resolver(Arc::new(ByName(certificates)));
        config.alpn_protocols = alpn(tls)?;
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(unusable)?;
        Ok(Self(Arc::new(config)))
    }
}

impl ClientSetup {
    /// `host` is the URL's.
    pub(in crate::engine) fn new(tls: Option<&Tls>, host: &str) -> Result<Self> {
        /// Shared, so that connections resume sessions of earlier ones.
        static DEFAULT: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        let name = server_name(tls, host)?;
        let config = match (tls, DEFAULT.get()) {
            (Some(tls), _) => client_config(tls)?,
            (None, Some(config)) => config.clone(),
            (None, None) => {
                let config = client_config(&Tls::default())?;
                DEFAULT.get_or_init(|| config).clone()
            }
        };
        Ok(Self { config, name })
    }

    /// The same for another host.
    pub(in crate::engine) fn for_host(&self, tls: Option<&Tls>, host: &str) -> Result<Self> {
        Ok(Self { config: self.config.clone(), name: server_name(tls, host)? })
    }
}

/// The name that a server's certificate must be for.
fn server_name(tls: Option<&Tls>, host: &str) -> Result<ServerName<'static>> {
    let name = tls.and_then(|tls| tls.server_name.as_deref()).unwrap_or(host);
    ServerName::try_from(name.to_owned())
        .map_err(|_| Error::invalid(format!("{name:?} is no name that a certificate can be for: set server_name")))
}

fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .dangerous();
    let verifier: Arc<dyn ServerCertVerifier> = if tls.danger_accept_invalid_certificates {
        Arc::new(Anybody(provider.signature_verification_algorithms))
    } else {
        let roots = match &tls.ca {
            Some(ca) => roots(ca)?,
            None => system_roots()?,
        };
        WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build().map_err(unusable)?
    };
    let builder = builder.with_custom_certificate_verifier(verifier);
    let mut config = match tls.certificates.first() {
        Some(certificate) => {
            let certified = Arc::into_inner(certified(certificate)?).expect("just made, and not shared");
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn(tls)?;
    Ok(Arc::new(config))
}

/// Not the process-wide one, which is the program's.
fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider()))
}

fn unusable(error: impl std::fmt::Display) -> Error {
    Error::invalid(format!("these choices for TLS cannot be used: {error}"))
}

fn alpn(tls: &Tls) -> Result<Vec<Vec<u8>>> {
    if let Some(name) = tls.alpn.iter().find(|name| !(1..=255).contains(&name.len())) {
        return Err(Error::invalid(format!("{} bytes of a protocol's name, ALPN takes 1 to 255", name.len())));
    }
    Ok(if tls.alpn.is_empty() {
        vec![b"http/1.1".to_vec()]
    } else {
        tls.alpn.iter().map(|name| name.clone().into_bytes()).collect()
    })
}

/// For people: where a text comes from.
fn origin(pem: &Pem) -> Cow<'static, str> {
    match pem {
        Pem::File(path) => format!("the file {}", path.display()).into(),
        Pem::Bytes(_) => "the text given".into(),
    }
}

fn read(pem: &Pem) -> Result<Cow<'_, [u8]>> {
    match pem {
        Pem::File(path) => std::fs::read(path)
            .map(Cow::Owned)
            .map_err(|source| Error::io(format!("read the file {}", path.display()), source)),
        Pem::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
    }
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(pem)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Error::invalid(format!("{} holds no certificate in PEM", origin(pem)))),
        Err(error) => Err(Error::invalid(format!("{} is malformed PEM: {error}", origin(pem)))),
    }
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>> {
    let text = read(pem)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        // Either `BEGIN ENCRYPTED PRIVATE KEY` or, of old, the header `Proc-Type: 4,ENCRYPTED`.
        let is_encrypted = memchr::memmem::find(&text, b"ENCRYPTED").is_some();
        let why = if is_encrypted {
            "holds an encrypted private key, which is not read: decrypt it first"
        } else {
            "holds no private key in PEM"
        };
        Error::invalid(format!("{} {why}", origin(pem)))
    })
}

/// A certificate with the key that belongs to it.
fn certified(Certificate { chain, key }: &Certificate) -> Result<Arc<CertifiedKey>> {
    let certified = CertifiedKey::from_der(certificates(chain)?, private_key(key)?, provider());
    certified.map(Arc::new).map_err(|error| {
        Error::invalid(match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("the key in {} does not belong to the certificate in {}", origin(key), origin(chain))
            }
            rustls::Error::InvalidCertificate(why) => {
                format!("the certificate in {} cannot be used: {why}", origin(chain))
            }
            why => format!("the key in {} cannot be used: {why}", origin(key)),
        })
    })
}

fn roots(pem: &Pem) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| {
            Error::invalid(format!("a certificate in {} is not one of an issuer: {error}", origin(pem)))
        })?;
    }
    Ok(Arc::new(roots))
}

/// Those whom the system trusts, read once: there are more than a hundred.
fn system_roots() -> Result<Arc<RootCertStore>> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        let advice = "install the system's ca-certificates, set SSL_CERT_FILE, or name the issuers by the option ca";
        return Err(Error::invalid(format!("no certificates of issuers are found on this system{why}: {advice}")));
    }
    Ok(ROOTS.get_or_init(|| Arc::new(roots)).clone())
}

fn client_verifier(tls: &Tls) -> Result<Arc<dyn ClientCertVerifier>> {
    let ca = match (&tls.ca, tls.client_auth) {
        (None, ClientAuth::None) => return Ok(WebPkiClientVerifier::no_client_auth()),
        (Some(_), ClientAuth::None) => {
            return Err(Error::invalid(
                "ca names issuers of client certificates, and client_auth asks for none: require them",
            ));
        }
        (None, _) => {
            return Err(Error::invalid("client_auth needs ca, the issuers of acceptable client certificates"));
        }
        (Some(ca), _) => ca,
    };
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider().clone());
    if tls.client_auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(unusable)
}

thread_local! {
    /// The name that the client asks for whose first message is being worked through: rustls tells it to the resolver only.
    static ASKED_NAME: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// The name that a client has asked for on this thread since the last look.
pub(super) fn take_asked_name() -> Option<Box<str>> {
    ASKED_NAME.try_with(|name| name.borrow_mut().take()).ok().flatten()
}

/// A server's certificates, chosen by the name that is asked for and the kinds of keys that the client takes.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = hello.server_name() {
            let _ = ASKED_NAME.try_with(|asked| *asked.borrow_mut() = Some(name.to_ascii_lowercase().into()));
        }
        if let [only] = &self.0[..] {
            return Some(only.clone());
        }
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let is_usable =
            |certified: &&Arc<CertifiedKey>| certified.key.choose_scheme(hello.signature_schemes()).is_some();
        let usable = || self.0.iter().filter(is_usable);
        let fitting = name.and_then(|name| usable().find(|certified| is_for(certified, &name)));
        fitting.or_else(|| usable().next()).or_else(|| self.0.first()).cloned()
    }
}

fn is_for(certified: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = certified.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
}

/// Takes the certificate of anybody, who must have the key to it.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
