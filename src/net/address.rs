//! Where to listen and whom to dial, as the user writes it down.

use core::fmt;
use core::str::FromStr;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::string::{String, ToString};

/// Where to listen, or whom to dial: a host and a port.
///
/// Written as `host:port`, with or without `tcp://` in front of it. The host is an IPv4 address, an IPv6 address in
/// brackets (`[::1]:2014`, with a numeric scope as in `[fe80::1%2]:2014`), a name, or `*` for all interfaces. A name
/// is kept as it is and resolved when it is needed, anew each time. Port 0 asks the system for a free port.
///
/// `*`, `0.0.0.0`, `[::]` and port 0 are for listening only; dialling them is refused before anything is tried.
///
/// ```
/// # use pulsewire::net::Address;
/// let address: Address = "tcp://127.0.0.1:2014".parse()?;
/// assert!(address.is_loopback());
/// assert_eq!(address.to_string(), "127.0.0.1:2014");
/// # Ok::<(), pulsewire::net::AddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address(Place);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    AllInterfaces {
        port: u16,
    },
    At(SocketAddr),
    /// Invariant: `host` was checked by [`is_name`]; it is no address.
    Name {
        host: String,
        port: u16,
    },
}

/// What has to be done before there is a socket address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// All interfaces: `[::]` for both families, `0.0.0.0` where there is no IPv6. Never what is dialled.
    AllInterfaces {
        /// 0 for any.
        port: u16,
    },
    /// Nothing.
    At(SocketAddr),
    /// A lookup.
    Name {
        /// What to look up.
        host: &'a str,
        /// What to add to each result.
        port: u16,
    },
}

impl Address {
    /// The port; 0 where the system is to choose one.
    pub fn port(&self) -> u16 {
        match &self.0 {
            Place::AllInterfaces { port } | Place::Name { port, .. } => *port,
            Place::At(addr) => addr.port(),
        }
    }

    /// The same place at another port.
    pub(crate) fn with_port(&self, new: u16) -> Address {
        let mut place = self.0.clone();
        match &mut place {
            Place::AllInterfaces { port } | Place::Name { port, .. } => *port = new,
            Place::At(addr) => addr.set_port(new),
        }
        Address(place)
    }

    /// Whether only this machine can be meant: 127.0.0.0/8, `::1`, or the name `localhost`.
    ///
    /// For any other name the answer is no, whatever it would resolve to. That `localhost` resolves to such an address
    /// is the system's promise (RFC 6761), not checked here.
    pub fn is_loopback(&self) -> bool {
        match &self.0 {
            Place::AllInterfaces { .. } => false,
            Place::At(addr) => addr.ip().to_canonical().is_loopback(),
            Place::Name { host, .. } => {
                host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case("localhost")
            }
        }
    }

    /// What listening here takes.
    pub(crate) fn to_listen(&self) -> Target<'_> {
        match &self.0 {
            Place::AllInterfaces { port } => Target::AllInterfaces { port: *port },
            Place::At(addr) => Target::At(*addr),
            Place::Name { host, port } => Target::Name { host, port: *port },
        }
    }

    /// What dialling this address takes; to be asked when the address is given, long before it is dialled.
    ///
    /// # Errors
    /// [`AddressError::Wildcard`] or [`AddressError::PortZero`]: there is nobody to dial.
    pub(crate) fn to_dial(&self) -> Result<Target<'_>, AddressError> {
        let target = self.to_listen();
        let is_wildcard = match target {
            Target::AllInterfaces { .. } => true,
            Target::At(addr) => addr.ip().to_canonical().is_unspecified(),
            Target::Name { .. } => false,
        };
        if is_wildcard {
            return Err(AddressError::Wildcard { address: self.to_string() });
        }
        if self.port() == 0 {
            return Err(AddressError::PortZero { address: self.to_string() });
        }
        Ok(target)
    }
}

