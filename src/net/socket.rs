//! Sockets as this crate wants them: how they are opened, tuned and asked, and what their errors mean.
//!
//! Everything goes through the safe interface of socket2. Nothing here waits.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// How the kernel finds out that a peer is gone without a word; part of every connection, on both sides.
///
/// Heartbeats are how a client notices a silent server; this is how a server notices a vanished client, which owes it
/// no heartbeats. Where the system lacks one of the values, its own stays in force.
///
/// On Linux `user_timeout` overrules `probes` (`man 7 tcp`): with the defaults a quiet peer that vanished is given up
/// at the first probe after 120 s, and without `user_timeout` after 60 s and three probes, which makes 90 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Quiet after which the kernel begins to probe. Default 60 s, as vn.py sets it.
    ///
    /// Too little keeps radio links awake and bills running, too much lets a vanished client hold its place. Rounded
    /// up to whole seconds, and kept between 1 s and 32 767 s, which is what Linux takes.
    pub idle: Duration,
    /// Time between two probes. Default 10 s, rounded and kept as `idle` is; the kernel's own 75 s would let a client
    /// stay for twelve minutes.
    pub interval: Duration,
    /// Probes without an answer after which the connection is gone. Default 3: one lost packet is no death. Kept
    /// between 1 and 127.
    pub probes: u32,
    /// How long written bytes may stay unacknowledged, or unsent before a closed window, until the connection is
    /// gone. Default 120 s; Linux, Android and Fuchsia only. `None` leaves it to the kernel, a quarter of an hour.
    ///
    /// While bytes are under way the kernel does not probe, so only this notices a peer that vanishes then, or one
    /// that reads nothing. Too little cuts peers whose application is merely slow. Kept between
    /// 1 ms and 24 days.
    pub user_timeout: Option<Duration>,
}

impl Default for Keepalive {
    fn default() -> Self {
        Keepalive {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            probes: 3,
            user_timeout: Some(Duration::from_secs(120)),
        }
    }
}

/// Opens a nonblocking listener on `addr`, with room for `backlog` connections that are not accepted yet.
///
/// On unix the port may be taken again while connections of an earlier server still linger in TIME_WAIT. It may never
/// be shared: a second server on it gets `AddrInUse`, where `SO_REUSEPORT` would silently hand it half of the clients,
/// as `SO_REUSEADDR` itself would on Windows. `[::]` takes IPv4 as well.
///
/// # Errors
/// What the system says: the port is taken, the address is not here, the permission is missing.
pub(crate) fn listen(addr: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if cfg!(unix) {
        socket.set_reuse_address(true)?;
    }
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Opens a listener on all interfaces: on `[::]` for both families, or on `0.0.0.0` where there is no IPv6.
///
/// # Errors
/// As for [`listen`]. A port that is taken or not permitted is not tried again in the other family.
pub(crate) fn listen_on_all(port: u16, backlog: i32) -> io::Result<TcpListener> {
    match listen((Ipv6Addr::UNSPECIFIED, port).into(), backlog) {
        Err(error) if lacks_ipv6(&error) => listen((Ipv4Addr::UNSPECIFIED, port).into(), backlog),
        result => result,
    }
}

/// Begins to connect to `addr`. The stream is writable once it is decided; then [`connected`] says how it went.
///
/// # Errors
/// What is known at once: no route, no descriptor, and on some systems a refusal.
pub(crate) fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(addr)
}

/// Whether a stream begun by [`connect`] is connected; `false` is "not yet".
///
/// # Errors
/// The attempt failed, with its reason; the stream is of no use any more.
pub(crate) fn connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected || is_errno(&error, errno::EINPROGRESS) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether a stream is connected to itself: dialling a free local port from the range that outgoing connections are
/// given can meet its own SYN. The attempt counts as refused, and the port has to be let go for its real server.
pub(crate) fn is_self_connection(stream: &TcpStream) -> bool {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(local), Ok(peer)) => local.ip() == peer.ip() && local.port() == peer.port(),
        _ => false,
    }
}

