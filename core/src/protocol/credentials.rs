//! The user names and passwords of URLs, which are never shown.

use std::borrow::Cow;
use std::fmt;

use data_encoding::BASE64;
use percent_encoding::percent_decode_str;

/// A user name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name, as bytes: which encoding it is in is the server's business.
    pub user: Vec<u8>,
    /// The password; empty where there is none.
    pub password: Vec<u8>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

impl Credentials {
    /// Takes the `user:password` of a URL apart (RFC 3986 section 3.2.1).
    ///
    /// # Errors
    /// What is wrong with it, without showing it.
    pub fn parse(userinfo: &str) -> Result<Self, &'static str> {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let decoded = |text| percent_decode_str(text).collect::<Vec<u8>>();
        let this = Self { user: decoded(user), password: decoded(password) };
        if this.user.iter().chain(&this.password).any(u8::is_ascii_control) {
            return Err("has a control character in its user name or password");
        }
        Ok(this)
    }

    /// The value of a header Authorization or Proxy-Authorization (RFC 7617).
    ///
    /// # Errors
    /// A user name with a colon could not be told from its password there.
    pub fn basic(&self) -> Result<String, &'static str> {
        if self.user.contains(&b':') {
            return Err("has a colon in its user name, which Basic authentication cannot send (RFC 7617)");
        }
        let pair = [&self.user[..], b":", &self.password].concat();
        Ok(format!("Basic {}", BASE64.encode(&pair)))
    }
}

/// A URL as it may be shown: nothing of what may be a user name and a password.
pub fn without_credentials(url: &str) -> Cow<'_, str> {
    // The last one: of a password that should have been encoded nothing is shown either.
    let Some(at) = url.rfind('@') else { return url.into() };
    let begin = url[..at].find("://").map_or(0, |scheme| scheme + 3);
    format!("{}***{}", &url[..begin], &url[at..]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_are_decoded_and_sent_as_basic() {
        for (userinfo, sent) in [
            // The examples of RFC 7617, sections 2 and 2.1.
            ("Aladdin:open%20sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("test:123%C2%A3", "Basic dGVzdDoxMjPCow=="),
            ("user", "Basic dXNlcjo="),
            (":password", "Basic OnBhc3N3b3Jk"),
            ("user:a:b", "Basic dXNlcjphOmI="),
        ] {
            assert_eq!(Credentials::parse(userinfo).unwrap().basic().unwrap(), sent, "{userinfo}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused_and_not_shown() {
        for userinfo in ["a%0d%0aX-Injected:b", "a:%00", "a:%7f"] {
            assert!(Credentials::parse(userinfo).unwrap_err().contains("control character"), "{userinfo}");
        }
        let colon = Credentials::parse("a%3ab:secret").unwrap();
        assert!(colon.basic().unwrap_err().contains("colon"));
        assert!(!format!("{colon:?}").contains("secret"));
    }

    #[test]
    fn a_url_is_shown_without_them() {
        for (url, shown) in [
            ("ws://a.org/x", "ws://a.org/x"),
            ("ws://user:secret@a.org/x", "ws://***@a.org/x"),
            ("ws://user:sec/ret@a.org", "ws://***@a.org"),
            ("ws://user:sec@ret@a.org", "ws://***@a.org"),
            ("user:secret@a.org", "***@a.org"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }
}