impl fmt::Display for Address {
    /// In the form that parses again, without the scheme.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::AllInterfaces { port } => write!(f, "*:{port}"),
            Place::At(addr) => write!(f, "{addr}"),
            Place::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let address = || text.to_string();
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("tcp") => rest,
            Some(_) => return Err(AddressError::UnknownScheme { address: address() }),
            None => text,
        };
        let (host, port) = split_port(rest, text)?;
        if host.is_empty() || host == "[]" {
            return Err(AddressError::EmptyHost { address: address() });
        }
        let port = match port {
            None | Some("") => return Err(AddressError::MissingPort { address: address() }),
            Some(digits) => {
                parse_port(digits).ok_or_else(|| AddressError::InvalidPort { address: address() })?
            }
        };
        if host == "*" {
            return Ok(Address(Place::AllInterfaces { port }));
        }
        if host.starts_with('[') {
            // The standard library knows the scope, too. Anything that we have not checked yet is in the brackets.
            let mut addr: SocketAddrV6 = std::format!("{host}:0")
                .parse()
                .map_err(|_| AddressError::InvalidHost { address: address() })?;
            addr.set_port(port);
            return Ok(addr.into());
        }
        if let Ok(ip) = host.parse::<Ipv4Addr>() {
            return Ok(SocketAddr::from((ip, port)).into());
        }
        if !is_name(host) {
            return Err(AddressError::InvalidHost { address: address() });
        }
        Ok(Address(Place::Name { host: host.to_string(), port }))
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Address(Place::At(addr))
    }
}

impl From<SocketAddrV6> for Address {
    fn from(addr: SocketAddrV6) -> Self {
        Address(Place::At(addr.into()))
    }
}

/// What can be given where an [`Address`] is wanted: text, a [`SocketAddr`], or the address itself.
///
/// Unlike [`std::net::ToSocketAddrs`] this never resolves a name and so never blocks.
pub trait ToAddress {
    /// The address that is meant.
    ///
    /// # Errors
    /// An [`AddressError`] if the text is not an address: the caller's mistake.
    fn to_address(&self) -> Result<Address, AddressError>;
}

impl ToAddress for Address {
    fn to_address(&self) -> Result<Address, AddressError> {
        Ok(self.clone())
    }
}

impl ToAddress for str {
    fn to_address(&self) -> Result<Address, AddressError> {
        self.parse()
    }
}

impl ToAddress for String {
    fn to_address(&self) -> Result<Address, AddressError> {
        self.parse()
    }
}

impl ToAddress for SocketAddr {
    fn to_address(&self) -> Result<Address, AddressError> {
        Ok((*self).into())
    }
}

impl<T: ToAddress + ?Sized> ToAddress for &T {
    fn to_address(&self) -> Result<Address, AddressError> {
        (**self).to_address()
    }
}

/// Why a text is not an address, or not one that can be dialled. The caller's mistake; nothing was tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is a host, but no port behind it.
    #[error("missing port in {address:?}")]
    MissingPort {
        /// The text given.
        address: String,
    },
    /// The port is not a number from 0 to 65535.
    #[error("port in {address:?} is not a number from 0 to 65535")]
    InvalidPort {
        /// The text given.
        address: String,
    },
    /// There is nothing in front of the port.
    #[error("empty host in {address:?}, use * for all interfaces")]
    EmptyHost {
        /// The text given.
        address: String,
    },
    /// Neither an IP address nor anything that could be a name.
    #[error("invalid host in {address:?}")]
    InvalidHost {
        /// The text given.
        address: String,
    },
    /// An IPv6 address without brackets, of which nobody can say where the port begins.
    #[error("ipv6 address in {address:?} needs brackets, as in [::1]:2014")]
    UnbracketedV6 {
        /// The text given.
        address: String,
    },
    /// Something other than `tcp` stands in front of `://`.
    #[error("unknown scheme in {address:?}, only tcp:// is spoken")]
    UnknownScheme {
        /// The text given.
        address: String,
    },
    /// All interfaces can be listened on, but not dialled.
    #[error("{address:?} is for listening, there is nobody to dial")]
    Wildcard {
        /// The address.
        address: String,
    },
    /// A free port can be listened on, but not dialled.
    #[error("port 0 in {address:?} is for listening, there is nobody to dial")]
    PortZero {
        /// The address.
        address: String,
    },
}

