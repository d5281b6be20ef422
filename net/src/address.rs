//! Addresses as people write them: `HOST:PORT`, `[::1]:9092`, `NAME://HOST:PORT`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A host and a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostPort {
    /// Name or address, without brackets.
    pub host: String,
    /// The port; 0 asks for a free one where something listens.
    pub port: u16,
}

impl HostPort {
    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether it stands for all addresses of the machine, so that nobody can connect to it by name.
    pub fn is_wildcard(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is not HOST:PORT: {why}");
        if text.contains("://") {
            return Err(wrong("it is a URL"));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) if inner.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) => inner,
            Some(_) => return Err(wrong("what is in brackets is no IPv6 address")),
            None if host.contains(':') => {
                return Err(wrong("an IPv6 address stands in brackets, as in [::1]:9092"));
            }
            None => host,
        };
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        if host.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(wrong("its host holds a character that no host has"));
        }
        let port = port.parse().map_err(|_| wrong("its port is not a number up to 65535"))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

/// An address of a listener, with the listener's name; a plain one is called `PLAINTEXT`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedAddress {
    /// The listener's name.
    pub name: String,
    /// Its address.
    pub address: HostPort,
}

impl FromStr for NamedAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once("://").unwrap_or(("PLAINTEXT", text));
        if name.is_empty()
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        {
            return Err(format!(
                "{name:?} is no name for a listener: use letters, digits, - and _"
            ));
        }
        Ok(Self { name: name.to_ascii_uppercase(), address: address.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for text in ["127.0.0.1:9092", "[::1]:0", "broker-1.example:65535"] {
            assert_eq!(text.parse::<HostPort>().expect(text).to_string(), text);
        }
        for text in ["9092", "host", "host:", ":9092", "::1:9092", "[x]:1", "h:65536", "a b:1"] {
            let error = text.parse::<HostPort>().expect_err(text);
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_listener_has_a_name() {
        let named: NamedAddress = "inside://0.0.0.0:29092".parse().expect("it has both parts");
        assert_eq!((named.name.as_str(), named.address.port), ("INSIDE", 29092));
        assert!(named.address.is_wildcard() && !named.address.is_loopback());
        let plain: NamedAddress = "localhost:9092".parse().expect("a name is not needed");
        assert_eq!(plain.name, "PLAINTEXT");
        assert!(plain.address.is_loopback());
    }
}
