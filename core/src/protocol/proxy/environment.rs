//! The proxy that the environment names, read as curl reads it.

use std::net::IpAddr;

use super::Proxy;
use crate::error::Error;
use crate::protocol::url::Url;

/// The proxy for this URL, by variables that `variable` tells: `https_proxy` for wss, `http_proxy` for ws, `all_proxy` for
/// what has none of its own, and `no_proxy` for the hosts that are reached without. Names in lower case go before; of
/// `http_proxy` there is none in capitals, for a CGI program would take a request's header `Proxy` for it.
///
/// # Errors
/// As [`Proxy::parse`], with the name of the variable.
pub fn from_environment(url: &Url, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>, Error> {
    let names: &[&str] = if url.secure {
        &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    } else {
        &["http_proxy", "all_proxy", "ALL_PROXY"]
    };
    let set = |name: &&str| variable(name).filter(|value| !value.is_empty()).map(|value| (name.to_string(), value));
    let Some((name, value)) = names.iter().find_map(set) else { return Ok(None) };
    if let Some((_, exceptions)) = ["no_proxy", "NO_PROXY"].iter().find_map(set)
        && is_excepted(&exceptions, &url.host, url.port)
    {
        return Ok(None);
    }
    // As curl: what is only a host and a port is an HTTP proxy.
    let whole = if value.contains("://") { value } else { format!("http://{value}") };
    Proxy::parse(&whole).map(Some).map_err(|error| match error {
        Error::InvalidArgument(why) => Error::invalid(format!("{why} (environment variable {name})")),
        other => other,
    })
}

/// Whether a list of exceptions, with commas or spaces between, names this host: as `*`, itself, a domain it is in, its
/// address, or a network in CIDR notation (RFC 4632); each with a port behind it only for that port.
fn is_excepted(exceptions: &str, host: &str, port: u16) -> bool {
    let host = host.trim_end_matches('.');
    let address = host.parse::<IpAddr>().ok();
    exceptions.split([',', ' ', '\t']).filter(|entry| !entry.is_empty()).any(|entry| {
        let (entry, wanted) = split_port(entry);
        if wanted.is_some_and(|wanted| wanted != port) {
            return false;
        }
        match address {
            _ if entry == "*" => true,
            Some(address) => is_in_network(address, entry),
            None => is_in_domain(host, entry.trim_matches('.')),
        }
    })
}

/// An entry without brackets, and the port behind it; an address of IPv6 has one only behind brackets.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some((address, rest)) = entry.strip_prefix('[').and_then(|entry| entry.split_once(']')) {
        return (address, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, port.parse().ok()),
        _ => (entry, None),
    }
}

fn is_in_domain(host: &str, domain: &str) -> bool {
    let Some(at) = host.len().checked_sub(domain.len()).filter(|_| !domain.is_empty()) else { return false };
    host.is_char_boundary(at) && host[at..].eq_ignore_ascii_case(domain) && (at == 0 || host.as_bytes()[at - 1] == b'.')
}

fn is_in_network(address: IpAddr, network: &str) -> bool {
    let (network, bits) = match network.split_once('/') {
        Some((network, bits)) => (network, bits.parse::<u32>().ok()),
        None => (network, Some(128)),
    };
    let (Ok(network), Some(bits)) = (network.parse::<IpAddr>(), bits) else { return false };
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (address.to_bits() ^ network.to_bits()).leading_zeros() >= bits.min(32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            (address.to_bits() ^ network.to_bits()).leading_zeros() >= bits.min(128)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::url::parse_url;

    fn chosen(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        from_environment(&parse_url(url).unwrap(), variable).unwrap().map(|proxy| proxy.authority())
    }

    #[test]
    fn the_variable_of_the_scheme_is_read_then_that_for_all() {
        let all = [("http_proxy", "http://plain:1"), ("https_proxy", "secure:2"), ("ALL_PROXY", "socks5://all:3")];
        assert_eq!(chosen("ws://a.org", &all).as_deref(), Some("plain:1"));
        assert_eq!(chosen("wss://a.org", &all).as_deref(), Some("secure:2"));
        assert_eq!(chosen("wss://a.org", &all[2..]).as_deref(), Some("all:3"));
        assert_eq!(chosen("ws://a.org", &[("https_proxy", "secure:2")]), None);
        let both = [("HTTPS_PROXY", "capitals:1"), ("https_proxy", "small:2")];
        assert_eq!(chosen("wss://a.org", &both).as_deref(), Some("small:2"));
        assert_eq!(chosen("wss://a.org", &both[..1]).as_deref(), Some("capitals:1"));
        assert_eq!(chosen("wss://a.org", &[("https_proxy", ""), ("all_proxy", "all:3")]).as_deref(), Some("all:3"));
    }

    #[test]
    fn http_proxy_in_capitals_is_not_read() {
        assert_eq!(chosen("ws://a.org", &[("HTTP_PROXY", "http://evil:1")]), None);
    }

    #[test]
    fn a_bad_value_is_told_with_its_variable_and_without_its_password() {
        let error = from_environment(&parse_url("ws://a").unwrap(), |name| {
            (name == "http_proxy").then(|| "https://user:secret@proxy".into())
        });
        let message = error.unwrap_err().to_string();
        assert!(message.contains("http_proxy") && !message.contains("secret"), "{message}");
    }

    #[test]
    fn no_proxy_names_hosts_domains_addresses_networks_and_ports() {
        for (exceptions, url, is_excepted) in [
            ("a.org", "ws://a.org", true),
            ("A.ORG", "ws://a.org.", true),
            ("a.org", "ws://sub.a.org", true),
            (".a.org", "ws://sub.a.org", true),
            (".a.org", "ws://a.org", true),
            ("a.org", "ws://ba.org", false),
            ("a.org", "ws://a.org.evil", false),
            ("b.org, a.org", "ws://a.org", true),
            ("b.org a.org", "ws://a.org", true),
            ("*", "ws://anything", true),
            ("*.org", "ws://a.org", false),
            ("", "ws://a.org", false),
            (",. ,", "ws://a.org", false),
            ("a.org:81", "ws://a.org:81", true),
            ("a.org:81", "ws://a.org", false),
            ("127.0.0.1", "ws://127.0.0.1", true),
            ("127.0.0.1", "ws://127.0.0.10", false),
            ("0.1", "ws://127.0.0.1", false),
            ("10.0.0.0/8", "ws://10.1.2.3", true),
            ("10.0.0.0/8", "ws://11.1.2.3", false),
            ("0.0.0.0/0", "ws://11.1.2.3", true),
            ("10.0.0.0/x", "ws://10.0.0.0", false),
            ("::1", "ws://[::1]", true),
            ("[::1]", "ws://[0:0::1]", true),
            ("[::1]:90", "ws://[::1]", false),
            ("fe80::/10", "ws://[fe81::1]", true),
            ("fe80::/10", "ws://10.0.0.1", false),
            ("localhost", "ws://localhost:1", true),
        ] {
            let variables = [("http_proxy", "proxy:1"), ("no_proxy", exceptions)];
            assert_eq!(chosen(url, &variables).is_none(), is_excepted, "{exceptions:?} and {url}");
        }
        let capitals = [("http_proxy", "proxy:1"), ("NO_PROXY", "a.org")];
        assert_eq!(chosen("ws://a.org", &capitals), None);
    }
}