/// Splits `rest`, which is `text` without its scheme, into the host, brackets included, and the port if there is one.
fn split_port<'a>(rest: &'a str, text: &str) -> Result<(&'a str, Option<&'a str>), AddressError> {
    let invalid = || AddressError::InvalidHost { address: text.to_string() };
    if rest.starts_with('[') {
        let end = rest.find(']').ok_or_else(invalid)?;
        let (host, behind) = rest.split_at(end + 1);
        return match behind.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if behind.is_empty() => Ok((host, None)),
            None => Err(invalid()),
        };
    }
    let Some((host, port)) = rest.rsplit_once(':') else { return Ok((rest, None)) };
    if !host.contains(':') {
        return Ok((host, Some(port)));
    }
    let is_v6 = |ip: &str| ip.split('%').next().is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok());
    if is_v6(rest) || is_v6(host) {
        return Err(AddressError::UnbracketedV6 { address: text.to_string() });
    }
    Err(invalid())
}

/// Digits only: `u16::from_str` alone would let a sign pass.
fn parse_port(digits: &str) -> Option<u16> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// Whether a resolver may be asked for this host.
///
/// A last label of digits is refused (WHATWG URL, "ends in a number"): it is a mistyped IPv4 address, and resolvers
/// disagree on forms like `127.1`. International names are written in their ASCII form.
fn is_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    host.len() <= MAX_HOST_BYTES && host.split('.').all(is_label) && !is_number
}

