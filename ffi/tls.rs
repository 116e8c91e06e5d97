//! TLS: certificates, whom to trust, and what a request tells of its client.

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr::null;

use wsx_core::{Certificate, ClientAuth, Listener, Pem, Result, Tls};

use crate::boundary::{answer, bytes, enter, invalid, needed, optional_text, switch, text};
use crate::callbacks::wsx_listener;
use crate::options::{try_set, wsx_options};
use crate::request::{ask, wsx_request};

/// A server asks no client for a certificate (the default).
pub const WSX_CLIENT_AUTH_NONE: i32 = 0;
/// A server asks for a certificate, and serves a client that has none; a wrong one is refused.
pub const WSX_CLIENT_AUTH_OPTIONAL: i32 = 1;
/// A server asks for a certificate, and refuses a client that has none.
pub const WSX_CLIENT_AUTH_REQUIRED: i32 = 2;

fn change(options: Option<&mut wsx_options>, change: impl FnOnce(&mut Tls) -> Result<()>) -> i32 {
    try_set(options, |options| {
        let mut tls = options.connection.tls.take().unwrap_or_default();
        let changed = change(&mut tls);
        options.connection.tls = Some(tls).filter(|tls| *tls != Tls::default());
        changed
    })
}

/// Adds a certificate and its key, both as paths of files in PEM: the certificate and then those of its issuers, and the
/// key, not encrypted. Server: with the first one its listeners speak TLS; among several the client's name for the server
/// decides, and the first is shown where none fits. Client: the first is shown when the server asks. The files are read
/// when a listener or a connection is made, which then tells what is wrong with them. Default none. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_options_add_tls_certificate(
    options: Option<&mut wsx_options>,
    chain_file: *const c_char,
    key_file: *const c_char,
) -> i32 {
    change(options, |tls| {
        // SAFETY: the contract of the crate.
        let (chain, key) = unsafe { (text(chain_file, "chain_file")?, text(key_file, "key_file")?) };
        tls.certificates.push(Certificate { chain: chain.into(), key: key.into() });
        Ok(())
    })
}

/// The same with the texts themselves, which are copied. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_options_add_tls_certificate_pem(
    options: Option<&mut wsx_options>,
    chain: *const c_void,
    chain_length: usize,
    key: *const c_void,
    key_length: usize,
) -> i32 {
    change(options, |tls| {
        // SAFETY: the contract of the crate.
        let (chain, key) = unsafe { (bytes(chain, chain_length, "chain")?, bytes(key, key_length, "key")?) };
        tls.certificates.push(Certificate { chain: chain.to_vec().into(), key: key.to_vec().into() });
        Ok(())
    })
}

/// The issuers to trust, as the path of a file of certificates in PEM. Client: instead of those that the system trusts.
/// Server: whose certificates clients may show, see wsx_options_set_tls_client_auth(). NULL: none are named, the default.
/// [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_options_set_tls_ca(options: Option<&mut wsx_options>, file: *const c_char) -> i32 {
    change(options, |tls| {
        // SAFETY: the contract of the crate.
        tls.ca = unsafe { optional_text(file, "file") }?.map(Pem::from);
        Ok(())
    })
}

/// The same with the text itself, which is copied. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_options_set_tls_ca_pem(
    options: Option<&mut wsx_options>,
    ca: *const c_void,
    length: usize,
) -> i32 {
    change(options, |tls| {
        // SAFETY: the contract of the crate.
        tls.ca = Some(unsafe { bytes(ca, length, "ca") }?.to_vec().into());
        Ok(())
    })
}

/// Server: whether clients are asked for a certificate: a WSX_CLIENT_AUTH_ constant. Asking needs their issuers, by
/// wsx_options_set_tls_ca(). Default WSX_CLIENT_AUTH_NONE. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_tls_client_auth(options: Option<&mut wsx_options>, client_auth: i32) -> i32 {
    change(options, |tls| {
        tls.client_auth = match client_auth {
            WSX_CLIENT_AUTH_NONE => ClientAuth::None,
            WSX_CLIENT_AUTH_OPTIONAL => ClientAuth::Optional,
            WSX_CLIENT_AUTH_REQUIRED => ClientAuth::Required,
            _ => return Err(invalid(format!("{client_auth} is no choice of client_auth"))),
        };
        Ok(())
    })
}

/// Client: the name to ask for, and to find in the server's certificate, instead of the URL's host. NULL: the URL's, the
/// default. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_options_set_tls_server_name(
    options: Option<&mut wsx_options>,
    name: *const c_char,
) -> i32 {
    change(options, |tls| {
        // SAFETY: the contract of the crate.
        tls.server_name = unsafe { optional_text(name, "name") }?.map(Into::into);
        Ok(())
    })
}

/// Adds a protocol to agree on (ALPN), of 1 to 255 bytes, in order of preference. A peer that offers only others is
/// refused. Default "http/1.1", which the first one replaces. [any thread]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsx_options_add_tls_alpn(options: Option<&mut wsx_options>, name: *const c_char) -> i32 {
    change(options, |tls| {
        // SAFETY: the contract of the crate.
        tls.alpn.push(unsafe { text(name, "name") }?.into());
        Ok(())
    })
}

/// Client: whether to take any certificate, of anybody, for any name (1). The connection is encrypted then, but to whom is
/// unknown: whoever is on the way can read and change everything. For tests. Default 0. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_options_set_tls_danger_accept_invalid_certificates(
    options: Option<&mut wsx_options>,
    enabled: i32,
) -> i32 {
    change(options, |tls| {
        tls.danger_accept_invalid_certificates = switch(enabled, "enabled")?;
        Ok(())
    })
}

/// Has a listener begin TLS anew with these options, on every thread that serves it: a renewed certificate, say. Of the
/// options only those of TLS count; files are read here and now. Connections that are open, or in the handshake, go on
/// with what they began with. Where this fails nothing has changed. [any thread]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_listener_reload_tls(listener: wsx_listener, options: Option<&wsx_options>) -> i32 {
    enter(|| {
        let tls = needed(options, "options")?.connection.tls.as_ref();
        Listener::from_id(listener).reload_tls(tls.ok_or_else(|| invalid("the options name no certificate"))?)
    })
}

/// Whether the request came over TLS that ends here, rather than at a proxy. [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_is_secure(request: Option<&wsx_request<'_>>) -> bool {
    answer(false, || Ok(needed(request, "request")?.request.is_secure()))
}

/// The certificate of the client (0) or of an issuer that it sent (from 1), in DER, and its length; verified. NULL past the
/// last one, and where the client showed none or was not asked. [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_peer_certificate(
    request: Option<&wsx_request<'_>>,
    index: usize,
    length: Option<&mut MaybeUninit<usize>>,
) -> *const u8 {
    answer(null(), || {
        let (request, length) = (needed(request, "request")?, needed(length, "length")?);
        let certificate = request.request.peer_certificates().get(index);
        length.write(certificate.map_or(0, Vec::len));
        Ok(certificate.map_or(null(), |certificate| certificate.as_ptr()))
    })
}

/// The name that the client asked for in the TLS handshake (SNI), in lower case; NULL without TLS, and for an address.
/// [loop thread, in on_request and on_open]
#[unsafe(no_mangle)]
pub extern "C" fn wsx_request_server_name(request: Option<&wsx_request<'_>>) -> *const c_char {
    ask(request, |request| Ok(request.server_name()))
}