/// Sees to it that a stream ends by reset when it is dropped. A connection to itself that ends in good order stays in
/// TIME_WAIT, and its real server cannot bind the port for a minute: `SO_REUSEADDR` helps only where both sides set it.
pub(crate) fn leave_no_trace(stream: &TcpStream) {
    // Where it cannot be set, the server has to wait.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Makes a connected stream ready for frames: small ones go out at once, and the kernel watches the peer.
///
/// # Errors
/// What the system says; on some, that the peer has already gone.
pub(crate) fn tune(stream: &TcpStream, keepalive: &Keepalive) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let params = TcpKeepalive::new().with_time(whole_seconds(keepalive.idle));
    #[cfg(any(
        target_os = "android",
        target_os = "freebsd",
        target_os = "fuchsia",
        target_os = "ios",
        target_os = "linux",
        target_os = "macos",
        target_os = "netbsd",
        target_os = "windows",
    ))]
    let params = params
        .with_interval(whole_seconds(keepalive.interval))
        .with_retries(keepalive.probes.clamp(1, MAX_PROBES));
    socket.set_tcp_keepalive(&params)?;
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    socket.set_tcp_user_timeout(
        keepalive.user_timeout.map(|timeout| timeout.clamp(MIN_USER_TIMEOUT, MAX_USER_TIMEOUT)),
    )?;
    Ok(())
}

/// Whether the system has run out of what a socket is made of: descriptors, buffers, memory.
///
/// A listener must pause then, and try again by a timer and whenever a connection closes: the connection stays in
/// the backlog, so to go on is to spin, and an edge-triggered poll never reports it a second time.
pub(crate) fn out_of_descriptors(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory || OUT_OF_DESCRIPTORS.iter().any(|code| is_errno(error, *code))
}

/// Whether `accept` failed for the one connection alone, so that the next one is to be accepted at once.
///
/// The peer was gone before we came, a signal came first, or Linux passes an error of the new connection on
/// (`man 2 accept`, "Error handling"); each such error takes a connection out of the backlog.
pub(crate) fn is_transient_accept_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::TimedOut
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::PermissionDenied // A firewall rule on Linux.
    ) || TRANSIENT_ACCEPT.iter().any(|code| is_errno(error, *code))
}

/// Whether the other family should be tried: the reason is neither the port nor a shortage.
fn lacks_ipv6(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
        && !out_of_descriptors(error)
}

fn is_errno(error: &io::Error, code: i32) -> bool {
    error.raw_os_error() == Some(code)
}

/// What the kernel's seconds can hold, rounded up: a fraction would otherwise be cut off, and 0 refused.
fn whole_seconds(length: Duration) -> Duration {
    let seconds = length.as_secs().saturating_add(u64::from(length.subsec_nanos() > 0));
    Duration::from_secs(seconds.clamp(1, MAX_KEEPALIVE_SECONDS))
}

/// `MAX_TCP_KEEPIDLE` and `MAX_TCP_KEEPINTVL` of Linux, seconds.
const MAX_KEEPALIVE_SECONDS: u64 = 32_767;
/// `MAX_TCP_KEEPCNT` of Linux.
const MAX_PROBES: u32 = 127;
/// Below this the kernel would read "no limit".
const MIN_USER_TIMEOUT: Duration = Duration::from_millis(1);
/// Above this the kernel's `int` of milliseconds would be negative, and refused.
const MAX_USER_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

const OUT_OF_DESCRIPTORS: [i32; 4] = [errno::EMFILE, errno::ENFILE, errno::ENOBUFS, errno::ENOMEM];
const TRANSIENT_ACCEPT: [i32; 5] =
    [errno::EPROTO, errno::ENOPROTOOPT, errno::EHOSTDOWN, errno::ENONET, errno::EOPNOTSUPP];

/// The numbers for which the standard library has no kind.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "fuchsia"))]
mod errno {
    pub(super) const ENOMEM: i32 = 12;
    pub(super) const ENFILE: i32 = 23;
    pub(super) const EMFILE: i32 = 24;
    pub(super) const ENONET: i32 = 64;
    pub(super) const EPROTO: i32 = 71;
    pub(super) const ENOPROTOOPT: i32 = 92;
    pub(super) const EOPNOTSUPP: i32 = 95;
    pub(super) const ENOBUFS: i32 = 105;
    pub(super) const EHOSTDOWN: i32 = 112;
    pub(super) const EINPROGRESS: i32 = 115;
}

/// The numbers of the BSD family, macOS included. Only EPROTO differs within it.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android", target_os = "fuchsia"))))]
mod errno {
    pub(super) const ENOMEM: i32 = 12;
    pub(super) const ENFILE: i32 = 23;
    pub(super) const EMFILE: i32 = 24;
    pub(super) const EINPROGRESS: i32 = 36;
    pub(super) const ENOPROTOOPT: i32 = 42;
    pub(super) const EOPNOTSUPP: i32 = if cfg!(target_vendor = "apple") { 102 } else { 45 };
    pub(super) const ENOBUFS: i32 = 55;
    pub(super) const EHOSTDOWN: i32 = 64;
    pub(super) const ENONET: i32 = EHOSTDOWN; // There is none.
    pub(super) const EPROTO: i32 = if cfg!(target_vendor = "apple") {
        100
    } else if cfg!(target_os = "netbsd") {
        96
    } else if cfg!(target_os = "openbsd") {
        95
    } else {
        92
    };
}