/// The longest name that DNS can carry, in bytes without the last dot (RFC 1035).
const MAX_HOST_BYTES: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refused(text: &str) -> AddressError {
        text.parse::<Address>().expect_err(text)
    }

    #[test]
    fn every_documented_form_parses_and_shows_itself() {
        for (text, shown) in [
            ("127.0.0.1:2014", "127.0.0.1:2014"),
            ("tcp://127.0.0.1:2014", "127.0.0.1:2014"),
            ("TCP://10.0.0.7:0", "10.0.0.7:0"),
            ("0.0.0.0:65535", "0.0.0.0:65535"),
            ("*:2014", "*:2014"),
            ("tcp://*:0", "*:0"),
            ("[::1]:2014", "[::1]:2014"),
            ("tcp://[::]:4102", "[::]:4102"),
            ("[fe80::1%2]:2014", "[fe80::1%2]:2014"),
            ("localhost:2014", "localhost:2014"),
            ("tcp://gateway-1.my_plant.example:2014", "gateway-1.my_plant.example:2014"),
            ("example.org.:80", "example.org.:80"),
            ("1st.example:0080", "1st.example:80"),
        ] {
            let address = parse(text);
            assert_eq!(address.to_string(), shown);
            assert_eq!(parse(shown), address, "shown form parses again");
        }
    }

    #[test]
    fn targets_say_what_is_left_to_do() {
        let addr: SocketAddr = "127.0.0.1:2014".parse().unwrap();
        assert_eq!(parse("127.0.0.1:2014").to_dial(), Ok(Target::At(addr)));
        assert_eq!(parse("Server:2014").to_dial(), Ok(Target::Name { host: "Server", port: 2014 }));
        assert_eq!(parse("*:2014").to_listen(), Target::AllInterfaces { port: 2014 });
        assert_eq!(parse("server:0").to_listen(), Target::Name { host: "server", port: 0 });
    }

    #[test]
    fn dialling_needs_somebody_there() {
        for text in ["*:2014", "0.0.0.0:2014", "[::]:2014", "[::ffff:0.0.0.0]:2014", "*:0"] {
            let address = parse(text);
            assert_eq!(address.to_dial(), Err(AddressError::Wildcard { address: address.to_string() }));
        }
        for text in ["127.0.0.1:0", "[::1]:0", "localhost:0"] {
            assert_eq!(parse(text).to_dial(), Err(AddressError::PortZero { address: text.into() }));
        }
    }

    #[test]
    fn ports_are_checked_to_the_digit() {
        for text in [
            "host:65536",
            "host:99999999999999999999",
            "host:-1",
            "host:+1",
            "host:http",
            "host:20 14",
            "tcp://127.0.0.1:2014/",
            "[::1]:65536",
            "*:*",
            "host:\u{0662}",
        ] {
            assert_eq!(refused(text), AddressError::InvalidPort { address: text.into() });
        }
        for text in ["host", "127.0.0.1", "tcp://host", "host:", "[::1]", "[::1]:", "*"] {
            assert_eq!(refused(text), AddressError::MissingPort { address: text.into() });
        }
    }

    #[test]
    fn hosts_that_are_none_are_refused() {
        for text in ["", ":2014", "tcp://:2014", "tcp://", "[]:2014"] {
            assert_eq!(refused(text), AddressError::EmptyHost { address: text.into() });
        }
        for text in ["::1:2014", "::1", "fe80::1%eth0:2014", "2001:db8::7:2014", "tcp://:::2014"] {
            assert_eq!(refused(text), AddressError::UnbracketedV6 { address: text.into() });
        }
        for text in ["ipc:///tmp/feed", "udp://host:2014", "://host:2014", "http://host:80"] {
            assert_eq!(refused(text), AddressError::UnknownScheme { address: text.into() });
        }
        let (long_label, long_name) =
            (std::format!("{}:1", "a".repeat(64)), std::format!("{}com:1", "abc.".repeat(63)));
        for text in [
            "256.0.0.1:2014",
            "127.1:2014",
            "2130706433:2014",
            "0x7f000001:2014",
            "1.2.3.4.:2014",
            "eth0;host:2014",
            " host:2014",
            "ho st:2014",
            "host\0:2014",
            "user@host:2014",
            "b\u{fc}ro:2014",
            ".host:2014",
            "ho..st:2014",
            ".:2014",
            "[::1:2014",
            "[::1]2014",
            "[127.0.0.1]:2014",
            "[host]:2014",
            "a:b:1",
            "**:2014",
            &long_label,
            &long_name,
        ] {
            assert_eq!(refused(text), AddressError::InvalidHost { address: text.into() });
        }
    }

    #[test]
    fn loopback_is_this_machine_and_nothing_else() {
        for text in [
            "127.0.0.1:1",
            "127.200.3.4:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "localhost:1",
            "LocalHost:1",
            "localhost.:1",
        ] {
            assert!(parse(text).is_loopback(), "{text}");
        }
        for text in ["*:1", "0.0.0.0:1", "[::]:1", "128.0.0.1:1", "localhost.example:1", "my-localhost:1"] {
            assert!(!parse(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn whatever_means_an_address_is_taken() {
        let addr: SocketAddr = "[::1]:2014".parse().unwrap();
        let expected = parse("[::1]:2014");
        let same = [
            "[::1]:2014".to_address(),
            "tcp://[::1]:2014".to_string().to_address(),
            addr.to_address(),
            ToAddress::to_address(&&addr),
            expected.to_address(),
        ];
        assert!(same.into_iter().all(|address| address.as_ref() == Ok(&expected)));
        assert_eq!(expected.port(), 2014);
        assert!("nowhere".to_address().is_err());
    }

    #[test]
    fn errors_show_the_text_given() {
        let error = refused("tcp://host:70000").to_string();
        assert_eq!(error, "port in \"tcp://host:70000\" is not a number from 0 to 65535");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_or_shows_a_form_that_parses_again(
            text in ".{0,40}|[a-z0-9.:*\\[\\]%/]{0,20}:[0-9]{1,5}",
        ) {
            if let Ok(address) = text.parse::<Address>() {
                proptest::prop_assert_eq!(parse(&address.to_string()), address);
            }
        }
    }
}
