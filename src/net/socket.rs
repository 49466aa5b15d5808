//! Sockets as this crate wants them: how they are opened, tuned and asked, and what their errors mean.
//!
//! Everything goes through the safe interface of socket2. Nothing here waits.

#[cfg(test)]
mod tests;

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

/// The same for a connection that was accepted: the kernel holds little of what is written to a peer on this machine.
///
/// # Errors
/// As for [`tune`].
pub(crate) fn tune_accepted(stream: &TcpStream, peer: SocketAddr, keepalive: &Keepalive) -> io::Result<()> {
    tune(stream, keepalive)?;
    if is_near(stream.local_addr().ok(), peer) {
        hold_little(stream);
    }
    Ok(())
}

/// Whether both ends of a connection are on this machine, as far as their addresses say.
fn is_near(local: Option<SocketAddr>, peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback() || local.is_some_and(|local| local.ip() == peer.ip())
}

/// Cuts the send buffer, which over loopback is some megabytes from the beginning: a flood that lies there for each of
/// many subscribers takes their readers up to twice as long for a delivery. Over a network the kernel decides, as there
/// the buffer bounds the rate. Only servers do it: only they write to many.
#[cfg(any(target_os = "android", target_os = "linux"))]
fn hold_little(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    // Less is never raised.
    if socket.send_buffer_size().is_ok_and(|size| size > 2 * NEAR_SEND_BYTES) {
        // Where it cannot be set, the flood takes longer.
        let _ = socket.set_send_buffer_size(NEAR_SEND_BYTES);
    }
}

/// Elsewhere nothing was measured.
#[cfg(not(any(target_os = "android", target_os = "linux")))]
fn hold_little(_stream: &TcpStream) {}

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

/// The kernel doubles it: about four chunks of 64 KiB find room.
#[cfg(any(target_os = "android", target_os = "linux"))]
const NEAR_SEND_BYTES: usize = 128 * 1024;
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