/// The numbers of Winsock.
#[cfg(windows)]
mod errno {
    pub(super) const EMFILE: i32 = 10_024;
    pub(super) const ENFILE: i32 = EMFILE; // There is none.
    pub(super) const EINPROGRESS: i32 = 10_036;
    pub(super) const ENOPROTOOPT: i32 = 10_042;
    pub(super) const EPROTO: i32 = ENOPROTOOPT; // There is none.
    pub(super) const EOPNOTSUPP: i32 = 10_045;
    pub(super) const ENOBUFS: i32 = 10_055;
    pub(super) const ENOMEM: i32 = ENOBUFS; // There is none.
    pub(super) const EHOSTDOWN: i32 = 10_064;
    pub(super) const ENONET: i32 = EHOSTDOWN; // There is none.
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as Blocking;

    use mio::{Events, Interest, Poll, Token};

    use super::*;

    const BACKLOG: i32 = 128;

    fn local(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    /// Waits until the attempt is decided, or panics after ten seconds.
    fn wait_connected(stream: &mut TcpStream) -> io::Result<()> {
        let mut poll = Poll::new().unwrap();
        poll.registry().register(stream, Token(0), Interest::WRITABLE).unwrap();
        let mut events = Events::with_capacity(4);
        while !connected(stream)? {
            poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert!(!events.is_empty(), "connecting was never decided");
        }
        Ok(())
    }

    /// Waits for a connection to be there and takes it.
    fn accept(listener: &mut TcpListener) -> TcpStream {
        let mut poll = Poll::new().unwrap();
        poll.registry().register(listener, Token(0), Interest::READABLE).unwrap();
        let mut events = Events::with_capacity(4);
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("accept: {error}"),
            }
            poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert!(!events.is_empty(), "nobody came");
        };
        poll.registry().deregister(listener).unwrap();
        stream
    }

    #[test]
    fn listener_reuses_the_address_but_never_shares_the_port() {
        let listener = listen(local(0), BACKLOG).unwrap();
        let socket = SockRef::from(&listener);
        assert_eq!(socket.reuse_address().unwrap(), cfg!(unix));
        #[cfg(target_os = "linux")]
        assert!(!socket.reuse_port().unwrap());
        #[cfg(unix)]
        assert!(socket.nonblocking().unwrap());
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);

        let taken = listener.local_addr().unwrap();
        assert_ne!(taken.port(), 0);
        assert_eq!(listen(taken, BACKLOG).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn port_can_be_taken_again_at_once_after_a_restart() {
        let mut listener = listen(local(0), BACKLOG).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut client = Blocking::connect(addr).unwrap();
        let server = accept(&mut listener);
        // The server closes first, so that its side of the connection is the one left in TIME_WAIT.
        drop(server);
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        drop((client, listener));
        listen(addr, BACKLOG).unwrap();
    }

    #[test]
    fn all_interfaces_are_reached_in_both_families() {
        let listener = listen_on_all(0, BACKLOG).unwrap();
        let addr = listener.local_addr().unwrap();
        Blocking::connect((Ipv4Addr::LOCALHOST, addr.port())).unwrap();
        if addr.is_ipv6() {
            assert!(!SockRef::from(&listener).only_v6().unwrap());
            if listen((Ipv6Addr::LOCALHOST, 0).into(), BACKLOG).is_ok() {
                Blocking::connect((Ipv6Addr::LOCALHOST, addr.port())).unwrap();
            }
        }
        let second = listen_on_all(addr.port(), BACKLOG).unwrap_err();
        assert_eq!(
            second.kind(),
            io::ErrorKind::AddrInUse,
            "not squeezed in beside it by way of the other family"
        );
    }

    #[test]
    fn only_a_missing_family_leads_to_the_other() {
        #[cfg(target_os = "linux")]
        for (code, expected) in [(97, true), (99, true), (22, true), (98, false), (13, false), (24, false)] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(lacks_ipv6(&error), expected, "{error}");
        }
        assert!(!lacks_ipv6(&io::ErrorKind::AddrInUse.into()));
        assert!(lacks_ipv6(&io::ErrorKind::AddrNotAvailable.into()));
    }

    #[test]
    fn connecting_ends_in_a_stream() {
        let mut listener = listen(local(0), BACKLOG).unwrap();
        let mut client = connect(listener.local_addr().unwrap()).unwrap();
        wait_connected(&mut client).unwrap();
        let mut server = accept(&mut listener);
        assert!(connected(&server).unwrap());
        assert!(!is_self_connection(&client) && !is_self_connection(&server));
        #[cfg(unix)]
        assert!(SockRef::from(&client).nonblocking().unwrap());
        assert_eq!(server.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(client.write(b"x").unwrap(), 1);
    }

    #[test]
    fn connecting_ends_in_a_refusal() {
        // A port that is bound but not listened on refuses, and nobody else can be given it meanwhile.
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        held.bind(&local(0).into()).unwrap();
        let addr = held.local_addr().unwrap().as_socket().unwrap();
        let outcome = connect(addr).and_then(|mut stream| wait_connected(&mut stream));
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn stream_that_was_never_connected_is_not_yet_connected() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(socket.into());
        assert!(!connected(&stream).unwrap());
        assert!(!is_self_connection(&stream));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn connection_to_oneself_is_recognised() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&local(0).into()).unwrap();
        let own = socket.local_addr().unwrap();
        socket.connect(&own).expect("a simultaneous open with oneself succeeds on Linux");
        socket.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(socket.into());
        assert!(connected(&stream).unwrap());
        assert!(is_self_connection(&stream));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn every_option_is_in_force_on_both_sides() {
        let mut listener = listen(local(0), BACKLOG).unwrap();
        let mut client = connect(listener.local_addr().unwrap()).unwrap();
        wait_connected(&mut client).unwrap();
        let server = accept(&mut listener);
        for stream in [&client, &server] {
            tune(stream, &Keepalive::default()).unwrap();
            let socket = SockRef::from(stream);
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(120)));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn any_keepalive_that_can_be_built_is_taken() {
        let mut listener = listen(local(0), BACKLOG).unwrap();
        let client = connect(listener.local_addr().unwrap()).unwrap();
        let _server = accept(&mut listener);
        let socket = SockRef::from(&client);
        let read = || {
            let idle = socket.tcp_keepalive_time().unwrap().as_secs();
            let interval = socket.tcp_keepalive_interval().unwrap().as_secs();
            (idle, interval, socket.tcp_keepalive_retries().unwrap(), socket.tcp_user_timeout().unwrap())
        };

        let least = Duration::from_nanos(1);
        let keepalive =
            Keepalive { idle: least, interval: Duration::ZERO, probes: 0, user_timeout: Some(least) };
        tune(&client, &keepalive).unwrap();
        assert_eq!(read(), (1, 1, 1, Some(Duration::from_millis(1))));

        let most = Duration::MAX;
        let keepalive = Keepalive { idle: most, interval: most, probes: u32::MAX, user_timeout: Some(most) };
        tune(&client, &keepalive).unwrap();
        assert_eq!(read(), (32_767, 32_767, 127, Some(MAX_USER_TIMEOUT)));

        let keepalive =
            Keepalive { idle: Duration::from_millis(1_500), user_timeout: None, ..Keepalive::default() };
        tune(&client, &keepalive).unwrap();
        assert_eq!(read(), (2, 10, 3, None));
    }

    #[test]
    fn accept_errors_say_whether_to_go_on_or_to_pause() {
        for code in OUT_OF_DESCRIPTORS {
            let error = io::Error::from_raw_os_error(code);
            assert!(out_of_descriptors(&error) && !is_transient_accept_error(&error), "{error}");
        }
        let kinds = [
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::Interrupted,
            io::ErrorKind::NetworkUnreachable,
        ];
        let codes = TRANSIENT_ACCEPT.into_iter().map(io::Error::from_raw_os_error);
        for error in codes.chain(kinds.into_iter().map(io::Error::from)) {
            assert!(is_transient_accept_error(&error) && !out_of_descriptors(&error), "{error}");
        }
        // Nothing to accept, and a listener that is none.
        for error in [io::ErrorKind::WouldBlock.into(), io::Error::from(io::ErrorKind::InvalidInput)] {
            assert!(!is_transient_accept_error(&error) && !out_of_descriptors(&error), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_numbers_are_those_of_the_system() {
        for (code, text) in [
            (errno::ENOMEM, "Cannot allocate memory"),
            (errno::ENFILE, "Too many open files in system"),
            (errno::EMFILE, "Too many open files"),
            (errno::ENONET, "Machine is not on the network"),
            (errno::EPROTO, "Protocol error"),
            (errno::ENOPROTOOPT, "Protocol not available"),
            (errno::EOPNOTSUPP, "Operation not supported"),
            (errno::ENOBUFS, "No buffer space available"),
            (errno::EHOSTDOWN, "Host is down"),
            (errno::EINPROGRESS, "Operation now in progress"),
        ] {
            let shown = std::format!("{}", io::Error::from_raw_os_error(code));
            assert!(shown.starts_with(text), "{code} is {shown}");
        }
    }
}
